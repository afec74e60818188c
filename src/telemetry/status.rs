//! What every worker and task last said about itself: the source of `/status`, of health, and of all gauges.
//!
//! Workers publish a few times a second; readers see what was published last, with ages grown by the time since.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::inserts::{Inserts, Request};
use super::names::{
    BUFFERED_BYTES, CHECKPOINT_AGE, COLD_BYTES, COLD_KEYS, DIRTY_KEYS, IN_FLIGHT_INSERTS, LAG_RECORDS, LAG_SECONDS, PRODUCE_QUEUE_BYTES,
    PRODUCE_QUEUE_RECORDS, READY, RELAY_GAPS_OPEN, RESIDENT_BYTES, STATE_BYTES, STATE_KEYS, STATE_LIMIT_BYTES, TASKS, TASKS_RESTORING,
    WORKERS, WORKERS_PAUSED,
};
use super::said::{TaskPhase, TaskStatus, WorkerStatus};

/// A worker that has not ticked for this long is stuck, and so is the process.
const STUCK_AFTER: Duration = Duration::from_secs(30);
const MS_PER_SECOND: f64 = 1_000.0;

/// Shared by workers, shells and the HTTP listener.
#[derive(Debug)]
pub struct Status {
    started: Instant,
    /// Milliseconds after the start of each worker's last tick.
    ticks: Vec<AtomicU64>,
    topics: Vec<String>,
    state_kinds: Vec<&'static str>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    workers: Vec<Published>,
    inserts: Inserts,
    fatal: Option<String>,
}

#[derive(Debug)]
struct Published {
    at: Instant,
    status: WorkerStatus,
}

/// A worker's own way to the shared status.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    status: Arc<Status>,
    worker: usize,
}

impl WorkerHandle {
    /// Says that the worker's loop goes round: `/livez` is 200 as long as every worker did within the last 30 s. Cheap.
    pub fn tick(&self) {
        if let Some(tick) = self.status.ticks.get(self.worker) {
            tick.store(milliseconds(self.status.started.elapsed()), Ordering::Relaxed);
        }
    }

    /// Memory that the state of all workers has taken.
    pub fn allocated_bytes(&self) -> usize {
        self.status.allocated_bytes()
    }

    /// How much of it is places that left free.
    pub fn vacant_bytes(&self) -> usize {
        self.status.vacant_bytes()
    }

    /// Replaces what the worker last said; ticks too.
    pub fn publish(&self, status: WorkerStatus) {
        self.tick();
        if let Some(published) = self.status.lock().workers.get_mut(self.worker) {
            *published = Published { at: Instant::now(), status };
        }
    }

    /// Says why the worker, and with it the process, stops. The first reason is kept for the end, others are in the log alone.
    pub fn fatal(&self, reason: impl Into<String>) {
        let reason = reason.into();
        if !self.status.fail(&reason) {
            tracing::error!(worker = self.worker, "stops: {reason}");
        }
    }
}

impl Status {
    /// For the given number of workers, with the topics and kinds of state whose gauges are to be there from the start.
    pub fn new(workers: usize, topics: Vec<String>, state_kinds: Vec<&'static str>) -> Arc<Status> {
        let now = Instant::now();
        Arc::new(Status {
            started: now,
            ticks: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            topics,
            state_kinds,
            inner: Mutex::new(Inner {
                workers: (0..workers).map(|_| Published { at: now, status: WorkerStatus::default() }).collect(),
                inserts: Inserts::default(),
                fatal: None,
            }),
        })
    }

    /// The way of one worker, counted from 0.
    pub fn worker(self: &Arc<Self>, worker: usize) -> WorkerHandle {
        WorkerHandle { status: Arc::clone(self), worker }
    }

    /// An insert has been sent.
    pub fn insert_started(&self) {
        self.lock().inserts.in_flight += 1;
    }

    /// A sent insert was acknowledged, failed, or had no answer.
    pub fn insert_ended(&self) {
        let inserts = &mut self.lock().inserts;
        inserts.in_flight = inserts.in_flight.saturating_sub(1);
    }

    /// Something that is asked of ClickHouse until it is done was done.
    pub fn request_succeeded(&self, request: Request) {
        self.lock().inserts.succeeded(request);
    }

    /// It failed, and will be asked again.
    pub fn request_failed(&self, request: Request, error: &str) {
        self.lock().inserts.failed(request, error, Instant::now());
    }

    /// Says why the process stops. The first reason is kept; whether this is it.
    pub fn fail(&self, reason: &str) -> bool {
        let fatal = &mut self.lock().fatal;
        let is_first = fatal.is_none();
        fatal.get_or_insert_with(|| reason.to_owned());
        is_first
    }

