//! A worker: one thread, one member of the group, and the tasks assigned to it.
//!
//! Owns what happens between records, Kafka and ClickHouse: takeover, serving, checkpoints, back-pressure. It talks to the
//! world only through [`Io`], and time comes in as an argument, so that the same code runs over the real servers and inside
//! the deterministic simulator. Promises the order of `src/DESIGN.md`, section 7: nothing leaves a task before its takeover
//! is confirmed, and positions never advance past anything that is not durable. Never shares anything with another worker.

mod assignment;
mod backpressure;
mod batch;
mod boundary;
mod checkpoint;
mod checks;
mod cold;
mod confirm;
mod counters;
mod io;
mod outbox;
mod reading;
mod serve;
mod slot;
mod starts;
mod status;
mod switches;
mod takeover;
mod taking;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use assignment::{AssignedTask, AssignmentError, TopicSpec, group};
pub use boundary::Boundary;
pub use counters::Counters;
pub use io::{
    Claim, Commit, Committed, Fatal, HalfTally, InFlight, Io, LogError, LogRange, RowKey, RunId, StoreReply, StoreRequest,
    StoredGeneration, Tally, Ticket,
};
pub use status::{LogView, TaskView, WorkerView};
pub use switches::Switches;
pub use taking::{NotTaken, take_alone, take_shared};

use smallvec::SmallVec;

use crate::config::StartFrom;
use crate::engine::FORESEEN;
use crate::model::{TaskName, TopicPartition};
use crate::rows::{ArchiveRows, ServingRows};
use crate::task::{ColdStores, Decoded, Outcome, Record, RejectLimits, RejectTracker, TaskIdentity, TaskSettings};
use crate::telemetry::RecordTimes;
use backpressure::Pressure;
use batch::Batches;
use outbox::WorkerOutbox;
use slot::{Closing, Phase, Running, Slot};

/// The time, handed in with everything that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never goes back: for intervals.
    pub mono_ms: i64,
    /// Unix milliseconds: for what is compared with records.
    pub wall_ms: i64,
}

/// Settings of a worker; every one is a key of the configuration.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// Pause between two servings.
    pub serve_interval_ms: i64,
    /// The same while the worker is behind: repeated changes of a key coalesce.
    pub serve_interval_behind_ms: i64,
    /// Longest time that an archive row waits.
    pub archive_interval_ms: i64,
    /// Rows that make an archive batch.
    pub archive_rows: usize,
    /// Pause between two checkpoints of a task.
    pub checkpoint_interval_ms: i64,
    /// Changed keys of a task that make an early checkpoint.
    pub dirty_keys_per_checkpoint: usize,
    /// Bytes on their way to ClickHouse and Kafka above which the worker stops fetching.
    pub buffered_bytes: usize,
    /// Messages on their way to Kafka above which the worker stops fetching.
    pub in_flight_messages: usize,
    /// The same in bytes.
    pub in_flight_bytes: usize,
    /// A taken-over task serves when it has passed the log ends read at takeover, or after this.
    pub takeover_serve_delay_ms: i64,
    /// A gap in relays that stays open longer stops the worker.
    pub relay_gap_limit_ms: i64,
    /// Copies and loads at the same time.
    pub parallel_takeovers: usize,
    /// A generation of so many rows is loaded by two queries at once, half of its rows each.
    pub halved_rows: u64,
    /// Keys that one piece of forgetting looks at.
    pub sweep_keys: usize,
    /// The exchange keeps its messages this long: an older checkpoint cannot go on.
    pub exchange_retention_ms: i64,
    /// Where to begin without state.
    pub start_from: StartFrom,
    /// Limits on rejected records.
    pub rejects: RejectLimits,
    /// Topics.
    pub topics: Vec<TopicSpec>,
    /// What tasks have in common.
    pub task: Arc<TaskSettings>,
    /// The business calendar.
    pub calendar: crate::model::Calendar,
    /// Mechanisms that tests switch off.
    pub switches: Switches,
    /// How deep subtrees and cascades reach.
    pub levels: u8,
    /// Memory for the state of the worker's tasks, bytes: what has gone cold leaves above it.
    pub state_bytes: usize,
    /// Where cold state is kept.
    pub cold: Arc<dyn ColdStores>,
}

