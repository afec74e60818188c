//! The promise, for the whole system: whatever happens between its parts, the tables end as the set of events says.
//!
//! `ONECODE_SIM_SEEDS=N cargo test --release --test simulation` runs the first N seeds; `ONECODE_SIM_SEED=K` replays one with its trace.

mod oracle;
mod row_reader;
mod sim;

use onecode::task::{KIND_MARK, KIND_POSITIONS};
use onecode::worker::{Boundary, Switches};
use sim::{
    Failure, Run, Sabotage, after_coming_to_share, at_rest, is_right, row_that_counts, run_seed, run_seeds, stopped, stopped_with,
    with_a_new_topic, with_drains, with_late_checkpoints, with_late_copies,
};

/// Seeds of every test run.
const SEEDS: u64 = 10_000;

fn number_in(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}

/// Failing seeds that are looked for before giving up.
const SHOWN: usize = 20;

fn report_all(failures: &[Failure]) -> String {
    let others: Vec<String> =
        failures.iter().map(|failure| format!("{}: {}", failure.seed, failure.reason.lines().next().unwrap_or_default())).collect();
    format!("{}\nfailing seeds:\n  {}", failures.first().map_or_else(String::new, report), others.join("\n  "))
}

fn report(failure: &Failure) -> String {
    let command = format!("ONECODE_SIM_SEED={} cargo test --release --test simulation -- --nocapture", failure.seed);
    format!("seed {} failed: {}\nreplay it with its trace:\n  {command}", failure.seed, failure.reason)
}

/// Boundaries that only drains lead to, which random faults bring few of: `workers_that_drain_and_die_in_turn_change_nothing` does.
const DRAINED: [Boundary; 2] = [Boundary::TakenOver, Boundary::Closed];

#[test]
fn tables_are_a_function_of_the_set_of_events_whatever_fails() {
    if let Some(seed) = number_in("ONECODE_SIM_SEED") {
        let outcome = run_seed(seed, Sabotage::default(), true);
        let failure = match outcome {
            Ok(stats) => return println!("seed {seed} holds: {stats:?}"),
            Err(failure) => failure,
        };
        failure.trace.iter().for_each(|line| println!("{line}"));
        panic!("{}", report(&failure));
    }
    let seeds = number_in("ONECODE_SIM_SEEDS").unwrap_or(SEEDS);
    match run_seeds(0..seeds, Sabotage::default(), SHOWN) {
        Ok(stats) => {
            println!("{seeds} seeds: {stats:?}");
            let struck = [
                stats.crashes,
                stats.freezes,
                stats.expelled,
                stats.outages,
                stats.drains,
                stats.mutes,
                stats.fenced,
                stats.replaced,
                stats.grown,
                stats.raised,
                stats.shared,
                stats.rescaled,
            ];
            let met = [stats.takeovers, stats.checkpoints, stats.relayed, stats.refused_relays, stats.duplicates, stats.refused_events];
            let cold = [stats.evicted, stats.loaded];
            let demanded = Boundary::ALL.into_iter().filter(|boundary| !DRAINED.contains(boundary));
            let undying: Vec<&str> = demanded.filter(|boundary| stats.deaths[*boundary as usize] == 0).map(Boundary::name).collect();
            assert!(seeds < 1_000 || undying.is_empty(), "nobody died at {undying:?}");
            assert!(
                seeds < 1_000 || struck.iter().chain(&met).chain(&cold).all(|count| *count > 0),
                "faults that never strike prove nothing"
            );
            assert!(seeds < SEEDS || stats.read_again > 0, "no checkpoint landed between a reading and a copying");
        }
        Err(failures) => panic!("{}", report_all(&failures)),
    }
}

#[test]
fn a_checkpoint_that_lands_while_its_generation_is_taken_over_changes_nothing() {
    let read_again: u64 = (0..3_000)
        .map(|seed| with_late_checkpoints(seed, Switches::default()).unwrap_or_else(|error| panic!("seed {seed}: {error}")))
        .sum();
    assert!(read_again > 0, "no checkpoint landed between a reading and a copying");
}

