-- Checkpoints are written and read much more than they are kept: with ZSTD an insert took a third more of the CPU, and a restore too. What is stored already stays as it is until it is merged.
ALTER TABLE task_state MODIFY COLUMN payload String COMMENT 'protobuf (proto/onecode/v1/state.proto)' CODEC(LZ4)
