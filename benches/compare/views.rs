//! ClickHouse's own Kafka engine with materialized views (`views.sql`).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::common::load::TOPICS;
use super::common::servers::Servers;
use super::common::usage::{ServersCpu, forget_peak, peak_rss_bytes};
use super::truth::Counted;
use super::{Figure, System};

const STATEMENTS: &str = include_str!("views.sql");
/// Begin the parts of the statements, in this order.
const ARCHIVE: &str = "-- ARCHIVE\n";
const COUNTERS: &str = "-- COUNTERS AND CELLS\n";
const EDGES: &str = "-- EDGES\n";
const LONGEST_RUN: Duration = Duration::from_secs(3_600);

/// Runs until so many records are committed, and then waits for the merges.
pub fn run(servers: &Servers, system: System, database: &str, records: u64) -> Result<Figure> {
    let process = servers.clickhouse.pid()?;
    forget_peak(process)?;
    let before = ServersCpu::now(servers)?;
    // The engine reads as soon as it has its first view: nothing may come before the last one is there.
    servers.kafka.pause()?;
    let created = create(servers, database, system);
    servers.kafka.resume()?;
    created?;
    let began = Instant::now();
    let mut committed = 0;
    onecode_local::wait_for("the end of the topics", LONGEST_RUN, || {
        committed = servers.committed(database, &TOPICS)?;
        std::thread::sleep(Duration::from_millis(150));
        Ok((committed >= records).then_some(()))
    })?;
    let elapsed = began.elapsed();
    for topic in TOPICS {
        servers.clickhouse.query(&format!("DROP TABLE {database}.{topic}_queue SYNC"))?;
    }
    servers.wait_for_merges()?;
    let figure = Figure {
        system,
        events: committed,
        elapsed,
        process_cpu_s: 0.0,
        servers: ServersCpu::now(servers)?.since(before),
        peak_rss_bytes: peak_rss_bytes(process)?,
        disk_bytes: servers.database_bytes(database)?,
        counted: Some(Counted::in_clickhouse(servers, database)?),
    };
    servers.clickhouse.query(&format!("DROP DATABASE {database} SYNC"))?;
    Ok(figure)
}

fn create(servers: &Servers, database: &str, system: System) -> Result<()> {
    let (head, rest) = STATEMENTS.split_once(ARCHIVE).context("views.sql has no archive")?;
    let (archive, rest) = rest.split_once(COUNTERS).context("views.sql has no counters")?;
    let (counters, edges) = rest.split_once(EDGES).context("views.sql has no edges")?;
    let is_bare = matches!(system, System::ClickhouseViewsWithoutArchive | System::ClickhouseViewsWithEdgesWithoutArchive);
    let has_edges = matches!(system, System::ClickhouseViewsWithEdges | System::ClickhouseViewsWithEdgesWithoutArchive);
    let (archive, edges) = (if is_bare { "" } else { archive }, if has_edges { edges } else { "" });
    let wanted = [head, archive, counters, edges].concat();
    let schema = servers.dir.join("schemas/events.proto");
    let filled = wanted
        .replace("{database}", database)
        .replace("{brokers}", &servers.kafka.bootstrap())
        .replace("{schema}", &schema.display().to_string());
    let without_remarks: String = filled.split_inclusive('\n').filter(|line| !line.starts_with("--")).collect();
    for statement in without_remarks.split(";\n").map(str::trim).filter(|statement| !statement.is_empty()) {
        servers.clickhouse.query(statement)?;
    }
    Ok(())
}
