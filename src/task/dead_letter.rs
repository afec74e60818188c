//! Dead letters: the original bytes, and headers that say where they came from and why they were not accepted.

use super::record::Headers;
use crate::model::{Reject, TopicPartition};

/// Names of the headers that a dead letter adds, in their order.
pub const DEAD_LETTER_HEADERS: [&str; 6] = [
    "__connect.errors.topic",
    "__connect.errors.partition",
    "__connect.errors.offset",
    "__connect.errors.stage",
    "__connect.errors.exception.message",
    "onecode.reason",
];

/// Where the record first arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Log.
    pub log: TopicPartition,
    /// Offset.
    pub offset: i64,
}

/// A rejected record on its way to the dead-letter topic.
pub struct DeadLetter<'a> {
    /// Where the record first arrived.
    pub origin: &'a Origin,
    /// Why it was not accepted.
    pub reject: &'a Reject,
    /// The original key.
    pub key: Option<&'a [u8]>,
    /// The original value.
    pub value: Option<&'a [u8]>,
    /// The original headers: that of a relay is left out.
    pub headers: &'a dyn Headers,
}

/// A text that says what is wrong may quote the record, and the letter has to fit beside that.
const MOST_MESSAGE_BYTES: usize = 2_048;

fn cut(message: &str) -> &str {
    let end = (0..=MOST_MESSAGE_BYTES.min(message.len())).rev().find(|end| message.is_char_boundary(*end));
    end.and_then(|end| message.get(..end)).unwrap_or_default()
}

/// The dead letter's own headers: name and value.
pub fn dead_letter_headers(letter: &DeadLetter<'_>) -> [(&'static str, String); 6] {
    let [topic, partition, offset, stage, message, reason] = DEAD_LETTER_HEADERS;
    [
        (topic, letter.origin.log.topic.to_string()),
        (partition, letter.origin.log.partition.to_string()),
        (offset, letter.origin.offset.to_string()),
        (stage, letter.reject.stage.name().to_owned()),
        (message, cut(&letter.reject.message).to_owned()),
        (reason, letter.reject.reason.code().to_owned()),
    ]
}
