//! The loop of one worker thread: poll, apply, answer, tick, publish; and its end.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka_sys::RDKafkaErrorCode;
use smallvec::SmallVec;

use super::Stop;
use super::memory::{MemoryPlan, resident_bytes};
use crate::engine::FORESEEN;
use crate::kafka::native::{Consumer, Fetched, GroupEvent, Message, MessageKind, NativeError};
use crate::kafka::{KafkaIo, Membership};
use crate::model::{Offset, Reason, TopicPartition};
use crate::task::Record;
use crate::telemetry::logs::RateLimit;
use crate::telemetry::{LogStatus, TaskPhase, TaskStatus, WorkerHandle, WorkerMetrics, WorkerStatus, events};
use crate::worker::{Boundary, Counters, Fatal, Io, LogView, Now, StoreReply, TaskView, Worker};

/// While some of the state is not in memory a batch is taken in so many parts: each record may bring thousands of rows back, and only between two
/// parts is anything done about that.
const LOOKS_A_BATCH: usize = 10;
/// How long one poll of the consumer waits for records.
const POLL_MS: i32 = 10;
/// Errors of one code are told of once in this time.
const ERRORS_EVERY: Duration = Duration::from_secs(10);
const PUBLISH_EVERY: Duration = Duration::from_millis(500);
/// Pause between two questions for the end of a log that is not fetched at present.
const ASK_END_EVERY: Duration = Duration::from_millis(500);

/// A member that is fenced this soon after its brokers were away was most likely fenced by itself: its request to rejoin was
/// carried out, the answer was lost, and the repeated request came under the old name.
const FENCED_BY_ITSELF_WITHIN: Duration = Duration::from_secs(120);

/// Makes a worker's consumer, subscribed.
pub(super) type Join = Box<dyn Fn() -> Result<Consumer, NativeError> + Send>;

/// Everything that a worker thread owns.
pub(super) struct Drive {
    pub worker: Worker,
    pub io: KafkaIo,
    pub replies: Receiver<StoreReply>,
    pub metrics: WorkerMetrics,
    pub status: WorkerHandle,
    pub stop: Arc<Stop>,
    pub memory: MemoryPlan,
    /// Of the process.
    pub workers: usize,
    pub batch_records: usize,
    pub drain_deadline: Duration,
    pub membership: Membership,
    pub join: Join,
}

/// What the loop remembers besides the worker.
struct Loop {
    started: Instant,
    published: Instant,
    is_assigned: bool,
    is_draining: bool,
    /// Assigned logs by topic handle and partition: looking a record's log up costs no comparison of names.
    known_logs: HashMap<(usize, i32), Option<usize>>,
    ends: Ends,
    /// One of each code, so that a broker that is away hides no other error.
    errors: BTreeMap<i32, RateLimit>,
    /// When the client last complained about its brokers.
    trouble_at: Option<Instant>,
    /// The consumer has to be made anew.
    is_to_rejoin: bool,
}

/// Ends of logs, as far as they are known.
struct Ends {
    by_log: HashMap<TopicPartition, Offset>,
    asked: Instant,
    next: usize,
}

impl Loop {
    /// Whether to speak of an error; if so, how many of its code were kept back since the last time.
    fn admit(&mut self, code: RDKafkaErrorCode) -> Option<u64> {
        self.errors.entry(code as i32).or_insert_with(|| RateLimit::new(ERRORS_EVERY)).admit(Instant::now())
    }
}

impl Drive {
    /// Runs until it is drained or cannot go on.
    pub fn run(mut self) {
        let outcome = self.go();
        if let Err(Fatal(reason)) = outcome {
            self.status.fatal(reason);
            self.stop.fail();
        }
        self.count();
        self.io.producer.flush(self.drain_deadline);
        // Dropping the consumer leaves the group (a static member stays until its session ends) and closes the connections.
    }

