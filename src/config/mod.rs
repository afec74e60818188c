//! The configuration: one TOML file and the environment become one validated [`Config`], once, at start.
//!
//! Owns every key: its name, unit, default, limits, and the words of the error when it is wrong. Layers: built-in defaults, then the
//! file, then variables such as `ONECODE_KAFKA__BROKERS`. Promises that an unknown key, a value of another type or out of its range,
//! and an option that would break the pipeline's guarantee are errors that name the key, the value, where it was set and what is
//! allowed, all of them at once; that a secret never reaches a log, an error or a dump. Never talks to Kafka or ClickHouse: that is
//! `onecode check`.
//!
//! ```text
//!  defaults (raw.rs) ─┐
//!  file ──────────────┼─► layers.rs: known keys, types, ranges ─► raw.rs ─► validate.rs ─► Config
//!  environment ───────┘
//! ```

mod error;
mod fingerprint;
mod kafka_client;
mod layers;
mod ranges;
mod raw;
mod secret;
mod types;
mod validate;

use std::path::Path;

pub use error::{ConfigError, Problem};
pub use fingerprint::{Fingerprint, Mismatch};
pub use secret::Secret;
pub use types::{
    Brand, Brands, ClickHouse, Config, DeadLetter, Format, Http, InputTopic, Kafka, LEAST_STATE_BYTES, Limits, Pipeline, Setting,
    StartFrom, Topics,
};

impl Config {
    /// Reads and validates a configuration file, with the process's environment above it.
    ///
    /// # Errors
    /// [`ConfigError`]; the process should end with exit code 2.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|reason| ConfigError::Read { path: path.to_owned(), reason })?;
        Config::from_text(
            &text,
            path,
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )
    }

    /// Validates the text of a configuration file with the given environment above it. `path` is only named in errors.
    ///
    /// # Errors
    /// As [`Config::load`], but for reading the file.
    pub fn from_text(text: &str, path: &Path, environment: impl IntoIterator<Item = (String, String)>) -> Result<Config, ConfigError> {
        let layers = layers::Layers::read(text, path, environment)?;
        validate::validate(&layers)
    }

    /// Every key with its built-in default, in order: what `deploy/onecode.example.toml` has to show.
    pub fn defaults() -> Vec<Setting> {
        layers::defaults()
    }
}
