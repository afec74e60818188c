//! The verdicts of past audits, in the table `audits`: an audit leaves one, running pipelines show the newest.

use clickhouse::Row;
use serde::Deserialize;

use super::Report;
use crate::store::{Admin, AdminError, literal};

/// What a running pipeline shows of the newest audits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Row, Deserialize)]
pub struct Verdict {
    /// Rows that differed, in the newest audit of the kind that found most.
    pub differences: u64,
}

/// What an audit looked at. Each kind's newest verdict stands until the next of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All tables, by the archive.
    Archive,
    /// All own facts, by the input topics.
    Log,
    /// Some customers, again and again.
    Sample,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Archive => "archive",
            Kind::Log => "log",
            Kind::Sample => "sample",
        }
    }
}

/// Leaves the verdict of an audit.
///
/// # Errors
/// When ClickHouse does not take it: an auditor needs no other right to write than this one.
pub async fn record(admin: &Admin, report: &Report, kind: Kind) -> Result<(), AdminError> {
    let rows: u64 = report.tables.iter().map(|table| table.rows).sum();
    let statement = format!(
        "INSERT INTO audits (finished_at, differences, rows, conflicts, left_out_customers, program) SELECT now64(3), {}, {rows}, {}, {}, {}",
        report.differences(),
        report.conflicts.len(),
        report.left_out_customers,
        literal(&format!("{} ({})", env!("CARGO_PKG_VERSION"), kind.name())),
    );
    admin.execute(&statement).await
}

/// The verdict of the newest audits, the worst of the kinds; none before the first.
///
/// # Errors
/// When ClickHouse cannot be asked.
pub async fn newest(admin: &Admin) -> Result<Option<Verdict>, AdminError> {
    let newest = "SELECT argMax(differences, finished_at) AS differences FROM audits GROUP BY extract(program, '\\\\((.*)\\\\)')";
    Ok(admin.rows(&format!("SELECT max(newest.differences) AS differences FROM ({newest}) AS newest HAVING count() > 0")).await?.pop())
}
