//! `onecode audit`: whether the tables say what the archive says.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use clap::builder::PossibleValuesParser;

use super::{UsageError, Verdict};
use crate::audit::log::{LogOptions, MOST_PASSES};
use crate::audit::sample::{Round, Sampler};
use crate::audit::verdicts::{self, Kind};
use crate::audit::{self, AuditOptions, Report, TableReport};
use crate::config::Config;
use crate::store::Admin;

/// Shown below `--help`.
pub const EXAMPLES: &str =
    "By the archive the pipeline should be at rest: what is on its way from Kafka to a table shows as a difference. --source log and
--sample also audit a pipeline that runs.

Examples:
  onecode audit --config onecode.toml
  onecode audit --config onecode.toml --list 1000 --json > differences.json
  onecode audit --config onecode.toml --table customers --table customer_days
  onecode audit --config onecode.toml --brand acme --from 2026-11-01 --until 2026-11-08
  onecode audit --config onecode.toml --source log --passes 8 # sees also what was lost before the archive
  onecode audit --config onecode.toml --sample 500 --every 60 # for ever; running pipelines show the differences as a metric
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
    /// Audit this brand only
    #[arg(long, value_name = "BRAND")]
    pub brand: Option<String>,
    /// Audit business days from this one on, in the tables that have days; minutes by UTC days
    #[arg(long, value_name = "DATE", conflicts_with = "sample")]
    pub from: Option<jiff::civil::Date>,
    /// Audit business days before this one
    #[arg(long, value_name = "DATE", conflicts_with = "sample")]
    pub until: Option<jiff::civil::Date>,
    /// Audit so many customers, picked anew each time, also while the pipeline runs
    #[arg(long, value_name = "CUSTOMERS", conflicts_with = "tables")]
    pub sample: Option<usize>,
    /// Audit another sample every so many seconds, until interrupted; those who are wrong stay in the samples
    #[arg(long, value_name = "SECONDS", requires = "sample")]
    pub every: Option<u64>,
    /// End after so many samples
    #[arg(long, value_name = "N", requires = "every")]
    pub rounds: Option<u64>,
    /// Pick the customers by this number and not by the clock
    #[arg(long, value_name = "N", requires = "sample")]
    pub seed: Option<u64>,
    /// How long to wait until what differs is in a checkpoint
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "sample")]
    pub settle: u64,
    /// Count the archive again, or the input topics up to the checkpoints: that also while the pipeline runs
    #[arg(long, value_name = "SOURCE", value_enum, default_value_t = Source::Archive)]
    pub source: Source,
    /// Read the archive, or with --source log the topics, N times, each time for another part of the customers, to hold less in memory [default: the
    /// archive as often as --memory-mib needs, topics once for every 10 million records and archived events, which take 3 GiB]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST_PASSES))]
    pub passes: Option<u64>,
    /// Memory that a query may take on the server; what needs more goes to its disk
    #[arg(long, value_name = "MIB", default_value_t = 4096, value_parser = clap::value_parser!(u64).range(64..=1 << 20))]
    pub memory_mib: u64,
}

/// What is counted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Source {
    /// The archive in ClickHouse, compared with the views.
    Archive,
    /// The input topics, compared with the state, the archive and the stored rows.
    Log,
}

/// Runs the command; its report goes to `out`.
///
/// # Errors
/// When there is no verdict: a server that cannot be asked, missing tables, an archive that expires.
pub async fn run(config: &Config, args: &AuditArgs, out: &mut impl Write) -> Result<Verdict> {
    let options = AuditOptions {
        tables: args.tables.clone(),
        listed_differences: args.list,
        brand: args.brand.clone(),
        days: days(args)?,
        memory_bytes: args.memory_mib << 20,
        passes: args.passes,
    };
    if args.source == Source::Log && (args.sample.is_some() || args.brand.is_some() || options.days.is_some() || !args.tables.is_empty()) {
        return Err(
            UsageError("--source log audits everything: leave out --table, --brand, --from, --until and --sample".to_owned()).into()
        );
    }
    match (args.source, args.sample) {
        (Source::Log, _) => by_log(config, args, &options, out).await,
        (Source::Archive, Some(size)) => by_samples(config, args, options, size, out).await,
        (Source::Archive, None) => by_archive(config, args, &options, out).await,
    }
}

/// The days to audit, as days since 1970-01-01.
fn days(args: &AuditArgs) -> Result<Option<(u16, u16)>> {
    let day = |date: jiff::civil::Date| -> Result<u16> {
        let days = jiff::civil::date(1970, 1, 1).until(date)?.get_days();
        u16::try_from(days).map_err(|_| UsageError(format!("{date} is no day between 1970-01-01 and 2149-06-06")).into())
    };
    match (args.from, args.until) {
        (None, None) => Ok(None),
        (from, until) => Ok(Some((from.map_or(Ok(0), day)?, until.map_or(Ok(u16::MAX), day)?))),
    }
}

