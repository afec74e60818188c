-- Which migrations were applied: `onecode migrate` keeps it. Views have number 0: they are replaced when their definition changes.
CREATE TABLE IF NOT EXISTS schema_migrations (
    number     UInt32              COMMENT 'position in the order; 0 = a view',
    name       String              COMMENT 'file without extension',
    checksum   String              COMMENT 'hash of the statement',
    applied_at DateTime64(3, 'UTC') COMMENT 'when it was last applied'
)
ENGINE = ReplacingMergeTree(applied_at)
ORDER BY (number, name)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1
COMMENT 'applied migrations; for onecode alone'
