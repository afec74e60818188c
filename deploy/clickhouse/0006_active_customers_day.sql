-- How many distinct customers were active: exact, because a customer belongs to one task.
CREATE TABLE IF NOT EXISTS active_customers_day (
    brand    LowCardinality(String) COMMENT 'tenant',
    day      Date                   COMMENT 'day in the calendar of the brand',
    task     LowCardinality(String) COMMENT 'the task that wrote the row; a cell is the sum over tasks',
    active   UInt64                 COMMENT 'customers with any own event',
    buyers   UInt64                 COMMENT 'customers with a payment',
    scanners UInt64                 COMMENT 'customers with a scan',
    sharers  UInt64                 COMMENT 'customers with a share event',
    version  UInt64                 COMMENT 'generation << 40 | sequence of the writing task: the highest wins'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (brand, day, task)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 480, min_bytes_for_wide_part = 67108864, non_replicated_deduplication_window = 0
COMMENT 'distinct customers by day, one row a task; read v_active_customers_day'
