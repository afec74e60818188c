//! Bytes to accepted events, or to the first reason against them.
//!
//! Owns the wire formats (protobuf, JSON, Confluent framing), GS1 Digital Links and every rule of acceptance that needs
//! the record alone. Promises: a pure function of (kind, format, record, rules); total (any bytes give an event or a
//! [`Reject`], never a panic); the reason is the first that fits in the order of [`Reason::ALL`], also across decoding and
//! validation; the same event in another format gives an equal [`Event`]. Never looks at a customer's state: `conflict`
//! and the forget horizon are the engine's.
//!
//! ```text
//! value ─► payload (size, framing, format) ─► protobuf | json ─► wire::WireEvent ─► accept (rules) ─► Event
//! ```

#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod accept;
mod digital_link;
mod json;
mod number;
mod payload;
pub(crate) mod protobuf;
mod rfc3339;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use payload::{Payload, open as open_payload};

use crate::model::{Event, EventKind, Reason, Reject, Stage};

/// The wire format of an input topic, as the configuration names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// By the content-type header, else by the first byte.
    #[default]
    Auto,
    /// The message of that topic.
    Protobuf,
    /// Proto3 JSON of the same message.
    Json,
}

impl Format {
    /// The format of a value whose record has this content type.
    pub fn as_said_by(self, content_type: &[u8]) -> Format {
        match (self, payload::says_json(content_type)) {
            (Format::Auto, Some(true)) => Format::Json,
            (Format::Auto, Some(false)) => Format::Protobuf,
            (format, _) => format,
        }
    }
}

/// The parts of a record that decide whether it is accepted.
#[derive(Clone, Copy, Debug)]
pub struct RawRecord<'a> {
    /// The value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Value of the header [`CONTENT_TYPE_HEADER`], if there is one.
    pub content_type: Option<&'a [u8]>,
    /// The record's own timestamp, Unix milliseconds.
    pub timestamp_ms: i64,
}

/// Name of the header that says which format a value has; compare without regard to ASCII case.
pub const CONTENT_TYPE_HEADER: &str = "content-type";

/// What acceptance depends on besides the record. Plain data, from the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Largest value in bytes, framing included.
    pub event_bytes: usize,
    /// How far an event may be ahead of its record's timestamp.
    pub future_skew_ms: i64,
    /// How far an event may be behind its record's timestamp.
    pub max_lateness_ms: i64,
    /// ISO 4217 code of brands that have none of their own.
    pub currency: String,
    /// ISO 4217 codes of brands that have their own.
    pub brand_currencies: BTreeMap<String, String>,
    /// The only brands that are served; `None` serves every well-formed one.
    pub brands: Option<BTreeSet<String>>,
}

impl Default for Rules {
    /// The defaults of the configuration: 256 KiB, 10 minutes, 35 days, CNY, every brand.
    fn default() -> Self {
        Rules {
            event_bytes: 256 * 1024,
            future_skew_ms: 10 * 60 * 1000,
            max_lateness_ms: 35 * 86_400_000,
            currency: "CNY".to_owned(),
            brand_currencies: BTreeMap::new(),
            brands: None,
        }
    }
}

impl Rules {
    /// The currency of a brand.
    pub fn currency_of(&self, brand: &str) -> &str {
        self.brand_currencies.get(brand).unwrap_or(&self.currency)
    }
}

/// The accepted event in a record of a topic of `kind`, or the first reason against it.
///
/// Text of a protobuf event is borrowed from the record; nothing is allocated but for order lines and for what a Digital
/// Link or an empty currency has to fill in.
pub fn decode<'a>(kind: EventKind, format: Format, record: RawRecord<'a>, rules: &Rules) -> Result<Event<'a>, Reject> {
    let value = record.value.ok_or_else(|| undecodable("value is null"))?;
    if value.len() > rules.event_bytes {
        return Err(Reject {
            reason: Reason::TooLong,
            stage: Stage::Decode,
            message: format!("value is {} bytes, the limit is {} (limits.event_bytes)", value.len(), rules.event_bytes),
        });
    }
    let event = match payload::open(value, format, record.content_type).map_err(undecodable)? {
        payload::Payload::Protobuf(bytes) => protobuf::read(kind, bytes).map_err(|error| undecodable(format_args!("protobuf: {error}")))?,
        payload::Payload::Json(bytes) => json::read(kind, bytes).map_err(|error| undecodable(format_args!("json: {error}")))?,
    };
    accept::accept(event, record.timestamp_ms, rules)
}

/// The rejection of an event older than its task's forget horizon: the same reason as being too late for its record, found
/// later. Both times are Unix milliseconds.
pub fn too_old_by_horizon(time_ms: i64, horizon_ms: i64) -> Reject {
    Reject {
        reason: Reason::TooOld,
        stage: Stage::Apply,
        message: format!(
            "event time {} is before {}, the task's forget horizon: whether it is a repeat can no longer be told",
            rfc3339::written(time_ms),
            rfc3339::written(horizon_ms)
        ),
    }
}

fn undecodable(message: impl fmt::Display) -> Reject {
    Reject { reason: Reason::Undecodable, stage: Stage::Decode, message: message.to_string() }
}
