//! What a worker counts: plain numbers that its shell turns into metrics once in a while.

use crate::model::{EventKind, Reason};
use crate::task::Outcome;
use crate::telemetry::RecordTimes;

const KINDS: usize = EventKind::ALL.len();
const REASONS: usize = Reason::ALL.len();

/// Counts since they were last taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Topics, in the order of the settings.
    pub topics: Vec<String>,
    /// Records by topic.
    pub consumed: Vec<u64>,
    /// Events by kind: counted.
    pub applied: [u64; KINDS],
    /// Events by kind: counted before.
    pub duplicates: [u64; KINDS],
    /// Events by kind: passed on.
    pub relayed: [u64; KINDS],
    /// Dead letters by topic in which they first arrived, and reason.
    pub dead_letters: Vec<[u64; REASONS]>,
    /// Relays whose predecessor was missing.
    pub refused_relays: u64,
    /// Times that the group's coordinator fenced this worker.
    pub fenced: u64,
    /// Groups of cold state that left memory.
    pub evicted: u64,
    /// Groups of cold state that came back.
    pub loaded: u64,
    /// Milliseconds from cut to durable, of each checkpoint.
    pub checkpoint_ms: Vec<i64>,
    /// Milliseconds from assignment to running, of each takeover.
    pub takeover_ms: Vec<i64>,
    /// Records whose rows were acknowledged.
    pub served: RecordTimes,
}

impl Counters {
    pub(super) fn new(topics: Vec<String>) -> Self {
        let count = topics.len();
        Counters {
            topics,
            consumed: vec![0; count],
            applied: [0; KINDS],
            duplicates: [0; KINDS],
            relayed: [0; KINDS],
            dead_letters: vec![[0; REASONS]; count],
            refused_relays: 0,
            fenced: 0,
            evicted: 0,
            loaded: 0,
            checkpoint_ms: Vec::new(),
            takeover_ms: Vec::new(),
            served: RecordTimes::default(),
        }
    }

    #[inline]
    pub(super) fn record(&mut self, topic: usize, outcome: Outcome) {
        if let Some(consumed) = self.consumed.get_mut(topic) {
            *consumed += 1;
        }
        match outcome {
            Outcome::Applied(kind) => self.applied[kind as usize] += 1,
            Outcome::Duplicate(kind) => self.duplicates[kind as usize] += 1,
            Outcome::Relayed(kind) => self.relayed[kind as usize] += 1,
            Outcome::Refused => self.refused_relays += 1,
            // Rejected ones are counted as the dead letters that they are.
            Outcome::Rejected(_) | Outcome::AlreadyApplied | Outcome::Noted => {}
        }
    }

    /// A record that first arrived in `origin` was rejected; `read_from` stands in for a topic that is no longer configured.
    pub(super) fn dead_letter(&mut self, origin: &str, read_from: usize, reason: Reason) {
        let topic = self.topics.iter().position(|topic| topic == origin).unwrap_or(read_from);
        if let Some(by_reason) = self.dead_letters.get_mut(topic) {
            by_reason[reason as usize] += 1;
        }
    }

    /// Gives the counts away and begins anew.
    pub fn take(&mut self) -> Counters {
        let fresh = Counters::new(self.topics.clone());
        std::mem::replace(self, fresh)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_counts_where_its_record_first_arrived() {
        let mut counters = Counters::new(vec!["scans".to_owned(), "exchange".to_owned()]);
        counters.record(1, Outcome::Rejected(Reason::Conflict));
        counters.dead_letter("scans", 1, Reason::Conflict);
        counters.dead_letter("a topic of an older configuration", 1, Reason::Conflict);
        let conflicts: Vec<u64> = counters.dead_letters.iter().map(|by_reason| by_reason[Reason::Conflict as usize]).collect();
        assert_eq!((conflicts, counters.consumed), (vec![1, 1], vec![0, 1]));
    }
}