#[test]
fn workers_that_drain_and_die_in_turn_change_nothing() {
    let (mut in_place, mut deaths) = (0, [0; DRAINED.len()]);
    for seed in 0..3_000 {
        let (more, died) = with_drains(seed, Switches::default()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        in_place += more;
        deaths.iter_mut().zip(DRAINED).for_each(|(sum, boundary)| *sum += died[boundary as usize]);
    }
    println!("{in_place} takeovers in place, {deaths:?} deaths at {DRAINED:?}");
    assert!(in_place > 3_000, "{in_place} takeovers in place prove little");
    assert!(deaths.iter().all(|count| *count > 0), "{deaths:?} deaths at {DRAINED:?}");
}

#[test]
fn messages_that_the_exchange_holds_twice_count_once_whatever_their_order() {
    let copies: usize =
        (0..1_000).map(|seed| with_late_copies(seed, Switches::default()).unwrap_or_else(|error| panic!("seed {seed}: {error}"))).sum();
    assert!(copies > 1_000, "{copies} copies prove little");
}

/// The error with which a system refuses to go on.
fn refusal(run: &mut Run) -> String {
    run.settle().expect_err("it must not go on")
}

#[test]
fn damaged_state_is_refused_by_name_whatever_is_damaged() {
    // Of minute cells, of day cells, and of the first rows of customers, visits, referrals and shares.
    let packs = [11, 12, 21, 26, 27, 28, 29];
    for kind in [KIND_POSITIONS, 1, 5].into_iter().chain(packs) {
        for is_removed in [false, true] {
            let mut run = stopped_with(kind);
            let generations = run.world.store.state.values_mut().filter(|rows| rows.keys().any(|(kind, _)| *kind == KIND_MARK));
            let mut damaged = 0;
            for rows in generations {
                let Some(key) = row_that_counts(rows, kind) else { continue };
                damaged += 1;
                if is_removed {
                    rows.remove(&key);
                } else if let Some(row) = rows.get_mut(&key) {
                    match row.payload.last_mut().filter(|_| packs.contains(&kind)) {
                        // A count of the last cell.
                        Some(count) => *count ^= 1,
                        // A field that nobody knows: readable, and yet not what was written.
                        None => row.payload.extend([0xf8, 0x7f, if kind == KIND_POSITIONS { 0xff } else { 0x01 }]),
                    }
                }
            }
            assert!(damaged > 0, "kind {kind}");
            let refusal = refusal(&mut run);
            let expected = if kind == KIND_POSITIONS && !is_removed { "positions row" } else { "`task_state`" };
            assert!(refusal.contains(expected), "kind {kind}, removed {is_removed}: {refusal}");
        }
    }
}

#[test]
fn input_that_retention_took_before_it_was_read_is_refused() {
    let mut run = stopped(7);
    (0..10).for_each(|_| run.arrive());
    run.world.kafka.logs.values_mut().for_each(|log| log.remove_before(log.end));
    let refusal = refusal(&mut run);
    assert!(refusal.contains("were removed by retention before they were read"), "{refusal}");
}

#[test]
fn input_that_retention_takes_from_under_a_reader_stops_it() {
    let mut run = at_rest(7);
    (0..10).for_each(|_| run.arrive());
    run.world.kafka.logs.values_mut().for_each(|log| log.remove_before(log.end));
    let refusal = refusal(&mut run);
    assert!(refusal.contains("were removed by retention before they were read"), "{refusal}");
}

#[test]
fn a_log_that_ends_before_the_position_is_refused() {
    let mut run = stopped(7);
    run.world.kafka.logs.values_mut().for_each(|log| *log = Default::default());
    let refusal = refusal(&mut run);
    assert!(refusal.contains("was recreated or lost acknowledged data"), "{refusal}");
}

#[test]
fn a_table_of_state_that_was_emptied_is_refused_and_no_first_start() {
    let mut run = stopped(7);
    run.world.store.state.clear();
    let refusal = refusal(&mut run);
    assert!(refusal.contains("the table was emptied"), "{refusal}");
}

/// Its partitions would belong to other tasks, whose state does not know how far they were read.
#[test]
fn a_topic_that_shares_the_tasks_partitions_and_grows_is_refused() {
    let mut seen = 0;
    for seed in 0..20 {
        let mut run = stopped(seed);
        let tasks = run.plan.tasks;
        let Some(topic) = ["scans", "purchases", "shares"].into_iter().find(|topic| run.plan.partitions[*topic] == tasks) else { continue };
        run.grow(topic, 1);
        let refusal = refusal(&mut run);
        assert!(refusal.contains("as its own") && refusal.contains("onecode rescale"), "seed {seed}: {refusal}");
        seen += 1;
    }
    assert!(seen > 0, "no topic shares the tasks' partitions");
}

/// Read from its start, a log whose events were relayed and forgotten since would fill the dead letters.
#[test]
fn a_topic_that_comes_to_share_the_tasks_partitions_is_gone_on_with_where_its_relays_end() {
    let mut refused_from_the_start = 0;
    for seed in 0..20 {
        let refused = after_coming_to_share(seed, Switches::default()).unwrap_or_else(|reason| panic!("seed {seed}: {reason}"));
        assert_eq!(refused, 0, "seed {seed}");
        let from_the_start = Switches { reads_on: false, ..Switches::default() };
        refused_from_the_start += after_coming_to_share(seed, from_the_start).unwrap_or_else(|reason| panic!("seed {seed}: {reason}"));
    }
    assert!(refused_from_the_start > 0, "a test that cannot fail");
}

/// Workers begin at the end of a new topic. Where that was must outlive the first of them, or its successor would skip what came since.
#[test]
fn the_start_in_a_new_topic_is_durable_before_the_first_record_is_read() {
    for seed in 0..20 {
        let mut run = with_a_new_topic(seed);
        run.until_running().expect("a takeover");
        (0..60).for_each(|_| run.arrive());
        run.crash(0);
        run.settle().and_then(|()| is_right(&mut run)).unwrap_or_else(|reason| panic!("seed {seed}: {reason}"));
    }
}
