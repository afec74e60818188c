//! Where each assigned task stands between its assignment and its running.

use std::collections::BTreeMap;

use super::assignment::AssignedTask;
use super::io::{RunId, StoredGeneration, Tally};
use super::reading::Reading;
use crate::engine::Engine;
use crate::model::{Offset, TopicPartition};
use crate::rows::RowBuffer;
use crate::task::{Positions, Task};

/// A task of the present assignment.
#[derive(Debug)]
pub(super) struct Slot {
    pub task: AssignedTask,
    /// Memory of an earlier run in this worker, until it is known whether it is still the newest.
    pub memory: Option<Box<Running>>,
    pub phase: Phase,
    /// State on its way back into memory, from the copying on until the task is restored.
    pub reading: Option<Reading>,
}

impl Slot {
    pub fn new(task: AssignedTask, memory: Option<Box<Running>>) -> Self {
        Slot { task, memory, phase: Phase::Asking, reading: None }
    }

    /// The state that is in memory.
    pub fn engine(&self) -> Option<&Engine> {
        self.phase.engine().or_else(|| self.reading.as_ref()?.engine())
    }
}

/// The takeover of a task, step by step. Nothing leaves the task before `Running`.
///
/// ```text
/// Asking ──newest──► Claimed ──► Copying ──► Marking ──► Tallying ──► Restoring ──confirm──► Running
///    ▲                  │ │         └── the source is read meanwhile ───────┘ ▲                 ▲
///    │                  │ └─ (the source is closed) ──► GoingOn ──────────────┘                 │
///    │                  │ (no generation: first start)       │                                  │
///    │                  └─ starts ──► Marking ──confirm──────┼──────────────────────────────────┤
///    └── unknown outcome, or Kafka is away ──────────────────┘          memory is still newest ─┘
/// ```
#[derive(Debug)]
pub(super) enum Phase {
    /// The newest generation is being asked for, or has to be asked for again.
    Asking,
    /// `generation` is ours by commit; waits for a free place among the parallel takeovers.
    Claimed { generation: u64, source: Option<StoredGeneration>, stale: Vec<u64> },
    /// It is being written that the source's rows are this task's now, and then asked again whose they were. They are read meanwhile.
    GoingOn { run: RunId, generation: u64, source: StoredGeneration, stale: Vec<u64> },
    /// The source's rows are being copied, and read.
    Copying { run: RunId, generation: u64, stale: Vec<u64> },
    /// The completeness mark is being written, or where to begin; `taken` holds a task that need not be read any more.
    Marking { run: RunId, generation: u64, stale: Vec<u64>, taken: Option<Box<Taken>> },
    /// The rows of the copy are being counted.
    Tallying { run: RunId, generation: u64, stale: Vec<u64> },
    /// What is stored is this task's alone; the rows are still being put into memory.
    Restoring { run: RunId, stored: u64, stale: Vec<u64>, copied: Option<Tally> },
    /// How far a log was read by a task that only relayed it is being read.
    Inheriting { run: RunId, stale: Vec<u64>, taken: Box<Taken>, log: usize },
    /// What was read is no state; to be confirmed before it is said.
    Unreadable { generation: u64, error: String },
    /// In memory; to be confirmed.
    Restored { run: RunId, stale: Vec<u64>, taken: Box<Taken> },
    /// It runs.
    Running(Box<Running>),
}

impl Phase {
    /// The run whose answer is waited for.
    pub fn run(&self) -> Option<RunId> {
        match self {
            Phase::Copying { run, .. }
            | Phase::GoingOn { run, .. }
            | Phase::Marking { run, .. }
            | Phase::Tallying { run, .. }
            | Phase::Restoring { run, .. }
            | Phase::Inheriting { run, .. }
            | Phase::Restored { run, .. } => Some(*run),
            Phase::Running(running) => Some(running.run),
            Phase::Asking | Phase::Claimed { .. } | Phase::Unreadable { .. } => None,
        }
    }

    /// The state that is in memory.
    fn engine(&self) -> Option<&Engine> {
        match self {
            Phase::Running(running) => Some(running.task.engine()),
            Phase::Restored { taken, .. } | Phase::Inheriting { taken, .. } | Phase::Marking { taken: Some(taken), .. } => {
                Some(taken.task.engine())
            }
            _ => None,
        }
    }

    /// Whether it takes a place among the parallel takeovers.
    pub fn is_taking_over(&self) -> bool {
        matches!(
            self,
            Phase::Copying { .. }
                | Phase::GoingOn { .. }
                | Phase::Marking { .. }
                | Phase::Tallying { .. }
                | Phase::Restoring { .. }
                | Phase::Inheriting { .. }
                | Phase::Unreadable { .. }
                | Phase::Restored { .. }
        )
    }

