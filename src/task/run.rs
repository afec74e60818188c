//! What a running task does with records, and what it hands to a checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::contribution::{Reach, Reaches, Records, decode_contributions, encode_contributions_header, encode_reach};
use super::dead_letter::{DeadLetter, Origin};
use super::horizon::Horizon;
use super::positions::{LogPosition, Positions, PositionsError};
use super::record::{Headers, Record, TimestampKind};
use super::relay::{EXCHANGE_HEADER, Inbox, Incoming, OpenGap, RelayHeader, SourceLog, Verdict, decode_header, encode_progress};
use crate::config::Fingerprint;
use crate::decode::{Format, RawRecord, Rules, decode};
use crate::engine::{Applied, Engine, RestoreError, Settings as EngineSettings, StateRow};
use crate::model::{Event, EventKind, Offset, Reason, Reject, Stage, TaskName, TopicPartition, Version, owner};
use crate::rows::{RowBuffer, ServingRows};

/// `task_state.kind` of the positions row. The engine's kinds are between this and the mark.
pub const KIND_POSITIONS: u8 = 0;
/// `task_state.kind` of the completeness mark of a generation.
pub const KIND_MARK: u8 = 255;

/// Reaches are messages too, and messages move the horizon: a floor lets a quiet pipeline fall silent.
const LEAST_REACH_STEP_MS: i64 = 3_600_000;

/// What a log carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogRole {
    /// Events of one kind.
    Input {
        /// Which.
        kind: EventKind,
        /// How they are written.
        format: Format,
    },
    /// The internal topic.
    Exchange,
}

/// Who a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskIdentity {
    /// Name in `task_state`.
    pub name: TaskName,
    /// The customers it owns; `None`: it only relays.
    pub owns: Option<u32>,
}

/// What all tasks of a process have in common.
#[derive(Clone, Debug)]
pub struct TaskSettings {
    /// N: partitions of the exchange.
    pub tasks: u32,
    /// Acceptance.
    pub rules: Rules,
    /// Input topics: what they carry and how it is written.
    pub inputs: BTreeMap<String, (EventKind, Format)>,
    /// Oldest acceptable event, before its record's timestamp.
    pub max_lateness_ms: i64,
    /// How much longer than `max_lateness` ids are remembered.
    pub forget_slack_ms: i64,
    /// A source tells its destinations how far it has read when it has moved by this much.
    pub progress_every_ms: i64,
    /// Settings that change results.
    pub fingerprint: Fingerprint,
    /// Kafka's id of the cluster.
    pub cluster_id: String,
    /// Kafka's ids of the topics, by name.
    pub topic_ids: BTreeMap<String, String>,
}

