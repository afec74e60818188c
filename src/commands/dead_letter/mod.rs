//! `onecode dead-letter`: looks into the records that were not accepted, and gives them another chance.

mod letter;
mod list;
mod read;
mod replay;
mod show;

use std::io::Write;

use jiff::Timestamp;

use super::{ConfigArg, UsageError, Verdict};
use crate::model::Reason;
use letter::{Letter, Position};

/// Shown under `--help`.
pub const EXAMPLES: &str = "\
Examples:
  onecode dead-letter list --config onecode.toml --reason bad_enum --since 2026-08-01T00:00:00Z
  onecode dead-letter list --config onecode.toml --json | jq -r .message | sort | uniq -c
  onecode dead-letter show scans:3:1042 --config onecode.toml
  onecode dead-letter replay --config onecode.toml --reason bad_brand --dry-run
  onecode dead-letter replay --config onecode.toml --at scans:3:1042

A position is TOPIC:PARTITION:OFFSET, of the record where it first arrived or of its dead letter. Replaying sends the record with its
own key, value and headers to the topic it came from; what is wrong with it still is rejected again, and what was accepted meanwhile
is a repeat.";

/// What to do with the dead letters.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum DeadLetterCommand {
    /// List the newest dead letters, and count them by reason
    #[command(after_help = EXAMPLES)]
    List {
        /// Where the dead letters are
        #[command(flatten)]
        config: ConfigArg,
        /// Which ones
        #[command(flatten)]
        filter: Filter,
        /// Show this many at most, the newest
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
        /// Print JSON: an object a line
        #[arg(long)]
        json: bool,
    },
    /// Show one with headers and value
    #[command(after_help = EXAMPLES)]
    Show {
        /// Where the dead letters are
        #[command(flatten)]
        config: ConfigArg,
        /// TOPIC:PARTITION:OFFSET, of the record where it first arrived or of its dead letter
        position: Position,
        /// Print JSON: an object a line
        #[arg(long)]
        json: bool,
    },
    /// Send records again to the topic they came from
    #[command(after_help = EXAMPLES)]
    Replay {
        /// Where the dead letters are
        #[command(flatten)]
        config: ConfigArg,
        /// Which ones
        #[command(flatten)]
        filter: Filter,
        /// Only these records (repeatable)
        #[arg(long = "at", value_name = "TOPIC:PARTITION:OFFSET")]
        at: Vec<Position>,
        /// Send this many at most [default: all]
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
        /// Only say what would be sent
        #[arg(long)]
        dry_run: bool,
    },
}

/// Which dead letters.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Filter {
    /// Only those with this reason (repeatable)
    #[arg(long, value_name = "REASON", value_parser = reason)]
    reason: Vec<Reason>,
    /// Only those that came from this topic (repeatable)
    #[arg(long, value_name = "TOPIC")]
    topic: Vec<String>,
    /// Only those rejected at or after this time, RFC 3339
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only those rejected before this time, RFC 3339
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
}

impl Filter {
    fn takes(&self, letter: &Letter) -> bool {
        let since_ms = self.since.map_or(i64::MIN, |since| since.as_millisecond());
        let until_ms = self.until.map_or(i64::MAX, |until| until.as_millisecond());
        (self.reason.is_empty() || self.reason.iter().any(|reason| reason.code() == letter.reason))
            && (self.topic.is_empty() || self.topic.contains(&letter.origin.topic))
            && (since_ms..until_ms).contains(&letter.time_ms)
    }
}

fn reason(text: &str) -> Result<Reason, String> {
    let known = Reason::ALL.into_iter().find(|reason| reason.code() == text);
    known.ok_or_else(|| format!("must be one of {}", Reason::ALL.map(Reason::code).join(", ")))
}

/// Runs the command; its report goes to `out`.
///
/// # Errors
/// When Kafka is out of reach, or a replayed record was not acknowledged.
pub fn run(command: &DeadLetterCommand, out: &mut impl Write) -> anyhow::Result<Verdict> {
    match command {
        DeadLetterCommand::List { config, filter, limit, json } => list::run(&config.load()?, filter, *limit, *json, out),
        DeadLetterCommand::Show { config, position, json } => show::run(&config.load()?, position, *json, out),
        DeadLetterCommand::Replay { config, filter, at, limit, dry_run } => {
            let config = config.load()?;
            let is_known = |topic: &str| topic == config.topics.dead_letter || config.topics.kind_of(topic).is_some();
            if let Some(position) = at.iter().find(|position| !is_known(&position.topic)) {
                let message = format!("`{}` of --at {position} is neither an input topic nor the dead-letter topic", position.topic);
                return Err(UsageError(message).into());
            }
            let wanted = replay::Wanted { filter, at, limit: limit.unwrap_or(usize::MAX) };
            replay::run(&config, &wanted, *dry_run, out)
        }
    }
}