    /// For logs and `/status`.
    pub fn name(&self) -> &'static str {
        match self {
            Phase::Asking => "asking",
            Phase::Claimed { .. } => "claimed",
            Phase::Copying { .. } => "copying",
            Phase::GoingOn { .. } => "going_on",
            Phase::Marking { .. } => "marking",
            Phase::Tallying { .. } => "tallying",
            Phase::Inheriting { .. } => "loading",
            Phase::Restoring { .. } => "restoring",
            Phase::Unreadable { .. } | Phase::Restored { .. } => "confirming",
            Phase::Running(_) => "running",
        }
    }
}

/// A task that was taken over and does not run yet.
#[derive(Debug)]
pub(super) struct Taken {
    pub task: Task,
    /// The positions that it goes on from; of no log at a first start.
    pub positions: Positions,
    /// It has no state yet.
    pub is_first: bool,
    /// Where it begins in some log is not written yet.
    pub has_new_starts: bool,
}

/// A task that runs, or whose memory is kept over a rebalance.
#[derive(Debug)]
pub(super) struct Running {
    pub task: Task,
    pub run: RunId,
    /// Number of the next cut: messages produced now belong to it.
    pub epoch: u32,
    /// Messages that are not acknowledged yet, by the cut that waits for them.
    pub unacknowledged: BTreeMap<u32, u64>,
    pub checkpoint: Option<Checkpoint>,
    pub next_checkpoint_ms: i64,
    /// When the task was last as good as saved.
    pub checkpointed_at_ms: i64,
    /// When its positions row was last written.
    pub written_at_ms: i64,
    /// Log ends at the takeover, until they are passed: what lies before them a predecessor may have applied and served.
    pub replay_ends: Option<Vec<Offset>>,
    /// Not to be served before the replay is over or this time has come: readers must not see time run backwards.
    pub serve_gate_ms: Option<i64>,
    pub closing: Closing,
}

/// The end of a task that drains. From its beginning on nothing changes the task and nothing else of it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Closing {
    /// It has not begun.
    Open,
    /// It is being written, since then, that all is written.
    Begun { at_ms: i64 },
    /// It is written, or was given up.
    Done,
}

/// What a predecessor may have read already.
#[derive(Debug)]
pub(super) struct Replay {
    /// By log, in the task's order.
    pub ends: Vec<Offset>,
    /// When to serve at the latest.
    pub serve_gate_ms: i64,
}

/// A checkpoint on its way.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// Number of the cut.
    pub epoch: u32,
    /// Serving and archive batches that must be in first.
    pub needs_serving: u64,
    pub needs_archive: u64,
    /// Rows for `task_state`; `None` once handed to ClickHouse's shell.
    pub rows: Option<RowBuffer>,
    /// Bytes of the rows.
    pub bytes: usize,
    pub offsets: Vec<(TopicPartition, Offset)>,
    pub cut_at_ms: i64,
}

impl Running {
    pub fn new(task: Task, run: RunId, now_ms: i64, first_checkpoint_ms: i64, replay: Option<Replay>) -> Self {
        let (replay_ends, serve_gate_ms) = replay.map(|replay| (replay.ends, replay.serve_gate_ms)).unzip();
        Running {
            task,
            run,
            epoch: 1,
            unacknowledged: BTreeMap::new(),
            checkpoint: None,
            next_checkpoint_ms: first_checkpoint_ms,
            checkpointed_at_ms: now_ms,
            written_at_ms: now_ms,
            replay_ends,
            serve_gate_ms,
            closing: Closing::Open,
        }
    }

    #[inline]
    pub fn produced(&mut self, messages: u64) {
        if messages > 0 {
            *self.unacknowledged.entry(self.epoch).or_insert(0) += messages;
        }
    }

    pub fn acknowledged(&mut self, epoch: u32) {
        if let Some(waiting) = self.unacknowledged.get_mut(&epoch) {
            *waiting -= 1;
            if *waiting == 0 {
                self.unacknowledged.remove(&epoch);
            }
        }
    }

    /// Whether Kafka has acknowledged everything that was produced up to a cut.
    pub fn all_acknowledged(&self, epoch: u32) -> bool {
        self.unacknowledged.first_key_value().is_none_or(|(oldest, _)| *oldest > epoch)
    }

    /// Whether everything that a predecessor may have read has been read again.
    pub fn has_replayed(&mut self) -> bool {
        let Some(ends) = &self.replay_ends else { return true };
        let passed = self.task.logs().zip(ends).all(|((_, next, at_end), end)| next >= *end || at_end);
        if passed {
            self.replay_ends = None;
        }
        passed
    }

    /// Whether the task may serve and checkpoint; opens the gate for good when it may. So many changed keys are worth a checkpoint that
    /// nobody who dies now has to read again.
    pub fn may_serve(&mut self, now_ms: i64, in_haste: bool, most_dirty_keys: usize) -> bool {
        let Some(until_ms) = self.serve_gate_ms else { return true };
        if in_haste || now_ms >= until_ms || self.task.engine().dirty_state() >= most_dirty_keys || self.has_replayed() {
            self.serve_gate_ms = None;
            return true;
        }
        false
    }
}
