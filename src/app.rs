//! The running pipeline: builds the shells, starts a thread a worker, and ends them in order.
//!
//! Owns the order of start and of stop. Promises that a signal drains (serve, checkpoint) within the
//! deadline, that a second one ends the process at once, and that nothing is lost either way. Holds no logic of the pipeline.

mod audits;
mod drive;
mod memory;
mod settings;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use crate::commands::Verdict;
use crate::config::Config;
use crate::engine::StateKind;
use crate::kafka::{Cluster, DiesAt, ExchangeProducer, KafkaIo, Membership, consumer_options, native, producer_options};
use crate::migrate::{Inspection, inspect};
use crate::rescale::marker;
use crate::store::{Admin, Store};
use crate::task::LogRole;
use crate::telemetry::{Recorder, Server, Status, WorkerMetrics};
use crate::worker::{Worker, WorkerSettings};
use drive::Drive;
use memory::MemoryPlan;

/// Contributions climb a level with each flush: so long without one means that all have arrived.
const SETTLED_FOR: Duration = Duration::from_secs(5);
const SETTLED_LOOK_EVERY: Duration = Duration::from_millis(200);

/// What the command line adds to the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunOptions {
    /// Join the group under fresh names, whatever `kafka.static_membership` says.
    pub dynamic: bool,
    /// Rejected records that do not count towards the limits.
    pub accept_rejects: u64,
    /// Read the exchange alone, and end when every task has read all of it.
    pub settle: bool,
}

/// Says to all workers that it is time to end.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    /// Workers run: before that there is nothing to drain.
    begun: AtomicBool,
    draining: AtomicBool,
    failed: AtomicBool,
}

impl Stop {
    /// Whether workers are to drain.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Begins to drain.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// A worker cannot go on: the others drain, and the process fails.
    pub fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
        self.drain();
    }
}

/// Runs the pipeline until a signal or a failure.
pub fn run(config: &Config, options: RunOptions) -> anyhow::Result<Verdict> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("no runtime")?;
    let stop = Arc::new(Stop::default());
    watch_signals(&runtime, stop.clone())?;
    refuse_if_wrong(&runtime.block_on(inspect(config)))?;
    runtime.block_on(refuse_if_moving(config))?;
    let cluster = Cluster::ask(config)?;
    let topics: Vec<String> = cluster.topics.iter().map(|topic| topic.name.clone()).collect();
    let kinds = StateKind::ALL.iter().map(|kind| kind.name()).collect();
    let recorder = Recorder::install(config)?;
    let status = Status::new(config.pipeline.workers, topics.clone(), kinds);
    let server = runtime.block_on(Server::bind(config.http.listen, status.clone(), recorder))?;
    runtime.spawn(server.serve());
    let store = Store::start(config, status.clone(), runtime.handle().clone(), &[]);
    runtime.spawn(audits::show_verdicts(Admin::new(&config.clickhouse)));
    let mut settings = settings::worker_settings(config, &cluster, options);
    if options.settle {
        settings.topics.retain(|topic| topic.role == LogRole::Exchange);
    }
    stop.begun.store(true, Ordering::Relaxed);
    let mut workers = Vec::new();
    for index in 0..config.pipeline.workers {
        workers.push(start_worker(config, options, index, &settings, &store, &status, &stop)?);
    }
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        tasks = cluster.tasks,
        workers = config.pipeline.workers,
        listen = %config.http.listen,
        "onecode runs"
    );
    if options.settle {
        let (status, stop, tasks) = (status.clone(), stop.clone(), cluster.tasks as usize);
        thread::spawn(move || drain_when_settled(&status, &stop, tasks));
    }
    Ok(wait_for_end(config.pipeline.drain_deadline, workers, &stop, &status))
}

/// A missing topic or table, a wrong column and the like are said before anything is taken over.
fn refuse_if_wrong(found: &Inspection) -> anyhow::Result<()> {
    for remark in found.advice.iter().chain(&found.risks) {
        tracing::warn!("{remark}");
    }
    if found.faults.is_empty() {
        return Ok(());
    }
    bail!("onecode cannot start:\n- {}", found.faults.join("\n- "))
}

/// A state that has moved in part is nobody's.
async fn refuse_if_moving(config: &Config) -> anyhow::Result<()> {
    let Some(begun) = marker(&Admin::new(&config.clickhouse)).await? else { return Ok(()) };
    bail!(
        "onecode cannot start: a move of the state from {} to {} tasks was begun and has not ended; run `onecode rescale --tasks {}` again",
        begun.from,
        begun.to,
        begun.to
    )
}

