//! What a worker shows of itself: plain values that the shell publishes.

use super::io::Io;
use super::slot::Phase;
use super::{Now, Worker};
use crate::engine::{ColdCounts, Engine};
use crate::model::{Offset, TaskName, TopicPartition};

/// A worker at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerView {
    /// Its tasks.
    pub tasks: Vec<TaskView>,
    /// Bytes on their way to ClickHouse and Kafka.
    pub buffered_bytes: usize,
    /// Memory that state has taken, of tasks that are kept in case that they come back too.
    pub allocated_bytes: usize,
    /// How much of it is places that left free.
    pub vacant_bytes: usize,
    /// Memory that state may take.
    pub state_limit: usize,
    /// Whether fetching is paused by back-pressure.
    pub paused: bool,
    /// Sources whose relays have an open gap.
    pub relay_gaps: usize,
    /// Milliseconds since ClickHouse last acknowledged rows.
    pub since_insert_ms: Option<i64>,
    /// Whether rows wait for ClickHouse.
    pub insert_in_flight: bool,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
}

/// A task at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskView {
    /// Name.
    pub name: TaskName,
    /// Step of its takeover, or `running`.
    pub phase: &'static str,
    /// Whether it runs.
    pub running: bool,
    /// Whether its rows are served (not while it catches up after a takeover).
    pub serving: bool,
    /// Generation; 0 while it is not known.
    pub generation: u64,
    /// Milliseconds since its last checkpoint.
    pub checkpoint_age_ms: i64,
    /// Live keys by kind.
    pub keys: Vec<(&'static str, u64)>,
    /// Keys changed since the last cut.
    pub dirty_keys: u64,
    /// Sources whose relays have an open gap.
    pub relay_gaps: usize,
    /// Estimated bytes of its state.
    pub state_bytes: usize,
    /// How much of its state is not in memory.
    pub cold: ColdCounts,
    /// Next offset, record time of the last record (0 = none) and whether the end was reached, by log.
    pub logs: Vec<LogView>,
}

/// A log of a task at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogView {
    /// Log.
    pub tp: TopicPartition,
    /// Offset of the next record to apply.
    pub next: Offset,
    /// Timestamp of the last record applied, Unix milliseconds; 0 = none.
    pub record_time_ms: i64,
    /// Whether it was read to its end.
    pub at_end: bool,
}

impl Worker {
    /// How it stands.
    pub fn view<I: Io>(&self, io: &I, now: Now) -> WorkerView {
        let mut relay_gaps = 0;
        let tasks = self
            .slots
            .iter()
            .map(|slot| {
                let name = slot.task.identity.name.clone();
                let Phase::Running(running) = &slot.phase else {
                    return TaskView {
                        name,
                        phase: slot.phase.name(),
                        running: false,
                        serving: false,
                        generation: 0,
                        checkpoint_age_ms: 0,
                        keys: Vec::new(),
                        dirty_keys: 0,
                        relay_gaps: 0,
                        state_bytes: slot.engine().map_or(0, Engine::used_bytes),
                        cold: ColdCounts::default(),
                        logs: Vec::new(),
                    };
                };
                relay_gaps += running.task.open_gaps();
                TaskView {
                    name,
                    phase: slot.phase.name(),
                    running: true,
                    serving: running.serve_gate_ms.is_none(),
                    generation: running.task.generation(),
                    checkpoint_age_ms: now.mono_ms - running.checkpointed_at_ms,
                    keys: running.task.engine().keys().iter().map(|(kind, keys)| (kind.name(), keys as u64)).collect(),
                    dirty_keys: running.task.engine().dirty_state() as u64,
                    relay_gaps: running.task.open_gaps(),
                    state_bytes: running.task.engine().used_bytes(),
                    cold: running.task.engine().cold(),
                    logs: running
                        .task
                        .logs()
                        .enumerate()
                        .map(|(index, (tp, next, at_end))| LogView {
                            tp: tp.clone(),
                            next,
                            record_time_ms: running.task.record_time_ms(index),
                            at_end,
                        })
                        .collect(),
                }
            })
            .collect();
        WorkerView {
            tasks,
            buffered_bytes: self.buffered_bytes(io),
            allocated_bytes: self.allocated_bytes(),
            vacant_bytes: self.vacant_bytes(),
            state_limit: self.state_limit,
            paused: self.pressure.paused,
            relay_gaps,
            since_insert_ms: self.last_insert_ms.map(|at_ms| now.mono_ms - at_ms),
            insert_in_flight: self.serving.is_in_flight() || self.archive.is_in_flight(),
            last_error: self.last_error.clone(),
        }
    }
}