/// Where a task's messages and archive rows go; provided by the worker.
pub trait Outbox {
    /// Passes a record on to the task that owns its customer.
    fn relay(&mut self, destination: u32, header: &RelayHeader, record: &Record<'_>);
    /// Tells a destination how far a source has read.
    fn progress(&mut self, destination: u32, header: Vec<u8>);
    /// Sends contributions to a task: the header, and the record's value.
    fn contributions(&mut self, destination: u32, header: Vec<u8>, value: &[u8]);
    /// Puts a record among the dead letters.
    fn dead_letter(&mut self, letter: &DeadLetter<'_>);
    /// Archives an accepted event.
    fn archive(&mut self, event: &Event<'_>);
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Counted.
    Applied(EventKind),
    /// Counted before.
    Duplicate(EventKind),
    /// Passed on to its owner.
    Relayed(EventKind),
    /// Put among the dead letters.
    Rejected(Reason),
    /// Seen before by this task (fetched before a seek, or a relay that was taken before).
    AlreadyApplied,
    /// A relay whose predecessor is missing.
    Refused,
    /// A message about progress, or contributions.
    Noted,
}

/// A reason to stop a task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// The positions row does not fit.
    #[error("task {task}: {source}")]
    Positions {
        /// Task.
        task: TaskName,
        /// What does not fit.
        source: PositionsError,
    },
    /// A state row cannot be read.
    #[error("task {task} generation {generation}: {source}; restore `task_state` from a backup, or rebuild into a new database")]
    Corrupt {
        /// Task.
        task: TaskName,
        /// Generation.
        generation: u64,
        /// What is wrong.
        source: RestoreError,
    },
    /// Not what was written.
    #[error(
        "task {task} generation {generation}: the state has {found_rows} rows with hash {found_hash:016x}, its positions row says {stored_rows} rows with hash {stored_hash:016x}: rows of `task_state` were lost or changed; restore them from a backup, or rebuild into a new database"
    )]
    Integrity {
        /// Task.
        task: TaskName,
        /// Generation.
        generation: u64,
        /// Rows found.
        found_rows: u64,
        /// Their hash.
        found_hash: u64,
        /// Rows written.
        stored_rows: u64,
        /// Their hash.
        stored_hash: u64,
    },
    /// A generation is marked complete and has no positions row.
    #[error(
        "task {task} generation {generation} is marked complete but has no positions row: rows of `task_state` were lost; restore them from a backup, or rebuild into a new database"
    )]
    NoPositions {
        /// Task.
        task: TaskName,
        /// Generation.
        generation: u64,
    },
}

/// One log of a task.
#[derive(Debug)]
struct Log {
    tp: TopicPartition,
    role: LogRole,
    next: Offset,
    record_time_ms: i64,
    time_is_producers: bool,
    at_end: bool,
    /// Last relay sent, by destination; -1 = none.
    sent: Vec<Offset>,
    /// Record time that each destination was last told.
    told_ms: Vec<i64>,
}

/// A task that runs, or whose memory is kept over a rebalance.
#[derive(Debug)]
pub struct Task {
    identity: TaskIdentity,
    generation: u64,
    sequence: u64,
    settings: Arc<TaskSettings>,
    engine: Engine,
    logs: Vec<Log>,
    inbox: Inbox,
    /// Positions of logs that are not this task's at present (a topic that was taken out of the configuration).
    other_logs: BTreeMap<TopicPartition, LogPosition>,
    other_sent: BTreeMap<(SourceLog, u32), Offset>,
    reaches: Reaches,
    /// The horizon of the last cut, and of the last one that is known to be the one to start from.
    cut_horizon_ms: i64,
    saved_horizon_ms: i64,
    /// The horizon that the other tasks were last told.
    told_horizon_ms: i64,
    moved: bool,
}

/// What one checkpoint writes: fixed at one moment.
#[derive(Debug)]
pub struct Cut {
    /// Rows for `task_state`, the positions row among them.
    pub rows: RowBuffer,
    /// Offsets to commit.
    pub offsets: Vec<(TopicPartition, Offset)>,
}

impl Task {
    /// A task at its first start: `starts` are the offsets to begin at.
    pub fn first_start(
        identity: TaskIdentity,
        generation: u64,
        settings: Arc<TaskSettings>,
        engine: EngineSettings,
        logs: &[(TopicPartition, LogRole)],
        starts: &BTreeMap<TopicPartition, Offset>,
    ) -> Self {
        let positions = Positions {
            logs: starts
                .iter()
                .map(|(tp, next)| (tp.clone(), LogPosition { next: *next, record_time_ms: 0, topic_id: settings.topic_id(&tp.topic) }))
                .collect(),
            ..Positions::default()
        };
        Self::with_positions(identity, generation, settings, Engine::new(engine), logs, positions)
    }

