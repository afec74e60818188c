-- What a customer did on one day: one row a customer and day with any own event.
CREATE TABLE IF NOT EXISTS customer_days (
    brand       LowCardinality(String) COMMENT 'tenant',
    customer_id String                 COMMENT 'customer' CODEC(ZSTD(1)),
    day         Date                   COMMENT 'day in the calendar of the brand',
    scans       UInt32                 COMMENT 'own scans',
    draws       UInt32                 COMMENT 'scans to draw in a lottery',
    joins       UInt32                 COMMENT 'scans to follow or to collect points',
    visits      UInt32                 COMMENT 'own scans that came in by the share of somebody else',
    shares      UInt32                 COMMENT 'share events',
    orders      UInt32                 COMMENT 'payments',
    refunds     UInt32                 COMMENT 'refunds',
    paid        Int64                  COMMENT 'sum of payments, minor units',
    refunded    Int64                  COMMENT 'sum of refunds, minor units',
    version     UInt64                 COMMENT 'generation << 40 | sequence of the writing task: the highest wins'
)
ENGINE = ReplacingMergeTree(version)
PARTITION BY toYYYYMM(day)
ORDER BY (brand, customer_id, day)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 480, min_bytes_for_wide_part = 67108864, non_replicated_deduplication_window = 0
COMMENT 'one row a customer and active day; read v_customer_days'
