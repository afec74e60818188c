-- Live curves. Kept for tables.minute_retention_days: `onecode migrate` sets the TTL, and v_activity_minute hides what lies past it.
CREATE TABLE IF NOT EXISTS activity_minute (
    brand              LowCardinality(String) COMMENT 'tenant',
    minute             DateTime('UTC')        COMMENT 'start of the minute' CODEC(Delta(4), ZSTD(1)),
    campaign           LowCardinality(String) COMMENT 'campaign',
    channel            LowCardinality(String) COMMENT 'channel',
    region             UInt32                 COMMENT 'province: first two digits of GB/T 2260 and four zeros; 0 = unknown',
    task               LowCardinality(String) COMMENT 'the task that wrote the row; a cell is the sum over tasks',
    scans              UInt64                 COMMENT 'scans by consumers',
    verifies           UInt64                 COMMENT 'scans to verify the item',
    draws              UInt64                 COMMENT 'scans to draw in a lottery',
    visits             UInt64                 COMMENT 'scans that came in by the share of somebody else',
    shares             UInt64                 COMMENT 'share events',
    orders             UInt64                 COMMENT 'payments',
    refunds            UInt64                 COMMENT 'refunds',
    paid               Int64                  COMMENT 'sum of payments, minor units',
    refunded           Int64                  COMMENT 'sum of refunds, minor units',
    new_customers      UInt64                 COMMENT 'customers whose first own event is in this cell',
    referred_customers UInt64                 COMMENT 'new customers whom somebody brought',
    version            UInt64                 COMMENT 'generation << 40 | sequence of the writing task: the highest wins'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(minute)
ORDER BY (brand, minute, campaign, channel, region, task)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 480, min_bytes_for_wide_part = 67108864, non_replicated_deduplication_window = 0
COMMENT 'activity by minute, one row a cell and task; read v_activity_minute'