    fn with_positions(
        identity: TaskIdentity,
        generation: u64,
        settings: Arc<TaskSettings>,
        mut engine: Engine,
        logs: &[(TopicPartition, LogRole)],
        positions: Positions,
    ) -> Self {
        let reaches = Reaches::restore(positions.reaches);
        engine.raise_horizon(positions.horizon_ms);
        engine.raise_reach(reaches.least_ms(settings.tasks));
        let mut other_logs = positions.logs;
        let mut other_sent = positions.sent;
        let tasks = settings.tasks as usize;
        let own_logs = logs
            .iter()
            .map(|(tp, role)| {
                let stands = other_logs.remove(tp);
                let mut sent = vec![-1; tasks];
                for (destination, last) in (0_u32..).zip(sent.iter_mut()) {
                    *last = other_sent.remove(&(tp.clone(), destination)).unwrap_or(-1);
                }
                Log {
                    tp: tp.clone(),
                    role: *role,
                    next: stands.as_ref().map_or(0, |position| position.next),
                    record_time_ms: stands.as_ref().map_or(0, |position| position.record_time_ms),
                    time_is_producers: true,
                    at_end: false,
                    sent,
                    told_ms: vec![0; tasks],
                }
            })
            .collect();
        Task {
            identity,
            generation,
            sequence: positions.sequence,
            settings,
            engine,
            logs: own_logs,
            inbox: Inbox::restore(positions.received),
            other_logs,
            other_sent,
            reaches,
            cut_horizon_ms: positions.horizon_ms,
            saved_horizon_ms: positions.horizon_ms,
            told_horizon_ms: 0,
            moved: true,
        }
    }

    /// Who it is.
    pub fn identity(&self) -> &TaskIdentity {
        &self.identity
    }

    /// Under which generation it speaks.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Its state.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Its logs with the offset of the next record to apply and whether each was read to its end.
    pub fn logs(&self) -> impl Iterator<Item = (&TopicPartition, Offset, bool)> {
        self.logs.iter().map(|log| (&log.tp, log.next, log.at_end))
    }

    /// Timestamp of the last record applied of a log, Unix milliseconds; 0 = none.
    pub fn record_time_ms(&self, log: usize) -> i64 {
        self.logs.get(log).map_or(0, |log| log.record_time_ms)
    }

    /// Sets where to start in a log of which the positions row says nothing.
    pub fn start_at(&mut self, log: usize, offset: Offset) {
        if let Some(at) = self.logs.get_mut(log) {
            at.next = offset;
            self.moved = true;
        }
    }

    /// Applies one record of the task's `log`-th log.
    pub fn on_record<O: Outbox>(&mut self, log: usize, record: &Record<'_>, out: &mut O) -> Outcome {
        let Some(at) = self.logs.get_mut(log) else { return Outcome::AlreadyApplied };
        if record.offset < at.next {
            return Outcome::AlreadyApplied;
        }
        at.next = record.offset + 1;
        at.record_time_ms = record.timestamp_ms.max(0);
        at.time_is_producers = record.timestamp_kind == TimestampKind::Create;
        at.at_end = false;
        self.moved = true;
        match at.role {
            LogRole::Input { kind, format } => self.on_input(log, kind, format, record, out),
            LogRole::Exchange => self.on_exchange(log, record, out),
        }
    }

