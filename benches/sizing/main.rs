//! How the cost of `onecode run` grows: with workers, customers, partitions, and the shares of misrouted events and referred customers.
//!
//! `cargo bench --profile dist --bench sizing` changes one thing at a time around a common middle, each in topics and a database of its own,
//! and prints a line each, with the kinds of state rows of the middle. `-- --freshness` instead finds the highest sustained rate, produces at half
//! of it, and prints how long events take to their rows; then it restarts the pipeline and prints how long the takeover took. `-- --restore`
//! restarts over one task with a million customers. Needs real servers, and brings them.

#[path = "../common/mod.rs"]
mod common;
mod freshness;

use anyhow::Result;
use clap::Parser;
use common::load::Load;
use common::onecode::{Pipeline, Run};
use common::servers::Servers;

const MEBIBYTE: f64 = 1_048_576.0;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    load: Load,
    /// Workers in the middle
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// 10,000,000 customers alone, with two events each: needs 16 GiB of memory, and a quarter of an hour
    #[arg(long)]
    large: bool,
    /// Measure freshness at half of the highest rate, and a takeover
    #[arg(long)]
    freshness: bool,
    /// Measure a restart over one task with 1,000,000 customers
    #[arg(long)]
    restore: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let dir = tempfile::tempdir()?;
    eprintln!("starting Kafka and ClickHouse in {}", dir.path().display());
    let servers = Servers::start(dir.path(), "")?;
    if arguments.freshness {
        return freshness::measure(&servers, arguments.load, arguments.workers);
    }
    if arguments.restore {
        return freshness::measure_restore(&servers);
    }
    println!(
        "{:<26} {:>9} {:>9} {:>9} {:>10} {:>8} {:>9} {:>9} {:>11} {:>9}",
        "changed", "events", "events/s", "process", "clickhouse", "broker", "customers", "peak MiB", "B/customer", "keys/cust."
    );
    let mut kinds = Vec::new();
    for (number, (what, load, workers)) in cases(&arguments).into_iter().enumerate() {
        let run = run_once(&servers, &format!("sizing_{number}"), load, workers)?;
        print(&what, load.events, &run);
        if number == 0 {
            kinds = run.state_keys_by_kind;
        }
    }
    for (kind, keys) in kinds {
        println!("{kind:<26} {keys:.3} state rows a customer, when nothing was changed");
    }
    Ok(())
}

/// One thing changed at a time.
fn cases(arguments: &Arguments) -> Vec<(String, Load, u32)> {
    let (middle, workers) = (arguments.load, arguments.workers);
    if arguments.large {
        return vec![("10000000 customers".to_owned(), Load { customers: 10_000_000, events: 20_000_000, ..middle }, workers)];
    }
    let mut cases = vec![("nothing".to_owned(), middle, workers), ("1 worker".to_owned(), middle, 1)];
    for customers in [100_000, 1_000_000] {
        // As many events a customer as in the middle, so that the state is what grows.
        let events = middle.events * u64::from(customers) / u64::from(middle.customers);
        cases.push((format!("{customers} customers"), Load { customers, events, ..middle }, workers));
    }
    for partitions in [64, 256] {
        cases.push((format!("{partitions} partitions"), Load { partitions, ..middle }, workers));
    }
    for misrouted in [0.0, 0.5] {
        cases.push((format!("{:.0} % misrouted", 100.0 * misrouted), Load { misrouted, ..middle }, workers));
    }
    for referred in [0.0, 1.0] {
        cases.push((format!("{:.0} % referred", 100.0 * referred), Load { referred, ..middle }, workers));
    }
    cases
}

fn run_once(servers: &Servers, name: &str, load: Load, workers: u32) -> Result<Run> {
    let topics = ["scans", "purchases", "shares"].map(|topic| format!("{name}.{topic}"));
    let pipeline = Pipeline::prepare(servers, name, topics.clone(), load.partitions, workers)?;
    let [scans, purchases, shares] = &topics;
    load.produce(&servers.kafka.bootstrap(), [scans, purchases, shares], load.options()?, None)?;
    let run = pipeline.run(servers, load.events)?;
    pipeline.drop_database(servers)?;
    Ok(run)
}

fn print(what: &str, events: u64, run: &Run) {
    let millions = events as f64 / 1e6;
    println!(
        "{what:<26} {events:>9} {:>9.0} {:>9.2} {:>10.2} {:>8.2} {:>9} {:>9.0} {:>11.0} {:>9.1}",
        events as f64 / run.elapsed.as_secs_f64(),
        run.process_cpu_s / millions,
        run.servers.clickhouse_s / millions,
        run.servers.broker_s / millions,
        run.customers,
        run.peak_rss_bytes as f64 / MEBIBYTE,
        run.state_bytes as f64 / run.customers.max(1) as f64,
        run.state_keys as f64 / run.customers.max(1) as f64,
    );
}
