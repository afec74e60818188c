//! A dead letter as its headers tell it.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value, json};

use crate::task::DEAD_LETTER_HEADERS;

/// Where a record is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.topic, self.partition, self.offset)
    }
}

impl FromStr for Position {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed = text.rsplit_once(':').and_then(|(rest, offset)| {
            let (topic, partition) = rest.rsplit_once(':')?;
            let position = Position { topic: topic.to_owned(), partition: partition.parse().ok()?, offset: offset.parse().ok()? };
            let is_position = !topic.is_empty() && position.partition >= 0 && position.offset >= 0;
            is_position.then_some(position)
        });
        parsed.ok_or_else(|| "must be TOPIC:PARTITION:OFFSET, such as scans:3:1042".to_owned())
    }
}

/// A header; Kafka allows one without a value.
pub(super) type Header = (String, Option<Vec<u8>>);

/// A record of the dead-letter topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Letter {
    /// Its own position.
    pub at: Position,
    /// When it was written, Unix milliseconds.
    pub time_ms: i64,
    /// Where its record first arrived.
    pub origin: Position,
    pub stage: String,
    pub reason: String,
    pub message: String,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// Those of the original record.
    pub headers: Vec<Header>,
}

impl Letter {
    /// Reads what a dead letter adds from the last header of each name: a record may have had such headers of its own, when it
    /// went through another dead-letter topic. `None` when it is no dead letter of ours.
    pub fn read(at: Position, time_ms: i64, key: Option<Vec<u8>>, value: Option<Vec<u8>>, mut headers: Vec<Header>) -> Option<Self> {
        let mut take = |name: &str| {
            let place = headers.iter().rposition(|(known, _)| known == name)?;
            String::from_utf8(headers.remove(place).1?).ok()
        };
        let [topic, partition, offset, stage, message, reason] = DEAD_LETTER_HEADERS.map(&mut take);
        let origin = Position { topic: topic?, partition: partition?.parse().ok()?, offset: offset?.parse().ok()? };
        let (stage, message, reason) = (stage?, message?, reason?);
        Some(Letter { at, time_ms, origin, stage, reason, message, key, value, headers })
    }

    pub fn time(&self) -> String {
        jiff::Timestamp::from_millisecond(self.time_ms).map_or_else(|_| self.time_ms.to_string(), |time| time.to_string())
    }

    /// The value of one of the original headers, whatever the case of its name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().rfind(|(known, _)| known.eq_ignore_ascii_case(name)).and_then(|(_, value)| value.as_deref())
    }

    /// What headers and positions say; no value.
    pub fn json(&self) -> Map<String, Value> {
        let position = |position: &Position| json!({"topic": position.topic, "partition": position.partition, "offset": position.offset});
        let mut members = Map::new();
        members.insert("at".to_owned(), position(&self.at));
        members.insert("time".to_owned(), json!(self.time()));
        members.insert("origin".to_owned(), position(&self.origin));
        members.insert("stage".to_owned(), json!(self.stage));
        members.insert("reason".to_owned(), json!(self.reason));
        members.insert("message".to_owned(), json!(self.message));
        members.insert("key".to_owned(), json!(self.key.as_deref().map(String::from_utf8_lossy)));
        members.insert("value_bytes".to_owned(), json!(self.value.as_ref().map(Vec::len)));
        members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at() -> Position {
        "onecode.dead-letter:0:9".parse().expect("a position")
    }

    fn header(name: &str, value: &str) -> Header {
        (name.to_owned(), Some(value.as_bytes().to_vec()))
    }

    fn ours() -> Vec<Header> {
        DEAD_LETTER_HEADERS
            .into_iter()
            .zip(["scans", "3", "1042", "validate", "kind 9 is not known", "bad_enum"])
            .map(|(name, value)| header(name, value))
            .collect()
    }

    #[test]
    fn positions_are_read_and_written_back() {
        for text in ["scans:3:1042", "a.b:c:0:0"] {
            assert_eq!(text.parse::<Position>().expect(text).to_string(), text);
        }
        for text in ["", "scans", "scans:3", ":3:4", "scans:x:4", "scans:3:-1", "scans:-1:3", "scans:3:"] {
            assert!(text.parse::<Position>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_a_dead_letter_added_is_taken_off_and_nothing_else() {
        let of_the_record = vec![header("trace", "t1"), header("__connect.errors.topic", "elsewhere"), ("empty".to_owned(), None)];
        let letter = Letter::read(at(), 5, None, Some(b"v".to_vec()), [of_the_record.clone(), ours()].concat()).expect("a letter");
        assert_eq!(letter.headers, of_the_record);
        assert_eq!(letter.origin.to_string(), "scans:3:1042");
        assert_eq!((&*letter.stage, &*letter.reason, &*letter.message), ("validate", "bad_enum", "kind 9 is not known"));
        assert_eq!((letter.header("Trace"), letter.header("empty"), letter.header("other")), (Some(&b"t1"[..]), None, None));
    }

    #[test]
    fn a_record_without_our_headers_is_no_dead_letter() {
        for missing in 0..DEAD_LETTER_HEADERS.len() {
            let mut headers = ours();
            headers.remove(missing);
            assert_eq!(Letter::read(at(), 5, None, None, headers), None);
        }
        let mut wrong = ours();
        wrong[1] = header(DEAD_LETTER_HEADERS[1], "three");
        assert_eq!(Letter::read(at(), 5, None, None, wrong), None);
    }
}
