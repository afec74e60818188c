-- Lifecycle and tier of every customer as customer_segments said them, a row for each change: what segment_transitions tells. It only grows,
-- by the customers that changed; the rows of the first refresh of a brand say where everybody stood and are no transitions.
CREATE TABLE IF NOT EXISTS segment_states (
    brand          LowCardinality(String) COMMENT 'tenant',
    customer_id    String                 COMMENT 'customer' CODEC(ZSTD(1)),
    from_as_of     DateTime64(3, 'UTC')   COMMENT 'refresh before; 1970 = the first one of the brand',
    to_as_of       DateTime64(3, 'UTC')   COMMENT 'refresh that found the change',
    from_lifecycle LowCardinality(String) COMMENT 'lifecycle before; empty = not known before',
    to_lifecycle   LowCardinality(String) COMMENT 'lifecycle since then',
    from_tier      LowCardinality(String) COMMENT 'tier before; empty = not known before',
    to_tier        LowCardinality(String) COMMENT 'tier since then'
)
ENGINE = ReplacingMergeTree
ORDER BY (brand, customer_id, to_as_of)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 480, non_replicated_deduplication_window = 0
COMMENT 'changes of lifecycle and tier between refreshes; read segment_transitions'