    /// Why the process stops, if it does.
    pub fn fatal(&self) -> Option<String> {
        self.lock().fatal.clone()
    }

    /// Memory that the state of all tasks takes.
    pub fn state_bytes(&self) -> u64 {
        self.lock().workers.iter().flat_map(|published| &published.status.tasks).map(|task| task.state_bytes).sum()
    }

    /// Memory that state has taken, places that left free and what is kept for tasks that may come back included.
    pub fn allocated_bytes(&self) -> usize {
        self.lock().workers.iter().map(|published| published.status.allocated_bytes).sum()
    }

    /// How much of that is places that left free.
    pub fn vacant_bytes(&self) -> usize {
        self.lock().workers.iter().map(|published| published.status.vacant_bytes).sum()
    }

    /// `/livez`: the worker that does not go round any more, if there is one. Never depends on Kafka or ClickHouse.
    pub fn stuck_worker(&self) -> Option<String> {
        let now_ms = milliseconds(self.started.elapsed());
        self.ticks.iter().enumerate().find_map(|(worker, tick)| {
            let silent = Duration::from_millis(now_ms.saturating_sub(tick.load(Ordering::Relaxed)));
            (silent > STUCK_AFTER).then(|| format!("worker {worker} has not gone round for {} s", silent.as_secs()))
        })
    }

    /// `/readyz`: why the process is not ready, if it is not.
    pub fn not_ready(&self) -> Option<String> {
        self.lock().not_ready(Instant::now())
    }

    /// Whether so many tasks run here and have read all their logs to the ends.
    pub fn is_level(&self, tasks: usize) -> bool {
        let inner = self.lock();
        let all: Vec<&TaskStatus> = inner.workers.iter().flat_map(|published| &published.status.tasks).collect();
        let is_level = |task: &TaskStatus| task.phase == TaskPhase::Running && task.logs.iter().all(|log| log.lag_records == 0);
        all.len() == tasks && all.into_iter().all(is_level)
    }

    /// `/status`.
    pub fn to_json(&self) -> Value {
        let now = Instant::now();
        let inner = self.lock();
        let not_ready = inner.not_ready(now);
        let mut tasks = Vec::new();
        for (worker, published) in inner.workers.iter().enumerate() {
            let since = milliseconds(now.duration_since(published.at));
            tasks.extend(published.status.tasks.iter().map(|task| task_json(worker, task, since)));
        }
        let workers: Vec<Value> =
            inner.workers.iter().enumerate().map(|(worker, published)| worker_json(worker, &published.status)).collect();
        json!({
            "ready": not_ready.is_none(),
            "not_ready_reason": not_ready,
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_ms": milliseconds(self.started.elapsed()),
            "fatal": inner.fatal,
            "last_insert_error": inner.inserts.error(),
            "workers": workers,
            "tasks": tasks,
        })
    }

    /// Sets every gauge that sums over workers and tasks.
    pub(super) fn set_gauges(&self) {
        let now = Instant::now();
        let inner = self.lock();
        let workers = || inner.workers.iter().map(|published| &published.status);
        let tasks = || workers().flat_map(|worker| &worker.tasks);
        let set = |name: &'static str, value: usize| metrics::gauge!(name).set(value as f64);
        set(WORKERS.name, inner.workers.len());
        set(WORKERS_PAUSED.name, workers().filter(|worker| worker.is_paused).count());
        set(BUFFERED_BYTES.name, workers().map(|worker| worker.buffered_bytes).sum());
        set(PRODUCE_QUEUE_RECORDS.name, workers().map(|worker| worker.produce_queue_records).sum());
        set(PRODUCE_QUEUE_BYTES.name, workers().map(|worker| worker.produce_queue_bytes).sum());
        set(IN_FLIGHT_INSERTS.name, inner.inserts.in_flight);
        set(TASKS.name, tasks().filter(|task| task.phase != TaskPhase::Restoring).count());
        set(TASKS_RESTORING.name, tasks().filter(|task| task.phase == TaskPhase::Restoring).count());
        set(RELAY_GAPS_OPEN.name, tasks().map(|task| task.relay_gaps_open).sum());
        set(READY.name, usize::from(inner.not_ready(now).is_none()));
        metrics::gauge!(STATE_BYTES.name).set(tasks().map(|task| task.state_bytes).sum::<u64>() as f64);
        set(STATE_LIMIT_BYTES.name, workers().map(|worker| worker.state_limit).sum());
        set(RESIDENT_BYTES.name, workers().map(|worker| worker.resident_bytes).max().unwrap_or(0));
        metrics::gauge!(COLD_KEYS.name).set(tasks().map(|task| task.cold_keys).sum::<u64>() as f64);
        metrics::gauge!(COLD_BYTES.name).set(tasks().map(|task| task.cold_bytes).sum::<u64>() as f64);
        metrics::gauge!(DIRTY_KEYS.name).set(tasks().map(|task| task.dirty_keys).sum::<u64>() as f64);
        metrics::gauge!(CHECKPOINT_AGE.name).set(inner.oldest_checkpoint_ms(now) as f64 / MS_PER_SECOND);
        for (kind, keys) in self.keys_by_kind(&inner) {
            metrics::gauge!(STATE_KEYS.name, "kind" => kind).set(keys as f64);
        }
        for (topic, (records, ms)) in self.lag_by_topic(&inner, now) {
            metrics::gauge!(LAG_RECORDS.name, "topic" => topic.clone()).set(records as f64);
            metrics::gauge!(LAG_SECONDS.name, "topic" => topic).set(ms as f64 / MS_PER_SECOND);
        }
    }

