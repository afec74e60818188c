//! What can be wrong with a configuration, in words that say what to change.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why there is no [`super::Config`]. Exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {reason}; name an existing file with --config", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The file is not TOML.
    #[error("the configuration file {} is not valid TOML: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, column and fault, without the line's text, which may hold a secret.
        message: String,
    },
    /// Keys or values are wrong: all that were found.
    #[error("the configuration {} is wrong:{}", path.display(), list(problems))]
    Problems {
        /// The file.
        path: PathBuf,
        /// In the order of the keys.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key, as it is written in the file.
    pub key: String,
    /// The value as it was given; none for a key that is itself wrong, a placeholder for a secret.
    pub value: Option<String>,
    /// Where it was set: the file, a variable, or the defaults.
    pub source: String,
    /// What is wrong and what is allowed.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, " ({}): {}", self.source, self.message)
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("\n  {problem}")).collect()
}
