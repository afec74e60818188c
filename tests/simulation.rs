//! The promise, for the whole system: whatever happens between its parts, the tables end as the set of events says.
//!
//! `ONECODE_SIM_SEEDS=N cargo test --release --test simulation` runs the first N seeds; `ONECODE_SIM_SEED=K` replays one with its trace.

mod oracle;
mod row_reader;
mod sim;

use sim::{Failure, Sabotage, run_seed, run_seeds};

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
        Ok(stats) => println!("{seeds} seeds: {stats:?}"),
        Err(failures) => panic!("{}", report_all(&failures)),
    }
}
