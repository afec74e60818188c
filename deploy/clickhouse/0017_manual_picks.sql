-- Customers whom somebody picked by hand: they are word-of-mouth customers whatever their rank. A later row with
-- the same key and an earlier moment ends a pick.
CREATE TABLE IF NOT EXISTS manual_picks (
    brand       LowCardinality(String)                COMMENT 'tenant',
    customer_id String                                COMMENT 'customer',
    source      LowCardinality(String)                COMMENT 'who or what picked them',
    until       DateTime64(3, 'UTC')                  COMMENT 'the pick holds before this moment',
    updated_at  DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'the latest row wins'
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY (brand, customer_id, source)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 480, non_replicated_deduplication_window = 0
COMMENT 'customers picked by hand; marketing writes it'