/// Ends the process once every task has had nothing to read for a while.
fn drain_when_settled(status: &Status, stop: &Stop, tasks: usize) {
    let mut settled_since = None;
    while !stop.is_draining() {
        thread::sleep(SETTLED_LOOK_EVERY);
        settled_since = status.is_level(tasks).then(|| settled_since.unwrap_or_else(Instant::now));
        if settled_since.is_some_and(|since| since.elapsed() >= SETTLED_FOR) {
            tracing::info!("every task has read what others have sent it");
            stop.drain();
        }
    }
}

/// SIGTERM and SIGINT drain; a second one ends the process at once.
fn watch_signals(runtime: &Runtime, stop: Arc<Stop>) -> anyhow::Result<()> {
    let _guard = runtime.enter();
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?;
    runtime.spawn(async move {
        // The first one leaves a drain that has begun by itself alone.
        let mut is_first = true;
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if !std::mem::take(&mut is_first) {
                tracing::warn!("second signal: ends at once; nothing is lost, what was not checkpointed is read again");
                std::process::exit(1);
            }
            if !stop.begun.load(Ordering::Relaxed) {
                tracing::info!("signal: ends before anything was taken over");
                std::process::exit(0);
            }
            tracing::info!("signal: drains; a second one ends at once");
            stop.drain();
        }
    });
    Ok(())
}

fn start_worker(
    config: &Config,
    options: RunOptions,
    index: usize,
    settings: &WorkerSettings,
    store: &Arc<Store>,
    status: &Arc<Status>,
    stop: &Arc<Stop>,
) -> anyhow::Result<JoinHandle<()>> {
    let membership = if options.dynamic || !config.kafka.static_membership {
        Membership::Dynamic
    } else {
        Membership::Static(config.kafka.member_instance_id(index))
    };
    let topics: Vec<String> = settings.topics.iter().map(|topic| topic.name.clone()).collect();
    let (options, subscribed) = (consumer_options(config, &membership), topics.clone());
    let join = Box::new(move || {
        let mut consumer = native::Consumer::new(&options)?;
        consumer.subscribe(&subscribed)?;
        Ok(consumer)
    });
    let consumer = join().context("no consumer can be made")?;
    let producer = ExchangeProducer::new(&producer_options(config), &config.topics.exchange, &config.topics.dead_letter)?;
    let (client, replies) = store.client();
    let io = KafkaIo { consumer, producer, store: client, dies_at: DiesAt::from_env()? };
    let drive = Drive {
        worker: Worker::new(settings.clone()),
        io,
        replies,
        metrics: WorkerMetrics::new(topics),
        status: status.worker(index),
        stop: stop.clone(),
        memory: MemoryPlan::new(config),
        workers: config.pipeline.workers,
        batch_records: config.limits.batch_records,
        drain_deadline: config.pipeline.drain_deadline,
        membership,
        join,
    };
    thread::Builder::new().name(format!("worker-{index}")).spawn(move || drive.run()).context("no thread can be started")
}

/// Waits for the workers; once they drain, no longer than the deadline.
fn wait_for_end(drain_deadline: Duration, workers: Vec<JoinHandle<()>>, stop: &Stop, status: &Status) -> Verdict {
    let mut deadline: Option<Instant> = None;
    while !workers.iter().all(JoinHandle::is_finished) {
        // One that has panicked: what it owned is nobody's until the group gives it to another, so all others end as after an error.
        // Looked at in this order: one that ends by itself has begun to drain before.
        if workers.iter().any(JoinHandle::is_finished) && !stop.is_draining() {
            status.fail("a worker has ended by a panic, which the log tells; report it");
            stop.fail();
        }
        if stop.is_draining() {
            let until = *deadline.get_or_insert_with(|| Instant::now() + drain_deadline);
            if Instant::now() >= until {
                tracing::warn!(
                    deadline = ?drain_deadline,
                    "the drain deadline has passed: ends; nothing is lost, what was not checkpointed is read again"
                );
                return end(stop, status);
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
    if workers.into_iter().any(|worker| worker.join().is_err()) {
        stop.fail();
    }
    end(stop, status)
}

fn end(stop: &Stop, status: &Status) -> Verdict {
    if let Some(fatal) = status.fatal() {
        tracing::error!("stopped: {fatal}");
    }
    if stop.failed.load(Ordering::Relaxed) { Verdict::FoundSomething } else { Verdict::Fine }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_panics_ends_the_others_and_is_a_failure() {
        let (stop, status) = (Arc::new(Stop::default()), Status::new(2, Vec::new(), Vec::new()));
        let panics = thread::spawn(|| std::panic::resume_unwind(Box::new("broken")));
        let drains = {
            let stop = stop.clone();
            thread::spawn(move || {
                while !stop.is_draining() {
                    thread::yield_now();
                }
            })
        };
        let verdict = wait_for_end(Duration::from_secs(60), vec![panics, drains], &stop, &status);
        assert!(matches!(verdict, Verdict::FoundSomething));
        assert!(status.fatal().is_some_and(|reason| reason.contains("panic")));
    }
}
