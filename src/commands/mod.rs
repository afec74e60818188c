//! The command line: one binary, one subcommand a file.
//!
//! A command's file has its arguments (`#[derive(clap::Args)]`), its examples, and a `run` that returns whether it found something
//! wrong; here it gets a variant of `Command`. Promises exit codes 0 done, 1 found something wrong, 2 wrong usage or configuration;
//! errors go to stderr and say what to do. Nothing here decides: commands call modules.

pub mod audit;
pub mod check;
pub mod customer;
pub mod dead_letter;
pub mod fit;
pub mod generate;
pub mod migrate;
pub mod rescale;
pub mod run;
mod sending;
mod table;
pub mod tree;

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::config::{Config, ConfigError};
use crate::telemetry::logs::{self, LevelError, LogFormat};

/// Exit code of a command that did its work and found something wrong, or could not do it.
const FOUND_SOMETHING: u8 = 1;
/// Exit code of wrong usage or configuration.
const WRONG_USAGE: u8 = 2;

/// Scan, purchase and share events from Kafka become exact, live, per-customer tables in ClickHouse.
#[derive(Debug, Parser)]
#[command(name = "onecode", version, about, max_term_width = 120)]
#[command(after_help = "A first look: onecode check --config deploy/onecode.example.toml")]
pub struct Cli {
    /// Log lines on stderr: auto (text on a terminal, JSON otherwise), text or json; ONECODE_LOG sets the level
    #[arg(long, global = true, value_name = "FORMAT", default_value = "auto", hide_possible_values = true)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Recompute the tables from the archive and compare every row
    #[command(after_help = audit::EXAMPLES)]
    Audit {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        args: audit::AuditArgs,
    },
    /// Validate the configuration, reach Kafka and ClickHouse, compare tables and topics
    #[command(after_help = check::EXAMPLES)]
    Check {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        args: check::CheckArgs,
    },
    /// Show everything that is known of one customer
    #[command(after_help = customer::EXAMPLES)]
    Customer {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        args: customer::CustomerArgs,
    },
    /// Fit the models of purchase to the day facts, per brand
    #[command(after_help = fit::EXAMPLES)]
    Fit {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        args: fit::FitArgs,
    },
    /// Create or upgrade tables, views and topics
    #[command(after_help = migrate::EXAMPLES)]
    Migrate {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        args: migrate::MigrateArgs,
    },
    /// Write realistic synthetic events to Kafka or to a file
    #[command(after_help = generate::EXAMPLES)]
    Generate(Box<generate::GenerateArgs>),
    /// Look into the records that were not accepted, and replay them
    #[command(after_help = dead_letter::EXAMPLES)]
    DeadLetter {
        #[command(subcommand)]
        command: dead_letter::DeadLetterCommand,
    },
    /// Move the state to another number of tasks, while the pipeline is stopped
    #[command(after_help = rescale::EXAMPLES)]
    Rescale {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        args: rescale::RescaleArgs,
    },
    /// Run the pipeline
    #[command(after_help = run::EXAMPLES)]
    Run {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        args: run::RunArgs,
    },
    /// Show whom a customer brought, and whom those brought, as a tree
    #[command(after_help = tree::EXAMPLES)]
    Tree {
        #[command(flatten)]
        config: ConfigArg,
        #[command(flatten)]
        args: tree::TreeArgs,
    },
}

impl Command {
    fn run(&self, out: &mut impl Write) -> anyhow::Result<Verdict> {
        match self {
            Command::Audit { config, args } => block_on(audit::run(&config.load()?, args, out)),
            Command::Check { config, args } => block_on(check::run(&config.load()?, args, out)),
            Command::Customer { config, args } => block_on(customer::run(&config.load()?, args, out)),
            Command::Fit { config, args } => block_on(fit::run(&config.load()?, args, out)),
            Command::Migrate { config, args } => block_on(migrate::run(&config.load()?, args, out)),
            Command::Generate(args) => generate::run(args, out),
            Command::DeadLetter { command } => dead_letter::run(command, out),
            Command::Rescale { config, args } => block_on(rescale::run(&config.load()?, config.path(), args, out)),
            Command::Run { config, args } => run::run(&config.load()?, args),
            Command::Tree { config, args } => block_on(tree::run(&config.load()?, args, out)),
        }
    }

    /// The pipeline tells what it does; other commands print their result, and log only what is wrong.
    fn default_level(&self) -> &'static str {
        match self {
            Command::Run { .. } => "info",
            _ => "warn",
        }
    }
}

/// What a command found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done, and nothing wrong: exit code 0.
    Fine,
    /// Done, and something is wrong: exit code 1.
    FoundSomething,
}

/// Arguments that do not fit together, or fit nothing: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// `--config FILE`, for every command that needs it.
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigArg {
    /// Configuration file; deploy/onecode.example.toml shows every key
    #[arg(long = "config", value_name = "FILE", env = "ONECODE_CONFIG")]
    path: PathBuf,
}

impl ConfigArg {
    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads and validates the file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(&self) -> Result<Config, ConfigError> {
        Config::load(&self.path)
    }
}

/// Runs asynchronous work of a command to its end, on this thread.
///
/// # Errors
/// The work's own, or that there is no runtime for it.
pub fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")?.block_on(work)
}

/// Parses the command line, runs the command, and says how it ended.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = io::stdout().lock();
    let ended = logs::init(cli.log_format, cli.command.default_level())
        .map_err(anyhow::Error::from)
        .and_then(|()| cli.command.run(&mut out))
        .and_then(|verdict| Ok(out.flush().map(|()| verdict)?));
    match ended {
        Ok(Verdict::Fine) => ExitCode::SUCCESS,
        Ok(Verdict::FoundSomething) => ExitCode::from(FOUND_SOMETHING),
        // Whoever read the output has seen enough: `onecode customer c1 | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(if is_wrong_usage(&error) { WRONG_USAGE } else { FOUND_SOMETHING })
        }
    }
}

fn is_wrong_usage(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<ConfigError>() || cause.is::<UsageError>() || cause.is::<LevelError>())
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
