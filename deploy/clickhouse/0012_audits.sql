-- The verdict of every complete audit, one row each: running pipelines show the newest in onecode_audit_differences.
CREATE TABLE IF NOT EXISTS audits (
    finished_at        DateTime64(3, 'UTC') COMMENT 'when the verdict was known',
    differences        UInt64               COMMENT 'rows that differ from the archive, over all tables',
    rows               UInt64               COMMENT 'rows that were compared',
    conflicts          UInt64               COMMENT 'identities that the archive has with several contents',
    left_out_customers UInt64               COMMENT 'customers that were not compared because of conflicts',
    program            String               COMMENT 'version of the program that audited'
)
ENGINE = MergeTree
ORDER BY finished_at
COMMENT 'verdicts of onecode audit'
