//! What a checkpoint writes.

use prost::Message as _;

use super::first_rows::FirstRows;
use super::positions::Positions;
use super::run::Task;
use crate::engine::{RowChange, StateRow, StateRows};
use crate::model::{Offset, TaskName, TopicPartition};
use crate::pb;
use crate::rows::RowBuffer;

/// `task_state.kind` of the positions row. The engine's kinds are between this and the mark.
pub const KIND_POSITIONS: u8 = 0;
/// `task_state.kind` of rows about a generation as a whole. Without a key: its completeness mark. With the generation of an owner as its key (eight bytes, big
/// endian): whose its rows are, `OwnerState`; releases that do not know of it take no notice.
pub const KIND_MARK: u8 = 255;

/// What one checkpoint writes: fixed at one moment.
#[derive(Debug)]
pub struct Cut {
    /// Rows for `task_state`, the positions row among them.
    pub rows: RowBuffer,
    /// Offsets to commit.
    pub offsets: Vec<(TopicPartition, Offset)>,
}

impl Task {
    /// Whether there is anything that the last cut did not contain.
    pub fn has_unsaved(&self) -> bool {
        self.moved || self.engine.dirty_state() > 0 || self.engine.dirty_contributions() > 0
    }

    /// Fixes what a checkpoint writes: the keys that changed since the last cut, and the positions. `spare` is memory for its rows, used
    /// before or none.
    pub fn cut(&mut self, now_ms: i64, spare: Vec<Vec<u8>>) -> Cut {
        self.sequence += 1;
        self.moved = false;
        self.cut_horizon_ms = self.engine.horizon_ms();
        let mut rows = RowBuffer::over(spare);
        let (task, generation, sequence) = (&self.identity.name, self.generations.stored, self.sequence);
        let mut table = TaskRows { rows: &mut rows, task, generation, sequence };
        let mut first = FirstRows::new(&mut table, sequence, self.settings.packs);
        self.cells.cut(&mut self.engine, sequence, &mut first);
        first.finish();
        let positions = self.positions(now_ms).encode();
        TaskRows { rows: &mut rows, task: &self.identity.name, generation, sequence }.push(KIND_POSITIONS, &[], &positions, false);
        Cut { rows, offsets: self.logs.iter().map(|log| (log.tp.clone(), log.next)).collect() }
    }

    fn positions(&self, now_ms: i64) -> Positions {
        let live = self.engine.live();
        let mut logs = self.other_logs.clone();
        let mut sent = self.other_sent.clone();
        logs.extend(self.log_positions());
        for log in &self.logs {
            for (destination, offset) in (0_u32..).zip(&log.sent) {
                if *offset >= 0 {
                    sent.insert((log.tp.clone(), destination), *offset);
                }
            }
        }
        Positions {
            sequence: self.sequence,
            tasks: self.settings.tasks,
            fingerprint: self.settings.fingerprint.clone(),
            cluster_id: self.settings.cluster_id.clone(),
            logs,
            received: self.inbox.marks().map(|(source, mark)| (source.clone(), *mark)).collect(),
            sent,
            horizon_ms: self.engine.horizon_ms(),
            live_rows: live.count,
            live_hash: live.hash,
            written_ms: now_ms,
            reaches: self.reaches.all().clone(),
            generation: self.generations.spoken,
            haste: self.haste,
            least_lateness_ms: self.least_lateness_ms,
            sizes: self.engine.sizes(),
        }
    }
}

/// The completeness mark of a generation.
pub fn mark_row(task: &TaskName, generation: u64) -> RowBuffer {
    let mut rows = RowBuffer::default();
    push_mark_row(&mut rows, task, generation);
    rows
}

/// Adds the completeness mark of a generation.
pub fn push_mark_row(rows: &mut RowBuffer, task: &TaskName, generation: u64) {
    push_state_row(rows, task, generation, 0, &StateRow { kind: KIND_MARK, key: Vec::new(), payload: Vec::new(), deleted: false });
}

/// Says that `owner` has taken over what is stored under `stored`, or that it has written there for the last time.
pub fn owner_row(task: &TaskName, stored: u64, owner: u64, is_closed: bool) -> RowBuffer {
    let mut rows = RowBuffer::default();
    let payload = pb::OwnerState { is_closed }.encode_to_vec();
    let row = StateRow { kind: KIND_MARK, key: owner.to_be_bytes().to_vec(), payload, deleted: false };
    push_state_row(&mut rows, task, stored, u64::from(is_closed), &row);
    rows
}

/// Columns of `task_state` in the order of the encoding.
pub const STATE_COLUMNS: [&str; 7] = ["task", "generation", "kind", "key", "sequence", "payload", "is_deleted"];

/// Adds one row of `task_state`.
pub fn push_state_row(rows: &mut RowBuffer, task: &TaskName, generation: u64, sequence: u64, row: &StateRow) {
    TaskRows { rows, task, generation, sequence }.push(row.kind, &row.key, &row.payload, row.deleted);
}

/// Encodes the rows of a task as they come.
struct TaskRows<'a> {
    rows: &'a mut RowBuffer,
    task: &'a TaskName,
    generation: u64,
    sequence: u64,
}

impl TaskRows<'_> {
    fn push(&mut self, kind: u8, key: &[u8], payload: &[u8], deleted: bool) {
        self.rows.push(|columns| {
            columns.string(self.task).count(self.generation).u8(kind).blob(key).count(self.sequence).blob(payload).u8(u8::from(deleted));
        });
    }
}

impl StateRows for TaskRows<'_> {
    fn row(&mut self, kind: u8, key: &[u8], payload: &[u8], change: RowChange) {
        self.push(kind, key, payload, change == RowChange::Gone);
    }
}
