//! Contributions between tasks: how they are written on the exchange, and how far back they may still reach.
//!
//! A task says with each of its reaches: "no event older than this will change what I have said". It is the forget horizon of a
//! checkpoint after which the group's coordinator still held the sender for the owner: whoever takes the task over starts from
//! that checkpoint or a later one, and refuses older events as it does. The least of all tasks' reaches is what cells wait for.

use std::collections::BTreeMap;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use crate::decode::protobuf::Reader;
use crate::model::Version;
use crate::pb;

/// Bytes of contributions to one destination that make a record; one more may follow.
const RECORD_BYTES: usize = 64 * 1024;

/// What a task last said about how far back its events may still reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Of the sender.
    pub generation: u64,
    /// Unix milliseconds.
    pub horizon_ms: i64,
}

/// The reaches of all tasks, as far as they were heard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reaches(BTreeMap<u32, Reach>);

impl Reaches {
    /// From a stored positions row.
    pub fn restore(reaches: BTreeMap<u32, Reach>) -> Self {
        Reaches(reaches)
    }

    /// By task.
    pub fn all(&self) -> &BTreeMap<u32, Reach> {
        &self.0
    }

    /// Notes what a task says; an older generation is not heard.
    pub fn note(&mut self, task: u32, reach: Reach) {
        let known = self.0.entry(task).or_default();
        if reach.generation >= known.generation {
            *known = reach;
        }
    }

    /// Whether a later generation of a task has spoken. All that an earlier one says after it is said again by the later one, which
    /// starts from a checkpoint of it and reads the same records.
    pub fn is_outdated(&self, task: u32, version: Version) -> bool {
        self.0.get(&task).is_some_and(|known| version.generation() < known.generation)
    }

    /// No contribution that is still to come tells of an event before this, Unix milliseconds; 0 while a task was not heard.
    pub fn least_ms(&self, tasks: u32) -> i64 {
        (0..tasks).map(|task| self.0.get(&task).map_or(0, |known| known.horizon_ms)).min().unwrap_or(0)
    }
}

/// The header's bytes of a record of contributions.
pub fn encode_contributions_header(task: u32, version: Version) -> Vec<u8> {
    let header = pb::ContributionsHeader { task, version: version.0 };
    pb::ExchangeHeader { message: Some(pb::exchange_header::Message::Contributions(header)) }.encode_to_vec()
}

/// The header's bytes of a reach.
pub fn encode_reach(task: u32, reach: Reach) -> Vec<u8> {
    let wire = pb::Reach { task, generation: reach.generation, horizon_ms: reach.horizon_ms };
    pb::ExchangeHeader { message: Some(pb::exchange_header::Message::Reach(wire)) }.encode_to_vec()
}

/// Reads the value of a record of contributions: the bytes of each; `None` when it is none.
pub fn decode_contributions(value: Option<&[u8]>) -> Option<Vec<&[u8]>> {
    let mut wire = Reader::new(value?);
    let mut contributions = Vec::new();
    while let Some(field) = wire.field().ok()? {
        match field.number {
            1 => contributions.push(wire.message(field).ok()?.rest()),
            _ => wire.skip(field).ok()?,
        }
    }
    Some(contributions)
}

/// Gathers contributions into records (`Contributions`), one destination each.
#[derive(Debug, Default)]
pub(super) struct Records {
    open: BTreeMap<u32, Vec<u8>>,
}

impl Records {
    /// Adds the bytes of a contribution; gives a record's value when there is enough for one.
    pub(super) fn add(&mut self, destination: u32, contribution: &[u8]) -> Option<Vec<u8>> {
        let record = self.open.entry(destination).or_default();
        encode_key(1, WireType::LengthDelimited, record);
        encode_varint(contribution.len() as u64, record);
        record.extend_from_slice(contribution);
        (record.len() >= RECORD_BYTES).then(|| std::mem::take(record))
    }

    /// The records that are left, by destination.
    pub(super) fn rest(self) -> impl Iterator<Item = (u32, Vec<u8>)> {
        self.open.into_iter().filter(|(_, record)| !record.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_reach_counts_once_all_tasks_were_heard() {
        let mut reaches = Reaches::default();
        reaches.note(0, Reach { generation: 3, horizon_ms: 500 });
        assert_eq!(reaches.least_ms(2), 0);
        reaches.note(1, Reach { generation: 1, horizon_ms: 900 });
        assert_eq!((reaches.least_ms(2), reaches.least_ms(1)), (500, 500));
        reaches.note(0, Reach { generation: 2, horizon_ms: 800 });
        assert_eq!(reaches.least_ms(2), 500, "a zombie is not heard");
        reaches.note(0, Reach { generation: 4, horizon_ms: 400 });
        assert_eq!(reaches.least_ms(2), 400);
        assert!(reaches.is_outdated(0, Version::new(3, 9)) && !reaches.is_outdated(0, Version::new(4, 1)));
        assert!(!reaches.is_outdated(7, Version::new(1, 1)));
    }

    #[test]
    fn records_are_full_or_the_rest() {
        let mut records = Records::default();
        let contribution = pb::Contribution { brand: "x".repeat(1_000), value: None };
        let bytes = contribution.encode_to_vec();
        let full: Vec<Vec<u8>> = (0..200).filter_map(|_| records.add(1, &bytes)).collect();
        assert_eq!(records.add(0, &bytes), None);
        for record in &full {
            let read = pb::Contributions::decode(&**record).expect("a record");
            assert!(record.len() >= RECORD_BYTES && read.contributions.iter().all(|one| *one == contribution));
        }
        let rest: Vec<(u32, usize)> = records
            .rest()
            .map(|(destination, value)| (destination, decode_contributions(Some(&value)).map_or(0, |all| all.len())))
            .collect();
        assert_eq!((full.len(), rest.len()), (3, 2));
        assert_eq!(rest.first(), Some(&(0, 1)));
        assert_eq!(decode_contributions(None), None);
    }
}
