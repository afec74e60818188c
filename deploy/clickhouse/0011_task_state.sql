-- The state of every task: its checkpoints. One partition a (task, generation), so that one insert of one task is one block into one
-- partition, which becomes visible as a whole or not at all, and so that a generation is dropped at once. The partition's columns lead the
-- sorting key: FINAL would otherwise merge rows of different tasks. Rows marked deleted stay (no CLEANUP): a late insert may still land.
CREATE TABLE IF NOT EXISTS task_state (
    task       LowCardinality(String) COMMENT 'number of the exchange partition, or topic:partition of a relay-only task',
    generation UInt64                 COMMENT 'grows with every takeover of the task',
    kind       UInt8                  COMMENT 'kind of state',
    key        String                 COMMENT 'key within the kind, binary' CODEC(ZSTD(1)),
    sequence   UInt64                 COMMENT 'the highest wins within (task, generation, kind, key)',
    payload    String                 COMMENT 'protobuf (proto/onecode/v1/state.proto)' CODEC(ZSTD(1)),
    is_deleted UInt8                  COMMENT '1 = a tombstone'
)
ENGINE = ReplacingMergeTree(sequence, is_deleted)
PARTITION BY (task, generation)
ORDER BY (task, generation, kind, key)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 480, min_bytes_for_wide_part = 67108864, non_replicated_deduplication_window = 0, index_granularity = 1024
COMMENT 'checkpoints of tasks; for onecode alone'
