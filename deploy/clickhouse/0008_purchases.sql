-- The archive of payments and refunds: every accepted event once under FINAL.
CREATE TABLE IF NOT EXISTS purchases (
    brand            LowCardinality(String) COMMENT 'tenant',
    customer_id      String                 COMMENT 'who paid' CODEC(ZSTD(1)),
    event_time       DateTime64(3, 'UTC')   COMMENT 'when it happened' CODEC(Delta(8), ZSTD(1)),
    event_id         String                 COMMENT 'unique within brand, customer and kind of event' CODEC(ZSTD(1)),
    order_id         String                 COMMENT 'order; a refund names the order that it refunds' CODEC(ZSTD(1)),
    kind             LowCardinality(String) COMMENT 'payment or refund',
    amount           Int64                  COMMENT 'minor units, 1 or more for both kinds',
    currency         LowCardinality(String) COMMENT 'ISO 4217',
    `lines.sku`      Array(String)          COMMENT 'sku of each line' CODEC(ZSTD(1)),
    `lines.quantity` Array(UInt32)          COMMENT 'pieces of each line',
    `lines.amount`   Array(Int64)           COMMENT 'minor units of each line',
    share_id         String                 COMMENT 'share through which the customer came in; empty = none' CODEC(ZSTD(1)),
    sharer_id        String                 COMMENT 'who made that share' CODEC(ZSTD(1)),
    campaign         LowCardinality(String) COMMENT 'campaign',
    region           UInt32                 COMMENT 'GB/T 2260, six digits; 0 = unknown',
    channel          LowCardinality(String) COMMENT 'channel',
    store            LowCardinality(String) COMMENT 'store'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(event_time)
ORDER BY (brand, customer_id, event_time, event_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 480, min_bytes_for_wide_part = 67108864, non_replicated_deduplication_window = 0
COMMENT 'archive of payments and refunds; read v_purchases'
