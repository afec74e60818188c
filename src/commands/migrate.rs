//! `onecode migrate`: creates or upgrades database, tables, views and topics, and says what it does.

use std::io::Write;

use anyhow::{Result, bail};

use super::Verdict;
use crate::config::Config;
use crate::migrate::topics::{self, Cluster, TopicWishes};
use crate::migrate::{self, Difference};
use crate::store::Admin;

/// Shown below `--help`.
pub const EXAMPLES: &str = "Examples:
  onecode migrate --config onecode.toml --dry-run                  # only show what would be done
  onecode migrate --config onecode.toml --create-input-topics 12   # also make the input topics, with 12 partitions each
  onecode migrate --config onecode.toml                            # as often as you like; after every upgrade";

/// What `migrate` is asked to do.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct MigrateArgs {
    /// Only show what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Create missing input topics, with N partitions each and LogAppendTime
    #[arg(long, value_name = "N", value_parser = partitions)]
    pub create_input_topics: Option<usize>,
    /// Partitions of a new exchange, which is the number of tasks for good [default: as many as the topic of scans has]
    #[arg(long, value_name = "N", value_parser = partitions)]
    pub tasks: Option<usize>,
}

fn partitions(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=100_000) => Ok(number),
        _ => Err("must be a number from 1 to 100000".to_owned()),
    }
}

/// Runs the command; its report goes to `out`.
///
/// # Errors
/// When a server cannot be asked or refuses, when input topics are missing, or when a table is there but not as it must be (exit code 1).
pub async fn run(config: &Config, args: &MigrateArgs, out: &mut impl Write) -> Result<Verdict> {
    let does = if args.dry_run { "would " } else { "" };
    let mut done = 0;
    for step in migrate::plan(config).await? {
        writeln!(out, "{does}{}", step.what)?;
        if !args.dry_run {
            migrate::apply(&config.clickhouse, &step).await?;
        }
        done += 1;
    }
    if !args.dry_run {
        refuse_differences(&migrate::compare(&Admin::new(&config.clickhouse)).await?)?;
    }
    let cluster = Cluster::new(&config.kafka)?;
    let facts = cluster.facts(&topics::names(config)).await?;
    let wishes = TopicWishes { create_inputs: args.create_input_topics, tasks: args.tasks };
    for topic in topics::plan(config, &facts, wishes)? {
        writeln!(out, "{does}{topic}")?;
        if !args.dry_run {
            cluster.create(&topic).await?;
        }
        done += 1;
    }
    match (done, args.dry_run) {
        (0, _) => writeln!(out, "nothing to do: everything is up to date")?,
        (_, true) => writeln!(out, "{done} steps; nothing was changed")?,
        (_, false) => writeln!(out, "{done} steps done")?,
    }
    Ok(Verdict::Fine)
}

fn refuse_differences(differences: &[Difference]) -> Result<()> {
    if differences.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = differences.iter().map(|difference| format!("  {difference}")).collect();
    bail!("the database has tables that `migrate` does not alter:\n{}", list.join("\n"))
}
