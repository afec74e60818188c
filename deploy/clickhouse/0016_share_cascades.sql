-- A share and everything that was passed on from it, by level.
CREATE TABLE IF NOT EXISTS share_cascades (
    brand         LowCardinality(String) COMMENT 'tenant',
    sharer_id     String                 COMMENT 'customer who is said to have made the share' CODEC(ZSTD(1)),
    share_id      String                 COMMENT 'share at the top' CODEC(ZSTD(1)),
    level         UInt8                  COMMENT '0 = the share itself; what lies deeper than limits.levels is left out',
    shares        UInt64                 COMMENT 'shares on this level whose own event is known',
    visits        UInt64                 COMMENT 'scans by others through these shares',
    new_customers UInt64                 COMMENT 'customers whom these shares brought',
    orders        UInt64                 COMMENT 'payments through them',
    paid          Int64                  COMMENT 'sum of these, minor units',
    refunded      Int64                  COMMENT 'sum of refunds through them, minor units',
    version       UInt64                 COMMENT 'generation << 40 | sequence of the writing task: the highest wins'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (brand, sharer_id, share_id, level)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 480, min_bytes_for_wide_part = 67108864, non_replicated_deduplication_window = 0
COMMENT 'cascades of shares, one row a share and level; read v_share_cascades'
