//! `onecode run`: the pipeline.

use crate::app::{self, RunOptions};
use crate::commands::Verdict;
use crate::config::Config;

/// Shown below `--help`.
pub const EXAMPLES: &str = "Examples:
  onecode run --config onecode.toml
  onecode run --config onecode.toml --dynamic
  onecode run --config onecode.toml --accept-rejects 500   # go on after the limit on rejected records stopped it";

/// Arguments.
#[derive(Clone, Debug, clap::Args)]
pub struct RunArgs {
    /// Join the group under a fresh name, and leave it at once at the end (without: a restart takes its own tasks back)
    #[arg(long)]
    dynamic: bool,
    /// Let this many rejected records pass in each worker before the limits on them are judged
    #[arg(long, value_name = "N", default_value_t = 0)]
    accept_rejects: u64,
    /// Read only what tasks have sent each other, until nothing is left, and end: what `onecode rescale` needs
    #[arg(long)]
    settle: bool,
}

/// Runs the pipeline until SIGTERM, SIGINT, or a failure.
///
/// # Errors
/// What it refuses to start with.
pub fn run(config: &Config, args: &RunArgs) -> anyhow::Result<Verdict> {
    app::run(config, RunOptions { dynamic: args.dynamic, accept_rejects: args.accept_rejects, settle: args.settle })
}
