//! ClickHouse's own Kafka engine with materialized views (`views.sql`).

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::common::load::TOPICS;
use super::common::servers::Servers;
use super::common::usage::{ServersCpu, forget_peak, peak_rss_bytes};
use super::{Figure, System};

const STATEMENTS: &str = include_str!("views.sql");
const ARCHIVE_BEGINS: &str = "-- ARCHIVE\n";
const ARCHIVE_ENDS: &str = "-- COUNTERS AND CELLS\n";
const LONGEST_RUN: Duration = Duration::from_secs(3_600);

/// Runs until so many records are committed, and then waits for the merges.
pub fn run(servers: &Servers, system: System, database: &str, records: u64) -> Result<Figure> {
    let process = servers.clickhouse.pid()?;
    forget_peak(process)?;
    let before = ServersCpu::now(servers)?;
    // The engine reads as soon as it has its first view: nothing may come before the last one is there.
    servers.kafka.pause()?;
    let created = create(servers, database, system == System::ClickhouseViews);
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
    };
    servers.clickhouse.query(&format!("DROP DATABASE {database} SYNC"))?;
    Ok(figure)
}

fn create(servers: &Servers, database: &str, with_archive: bool) -> Result<()> {
    let (head, rest) = STATEMENTS.split_once(ARCHIVE_BEGINS).context("views.sql has no archive")?;
    let (archive, tail) = rest.split_once(ARCHIVE_ENDS).context("the archive of views.sql does not end")?;
    let wanted = if with_archive { [head, archive, tail].concat() } else { [head, tail].concat() };
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
