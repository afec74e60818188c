//! What a running task does with records, and what it hands to a checkpoint.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::cell_log::{CellLog, PackRule};
use super::cold::{Cold, ColdStore};
use super::contribution::Reaches;
use super::dead_letter::{DeadLetter, Origin};
use super::error::TaskError;
use super::exchange::Relayed;
use super::positions::{LogPosition, Positions};
use super::record::{Headers, Record, TimestampKind};
use super::relay::{Inbox, Incoming, OpenGap, RelayHeader, SourceLog};
use crate::config::Fingerprint;
use crate::decode::{CONTENT_TYPE_HEADER, Format, RawRecord, Rules, decode};
use crate::engine::{Applied, Engine, Foreseen, Settings as EngineSettings};
use crate::model::{Event, EventKind, Offset, Reason, Reject, TaskName, TopicPartition, Version, owner};
use crate::rows::ServingRows;

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
    /// How cells are packed in checkpoints.
    pub packs: PackRule,
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

/// A record that was read and not applied yet.
#[derive(Debug)]
pub enum Decoded<'a> {
    /// It lies before the log's position.
    Passed,
    /// It is of the exchange, and no relay: what its header says, if onecode wrote it.
    Exchange(Option<Incoming>),
    /// It was passed on by another task.
    Relay {
        /// From where.
        relay: RelayHeader,
        /// What the record says, if it is accepted.
        event: Result<Event<'a>, Reject>,
        /// What [`Task::foresee`] found out about it.
        foreseen: Foreseen,
    },
    /// It is accepted.
    Event {
        /// What it says.
        event: Event<'a>,
        /// Which task owns its customer; `None`: it is no customer's own event.
        destination: Option<u32>,
        /// What [`Task::foresee`] found out about it.
        foreseen: Foreseen,
    },
    /// It is not.
    Rejected(Reject),
}

impl Decoded<'_> {
    /// Timestamp of the record in which it first came, Unix milliseconds.
    pub fn produced_ms(&self, record: &Record<'_>) -> i64 {
        match self {
            Decoded::Relay { relay, .. } => relay.timestamp_ms,
            _ => record.timestamp_ms,
        }
    }
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

/// One log of a task.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) tp: TopicPartition,
    pub(super) role: LogRole,
    pub(super) next: Offset,
    pub(super) read_from: Offset,
    pub(super) record_time_ms: i64,
    pub(super) time_is_producers: bool,
    pub(super) at_end: bool,
    /// Last relay sent, by destination; -1 = none.
    pub(super) sent: Vec<Offset>,
    /// Record time that each destination was last told.
    pub(super) told_ms: Vec<i64>,
}

/// The generations of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generations {
    /// Under which it speaks: of its rows' versions and of what it sends.
    pub spoken: u64,
    /// Under which its state is stored: the same, or an earlier one whose rows it took over without copying them.
    pub stored: u64,
}

/// A task that runs, or whose memory is kept over a rebalance.
#[derive(Debug)]
pub struct Task {
    pub(super) identity: TaskIdentity,
    pub(super) generations: Generations,
    pub(super) sequence: u64,
    pub(super) settings: Arc<TaskSettings>,
    pub(super) engine: Engine,
    pub(super) cold: Cold,
    pub(super) cells: CellLog,
    pub(super) logs: Vec<Log>,
    pub(super) inbox: Inbox,
    /// Positions of logs that are not this task's at present (a topic that was taken out of the configuration).
    pub(super) other_logs: BTreeMap<TopicPartition, LogPosition>,
    pub(super) other_sent: BTreeMap<(SourceLog, u32), Offset>,
    pub(super) reaches: Reaches,
    /// The horizon of the last cut, and of the last one that is known to be the one to start from.
    pub(super) cut_horizon_ms: i64,
    pub(super) saved_horizon_ms: i64,
    /// The horizon that the other tasks were last told.
    pub(super) told_horizon_ms: i64,
    pub(super) moved: bool,
    /// See [`Task::haste`].
    pub(super) haste: u32,
    /// The smallest `max_lateness` so far: a relay that is no later than that was never rejected at its source.
    pub(super) least_lateness_ms: i64,
}

