//! onecode beside what else could do the work, on the same topics, one after the other, in one run.
//!
//! `cargo bench --profile dist --bench compare -- --events 3000000 --repeat 3` starts a Kafka and a ClickHouse of its own, fills the topics,
//! lets every system read them, and prints events a second, CPU-seconds per million events (of the system's own process, of ClickHouse with
//! its merges, of the broker), peak memory and disk; medians and spread to the terminal, and to `compare.json` in the target directory.
//! Machines are shared and noisy: the ratios of one run are the figures to quote. `benches/RESULTS.md` says what each system does not do.

mod baseline;
#[path = "../common/mod.rs"]
mod common;
mod report;
mod streams;
mod tables;
mod truth;
mod views;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Parser, ValueEnum};
use common::load::{Load, TOPICS};
use common::onecode::Pipeline;
use common::servers::Servers;
use common::usage::ServersCpu;
use report::Report;
use truth::Counted;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    load: Load,
    /// Workers of onecode, and threads of Kafka Streams
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// How often every system runs, one after the other
    #[arg(long, default_value_t = 1)]
    repeat: u32,
    /// Which systems run
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = System::value_variants().to_vec())]
    systems: Vec<System>,
    /// Events after which the systems of others are stopped [default: all]
    #[arg(long)]
    peer_events: Option<u64>,
    /// Prints what each of onecode's tables cost ClickHouse; its logs, which tell it, cost something too
    #[arg(long)]
    tables: bool,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
    /// What this program runs itself as, in a process of its own: brokers, and how many records there are
    #[arg(long, hide = true, num_args = 2)]
    as_baseline: Option<Vec<String>>,
}

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum System {
    /// A plain librdkafka consumer that decodes every record
    Baseline,
    /// Everything: state, relays, all tables, archive, checkpoints
    Onecode,
    /// The same, but ClickHouse reads the archive's rows and keeps none
    OnecodeWithoutArchive,
    /// ClickHouse's Kafka engine with materialized views: counters, cells, archive
    ClickhouseViews,
    /// The same without the archive
    ClickhouseViewsWithoutArchive,
    /// With the archive, and who brought whom and what each share brought, one step far
    ClickhouseViewsWithEdges,
    /// With the edges, without the archive
    ClickhouseViewsWithEdgesWithoutArchive,
    /// Kafka Streams with exactly_once_v2 and RocksDB: counters alone, of records as they come
    KafkaStreams,
    /// The same counters as onecode's: each event once, with its customer
    KafkaStreamsExact,
}

impl System {
    /// For people and for `compare.json`.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether it promises to count each event once, with its customer.
    fn is_exact(self) -> bool {
        matches!(self, System::Onecode | System::OnecodeWithoutArchive | System::KafkaStreamsExact)
    }
}

/// One run of a system.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// Which.
    pub system: System,
    /// How many it read.
    pub events: u64,
    /// Until all of them had the effect that the system gives them.
    pub elapsed: Duration,
    /// Of the system's own process; 0 when it is ClickHouse.
    pub process_cpu_s: f64,
    /// ClickHouse with its merges, and the broker.
    pub servers: ServersCpu,
    /// Of the system's own process, or of ClickHouse when that is the system.
    pub peak_rss_bytes: u64,
    /// What it keeps in ClickHouse, in Kafka and in files of its own.
    pub disk_bytes: u64,
    /// What its counters say, if it has any.
    pub counted: Option<Counted>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(baseline) = &arguments.as_baseline {
        let [brokers, records] = baseline.as_slice() else { bail!("brokers and records are missing") };
        return baseline::read_and_decode(brokers, records.parse()?);
    }
    let dir = tempfile::tempdir()?;
    eprintln!("starting Kafka and ClickHouse in {}", dir.path().display());
    let servers = Servers::start(dir.path(), if arguments.tables { tables::LOGS } else { "" })?;
    let topics = TOPICS.map(str::to_owned);
    Pipeline::prepare(&servers, "topics", topics, arguments.load.partitions, 1)?.drop_database(&servers)?;
    eprintln!("generating {} events", arguments.load.events);
    let options = arguments.load.options()?;
    arguments.load.produce(&servers.kafka.bootstrap(), TOPICS, options.clone(), None)?;
    let truth = Counted::of(options)?;
    let mut report = Report::new(truth);
    for round in 1..=arguments.repeat {
        for system in &arguments.systems {
            eprintln!("round {round} of {}: {}", arguments.repeat, system.name());
            let figure = measure(&servers, &arguments, *system, round)?;
            eprintln!("  {}", report::line(&figure));
            if system.is_exact() && figure.events == arguments.load.events && figure.counted != Some(truth) {
                bail!("{} counted {:?}, where {truth:?} were sent", system.name(), figure.counted);
            }
            report.add(figure);
            report.write()?;
        }
    }
    report.print();
    Ok(())
}

fn measure(servers: &Servers, arguments: &Arguments, system: System, round: u32) -> Result<Figure> {
    let all = arguments.load.events;
    let peers = arguments.peer_events.unwrap_or(all).min(all);
    let name = format!("{}_{round}", system.name().replace('-', "_"));
    match system {
        System::Baseline => baseline::run(servers, all),
        System::Onecode | System::OnecodeWithoutArchive => run_onecode(servers, arguments, system, &name),
        System::ClickhouseViews
        | System::ClickhouseViewsWithoutArchive
        | System::ClickhouseViewsWithEdges
        | System::ClickhouseViewsWithEdgesWithoutArchive => views::run(servers, system, &name, peers),
        System::KafkaStreams | System::KafkaStreamsExact => streams::run(servers, system, &name, arguments, peers),
    }
}

fn run_onecode(servers: &Servers, arguments: &Arguments, system: System, name: &str) -> Result<Figure> {
    let broker_bytes = servers.broker_bytes()?;
    let topics = TOPICS.map(str::to_owned);
    let mut pipeline = Pipeline::prepare(servers, name, topics, arguments.load.partitions, arguments.workers)?;
    pipeline.keeps_archive = system == System::Onecode;
    let run = pipeline.run(servers, arguments.load.events)?;
    if arguments.tables {
        tables::print(servers, name)?;
    }
    let counted = Some(Counted::in_clickhouse(servers, name)?);
    let disk_bytes = servers.database_bytes(name)? + servers.broker_bytes()?.saturating_sub(broker_bytes);
    pipeline.drop_database(servers)?;
    Ok(Figure {
        system,
        events: arguments.load.events,
        elapsed: run.elapsed,
        process_cpu_s: run.process_cpu_s,
        servers: run.servers,
        peak_rss_bytes: run.peak_rss_bytes,
        disk_bytes,
        counted,
    })
}