async fn by_archive(config: &Config, args: &AuditArgs, options: &AuditOptions, out: &mut impl Write) -> Result<Verdict> {
    let mut written = Ok(());
    let report = audit::audit(config, options, |table: &TableReport| {
        if !args.json && written.is_ok() {
            written = write!(out, "{table}").and_then(|()| out.flush());
        }
    })
    .await?;
    written?;
    if args.tables.is_empty() && options.brand.is_none() && options.days.is_none() {
        record(config, &report, Kind::Archive).await;
    }
    if args.json {
        writeln!(out, "{:#}", report.to_json())?;
    } else {
        write_end(&report, out)?;
    }
    Ok(verdict_of(report.differences()))
}

async fn by_log(config: &Config, args: &AuditArgs, options: &AuditOptions, out: &mut impl Write) -> Result<Verdict> {
    let found = audit::log::audit(config, options, LogOptions { passes: args.passes }).await?;
    record(config, &found.report, Kind::Log).await;
    if args.json {
        let mut json = found.report.to_json();
        for (name, count) in [
            ("counted_events", found.counted),
            ("later_events", found.later),
            ("newer_rows", found.newer_rows),
            ("events_from_archive", found.from_archive),
            ("passes", found.passes),
        ] {
            if let Some(members) = json.as_object_mut() {
                members.insert(name.to_owned(), count.into());
            }
        }
        writeln!(out, "{json:#}")?;
        return Ok(verdict_of(found.report.differences()));
    }
    found.report.tables.iter().try_for_each(|table| write!(out, "{table}"))?;
    writeln!(
        out,
        "counted {} events up to the checkpoints; {} came later, {} rows are newer and were not compared",
        found.counted, found.later, found.newer_rows
    )?;
    if found.from_archive > 0 {
        writeln!(out, "{} events are older than the logs and were taken from the archive", found.from_archive)?;
    }
    write_end(&found.report, out)?;
    Ok(verdict_of(found.report.differences()))
}

async fn by_samples(config: &Config, args: &AuditArgs, options: AuditOptions, size: usize, out: &mut impl Write) -> Result<Verdict> {
    let mut sampler = Sampler::new(config, options, size, Duration::from_secs(args.settle)).await?;
    let mut rounds = 0;
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let round = sampler.round(config, args.seed.unwrap_or(now.as_secs()).wrapping_add(rounds)).await;
        let differences = match &round {
            Ok(round) => {
                record(config, &round.report, Kind::Sample).await;
                write_round(round, args.json, out)?;
                round.report.differences()
            }
            // Whoever audits for ever outlives an outage.
            Err(error) if args.every.is_some() && args.rounds != Some(rounds + 1) => {
                tracing::warn!("this round has no verdict: {error}");
                0
            }
            Err(_) => round.map(|round| round.report.differences())?,
        };
        rounds += 1;
        let Some(every) = args.every.filter(|_| args.rounds.is_none_or(|most| rounds < most)) else {
            return Ok(verdict_of(differences));
        };
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(every)) => {}
            _ = tokio::signal::ctrl_c() => return Ok(verdict_of(differences)),
        }
    }
}

fn write_round(round: &Round, as_json: bool, out: &mut impl Write) -> Result<()> {
    if as_json {
        let mut json = round.report.to_json();
        if let Some(members) = json.as_object_mut() {
            members.insert("customers".to_owned(), round.customers.into());
            members.insert("unsettled".to_owned(), round.unsettled.into());
        }
        writeln!(out, "{json}")?;
    } else {
        round.report.tables.iter().filter(|table| table.differences > 0).try_for_each(|table| write!(out, "{table}"))?;
        writeln!(out, "{} of {} customers, {} not settled", round.report.verdict(), round.customers, round.unsettled)?;
    }
    Ok(out.flush()?)
}

async fn record(config: &Config, report: &Report, kind: Kind) {
    if let Err(error) = verdicts::record(&Admin::new(&config.clickhouse), report, kind).await {
        tracing::warn!("the verdict is not recorded, running pipelines will not show it: {error}");
    }
}

fn write_end(report: &Report, out: &mut impl Write) -> Result<()> {
    for conflict in report.conflicts.iter().take(LISTED_CONFLICTS) {
        writeln!(out, "{conflict}")?;
    }
    if report.left_out_customers > 0 {
        let (conflicts, customers) = (report.conflicts.len(), report.left_out_customers);
        writeln!(out, "{customers} customers were left out, and the cells of their events: {conflicts} conflicts")?;
    }
    Ok(writeln!(out, "{}", report.verdict())?)
}

fn verdict_of(differences: u64) -> Verdict {
    if differences == 0 { Verdict::Fine } else { Verdict::FoundSomething }
}