    fn on_input<O: Outbox>(&mut self, log: usize, kind: EventKind, format: Format, record: &Record<'_>, out: &mut O) -> Outcome {
        let Some(at) = self.logs.get_mut(log) else { return Outcome::AlreadyApplied };
        let mut content_type = None;
        if format == Format::Auto {
            record.headers.find("content-type", &mut |value| content_type = Some(value.to_vec()));
        }
        let raw = RawRecord { value: record.value, content_type: content_type.as_deref(), timestamp_ms: record.timestamp_ms };
        let event = match decode(kind, format, raw, &self.settings.rules) {
            Ok(event) => event,
            Err(reject) => {
                let origin = Origin { log: at.tp.clone(), offset: record.offset };
                return send_dead_letter(&origin, &reject, record, record.headers, out);
            }
        };
        if !event.is_customers_own() {
            out.archive(&event);
            return Outcome::Applied(kind);
        }
        let destination = owner(&event.customer_id, self.settings.tasks);
        if self.identity.owns == Some(destination) {
            let origin = |at: &Log| Origin { log: at.tp.clone(), offset: record.offset };
            return match self.engine.apply(&event) {
                Applied::Applied => {
                    out.archive(&event);
                    Outcome::Applied(kind)
                }
                Applied::Duplicate => Outcome::Duplicate(kind),
                Applied::Rejected(reject) => send_dead_letter(&origin(at), &reject, record, record.headers, out),
            };
        }
        let Some(previous) = at.sent.get_mut(destination as usize) else { return Outcome::AlreadyApplied };
        let header = RelayHeader {
            source: at.tp.clone(),
            offset: record.offset,
            previous: *previous,
            timestamp_ms: record.timestamp_ms,
            timestamp_kind: record.timestamp_kind,
        };
        *previous = record.offset;
        if let Some(told) = at.told_ms.get_mut(destination as usize) {
            *told = record.timestamp_ms;
        }
        out.relay(destination, &header, record);
        Outcome::Relayed(kind)
    }

    fn on_exchange<O: Outbox>(&mut self, log: usize, record: &Record<'_>, out: &mut O) -> Outcome {
        let mut incoming = None;
        record.headers.find(EXCHANGE_HEADER, &mut |value| incoming = decode_header(value));
        let relay = match incoming {
            Some(Incoming::Relay(relay)) => relay,
            Some(Incoming::Progress { source, previous, timestamp_ms }) => {
                self.inbox.progress(&source, previous, timestamp_ms);
                return Outcome::Noted;
            }
            Some(Incoming::Contributions { task, version }) => {
                return match self.on_contributions(task, version, record.value) {
                    Ok(outcome) => outcome,
                    Err(what) => self.reject_foreign(log, record, &what, out),
                };
            }
            Some(Incoming::Reach { task, reach }) => {
                self.reaches.note(task, reach);
                self.engine.raise_reach(self.reaches.least_ms(self.settings.tasks));
                return Outcome::Noted;
            }
            None => return self.reject_foreign(log, record, &format!("no valid header `{EXCHANGE_HEADER}`"), out),
        };
        match self.inbox.judge(&relay) {
            Verdict::AlreadyTaken => return Outcome::AlreadyApplied,
            Verdict::Gap => return Outcome::Refused,
            Verdict::Take => {}
        }
        self.on_relay(&relay, record, out)
    }

    fn on_contributions(&mut self, task: u32, version: Version, value: Option<&[u8]>) -> Result<Outcome, String> {
        if self.reaches.is_outdated(task, version) {
            return Ok(Outcome::AlreadyApplied);
        }
        let contributions = decode_contributions(value).ok_or("contributions that cannot be decoded")?;
        for contribution in &contributions {
            self.engine.receive(version, contribution).map_err(|error| error.to_string())?;
        }
        Ok(Outcome::Noted)
    }

    /// The exchange is internal: what onecode did not write is nobody's event.
    fn reject_foreign<O: Outbox>(&mut self, log: usize, record: &Record<'_>, what: &str, out: &mut O) -> Outcome {
        let Some(at) = self.logs.get(log) else { return Outcome::AlreadyApplied };
        let origin = Origin { log: at.tp.clone(), offset: record.offset };
        let message = format!("no message of onecode's: the exchange topic is internal, and this record has {what}");
        let reject = Reject { reason: Reason::Undecodable, stage: Stage::Decode, message };
        send_dead_letter(&origin, &reject, record, record.headers, out)
    }

