//! Logs: text for people, JSON for machines, on stderr; and a guard against saying the same thing a thousand times.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use tracing_subscriber::EnvFilter;

/// Variable that holds the level, in tracing's syntax: `info`, `debug`, `info,onecode::worker=debug`.
pub const LEVEL_VARIABLE: &str = "ONECODE_LOG";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One line of text an event.
    Text,
    /// One JSON object an event.
    Json,
}

/// The level is not understood.
#[derive(Debug, thiserror::Error)]
#[error("{LEVEL_VARIABLE}={value} is no log level: {reason}; use one of error, warn, info, debug, trace, or info,onecode::worker=debug")]
pub struct LevelError {
    value: String,
    reason: String,
}

/// Starts logging, at `default_level` unless the environment has another. Later calls change nothing.
///
/// # Errors
/// When the level in the environment is none.
pub fn init(format: LogFormat, default_level: &str) -> Result<(), LevelError> {
    let level = std::env::var(LEVEL_VARIABLE).ok().filter(|level| !level.is_empty()).unwrap_or_else(|| default_level.to_owned());
    let filter = EnvFilter::try_new(&level).map_err(|error| LevelError { value: level, reason: error.to_string() })?;
    let is_terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Auto if !is_terminal => builder.json().flatten_event(true).try_init(),
        LogFormat::Auto | LogFormat::Text => builder.with_ansi(is_terminal && colours_are_wanted()).try_init(),
    };
    // Only a test that starts twice finds logging started.
    drop(started);
    Ok(())
}

/// Whether `NO_COLOR` (<https://no-color.org>) leaves colours alone.
pub fn colours_are_wanted() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Lets a repeated message through at most once in a while, with the number of those kept back.
#[derive(Clone, Debug)]
pub struct RateLimit {
    every: Duration,
    last: Option<Instant>,
    suppressed: u64,
}

impl RateLimit {
    /// At most one message in `every`.
    pub fn new(every: Duration) -> Self {
        RateLimit { every, last: None, suppressed: 0 }
    }

    /// Whether to speak at `now`; if so, how many messages were kept back since the last time.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < self.every) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_message_passes_once_in_a_while_with_the_number_kept_back() {
        let start = Instant::now();
        let mut limit = RateLimit::new(Duration::from_secs(10));
        assert_eq!(limit.admit(start), Some(0));
        assert_eq!(limit.admit(start + Duration::from_secs(1)), None);
        assert_eq!(limit.admit(start + Duration::from_secs(9)), None);
        assert_eq!(limit.admit(start + Duration::from_secs(10)), Some(2));
        assert_eq!(limit.admit(start + Duration::from_secs(21)), Some(0));
    }
}