    fn go(&mut self) -> Result<(), Fatal> {
        let now = Instant::now();
        let mut batch = self.io.consumer.batch(self.batch_records);
        let mut state = Loop {
            started: now,
            published: now,
            is_assigned: false,
            is_draining: false,
            known_logs: HashMap::new(),
            ends: Ends { by_log: HashMap::new(), asked: now, next: 0 },
            errors: BTreeMap::new(),
            trouble_at: None,
            is_to_rejoin: false,
        };
        loop {
            // Nothing is waited for while there is state to take back.
            let wait_ms = if self.worker.is_taking_back() { 0 } else { POLL_MS };
            let most = if self.worker.has_cold_state() { self.batch_records.div_ceil(LOOKS_A_BATCH) } else { self.batch_records };
            let fetched = self.io.consumer.poll(&mut batch, most, wait_ms);
            self.on_group_events(&mut state)?;
            self.apply(&mut state, &fetched)?;
            drop(fetched);
            if std::mem::take(&mut state.is_to_rejoin) {
                self.io.consumer = (self.join)().map_err(|error| Fatal(format!("no consumer can be made: {error}")))?;
                // The old client is closed with its last batch.
                batch = self.io.consumer.batch(self.batch_records);
            }
            for (ticket, result) in self.io.producer.poll() {
                self.worker.on_delivered(ticket, result)?;
            }
            while let Ok(reply) = self.replies.try_recv() {
                let at = now_since(state.started);
                self.worker.on_store(&mut self.io, reply, at)?;
                // A checkpoint that is in is committed, and a coordinator that is away is waited for.
                self.status.tick();
            }
            self.worker.tick(&mut self.io, now_since(state.started))?;
            self.status.tick();
            if state.published.elapsed() >= PUBLISH_EVERY {
                state.published = Instant::now();
                self.publish(&mut state);
            }
            if self.stop.is_draining() && !state.is_draining {
                state.is_draining = true;
                self.worker.start_drain(&mut self.io);
            }
            if state.is_draining && self.worker.is_drained() {
                self.io.cross(Boundary::Drained);
                self.publish(&mut state);
                return Ok(());
            }
        }
    }

    fn on_group_events(&mut self, state: &mut Loop) -> Result<(), Fatal> {
        for event in self.io.consumer.take_events() {
            match event {
                GroupEvent::Assigned(partitions) => {
                    tracing::info!(partitions = partitions.len(), "assigned");
                    state.is_assigned = true;
                    state.known_logs.clear();
                    self.worker.on_assigned(&partitions, now_since(state.started))?;
                }
                GroupEvent::Revoked => {
                    tracing::info!("revoked");
                    state.known_logs.clear();
                    self.worker.on_revoked();
                    self.io.cross(Boundary::Revoked);
                }
                GroupEvent::Error(error) => {
                    state.trouble_at = Some(Instant::now());
                    if let Some(suppressed) = state.admit(RDKafkaErrorCode::Fail) {
                        tracing::warn!(suppressed, "kafka: {error}");
                    }
                }
                GroupEvent::Fatal(error) => self.on_fatal(state, &error)?,
            }
        }
        Ok(())
    }

    /// The client cannot go on. After trouble with the brokers the worker joins anew, once; a member that is fenced without
    /// trouble, or again, has a namesake, and stops.
    fn on_fatal(&mut self, state: &mut Loop, error: &NativeError) -> Result<(), Fatal> {
        let after_trouble = state.trouble_at.take().is_some_and(|at| at.elapsed() < FENCED_BY_ITSELF_WITHIN);
        if !after_trouble || error.code != RDKafkaErrorCode::FencedInstanceId {
            return Err(Fatal(self.fatal_text(&error.to_string())));
        }
        tracing::warn!("fenced after the brokers were away: joins the group anew: {error}");
        state.known_logs.clear();
        self.worker.on_revoked();
        state.is_to_rejoin = true;
        Ok(())
    }

