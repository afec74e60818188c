-- The archive of shares: every accepted event once under FINAL.
CREATE TABLE IF NOT EXISTS share_events (
    brand            LowCardinality(String) COMMENT 'tenant',
    customer_id      String                 COMMENT 'the sharer' CODEC(ZSTD(1)),
    event_time       DateTime64(3, 'UTC')   COMMENT 'when it happened' CODEC(Delta(8), ZSTD(1)),
    event_id         String                 COMMENT 'unique within brand, customer and kind of event' CODEC(ZSTD(1)),
    share_id         String                 COMMENT 'names the share together with its sharer' CODEC(ZSTD(1)),
    parent_share_id  String                 COMMENT 'the share of somebody else that is passed on; empty = none' CODEC(ZSTD(1)),
    parent_sharer_id String                 COMMENT 'who made that share' CODEC(ZSTD(1)),
    campaign         LowCardinality(String) COMMENT 'campaign',
    sku              LowCardinality(String) COMMENT 'sku',
    region           UInt32                 COMMENT 'GB/T 2260, six digits; 0 = unknown',
    channel          LowCardinality(String) COMMENT 'friend, group, moments...',
    rewarded         Bool                   COMMENT 'whether the sharer was rewarded'
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(event_time)
ORDER BY (brand, customer_id, event_time, event_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 480, min_bytes_for_wide_part = 67108864, non_replicated_deduplication_window = 0
COMMENT 'archive of share events; read v_share_events'