impl WorkerSettings {
    fn engine(&self, identity: &TaskIdentity) -> crate::engine::Settings {
        crate::engine::Settings {
            task: identity.name.clone(),
            calendar: self.calendar.clone(),
            forget: crate::engine::ForgetRule::default(),
            mechanisms: self.switches.engine,
            levels: self.levels,
        }
    }
}

/// One assigned log: which task it feeds.
#[derive(Debug)]
struct AssignedLog {
    tp: TopicPartition,
    slot: usize,
    index: usize,
    topic: usize,
    reject_run: u64,
}

/// A worker.
#[derive(Debug)]
pub struct Worker {
    settings: WorkerSettings,
    /// Number of the last question for generations; answers to an older one are ignored.
    question: u64,
    /// The tasks that it was about.
    asked: BTreeSet<TaskName>,
    /// Newest complete generations of tasks that relayed what is now a log of a task that owns customers.
    former: BTreeMap<TaskName, u64>,
    assigned_at_ms: i64,
    logs: Vec<AssignedLog>,
    slots: Vec<Slot>,
    parked: BTreeMap<TaskName, Running>,
    next_run: u32,
    /// Memory for state, bytes: no more than the settings say.
    state_limit: usize,
    /// As of the last look at all state.
    is_short_of_memory: bool,
    serving_open: ServingRows,
    serving: Batches,
    /// Records applied since the last serving, and those of the batch in flight.
    times_open: RecordTimes,
    times_in_flight: RecordTimes,
    archive_open: ArchiveRows,
    archive: Batches,
    rejects: RejectTracker,
    pressure: Pressure,
    counters: Counters,
    /// When to ask the coordinator and ClickHouse for the generations of this assignment; `None`: asked.
    ask_at_ms: Option<i64>,
    committed: BTreeMap<TaskName, Committed>,
    next_horizon_ms: i64,
    draining: bool,
    last_serve_wall_ms: i64,
    last_tick_ms: i64,
    behind_since_ms: Option<i64>,
    last_insert_ms: Option<i64>,
    last_error: Option<String>,
}

impl Worker {
    /// A worker without an assignment.
    pub fn new(settings: WorkerSettings) -> Self {
        let counters = Counters::new(settings.topics.iter().map(|topic| topic.name.clone()).collect());
        let rejects = RejectTracker::new(settings.rejects);
        let state_limit = settings.state_bytes;
        Worker {
            settings,
            state_limit,
            is_short_of_memory: false,
            question: 0,
            asked: BTreeSet::new(),
            former: BTreeMap::new(),
            assigned_at_ms: 0,
            logs: Vec::new(),
            slots: Vec::new(),
            parked: BTreeMap::new(),
            next_run: 1,
            serving_open: ServingRows::default(),
            serving: Batches::default(),
            times_open: RecordTimes::default(),
            times_in_flight: RecordTimes::default(),
            archive_open: ArchiveRows::default(),
            archive: Batches::default(),
            rejects,
            pressure: Pressure::default(),
            counters,
            ask_at_ms: None,
            committed: BTreeMap::new(),
            next_horizon_ms: 0,
            draining: false,
            last_serve_wall_ms: 0,
            last_tick_ms: 0,
            behind_since_ms: None,
            last_insert_ms: None,
            last_error: None,
        }
    }

    /// The index under which records of a log are handed in; `None`: not assigned.
    pub fn log_index(&self, topic: &str, partition: i32) -> Option<usize> {
        self.logs.iter().position(|log| log.tp.partition == partition && *log.tp.topic == *topic)
    }