    fn keys_by_kind(&self, inner: &Inner) -> BTreeMap<&'static str, u64> {
        let mut sums: BTreeMap<&'static str, u64> = self.state_kinds.iter().map(|kind| (*kind, 0)).collect();
        let tasks = inner.workers.iter().flat_map(|published| &published.status.tasks);
        for (kind, keys) in tasks.flat_map(|task| &task.keys) {
            *sums.entry(kind).or_default() += keys;
        }
        sums
    }

    /// Records summed, seconds of the worst partition.
    fn lag_by_topic(&self, inner: &Inner, now: Instant) -> BTreeMap<String, (u64, u64)> {
        let mut lags: BTreeMap<String, (u64, u64)> = self.topics.iter().map(|topic| (topic.clone(), (0, 0))).collect();
        for published in &inner.workers {
            let since = milliseconds(now.duration_since(published.at));
            for log in published.status.tasks.iter().flat_map(|task| &task.logs) {
                let lag = lags.entry(log.topic.clone()).or_default();
                lag.0 += log.lag_records;
                lag.1 = lag.1.max(grown(log.lag_ms, log.lag_records, since));
            }
        }
        lags
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves whole values behind: each is replaced at once.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn not_ready(&self, now: Instant) -> Option<String> {
        if let Some(reason) = &self.fatal {
            return Some(format!("stopping: {reason}"));
        }
        for (worker, published) in self.workers.iter().enumerate() {
            if !published.status.is_assigned {
                return Some(format!("worker {worker} has no assignment from the group yet"));
            }
            if let Some(task) = published.status.tasks.iter().find(|task| task.phase == TaskPhase::Restoring) {
                return Some(format!("task {} is being restored", task.task));
            }
        }
        self.inserts.not_ready(now)
    }

    fn oldest_checkpoint_ms(&self, now: Instant) -> u64 {
        let ages = self.workers.iter().flat_map(|published| {
            let since = milliseconds(now.duration_since(published.at));
            published.status.tasks.iter().filter_map(move |task| Some(task.checkpoint_age_ms? + since))
        });
        ages.max().unwrap_or(0)
    }
}

fn worker_json(worker: usize, status: &WorkerStatus) -> Value {
    json!({
        "worker": worker,
        "assigned": status.is_assigned,
        "paused": status.is_paused,
        "buffered_bytes": status.buffered_bytes,
        "state_allocated_bytes": status.allocated_bytes,
        "state_limit_bytes": status.state_limit,
        "resident_bytes": status.resident_bytes,
        "produce_queue_records": status.produce_queue_records,
        "produce_queue_bytes": status.produce_queue_bytes,
    })
}

fn task_json(worker: usize, task: &TaskStatus, since: u64) -> Value {
    let positions: BTreeMap<&str, i64> = task.logs.iter().map(|log| (log.topic.as_str(), log.position)).collect();
    json!({
        "task": task.task,
        "worker": worker,
        "phase": task.phase.name(),
        "generation": task.generation,
        "lag_records": task.logs.iter().map(|log| log.lag_records).sum::<u64>(),
        "lag_ms": task.logs.iter().map(|log| grown(log.lag_ms, log.lag_records, since)).max().unwrap_or(0),
        "checkpoint_age_ms": task.checkpoint_age_ms.map(|age| age + since),
        "keys": task.keys.iter().map(|(_, keys)| keys).sum::<u64>(),
        "dirty_keys": task.dirty_keys,
        "state_bytes": task.state_bytes,
        "cold_keys": task.cold_keys,
        "cold_bytes": task.cold_bytes,
        "relay_gaps_open": task.relay_gaps_open,
        "positions": positions,
        "last_error": task.last_error,
    })
}