    /// The original headers came along, so the event is decoded from the same bytes by the same rules as at its source.
    fn on_relay<O: Outbox>(&mut self, relay: &RelayHeader, record: &Record<'_>, out: &mut O) -> Outcome {
        let original_headers = WithoutOurs(record.headers);
        let origin = Origin { log: relay.source.clone(), offset: relay.offset };
        let Some((kind, format)) = self.settings.inputs.get(&*relay.source.topic).copied() else {
            let reject = Reject {
                reason: Reason::Undecodable,
                stage: Stage::Decode,
                message: format!("topic `{}` is not among the configured input topics any more", relay.source.topic),
            };
            return send_dead_letter(&origin, &reject, record, &original_headers, out);
        };
        let mut content_type = None;
        record.headers.find("content-type", &mut |value| content_type = Some(value.to_vec()));
        let raw = RawRecord { value: record.value, content_type: content_type.as_deref(), timestamp_ms: relay.timestamp_ms };
        let reject = match decode(kind, format, raw, &self.settings.rules) {
            Err(reject) => reject,
            Ok(event) => match self.engine.apply(&event) {
                Applied::Applied => {
                    out.archive(&event);
                    return Outcome::Applied(kind);
                }
                Applied::Duplicate => return Outcome::Duplicate(kind),
                Applied::Rejected(reject) => reject,
            },
        };
        send_dead_letter(&origin, &reject, record, &original_headers, out)
    }

    /// The log was read to its end: `offset` is the end, past transaction markers.
    pub fn on_end(&mut self, log: usize, offset: Offset) {
        if let Some(at) = self.logs.get_mut(log)
            && offset >= at.next
        {
            self.moved |= offset > at.next;
            at.next = offset;
            at.at_end = true;
        }
    }

    /// Moves the forget horizon and forgets a bounded piece; `now_ms` caps timestamps that producers set.
    pub fn advance_horizon(&mut self, now_ms: i64, sweep_keys: usize) {
        let reached = self.reached(now_ms);
        let horizon_ms = reached.horizon_ms(self.settings.max_lateness_ms, self.settings.forget_slack_ms);
        if horizon_ms > self.engine.horizon_ms() {
            self.engine.raise_horizon(horizon_ms);
        }
        self.engine.sweep(sweep_keys);
    }

    fn reached(&self, now_ms: i64) -> Horizon {
        let mut horizon = Horizon::default();
        for log in &self.logs {
            let time_ms = if log.time_is_producers { log.record_time_ms.min(now_ms) } else { log.record_time_ms };
            horizon.log(time_ms, log.at_end);
        }
        for (_, mark) in self.inbox.marks() {
            horizon.source(mark.record_time_ms.min(now_ms));
        }
        horizon
    }

    /// Tells destinations how far their sources have read, where that has moved enough since they last heard.
    pub fn send_progress<O: Outbox>(&mut self, now_ms: i64, out: &mut O) {
        let newest_ms = self.reached(now_ms).reached_ms();
        for log in &mut self.logs {
            if log.role == LogRole::Exchange {
                continue;
            }
            let time_ms = if log.at_end { newest_ms.max(log.record_time_ms.min(now_ms)) } else { log.record_time_ms.min(now_ms) };
            for (destination, (previous, told_ms)) in (0_u32..).zip(log.sent.iter().zip(log.told_ms.iter_mut())) {
                if *previous >= 0 && time_ms.saturating_sub(*told_ms) >= self.settings.progress_every_ms {
                    *told_ms = time_ms;
                    out.progress(destination, encode_progress(&log.tp, *previous, time_ms));
                }
            }
        }
    }

    /// Sends what every touched pair of the graph now says. Each drain speaks with a version of its own.
    pub fn drain_contributions<O: Outbox>(&mut self, out: &mut O) {
        let Some(task) = self.identity.owns.filter(|_| self.engine.dirty_contributions() > 0) else { return };
        self.sequence += 1;
        let header = encode_contributions_header(task, Version::new(self.generation, self.sequence));
        let tasks = self.settings.tasks;
        let mut records = Records::default();
        self.engine.drain_contributions(|sharer_id, contribution| {
            let destination = owner(sharer_id, tasks);
            if let Some(value) = records.add(destination, contribution) {
                out.contributions(destination, header.clone(), &value);
            }
        });
        for (destination, value) in records.rest() {
            out.contributions(destination, header.clone(), &value);
        }
    }

