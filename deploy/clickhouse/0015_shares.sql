-- Link, view, purchase, pass on: one row a share, named by its share id together with its sharer.
CREATE TABLE IF NOT EXISTS shares (
    brand            LowCardinality(String) COMMENT 'tenant',
    sharer_id        String                 COMMENT 'customer who is said to have made the share' CODEC(ZSTD(1)),
    share_id         String                 COMMENT 'share' CODEC(ZSTD(1)),
    parent_share_id  String                 COMMENT 'share of somebody else that was passed on; empty = none' CODEC(ZSTD(1)),
    parent_sharer_id String                 COMMENT 'who made that share' CODEC(ZSTD(1)),
    time             DateTime64(3, 'UTC')   COMMENT 'of the share event; 1970 = visited, but its own event was never seen',
    campaign         LowCardinality(String) COMMENT 'campaign',
    sku              LowCardinality(String) COMMENT 'sku',
    channel          LowCardinality(String) COMMENT 'friend, group, moments...',
    region           UInt32                 COMMENT 'GB/T 2260, six digits; 0 = unknown',
    rewarded         Bool                   COMMENT 'whether the sharer was rewarded',
    visits           UInt64                 COMMENT 'scans by others through it',
    visitors         UInt64                 COMMENT 'distinct others with any event through it',
    new_customers    UInt64                 COMMENT 'customers whom this share brought',
    orders           UInt64                 COMMENT 'payments through it',
    paid             Int64                  COMMENT 'sum of these, minor units',
    refunded         Int64                  COMMENT 'sum of refunds through it, minor units',
    reshares         UInt64                 COMMENT 'share events that passed it on',
    version          UInt64                 COMMENT 'generation << 40 | sequence of the writing task: the highest wins'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (brand, sharer_id, share_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 480, min_bytes_for_wide_part = 67108864, non_replicated_deduplication_window = 0
COMMENT 'one row a share; read v_shares'
