//! `onecode check`: whether the pipeline would run as configured.

use std::io::Write;

use anyhow::Result;

use super::Verdict;
use crate::config::Config;
use crate::migrate;

/// Shown below `--help`.
pub const EXAMPLES: &str = "Examples:
  onecode check --config onecode.toml && onecode run --config onecode.toml
  onecode check --config onecode.toml --settings    # also print every key, its value, and where it was set";

/// What `check` is asked to show.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CheckArgs {
    /// First print every key with its value and where it was set; secrets are redacted
    #[arg(long)]
    pub settings: bool,
}

/// Runs the command; its report goes to `out`.
///
/// # Errors
/// Only when the report cannot be written: a server that cannot be reached is a fault in the report.
pub async fn run(config: &Config, args: &CheckArgs, out: &mut impl Write) -> Result<Verdict> {
    if args.settings {
        for setting in config.settings() {
            writeln!(out, "{} = {}  # {}", setting.key, setting.value, setting.source)?;
        }
        writeln!(out)?;
    }
    let inspection = migrate::inspect(config).await;
    for fact in &inspection.facts {
        writeln!(out, "ok: {fact}")?;
    }
    for advice in &inspection.advice {
        writeln!(out, "note: {advice}")?;
    }
    let wrong: Vec<&String> = inspection.faults.iter().chain(&inspection.risks).collect();
    for fault in &wrong {
        writeln!(out, "wrong: {fault}")?;
    }
    match wrong.len() {
        0 => writeln!(out, "check: nothing is wrong")?,
        1 => writeln!(out, "check: 1 thing is wrong")?,
        faults => writeln!(out, "check: {faults} things are wrong")?,
    }
    Ok(if wrong.is_empty() { Verdict::Fine } else { Verdict::FoundSomething })
}