    /// The last cut is durable, and the group still holds this task's worker for its owner.
    pub fn note_saved(&mut self) {
        self.saved_horizon_ms = self.cut_horizon_ms;
    }

    /// Tells all tasks how far back events of this one may still reach, where that has moved enough since they last heard.
    pub fn send_reach<O: Outbox>(&mut self, out: &mut O) {
        let step_ms = self.settings.progress_every_ms.max(LEAST_REACH_STEP_MS);
        let Some(task) = self.identity.owns.filter(|_| self.saved_horizon_ms - self.told_horizon_ms >= step_ms) else { return };
        self.told_horizon_ms = self.saved_horizon_ms;
        let header = encode_reach(task, Reach { generation: self.generation, horizon_ms: self.saved_horizon_ms });
        for destination in 0..self.settings.tasks {
            out.progress(destination, header.clone());
        }
    }

    /// The gap in the relays of a source that has been open longest.
    pub fn oldest_gap(&mut self, now_ms: i64) -> Option<(&SourceLog, OpenGap)> {
        self.inbox.oldest_gap(now_ms)
    }

    /// Sources whose relays have an open gap.
    pub fn open_gaps(&self) -> usize {
        self.inbox.open_gaps()
    }

    /// Drains the serving rows of every key that was touched since the last drain.
    pub fn drain_rows(&mut self, out: &mut ServingRows) {
        if self.engine.dirty_rows() == 0 {
            return;
        }
        self.sequence += 1;
        self.engine.drain_rows(Version::new(self.generation, self.sequence), out);
    }

    /// The next checkpoint has to commit positions again.
    pub fn mark_moved(&mut self) {
        self.moved = true;
    }

    /// Fetching begins anew: whether a log was read to its end is not known until it is seen again.
    pub fn forget_ends(&mut self) {
        for log in &mut self.logs {
            log.at_end = false;
        }
    }

    /// Whether there is anything that the last cut did not contain.
    pub fn has_unsaved(&self) -> bool {
        self.moved || self.engine.dirty_state() > 0 || self.engine.dirty_contributions() > 0
    }

    /// Fixes what a checkpoint writes: the keys that changed since the last cut, and the positions.
    pub fn cut(&mut self, now_ms: i64) -> Cut {
        self.sequence += 1;
        self.moved = false;
        self.cut_horizon_ms = self.engine.horizon_ms();
        let mut state = Vec::new();
        self.engine.cut(&mut state);
        let positions = self.positions(now_ms);
        let mut rows = RowBuffer::default();
        for row in &state {
            push_state_row(&mut rows, &self.identity.name, self.generation, self.sequence, row);
        }
        let row = StateRow { kind: KIND_POSITIONS, key: Vec::new(), payload: positions.encode(), deleted: false };
        push_state_row(&mut rows, &self.identity.name, self.generation, self.sequence, &row);
        Cut { rows, offsets: self.logs.iter().map(|log| (log.tp.clone(), log.next)).collect() }
    }

    fn positions(&self, now_ms: i64) -> Positions {
        let live = self.engine.live();
        let mut logs = self.other_logs.clone();
        let mut sent = self.other_sent.clone();
        for log in &self.logs {
            let topic_id = self.settings.topic_id(&log.tp.topic);
            logs.insert(log.tp.clone(), LogPosition { next: log.next, record_time_ms: log.record_time_ms, topic_id });
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
        }
    }
}

impl TaskSettings {
    fn topic_id(&self, topic: &str) -> String {
        self.topic_ids.get(topic).cloned().unwrap_or_default()
    }
}

/// The completeness mark of a generation.
pub fn mark_row(task: &TaskName, generation: u64) -> RowBuffer {
    let mut rows = RowBuffer::default();
    push_state_row(&mut rows, task, generation, 0, &StateRow { kind: KIND_MARK, key: Vec::new(), payload: Vec::new(), deleted: false });
    rows
}

