-- Activity by day, campaign, sku, channel and region.
CREATE TABLE IF NOT EXISTS activity_day (
    brand              LowCardinality(String) COMMENT 'tenant',
    day                Date                   COMMENT 'day in the calendar of the brand',
    campaign           LowCardinality(String) COMMENT 'campaign',
    sku                LowCardinality(String) COMMENT 'sku; empty for events without one, and for purchases',
    channel            LowCardinality(String) COMMENT 'channel',
    region             UInt32                 COMMENT 'GB/T 2260, six digits; 0 = unknown',
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
PARTITION BY toYYYYMM(day)
ORDER BY (brand, day, campaign, sku, channel, region, task)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 480, min_bytes_for_wide_part = 67108864, non_replicated_deduplication_window = 0
COMMENT 'activity by day, one row a cell and task; read v_activity_day'