/// A lag grows with time as long as there is one.
fn grown(lag_ms: u64, lag_records: u64, since: u64) -> u64 {
    if lag_records == 0 { lag_ms } else { lag_ms + since }
}

fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::super::inserts::GRACE;
    use super::super::said::LogStatus;
    use super::*;

    fn status() -> Arc<Status> {
        Status::new(2, vec!["scans".to_owned()], vec!["customer"])
    }

    fn running(task: &str, lag: u64) -> TaskStatus {
        TaskStatus {
            task: task.to_owned(),
            generation: 3,
            phase: TaskPhase::Running,
            logs: vec![LogStatus { topic: "scans".to_owned(), partition: 0, position: 41, lag_records: lag, lag_ms: 10 * lag }],
            checkpoint_age_ms: Some(5_000),
            keys: vec![("customer", 7), ("day_cell", 2)],
            ..TaskStatus::default()
        }
    }

    fn assigned(tasks: Vec<TaskStatus>) -> WorkerStatus {
        WorkerStatus { is_assigned: true, tasks, ..WorkerStatus::default() }
    }

    #[test]
    fn a_process_is_ready_when_every_worker_is_assigned_and_every_task_is_restored() {
        let status = status();
        assert!(status.not_ready().is_some_and(|reason| reason.contains("worker 0 has no assignment")));
        status.worker(0).publish(assigned(vec![running("0", 0)]));
        status.worker(1).publish(assigned(vec![TaskStatus { task: "1".to_owned(), ..TaskStatus::default() }]));
        assert_eq!(status.not_ready().as_deref(), Some("task 1 is being restored"));
        status.worker(1).publish(assigned(vec![]));
        assert_eq!(status.not_ready(), None);
    }

    #[test]
    fn failed_inserts_make_a_process_unready_only_after_a_while() {
        let status = status();
        status.worker(0).publish(assigned(vec![]));
        status.worker(1).publish(assigned(vec![]));
        let scans = Request::Insert("scans");
        status.request_failed(scans, "refused");
        assert_eq!(status.not_ready(), None);
        let later = Instant::now() + GRACE + Duration::from_secs(1);
        assert!(status.lock().not_ready(later).is_some_and(|reason| reason.contains("61 s: refused")));
        assert_eq!(status.to_json()["last_insert_error"], "inserts into `scans`: refused");
        status.request_succeeded(scans);
        assert_eq!(status.lock().not_ready(later), None);
    }

    #[test]
    fn the_first_fatal_reason_is_kept_and_shown() {
        let status = status();
        status.worker(1).fatal("first");
        status.worker(0).fatal("second");
        assert_eq!(status.fatal().as_deref(), Some("first"));
        assert_eq!(status.to_json()["fatal"], "first");
        assert_eq!(status.not_ready().as_deref(), Some("stopping: first"));
    }

    #[test]
    fn the_status_has_the_fields_of_the_contract() {
        let status = status();
        status.worker(0).publish(assigned(vec![running("0", 4)]));
        let shown = status.to_json();
        assert_eq!(shown["ready"], false);
        let task = &shown["tasks"][0];
        assert_eq!(task["task"], "0");
        assert_eq!(task["generation"], 3);
        assert_eq!(task["lag_records"], 4);
        assert!(task["checkpoint_age_ms"].as_u64().is_some_and(|age| age >= 5_000));
        assert_eq!(task["keys"], 9);
        assert_eq!(task["positions"], json!({ "scans": 41 }));
        assert_eq!(task["last_error"], Value::Null);
    }

    #[test]
    fn lag_is_summed_in_records_and_the_worst_in_time() {
        let status = status();
        status.worker(0).publish(assigned(vec![running("0", 4)]));
        status.worker(1).publish(assigned(vec![running("1", 6), running("2", 0)]));
        let inner = status.lock();
        let (records, ms) = status.lag_by_topic(&inner, Instant::now())["scans"];
        assert_eq!(records, 10);
        assert!((60..10_000).contains(&ms), "{ms}");
        assert_eq!(status.keys_by_kind(&inner), BTreeMap::from([("customer", 21), ("day_cell", 6)]));
    }

    #[test]
    fn a_worker_that_goes_round_keeps_the_process_alive() {
        let status = status();
        assert_eq!(status.stuck_worker(), None);
        status.worker(0).tick();
        assert_eq!(status.stuck_worker(), None);
    }
}
