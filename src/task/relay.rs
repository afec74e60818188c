//! Relays: how an event that arrived in another's partition reaches its owner exactly once.
//!
//! Each relay carries its source position and the offset of the relay before it from that source to that destination. The
//! receiver moves its mark only if `previous <= mark < offset`: a gap is refused and mended by the sender's replay. The decision to
//! relay depends on the event and on the rules of acceptance, so under the same rules the relays of one source are always a gapless
//! prefix, whoever sends them. Under raised limits a replay may relay more than before, behind the mark: so a relay behind it is not
//! dropped unseen, but left to what its customer remembers.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;

use super::contribution::Reach;
use super::record::TimestampKind;
use crate::model::{TopicPartition, Version};
use crate::pb;

/// Name of the header that marks a record of the exchange.
pub const EXCHANGE_HEADER: &str = "onecode.exchange";

/// The log in which a relayed record first arrived.
pub type SourceLog = TopicPartition;

/// What the header of a relay says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayHeader {
    /// Where the record first arrived.
    pub source: SourceLog,
    /// Its offset there.
    pub offset: i64,
    /// Offset of the relay before it from this source to this destination; -1 = none.
    pub previous: i64,
    /// Timestamp of the original record, Unix milliseconds.
    pub timestamp_ms: i64,
    /// Who set it.
    pub timestamp_kind: TimestampKind,
}

/// A message of the exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// An event passed on.
    Relay(RelayHeader),
    /// How far a source has read.
    Progress {
        /// The source.
        source: SourceLog,
        /// Its last relay to us.
        previous: i64,
        /// The record time that it has reached, Unix milliseconds.
        timestamp_ms: i64,
    },
    /// Contributions of one task, in the record's value.
    Contributions {
        /// The sender.
        task: u32,
        /// Theirs.
        version: Version,
    },
    /// How far back a task's events may still reach.
    Reach {
        /// The sender.
        task: u32,
        /// What it says.
        reach: Reach,
    },
}

impl RelayHeader {
    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let relay = pb::Relay {
            source: Some(source_to_wire(&self.source)),
            offset: self.offset,
            previous: self.previous,
            timestamp_ms: self.timestamp_ms,
            log_append_time: self.timestamp_kind == TimestampKind::LogAppend,
        };
        pb::ExchangeHeader { message: Some(pb::exchange_header::Message::Relay(relay)) }.encode_to_vec()
    }
}

/// The header's bytes of a progress message.
pub fn encode_progress(source: &SourceLog, previous: i64, timestamp_ms: i64) -> Vec<u8> {
    let progress = pb::Progress { source: Some(source_to_wire(source)), previous, timestamp_ms };
    pb::ExchangeHeader { message: Some(pb::exchange_header::Message::Progress(progress)) }.encode_to_vec()
}

/// Reads the header's bytes; `None` when they are not a message that we know.
pub fn decode_header(bytes: &[u8]) -> Option<Incoming> {
    match pb::ExchangeHeader::decode(bytes).ok()?.message? {
        pb::exchange_header::Message::Relay(relay) => Some(Incoming::Relay(RelayHeader {
            source: source_from_wire(relay.source?),
            offset: relay.offset,
            previous: relay.previous,
            timestamp_ms: relay.timestamp_ms,
            timestamp_kind: if relay.log_append_time { TimestampKind::LogAppend } else { TimestampKind::Create },
        })),
        pb::exchange_header::Message::Progress(progress) => Some(Incoming::Progress {
            source: source_from_wire(progress.source?),
            previous: progress.previous,
            timestamp_ms: progress.timestamp_ms,
        }),
        pb::exchange_header::Message::Contributions(header) => {
            Some(Incoming::Contributions { task: header.task, version: Version(header.version) })
        }
        pb::exchange_header::Message::Reach(wire) => {
            let reach = Reach { generation: wire.generation, horizon_ms: wire.horizon_ms };
            Some(Incoming::Reach { task: wire.task, reach })
        }
    }
}

fn source_to_wire(source: &SourceLog) -> pb::Source {
    pb::Source { topic: source.topic.to_string(), partition: source.partition }
}

fn source_from_wire(source: pb::Source) -> SourceLog {
    TopicPartition { topic: Arc::from(source.topic), partition: source.partition }
}

/// What a receiver does with a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take it.
    Take,
    /// It was taken before, or is one that its source had rejected then: its customer decides.
    AlreadyTaken,
    /// Something before it is missing: its sender will repeat both.
    Gap,
}

/// The last relay taken from a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its offset at the source; -1 = none.
    pub offset: i64,
    /// Its record time, Unix milliseconds; 0 = none.
    pub record_time_ms: i64,
}

/// The receiver's side: marks by source, and the gaps that are open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inbox {
    marks: BTreeMap<SourceLog, Mark>,
    gaps: BTreeMap<SourceLog, OpenGap>,
}

/// A relay was refused because one before it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenGap {
    /// Offset of the first refused relay.
    pub offset: i64,
    /// The relay that has to come first.
    pub missing: i64,
    /// When it was first seen (the worker's clock, milliseconds); set by [`Inbox::oldest_gap`].
    pub since_ms: Option<i64>,
}

