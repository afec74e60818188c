//! A deterministic simulator of the whole system around the real worker, task, engine and decoder.
//!
//! Kafka, the group's coordinator, ClickHouse, the network between, processes and time are simulated; one seed decides
//! everything that happens. Faults strike between any two steps of input and output. After them the system must come to rest,
//! and every table, the archive and the dead letters must be as a naive recount of the set of events says; then once more after
//! all workers died at rest and came back.
#![allow(dead_code, reason = "each test program uses a part")]

mod cold;
mod compare;
mod inputs;
mod kafka;
mod plan;
mod random;
mod run;
mod store;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

pub use plan::{Change, Plan, Scenario};
pub use random::Random;
pub use run::{Run, Stats};
pub use store::Defects;

use compare::compare;
use onecode::engine::first_rows;
use onecode::worker::{Boundary, Switches};

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sabotage {
    pub store: Defects,
    /// Kafka acknowledges what it does not have yet.
    pub acknowledges_early: bool,
    pub switches: Switches,
}

/// A seed that did not end as it must.
#[derive(Debug)]
pub struct Failure {
    pub seed: u64,
    pub reason: String,
    pub trace: Vec<String>,
}

/// Memory of a worker for state, by seed: enough, none, or little, of which a part or nearly all has to leave.
const STATE_BYTES: [usize; 8] = [usize::MAX / 2, 0, usize::MAX / 2, 10_000, usize::MAX / 2, 20_000, usize::MAX / 2, 40_000];

/// Runs one seed.
pub fn run_seed(seed: u64, sabotage: Sabotage, traced: bool) -> Result<Stats, Failure> {
    let mut random = Random::new(seed);
    let scenario = if random.chance(200) { Scenario::Weeks } else { Scenario::Minutes };
    let mut plan = Plan::new(&mut random, scenario);
    plan.settings.switches = sabotage.switches;
    plan.take_change(Change::of(seed));
    plan.take_rescale(seed);
    plan.settings.state_bytes = STATE_BYTES[seed as usize % STATE_BYTES.len()];
    let mut run = Run::new(plan, random, traced);
    run.set_defects(sabotage.store, sabotage.acknowledges_early);
    let outcome = catch_unwind(AssertUnwindSafe(|| phases(&mut run)));
    let reason = match outcome {
        Ok(Ok(())) => {
            run.stats.read_again = run.world.store.read_again;
            return Ok(run.stats);
        }
        Ok(Err(reason)) => reason,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
            format!("panic: {}", text.unwrap_or("without a text"))
        }
    };
    Err(Failure { seed, reason, trace: run.world.trace.lines })
}

/// A small system that has read everything and was stopped.
pub fn stopped(seed: u64) -> Run {
    let mut run = at_rest(seed);
    (0..run.plan.workers).for_each(|slot| run.crash(slot));
    run
}

/// The name of a row of this kind of which the end is not outdated.
pub fn row_that_counts(rows: &store::Generation, kind: u8) -> Option<(u8, Vec<u8>)> {
    let counts = |key: &[u8], payload: &[u8]| {
        let Some((packed, mut first)) = first_rows(kind, key, payload) else { return true };
        let last = std::iter::from_fn(|| first.read().expect("a pack")).last().expect("a row");
        !rows.contains_key(&(packed as u8, last.key.to_vec()))
    };
    // Of packs of cells the last: what an older one says may be outdated.
    rows.iter().rfind(|((of_kind, key), row)| *of_kind == kind && counts(key, &row.payload)).map(|(name, _)| name.clone())
}

/// A stopped system whose state has such rows.
pub fn stopped_with(kind: u8) -> Run {
    let has_rows = |run: &Run| run.world.store.state.values().any(|rows| row_that_counts(rows, kind).is_some());
    (7..100).map(stopped).find(has_rows).unwrap_or_else(|| panic!("no state has rows of kind {kind}"))
}

/// A small system that has read everything.
pub fn at_rest(seed: u64) -> Run {
    let run = without_faults(seed, 40, Switches::default());
    run.and_then(|mut run| compare(&mut run).map(|()| run)).expect("a run without faults")
}

/// A system to which so many records came, and that has come to rest.
fn without_faults(seed: u64, records: usize, switches: Switches) -> Result<Run, String> {
    let mut random = Random::new(seed);
    let mut plan = Plan::new(&mut random, Scenario::Minutes);
    plan.has_faults = false;
    plan.records = records;
    plan.settings.switches = switches;
    let mut run = Run::new(plan, random, false);
    run.work()?;
    run.settle()?;
    Ok(run)
}

/// A system at rest that was stopped, and to which a topic was added since: workers begin at its end.
pub fn with_a_new_topic(seed: u64) -> Run {
    let mut random = Random::new(seed);
    let mut plan = Plan::new(&mut random, Scenario::Minutes);
    plan.has_faults = false;
    plan.records = 0;
    plan.workers = 1;
    plan.is_static = false;
    plan.partitions.insert("shares".into(), plan.tasks);
    plan.settings.checkpoint_interval_ms = 30_000;
    plan.settings.dirty_keys_per_checkpoint = 10_000;
    let mut all = plan.settings.topics.clone();
    all.iter_mut().filter(|topic| topic.name == "shares").for_each(|topic| topic.partitions = plan.tasks);
    plan.settings.topics = all.iter().filter(|topic| topic.name != "shares").cloned().collect();
    let mut run = Run::new(plan, random, false);
    let count = run.world.kafka.subscribed.remove("shares").expect("a topic that workers read");
    run.settle().and_then(|()| compare(&mut run)).expect("a run without faults");
    run.crash(0);
    run.world.kafka.subscribed.insert("shares".into(), count);
    run.plan.settings.topics = all;
    run.plan.settings.start_from = onecode::config::StartFrom::Latest;
    run
}

