-- What the customers below a customer in the referral forest are worth. A row whose values fell to 0 stays, with zeros.
CREATE TABLE IF NOT EXISTS customer_subtrees (
    brand       LowCardinality(String) COMMENT 'tenant',
    customer_id String                 COMMENT 'customer at the top' CODEC(ZSTD(1)),
    level       UInt8                  COMMENT '1 = brought directly; what lies deeper than limits.levels is left out',
    month       Date                   COMMENT 'of first events for customers, of payments and refunds for money',
    customers   UInt64                 COMMENT 'customers on this level with their first event in this month',
    orders      UInt64                 COMMENT 'their payments in this month',
    paid        Int64                  COMMENT 'sum of these, minor units',
    refunded    Int64                  COMMENT 'sum of their refunds in this month, minor units',
    version     UInt64                 COMMENT 'generation << 40 | sequence of the writing task: the highest wins'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (brand, customer_id, level, month)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 480, min_bytes_for_wide_part = 67108864, non_replicated_deduplication_window = 0
COMMENT 'worth of referral subtrees, one row a customer, level and month; read v_customer_subtrees'