impl Inbox {
    /// From a stored positions row.
    pub fn restore(marks: impl IntoIterator<Item = (SourceLog, Mark)>) -> Self {
        Inbox { marks: marks.into_iter().collect(), gaps: BTreeMap::new() }
    }

    /// The marks, by source.
    pub fn marks(&self) -> impl Iterator<Item = (&SourceLog, &Mark)> {
        self.marks.iter()
    }

    /// The mark of a source.
    pub fn mark(&self, source: &SourceLog) -> Option<&Mark> {
        self.marks.get(source)
    }

    /// Judges a relay, and moves the mark when it is to be taken.
    pub fn judge(&mut self, relay: &RelayHeader) -> Verdict {
        let mark = self.marks.get(&relay.source).map_or(-1, |mark| mark.offset);
        if relay.offset <= mark {
            return Verdict::AlreadyTaken;
        }
        if relay.previous > mark {
            self.open_gap(&relay.source, relay.offset, relay.previous);
            return Verdict::Gap;
        }
        match self.marks.get_mut(&relay.source) {
            Some(known) => {
                known.offset = relay.offset;
                known.record_time_ms = known.record_time_ms.max(relay.timestamp_ms);
            }
            None => {
                self.marks.insert(relay.source.clone(), Mark { offset: relay.offset, record_time_ms: relay.timestamp_ms });
            }
        }
        if self.gaps.get(&relay.source).is_some_and(|gap| gap.missing <= relay.offset) {
            self.gaps.remove(&relay.source);
        }
        Verdict::Take
    }

    /// Notes how far a source has read.
    pub fn progress(&mut self, source: &SourceLog, previous: i64, timestamp_ms: i64) {
        let mark = self.marks.get(source).map_or(-1, |mark| mark.offset);
        if previous > mark {
            self.open_gap(source, previous, previous);
        } else if let Some(known) = self.marks.get_mut(source) {
            known.record_time_ms = known.record_time_ms.max(timestamp_ms);
        }
    }

    fn open_gap(&mut self, source: &SourceLog, offset: i64, missing: i64) {
        self.gaps.entry(source.clone()).or_insert(OpenGap { offset, missing, since_ms: None });
    }

    /// How many sources have an open gap.
    pub fn open_gaps(&self) -> usize {
        self.gaps.len()
    }

    /// The gap that has been open longest, with its source; stamps new ones with `now_ms`.
    pub fn oldest_gap(&mut self, now_ms: i64) -> Option<(&SourceLog, OpenGap)> {
        for gap in self.gaps.values_mut() {
            gap.since_ms.get_or_insert(now_ms);
        }
        self.gaps.iter().min_by_key(|(_, gap)| gap.since_ms).map(|(source, gap)| (source, *gap))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::contribution::{encode_contributions_header, encode_reach};

    fn relay(offset: i64, previous: i64) -> RelayHeader {
        let source = TopicPartition { topic: Arc::from("scans"), partition: 3 };
        RelayHeader { source, offset, previous, timestamp_ms: offset * 10, timestamp_kind: TimestampKind::LogAppend }
    }

    #[test]
    fn a_replayed_relay_is_dropped_and_a_gap_is_refused_until_it_is_mended() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.judge(&relay(7, -1)), Verdict::Take);
        assert_eq!(inbox.judge(&relay(7, -1)), Verdict::AlreadyTaken);
        assert_eq!(inbox.judge(&relay(12, 9)), Verdict::Gap);
        assert_eq!(inbox.oldest_gap(5).map(|(_, gap)| (gap.missing, gap.since_ms)), Some((9, Some(5))));
        assert_eq!(inbox.judge(&relay(9, 7)), Verdict::Take);
        assert_eq!(inbox.open_gaps(), 0);
        assert_eq!(inbox.judge(&relay(12, 9)), Verdict::Take);
        assert_eq!(inbox.judge(&relay(9, 7)), Verdict::AlreadyTaken);
    }

    #[test]
    fn marks_are_kept_per_topic_and_partition() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.judge(&relay(7, -1)), Verdict::Take);
        let mut other = relay(7, -1);
        other.source.topic = Arc::from("shares");
        assert_eq!(inbox.judge(&other), Verdict::Take);
    }

    #[test]
    fn headers_survive_the_wire() {
        let header = relay(7, 3);
        assert_eq!(decode_header(&header.encode()), Some(Incoming::Relay(header.clone())));
        let progress = Incoming::Progress { source: header.source.clone(), previous: 7, timestamp_ms: 99 };
        assert_eq!(decode_header(&encode_progress(&header.source, 7, 99)), Some(progress));
        let version = Version::new(3, 9);
        assert_eq!(decode_header(&encode_contributions_header(5, version)), Some(Incoming::Contributions { task: 5, version }));
        let reach = Reach { generation: 3, horizon_ms: 7 };
        assert_eq!(decode_header(&encode_reach(5, reach)), Some(Incoming::Reach { task: 5, reach }));
        assert_eq!(decode_header(b"\xff"), None);
    }
}
