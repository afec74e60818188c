-- The knobs of marketing. A row here beats the built-in default; the pipeline never reads them.
CREATE TABLE IF NOT EXISTS parameters (
    brand      LowCardinality(String)                COMMENT 'tenant',
    name       LowCardinality(String)                COMMENT 'name of the knob',
    value      Float64                               COMMENT 'its value',
    updated_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'the latest row wins'
)
ENGINE = ReplacingMergeTree(updated_at)
ORDER BY (brand, name)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 480, non_replicated_deduplication_window = 0
COMMENT 'knobs of marketing; read v_parameters'