/// Columns of `task_state` in the order of the encoding.
pub const STATE_COLUMNS: [&str; 7] = ["task", "generation", "kind", "key", "sequence", "payload", "is_deleted"];

fn push_state_row(rows: &mut RowBuffer, task: &TaskName, generation: u64, sequence: u64, row: &StateRow) {
    rows.push(|columns| {
        columns.string(task).u64(generation).u8(row.kind).blob(&row.key).u64(sequence).blob(&row.payload).u8(u8::from(row.deleted));
    });
}

fn send_dead_letter<O: Outbox>(origin: &Origin, reject: &Reject, record: &Record<'_>, headers: &dyn Headers, out: &mut O) -> Outcome {
    out.dead_letter(&DeadLetter { origin, reject, key: record.key, value: record.value, headers });
    Outcome::Rejected(reject.reason)
}

/// The original headers of a relayed record.
struct WithoutOurs<'a>(&'a dyn Headers);

impl Headers for WithoutOurs<'_> {
    fn visit(&self, each: &mut dyn FnMut(&str, Option<&[u8]>)) {
        self.0.visit(&mut |name, value| {
            if name != EXCHANGE_HEADER {
                each(name, value);
            }
        });
    }
}

/// Rebuilds a task from the rows of its generation, in pieces, so that the worker can keep polling in between.
#[derive(Debug)]
pub struct Restore {
    identity: TaskIdentity,
    generation: u64,
    settings: Arc<TaskSettings>,
    engine: Engine,
    positions: Option<Positions>,
    largest_sequence: u64,
}

impl Restore {
    /// Nothing read yet.
    pub fn new(identity: TaskIdentity, generation: u64, settings: Arc<TaskSettings>, engine: EngineSettings) -> Self {
        Restore { identity, generation, settings, engine: Engine::new(engine), positions: None, largest_sequence: 0 }
    }

    /// The generation that is being read.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Takes one live row.
    pub fn row(&mut self, kind: u8, key: &[u8], sequence: u64, payload: &[u8]) -> Result<(), TaskError> {
        self.largest_sequence = self.largest_sequence.max(sequence);
        match kind {
            KIND_MARK => Ok(()),
            KIND_POSITIONS => {
                let positions = Positions::decode(payload).map_err(|source| self.positions_error(source))?;
                self.positions = Some(positions);
                Ok(())
            }
            _ => self.engine.restore(kind, key, payload).map_err(|source| TaskError::Corrupt {
                task: self.identity.name.clone(),
                generation: self.generation,
                source,
            }),
        }
    }

    fn positions_error(&self, source: PositionsError) -> TaskError {
        TaskError::Positions { task: self.identity.name.clone(), source }
    }

    /// All rows were read: verifies them and gives the task, with the positions that it starts from.
    pub fn finish(mut self, logs: &[(TopicPartition, LogRole)]) -> Result<(Task, Positions), TaskError> {
        let Some(mut positions) = self.positions.take() else {
            return Err(TaskError::NoPositions { task: self.identity.name, generation: self.generation });
        };
        positions
            .check(self.settings.tasks, &self.settings.fingerprint, &self.settings.cluster_id)
            .map_err(|source| self.positions_error(source))?;
        self.engine.note_restored();
        let live = self.engine.live();
        if (live.count, live.hash) != (positions.live_rows, positions.live_hash) {
            return Err(TaskError::Integrity {
                task: self.identity.name,
                generation: self.generation,
                found_rows: live.count,
                found_hash: live.hash,
                stored_rows: positions.live_rows,
                stored_hash: positions.live_hash,
            });
        }
        positions.sequence = positions.sequence.max(self.largest_sequence);
        let task = Task::with_positions(self.identity, self.generation, self.settings, self.engine, logs, positions.clone());
        Ok((task, positions))
    }
}
