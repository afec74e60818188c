//! Why a record was not accepted: the closed list of `contract/rules.md`.

use std::fmt;

/// The reason code of a dead letter, in the order in which the rules are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Not the format; null or empty value.
    Undecodable,
    /// A required field is empty, or a via has only one of its ids.
    MissingField,
    /// The record or one of its texts is over its limit (judged first for the record).
    TooLong,
    /// Not a brand's name, or not one of ours.
    BadBrand,
    /// Unknown purpose or role; kind unspecified or unknown.
    BadEnum,
    /// Amount out of range.
    BadAmount,
    /// Not the brand's currency.
    BadCurrency,
    /// Neither 0 nor six digits.
    BadRegion,
    /// Negative, or text that is no time.
    BadTime,
    /// Too far after the record's timestamp.
    FutureTime,
    /// Too far before the record's timestamp, or before the task's forget horizon.
    TooOld,
    /// Same identity, other content.
    Conflict,
}

impl Reason {
    /// All reasons, in their order.
    pub const ALL: [Reason; 12] = [
        Reason::Undecodable,
        Reason::MissingField,
        Reason::TooLong,
        Reason::BadBrand,
        Reason::BadEnum,
        Reason::BadAmount,
        Reason::BadCurrency,
        Reason::BadRegion,
        Reason::BadTime,
        Reason::FutureTime,
        Reason::TooOld,
        Reason::Conflict,
    ];

    /// The code in the header `onecode.reason` and in metrics.
    pub fn code(self) -> &'static str {
        match self {
            Reason::Undecodable => "undecodable",
            Reason::MissingField => "missing_field",
            Reason::TooLong => "too_long",
            Reason::BadBrand => "bad_brand",
            Reason::BadEnum => "bad_enum",
            Reason::BadAmount => "bad_amount",
            Reason::BadCurrency => "bad_currency",
            Reason::BadRegion => "bad_region",
            Reason::BadTime => "bad_time",
            Reason::FutureTime => "future_time",
            Reason::TooOld => "too_old",
            Reason::Conflict => "conflict",
        }
    }
}

/// Where in the pipeline a record was rejected: the header `__connect.errors.stage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// The bytes (undecodable, or too long as a record).
    Decode,
    /// The fields.
    Validate,
    /// Against the customer's state (conflict, or too old by the horizon).
    Apply,
}

impl Stage {
    /// The text in the header.
    pub fn name(self) -> &'static str {
        match self {
            Stage::Decode => "decode",
            Stage::Validate => "validate",
            Stage::Apply => "apply",
        }
    }
}

/// A record that was not accepted: what goes into its dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Code.
    pub reason: Reason,
    /// Where.
    pub stage: Stage,
    /// For a person: names the field and the limit.
    pub message: String,
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.code(), self.message)
    }
}