    /// What was counted since the last call of [`Counters::take`].
    pub fn counters(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// The group gave these partitions to this member. Fetching must not have begun.
    pub fn on_assigned(&mut self, partitions: &[TopicPartition], now: Now) -> Result<(), Fatal> {
        self.question += 1;
        self.assigned_at_ms = now.mono_ms;
        let tasks = group(partitions, &self.settings.topics, self.settings.task.tasks).map_err(|error| Fatal(error.to_string()))?;
        self.logs.clear();
        self.slots.clear();
        self.former.clear();
        self.pressure = Pressure::default();
        let mut parked = std::mem::take(&mut self.parked);
        for task in tasks {
            for (index, (tp, _)) in task.logs.iter().enumerate() {
                let topic = self.settings.topics.iter().position(|topic| topic.name == *tp.topic).unwrap_or(0);
                self.logs.push(AssignedLog { tp: tp.clone(), slot: self.slots.len(), index, topic, reject_run: 0 });
            }
            let memory = parked.remove(&task.identity.name);
            self.slots.push(Slot::new(task, memory.map(Box::new)));
        }
        self.ask_at_ms = (!self.slots.is_empty()).then_some(now.mono_ms);
        Ok(())
    }

    /// The group took all partitions. Running tasks keep their memory in case that they come back unchanged.
    pub fn on_revoked(&mut self) {
        self.question += 1;
        self.logs.clear();
        self.ask_at_ms = None;
        for slot in self.slots.drain(..) {
            // One whose takeover had hardly begun has had its memory since the revocation before.
            let memory = match slot.phase {
                Phase::Running(running) => Some(running),
                _ => slot.memory,
            };
            if let Some(running) = memory {
                self.parked.insert(slot.task.identity.name.clone(), *running);
            }
        }
    }

    /// Records were fetched from the assigned log `log` (see [`Worker::log_index`]), one behind the other. More than [`crate::engine::FORESEEN`] at once
    /// are of no use.
    pub fn on_records<I: Io>(&mut self, io: &mut I, log: usize, records: &[Record<'_>]) -> Result<(), Fatal> {
        let Some(assigned) = self.logs.get_mut(log) else { return Ok(()) };
        let Some(Slot { phase: Phase::Running(running), .. }) = self.slots.get_mut(assigned.slot) else { return Ok(()) };
        if running.closing != Closing::Open {
            return Ok(());
        }
        let mut decoded: SmallVec<[Decoded<'_>; FORESEEN]> =
            records.iter().map(|record| running.task.decode(assigned.index, record)).collect();
        running.task.foresee(&mut decoded);
        let ticket = Ticket { run: running.run, epoch: running.epoch };
        for (record, decoded) in records.iter().zip(&decoded) {
            let (archive, counters) = (&mut self.archive_open, &mut self.counters);
            let mut out = WorkerOutbox { io: &mut *io, archive, ticket, produced: 0, counters, topic: assigned.topic };
            let outcome = running
                .task
                .on_record(assigned.index, record, decoded, &mut out)
                .map_err(|error| Fatal(format!("{} offset {}: {error}", assigned.tp, record.offset)))?;
            let produced = out.produced;
            running.produced(produced);
            self.counters.record(assigned.topic, outcome);
            match outcome {
                Outcome::Rejected(_) => {
                    let rejected = self.rejects.rejected(&mut assigned.reject_run, &assigned.tp, record.offset);
                    rejected.map_err(|too_many| Fatal(too_many.to_string()))?;
                }
                Outcome::Applied(_) | Outcome::Duplicate(_) | Outcome::Relayed(_) => {
                    if matches!(outcome, Outcome::Applied(_)) {
                        self.times_open.note(decoded.produced_ms(record));
                    }
                    self.rejects.accepted(&mut assigned.reject_run);
                }
                Outcome::AlreadyApplied | Outcome::Refused | Outcome::Noted => {}
            }
        }
        Ok(())
    }

    /// The consumer reached the end of a log; everything before `offset` was handed in.
    pub fn on_end(&mut self, log: usize, offset: i64) {
        let Some(assigned) = self.logs.get(log) else { return };
        if let Some(Slot { phase: Phase::Running(running), .. }) = self.slots.get_mut(assigned.slot) {
            running.task.on_end(assigned.index, offset);
        }
    }

    /// A log has not what is to be read next. The task's takeover begins anew, and says what is lost if the task is still ours.
    pub fn on_out_of_range(&mut self, log: usize, now: Now) {
        let Some(slot) = self.logs.get(log).and_then(|assigned| self.slots.get_mut(assigned.slot)) else { return };
        if matches!(slot.phase, Phase::Running(_)) {
            slot.phase = Phase::Asking;
            self.ask_again(now);
        }
    }

    /// A produced message was acknowledged, or failed for good.
    pub fn on_delivered(&mut self, ticket: Ticket, result: Result<(), String>) -> Result<(), Fatal> {
        if let Err(error) = result {
            return Err(Fatal(format!(
                "kafka did not take a message of onecode's: {error}; nothing was lost, the records behind it will be read again"
            )));
        }
        for running in self.all_running() {
            if running.run == ticket.run {
                running.acknowledged(ticket.epoch);
                break;
            }
        }
        Ok(())
    }

    fn all_running(&mut self) -> impl Iterator<Item = &mut Running> {
        let slots = self.slots.iter_mut().filter_map(|slot| match &mut slot.phase {
            Phase::Running(running) => Some(&mut **running),
            _ => slot.memory.as_deref_mut(),
        });
        slots.chain(self.parked.values_mut())
    }

    /// ClickHouse answered.
    pub fn on_store<I: Io>(&mut self, io: &mut I, reply: StoreReply, now: Now) -> Result<(), Fatal> {
        match reply {
            StoreReply::Inserted { table, batch } => {
                self.last_insert_ms = Some(now.mono_ms);
                self.on_inserted(table, batch);
                io.cross(Boundary::RowsIn);
                Ok(())
            }
            StoreReply::Newest { question, generations } => self.on_newest(io, question, &generations, now),
            StoreReply::Copied { run, result } => self.on_copied(io, run, result, now),
            StoreReply::Written { run, epoch } => self.on_written(io, run, epoch, now),
            StoreReply::Loaded { run, half, rows, more_behind } => {
                self.on_loaded((run, half), rows, more_behind, now);
                Ok(())
            }
            StoreReply::Tallied { run, tally } => {
                self.on_tallied(run, tally);
                Ok(())
            }
            StoreReply::Owners { run, generations } => {
                self.on_owners(run, &generations, now);
                Ok(())
            }
            StoreReply::Refused { error } => Err(Fatal(error)),
        }
    }

    /// Time has passed. To be called at least every few milliseconds while there is work.
    pub fn tick<I: Io>(&mut self, io: &mut I, now: Now) -> Result<(), Fatal> {
        self.advance_takeovers(io, now)?;
        if now.mono_ms >= self.next_horizon_ms {
            self.next_horizon_ms = now.mono_ms + 1_000;
            self.advance_horizons(now)?;
        }
        self.note_backlog(now);
        // A cut before the batches: what it waits for is in the very next ones.
        self.advance_checkpoints(io, now)?;
        self.serve(io, now);
        self.send_archive(io, now);
        self.relieve_pressure(io);
        Ok(())
    }

    fn advance_horizons(&mut self, now: Now) -> Result<(), Fatal> {
        let limit_ms = self.settings.relay_gap_limit_ms;
        let sweep_keys = self.settings.sweep_keys;
        for slot in &mut self.slots {
            let Phase::Running(running) = &mut slot.phase else { continue };
            if running.closing != Closing::Open {
                continue;
            }
            self.counters.loaded += running.task.take_loaded();
            // A replay must not refuse what was accepted and served the first time.
            if running.has_replayed() || !self.settings.switches.horizon_awaits_replay {
                running.task.advance_horizon(now.wall_ms, sweep_keys).map_err(|error| Fatal(error.to_string()))?;
            }
            if let Some((source, gap)) = running.task.oldest_gap(now.mono_ms)
                && now.mono_ms - gap.since_ms.unwrap_or(now.mono_ms) > limit_ms
            {
                return Err(Fatal(format!(
                    "task {}: relays from {source} are missing since {limit_ms} ms (relay {} arrived, {} before it did not): the exchange topic lost acknowledged data; restore it, or rebuild into a new database",
                    slot.task.identity.name, gap.offset, gap.missing
                )));
            }
        }
        Ok(())
    }

    /// Begins to drain: stops fetching, and checkpoints everything as soon as it can.
    pub fn start_drain<I: Io>(&mut self, io: &mut I) {
        self.draining = true;
        let partitions: Vec<TopicPartition> = self.logs.iter().map(|log| log.tp.clone()).collect();
        io.pause(&partitions);
        io.cross(Boundary::DrainBegun);
    }

    /// Whether a drain is over: everything applied is in ClickHouse, checkpointed and committed.
    pub fn is_drained(&self) -> bool {
        let idle = |slot: &Slot| match &slot.phase {
            Phase::Running(running) => running.closing == Closing::Done,
            _ => true,
        };
        self.draining && self.slots.iter().all(idle) && !self.serving.is_in_flight() && !self.archive.is_in_flight()
    }
}
