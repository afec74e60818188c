-- The referral forest: one row a customer with own events, also where nobody brought them.
CREATE TABLE IF NOT EXISTS referrals (
    brand     LowCardinality(String) COMMENT 'tenant',
    child_id  String                 COMMENT 'customer' CODEC(ZSTD(1)),
    parent_id String                 COMMENT 'customer who brought the child; empty = nobody' CODEC(ZSTD(1)),
    share_id  String                 COMMENT 'share of the parent through which the child came' CODEC(ZSTD(1)),
    time      DateTime64(3, 'UTC')   COMMENT 'first own event of the child; 1970 = nobody brought it',
    version   UInt64                 COMMENT 'generation << 40 | sequence of the writing task: the highest wins',
    INDEX parent_id_index parent_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (brand, child_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 480, min_bytes_for_wide_part = 67108864, non_replicated_deduplication_window = 0
COMMENT 'who brought whom; read v_referrals'