/// Weeks of records in a topic with fewer partitions than tasks, all read; then it gets as many, and more records come. Returns how many
/// events were refused because their ids may have been forgotten.
pub fn after_coming_to_share(seed: u64, switches: Switches) -> Result<u64, String> {
    let mut random = Random::new(seed);
    let mut plan = Plan::new(&mut random, Scenario::Weeks);
    plan.has_faults = false;
    plan.has_producer_times = false;
    plan.has_twins = false;
    plan.set_tasks(3);
    plan.set_partitions("scans", 1);
    plan.settings.switches = switches;
    let mut run = Run::new(plan, random, false);
    for _ in 0..40 {
        run.arrive();
        run.world.now_ms += 12 * 3_600_000;
        run.settle()?;
    }
    (0..run.plan.workers).for_each(|slot| run.crash(slot));
    run.grow("scans", 2);
    (0..20).for_each(|_| run.arrive());
    run.settle()?;
    compare(&mut run)?;
    Ok(run.stats.refused_events)
}

/// A system whose last checkpoints land while its state is being taken over, and that dies again and again. Returns how many copies were read because of
/// it.
pub fn with_late_checkpoints(seed: u64, switches: Switches) -> Result<u64, String> {
    let mut run = without_faults(seed, 40, switches)?;
    let before = run.world.store.state.clone();
    (0..1 + seed % 20).for_each(|_| run.arrive());
    run.settle()?;
    (0..run.plan.workers).for_each(|slot| run.crash(slot));
    run.world.store.hold_back(before);
    for _ in 0..4 {
        let rounds = run.world.random.below(40);
        run.act_for(rounds)?;
        (0..run.plan.workers).for_each(|slot| run.crash(slot));
        (0..run.world.random.below(3)).for_each(|_| run.arrive());
    }
    is_right_before_and_after_a_restart(&mut run)?;
    Ok(run.world.store.read_again)
}

fn is_right_before_and_after_a_restart(run: &mut Run) -> Result<(), String> {
    run.settle()?;
    compare(run)?;
    (0..run.plan.workers).for_each(|slot| run.crash(slot));
    run.settle()?;
    compare(run)
}

/// A system whose workers drain and die, in turn and together, some of them between two steps, while requests to ClickHouse are lost, repeated and late. Returns how many
/// takeovers of rows in place there were, and the deaths at each boundary.
pub fn with_drains(seed: u64, switches: Switches) -> Result<(u64, [u64; Boundary::ALL.len()]), String> {
    let mut run = without_faults(seed, 20, switches)?;
    let deadly_permille = run.world.random.pick(&[0, 0, 0, 20]);
    for _ in 0..8 {
        (run.world.has_faults, run.world.deadly_permille) = (true, deadly_permille);
        (0..run.world.random.below(8)).for_each(|_| run.arrive());
        for slot in 0..run.plan.workers {
            match run.world.random.below(10) {
                0..6 => run.drain(slot),
                6..8 => run.crash(slot),
                _ => {}
            }
        }
        let rounds = run.world.random.below(80);
        run.act_for(rounds)?;
        // Whoever waits for rest waits for living workers.
        run.world.deadly_permille = 0;
        if run.world.random.chance(300) {
            run.settle()?;
        }
    }
    is_right_before_and_after_a_restart(&mut run)?;
    Ok((run.world.store.asked_for_owners, run.stats.deaths))
}

/// A system at rest whose exchange then gets some of what it holds a second time, in any order: copies that a dead producer's brokers take late. Returns
/// how many copies there were.
pub fn with_late_copies(seed: u64, switches: Switches) -> Result<usize, String> {
    let mut run = without_faults(seed, 80, switches)?;
    let copies = run.world.copy_exchange(500);
    run.settle()?;
    compare(&mut run)?;
    Ok(copies)
}

/// Whether the tables are right.
pub fn is_right(run: &mut Run) -> Result<(), String> {
    compare(run)
}

fn phases(run: &mut Run) -> Result<(), String> {
    run.work()?;
    run.settle()?;
    compare(run)?;
    (0..run.plan.workers).for_each(|slot| run.crash(slot));
    run.settle().map_err(|reason| format!("after a restart at rest: {reason}"))?;
    compare(run).map_err(|reason| format!("after a restart at rest: {reason}"))
}

/// Failures after which no more seeds are begun.
const MOST_FAILURES: usize = 50;

/// Runs seeds on all cores. Returns the counts, or the failures in the order of their seeds.
pub fn run_seeds(seeds: std::ops::Range<u64>, sabotage: Sabotage, most_failures: usize) -> Result<Stats, Vec<Failure>> {
    let next = AtomicU64::new(seeds.start);
    let total = Mutex::new(Stats::default());
    let failures: Mutex<Vec<Failure>> = Mutex::default();
    let work = || {
        while failures.lock().expect("no panic").len() < most_failures.min(MOST_FAILURES) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            match run_seed(seed, sabotage, false) {
                Ok(stats) => total.lock().expect("no panic").add(&stats),
                Err(found) => failures.lock().expect("no panic").push(found),
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    let mut failures = failures.into_inner().expect("no panic");
    failures.sort_by_key(|failure| failure.seed);
    if failures.is_empty() { Ok(total.into_inner().expect("no panic")) } else { Err(failures) }
}