impl Task {
    /// A task at its first start; where to begin in its logs is still to be said ([`Task::start_at`], [`Task::read_on`]).
    pub fn first_start(
        identity: TaskIdentity,
        generation: u64,
        settings: Arc<TaskSettings>,
        engine: EngineSettings,
        cold: Box<dyn ColdStore>,
        logs: &[(TopicPartition, LogRole)],
    ) -> Self {
        let positions = Positions { least_lateness_ms: settings.max_lateness_ms, ..Positions::default() };
        let cells = CellLog::new(settings.packs);
        let generations = Generations { spoken: generation, stored: generation };
        Self::with_positions(identity, generations, settings, (Engine::new(engine), Cold::new(cold), cells), logs, positions)
    }

    pub(super) fn with_positions(
        identity: TaskIdentity,
        generations: Generations,
        settings: Arc<TaskSettings>,
        (mut engine, cold, cells): (Engine, Cold, CellLog),
        logs: &[(TopicPartition, LogRole)],
        positions: Positions,
    ) -> Self {
        let haste = positions.haste_of(generations.spoken);
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
                    read_from: stands.as_ref().map_or(0, |position| position.read_from),
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
            generations,
            sequence: positions.sequence,
            least_lateness_ms: positions.least_lateness_ms.min(settings.max_lateness_ms),
            settings,
            engine,
            cold,
            cells,
            logs: own_logs,
            inbox: Inbox::restore(positions.received),
            other_logs,
            other_sent,
            reaches,
            cut_horizon_ms: positions.horizon_ms,
            saved_horizon_ms: positions.horizon_ms,
            told_horizon_ms: 0,
            haste,
            moved: true,
        }
    }

    /// Who it is.
    pub fn identity(&self) -> &TaskIdentity {
        &self.identity
    }

    /// Under which generation it speaks.
    pub fn generation(&self) -> u64 {
        self.generations.spoken
    }

    /// Under which generation its state is stored.
    pub fn stored_generation(&self) -> u64 {
        self.generations.stored
    }

    /// How often in a row its predecessors came to no checkpoint of their own: all waiting before the next one is halved so often. So a
    /// task gets ahead however soon its process dies each time.
    pub fn haste(&self) -> u32 {
        self.haste
    }

    /// Its state.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Its logs with the offset of the next record to apply and whether each was read to its end.
    pub fn logs(&self) -> impl Iterator<Item = (&TopicPartition, Offset, bool)> {
        self.logs.iter().map(|log| (&log.tp, log.next, log.at_end))
    }

    /// Whether each log was read to its end, or up to records that are no older than this moment (Unix milliseconds).
    pub fn has_read_up_to(&self, moment_ms: i64) -> bool {
        self.logs.iter().all(|log| log.at_end || log.record_time_ms >= moment_ms)
    }

    /// Where it stands in its logs.
    pub fn log_positions(&self) -> impl Iterator<Item = (TopicPartition, LogPosition)> {
        self.logs.iter().map(|log| {
            let topic_id = self.settings.topic_id(&log.tp.topic);
            (log.tp.clone(), LogPosition { next: log.next, record_time_ms: log.record_time_ms, topic_id, read_from: log.read_from })
        })
    }

    /// Timestamp of the last record applied of a log, Unix milliseconds; 0 = none.
    pub fn record_time_ms(&self, log: usize) -> i64 {
        self.logs.get(log).map_or(0, |log| log.record_time_ms)
    }

    /// Decodes a record of the task's `log`-th log. Changes nothing: records may be decoded before those in front of them are applied.
    pub fn decode<'a>(&self, log: usize, record: &Record<'a>) -> Decoded<'a> {
        let Some(at) = self.logs.get(log).filter(|at| record.offset >= at.next) else { return Decoded::Passed };
        let LogRole::Input { kind, format } = at.role else { return self.decode_exchange(record) };
        let raw = RawRecord { value: record.value, content_type: None, timestamp_ms: record.timestamp_ms };
        match decode(kind, format_of(record, format), raw, &self.settings.rules) {
            Ok(event) => {
                let destination = event.is_customers_own().then(|| owner(&event.customer_id, self.settings.tasks));
                Decoded::Event { event, destination, foreseen: Foreseen::default() }
            }
            Err(reject) => Decoded::Rejected(reject),
        }
    }

    /// Reads ahead in memory for records that are applied next. Changes nothing but what is known about them.
    pub fn foresee(&self, records: &mut [Decoded<'_>]) {
        self.engine.foresee_events(records.iter_mut().filter_map(|record| match record {
            Decoded::Event { event, destination, foreseen } if *destination == self.identity.owns => Some((&*event, foreseen)),
            Decoded::Relay { event: Ok(event), foreseen, .. } => Some((&*event, foreseen)),
            _ => None,
        }));
    }

    /// Applies one record of the task's `log`-th log, as [`Task::decode`] gave it.
    ///
    /// # Errors
    /// [`TaskError::Cold`]: the task is of no further use; nothing of it may be saved.
    pub fn on_record<O: Outbox>(
        &mut self,
        log: usize,
        record: &Record<'_>,
        decoded: &Decoded<'_>,
        out: &mut O,
    ) -> Result<Outcome, TaskError> {
        let Some(at) = self.logs.get_mut(log).filter(|at| record.offset >= at.next) else { return Ok(Outcome::AlreadyApplied) };
        at.next = record.offset + 1;
        at.record_time_ms = record.timestamp_ms.max(0);
        at.time_is_producers = record.timestamp_kind == TimestampKind::Create;
        at.at_end = false;
        self.moved = true;
        match decoded {
            Decoded::Passed => Ok(Outcome::AlreadyApplied),
            Decoded::Exchange(incoming) => self.on_exchange(log, record, incoming.as_ref(), out),
            Decoded::Relay { relay, event, foreseen } => self.on_relay(Relayed { relay, event, foreseen }, record, out),
            Decoded::Rejected(reject) => Ok(self.reject(log, record, reject, out)),
            Decoded::Event { event, destination, foreseen } => self.on_event(log, record, (event, *destination, foreseen), out),
        }
    }

    fn reject<O: Outbox>(&self, log: usize, record: &Record<'_>, reject: &Reject, out: &mut O) -> Outcome {
        let Some(at) = self.logs.get(log) else { return Outcome::AlreadyApplied };
        let origin = Origin { log: at.tp.clone(), offset: record.offset };
        send_dead_letter(&origin, reject, record, record.headers, out)
    }

    fn on_event<O: Outbox>(
        &mut self,
        log: usize,
        record: &Record<'_>,
        (event, destination, foreseen): (&Event<'_>, Option<u32>, &Foreseen),
        out: &mut O,
    ) -> Result<Outcome, TaskError> {
        let kind = event.kind();
        let Some(destination) = destination else {
            out.archive(event);
            return Ok(Outcome::Applied(kind));
        };
        if self.identity.owns == Some(destination) {
            let applied = self.apply_own(event, foreseen, out)?;
            return Ok(applied.unwrap_or_else(|reject| self.reject(log, record, &reject, out)));
        }
        let Some(at) = self.logs.get_mut(log) else { return Ok(Outcome::AlreadyApplied) };
        let Some(previous) = at.sent.get_mut(destination as usize) else { return Ok(Outcome::AlreadyApplied) };
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
        Ok(Outcome::Relayed(kind))
    }

    /// Applies an event of a customer that the task owns, whichever way it came. The inner error says why it does not count.
    pub(super) fn apply_own<O: Outbox>(
        &mut self,
        event: &Event<'_>,
        foreseen: &Foreseen,
        out: &mut O,
    ) -> Result<Result<Outcome, Reject>, TaskError> {
        self.fetch_for_event(event)?;
        Ok(match self.engine.apply_foreseen(event, foreseen) {
            Applied::Applied => {
                out.archive(event);
                Ok(Outcome::Applied(event.kind()))
            }
            Applied::Duplicate => Ok(Outcome::Duplicate(event.kind())),
            Applied::Rejected(reject) => Err(reject),
        })
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
        self.engine.drain_rows(Version::new(self.generations.spoken, self.sequence), out);
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
}

impl TaskSettings {
    pub(super) fn topic_id(&self, topic: &str) -> String {
        self.topic_ids.get(topic).cloned().unwrap_or_default()
    }
}

/// The format of a record's value, where its topic's is `auto` and the record says more.
pub(super) fn format_of(record: &Record<'_>, format: Format) -> Format {
    let mut said = format;
    if format == Format::Auto {
        record.headers.find(CONTENT_TYPE_HEADER, &mut |value| said = format.as_said_by(value));
    }
    said
}

pub(super) fn send_dead_letter<O: Outbox>(
    origin: &Origin,
    reject: &Reject,
    record: &Record<'_>,
    headers: &dyn Headers,
    out: &mut O,
) -> Outcome {
    out.dead_letter(&DeadLetter { origin, reject, key: record.key, value: record.value, headers });
    Outcome::Rejected(reject.reason)
}
