//! `onecode audit`: whether the tables say what the archive says.

use std::io::Write;

use anyhow::Result;
use clap::builder::PossibleValuesParser;

use super::Verdict;
use crate::audit::{self, AuditOptions, TableReport, verdicts};
use crate::config::Config;
use crate::store::Admin;

/// Shown below `--help`.
pub const EXAMPLES: &str = "The pipeline should be at rest: what is on its way from Kafka to a table shows as a difference.

Examples:
  onecode audit --config onecode.toml
  onecode audit --config onecode.toml --list 1000 --json > differences.json
  onecode audit --config onecode.toml --table customers --table customer_days
  onecode audit --config onecode.toml --memory-mib 16384      # for hundreds of millions of events";

/// Conflicts listed for a person; all are counted, and in the JSON.
const LISTED_CONFLICTS: usize = 20;

/// What `audit` is asked to do.
#[derive(Clone, Debug, clap::Args)]
pub struct AuditArgs {
    /// Audit this table only; may be repeated
    #[arg(long = "table", value_name = "TABLE", value_parser = PossibleValuesParser::new(audit::table_names()))]
    pub tables: Vec<String>,
    /// Differences to list a table; all are counted
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub list: usize,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
    /// Memory that a query may take on the server; what needs more goes to its disk
    #[arg(long, value_name = "MIB", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(64..=1 << 20))]
    pub memory_mib: u64,
}

/// Runs the command; its report goes to `out`.
///
/// # Errors
/// When there is no verdict: a server that cannot be asked, missing tables, an archive that expires.
pub async fn run(config: &Config, args: &AuditArgs, out: &mut impl Write) -> Result<Verdict> {
    let options = AuditOptions { tables: args.tables.clone(), listed_differences: args.list, memory_bytes: args.memory_mib << 20 };
    let mut written = Ok(());
    let report = audit::audit(config, &options, |table: &TableReport| {
        if !args.json && written.is_ok() {
            written = write!(out, "{table}").and_then(|()| out.flush());
        }
    })
    .await?;
    written?;
    if args.tables.is_empty()
        && let Err(error) = verdicts::record(&Admin::new(&config.clickhouse), &report).await
    {
        tracing::warn!("the verdict is not recorded, running pipelines will not show it: {error}");
    }
    if args.json {
        writeln!(out, "{:#}", report.to_json())?;
    } else {
        for conflict in report.conflicts.iter().take(LISTED_CONFLICTS) {
            writeln!(out, "{conflict}")?;
        }
        if report.left_out_customers > 0 {
            let (conflicts, customers) = (report.conflicts.len(), report.left_out_customers);
            writeln!(out, "{customers} customers were left out, and the cells of their events: {conflicts} conflicts")?;
        }
        writeln!(out, "{}", report.verdict())?;
    }
    Ok(if report.differences() == 0 { Verdict::Fine } else { Verdict::FoundSomething })
}