    fn fatal_text(&self, error: &str) -> String {
        match &self.membership {
            Membership::Static(instance) => format!(
                "the group no longer accepts this member, whose instance id is `{instance}`: {error}; another process has taken this instance id: give each process its own `kafka.instance_id`"
            ),
            Membership::Dynamic => format!("the group no longer accepts this member: {error}"),
        }
    }

    fn apply(&mut self, state: &mut Loop, fetched: &Fetched<'_>) -> Result<(), Fatal> {
        for run in fetched.runs(FORESEEN) {
            let Some(first) = run.first() else { continue };
            let log = *state
                .known_logs
                .entry((first.topic_key(), first.partition()))
                .or_insert_with(|| self.worker.log_index(first.topic(), first.partition()));
            let messages: SmallVec<[Message<'_>; FORESEEN]> = run.iter().collect();
            let mut records = SmallVec::new();
            for message in &messages {
                match message.kind() {
                    MessageKind::Record(record) => records.push(record),
                    other => {
                        self.apply_records(log, &mut records)?;
                        self.apply_other(state, log, message, other);
                    }
                }
            }
            self.apply_records(log, &mut records)?;
        }
        if !fetched.is_empty() {
            self.count();
        }
        Ok(())
    }

    /// Records of one of the worker's logs, or of none; none is left.
    fn apply_records(&mut self, log: Option<usize>, records: &mut SmallVec<[Record<'_>; FORESEEN]>) -> Result<(), Fatal> {
        if let Some(log) = log {
            self.worker.on_records(&mut self.io, log, records)?;
        }
        records.clear();
        Ok(())
    }

    /// A message that is no record.
    fn apply_other(&mut self, state: &mut Loop, log: Option<usize>, message: &Message<'_>, kind: MessageKind<'_>) {
        match kind {
            MessageKind::Record(_) => {}
            MessageKind::End(offset) => {
                if let Some(log) = log {
                    self.worker.on_end(log, offset);
                }
            }
            MessageKind::Error(error) => {
                if let Some(log) = log
                    && error.code == RDKafkaErrorCode::AutoOffsetReset
                {
                    self.worker.on_out_of_range(log, now_since(state.started));
                }
                if let Some(suppressed) = state.admit(error.code) {
                    tracing::warn!(suppressed, topic = message.topic(), partition = message.partition(), "kafka: {error}");
                }
            }
        }
    }

    /// Turns what the worker counted into metrics.
    fn count(&mut self) {
        let Counters {
            topics,
            consumed,
            applied,
            duplicates,
            relayed,
            dead_letters,
            refused_relays,
            fenced,
            evicted,
            loaded,
            checkpoint_ms,
            takeover_ms,
            mut served,
        } = self.worker.counters().take();
        for (topic, records) in topics.iter().zip(consumed) {
            self.metrics.consumed_many(topic, records);
        }
        self.metrics.events(&applied, &duplicates, &relayed);
        for (topic, by_reason) in topics.iter().zip(dead_letters) {
            for (reason, letters) in Reason::ALL.into_iter().zip(by_reason) {
                self.metrics.dead_letters(topic, reason, letters);
            }
        }
        self.metrics.relay_gaps(refused_relays);
        self.metrics.flush();
        events::cold_groups(evicted, loaded);
        for _ in 0..fenced {
            events::fenced();
        }
        for elapsed_ms in checkpoint_ms {
            events::checkpointed(duration(elapsed_ms));
        }
        for elapsed_ms in takeover_ms {
            events::taken_over(duration(elapsed_ms));
        }
        served.acknowledged(wall_ms());
    }

    fn publish(&mut self, state: &mut Loop) {
        self.count();
        let now = now_since(state.started);
        let resident_bytes = self.limit_state();
        let view = self.worker.view(&self.io, now);
        let logs: Vec<&LogView> = view.tasks.iter().flat_map(|task| &task.logs).collect();
        state.ends.learn(&mut self.io, &logs, view.paused);
        let tasks = view.tasks.iter().map(|task| task_status(task, &state.ends, now, view.last_error.as_ref())).collect();
        let in_flight = self.io.in_flight();
        self.status.publish(WorkerStatus {
            is_assigned: state.is_assigned,
            is_paused: view.paused,
            buffered_bytes: view.buffered_bytes,
            allocated_bytes: view.allocated_bytes,
            vacant_bytes: view.vacant_bytes,
            state_limit: view.state_limit,
            resident_bytes,
            produce_queue_records: in_flight.messages,
            produce_queue_bytes: in_flight.bytes,
            tasks,
        });
    }

    /// Tells the worker its share of what memory leaves for state; resident memory of the process, bytes.
    fn limit_state(&mut self) -> usize {
        let Some(resident) = resident_bytes() else { return 0 };
        let for_all = self.memory.state_bytes(resident, self.status.allocated_bytes(), self.status.vacant_bytes());
        self.worker.limit_state(for_all / self.workers);
        resident
    }
}

impl Ends {
    /// Ends as fetches saw them; of logs that are not fetched at present one is asked for at a time.
    fn learn(&mut self, io: &mut KafkaIo, logs: &[&LogView], paused: bool) {
        for log in logs {
            if let Some(end) = io.consumer.last_seen_end(&log.tp) {
                self.note(&log.tp, end);
            }
            self.note(&log.tp, log.next);
        }
        if paused && self.asked.elapsed() >= ASK_END_EVERY && !logs.is_empty() {
            self.asked = Instant::now();
            self.next = (self.next + 1) % logs.len();
            if let Some(log) = logs.get(self.next)
                && let Ok(range) = io.range(&log.tp)
            {
                self.note(&log.tp, range.end);
            }
        }
    }

    fn note(&mut self, tp: &TopicPartition, end: Offset) {
        let known = self.by_log.entry(tp.clone()).or_insert(end);
        *known = (*known).max(end);
    }

    fn lag(&self, log: &LogView) -> u64 {
        let end = self.by_log.get(&log.tp).copied().unwrap_or(log.next);
        u64::try_from(end - log.next).unwrap_or(0)
    }
}

fn task_status(task: &TaskView, ends: &Ends, now: Now, last_error: Option<&String>) -> TaskStatus {
    let logs = task.logs.iter().map(|log| {
        let lag_records = ends.lag(log);
        let behind_ms = if lag_records > 0 && log.record_time_ms > 0 { now.wall_ms - log.record_time_ms } else { 0 };
        LogStatus {
            topic: log.tp.topic.to_string(),
            partition: log.tp.partition,
            position: log.next,
            lag_records,
            lag_ms: u64::try_from(behind_ms).unwrap_or(0),
        }
    });
    TaskStatus {
        task: task.name.to_string(),
        generation: task.generation,
        phase: match (task.running, task.serving) {
            (false, _) => TaskPhase::Restoring,
            (true, false) => TaskPhase::CatchingUp,
            (true, true) => TaskPhase::Running,
        },
        logs: logs.collect(),
        checkpoint_age_ms: task.running.then(|| u64::try_from(task.checkpoint_age_ms).unwrap_or(0)),
        keys: task.keys.clone(),
        state_bytes: task.state_bytes as u64,
        cold_keys: task.cold.keys as u64,
        cold_bytes: task.cold.bytes,
        dirty_keys: task.dirty_keys,
        relay_gaps_open: task.relay_gaps,
        last_error: last_error.cloned(),
    }
}

fn duration(milliseconds: i64) -> Duration {
    Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0))
}

fn wall_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn now_since(started: Instant) -> Now {
    Now { mono_ms: i64::try_from(started.elapsed().as_millis()).unwrap_or(i64::MAX), wall_ms: wall_ms() }
}
