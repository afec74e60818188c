//! Counts of one worker: plain integers in the hot path, flushed once a batch.

use metrics::Counter;

use super::names::{APPLIED_EVENTS, CONSUMED_RECORDS, DEAD_LETTERS, Outcome, RELAY_GAPS};
use crate::model::{EventKind, Reason};

const REASONS: usize = Reason::ALL.len();
const KINDS: usize = EventKind::ALL.len();
const OUTCOMES: usize = Outcome::ALL.len();

/// What a worker counts. Not shared: each worker has its own, and all add up in the recorder.
pub struct WorkerMetrics {
    topics: Vec<Topic>,
    events: [[Pending; OUTCOMES]; KINDS],
    relay_gaps: Pending,
}

struct Topic {
    name: String,
    consumed: Pending,
    dead_letters: [Pending; REASONS],
}

/// A counter, and what is not yet added to it.
struct Pending {
    counter: Counter,
    amount: u64,
}

impl WorkerMetrics {
    /// Counts for the given topics (inputs and exchange); registers every label value, with zeros.
    pub fn new(topics: impl IntoIterator<Item = impl Into<String>>) -> Self {
        WorkerMetrics {
            topics: topics.into_iter().map(|name| Topic::new(name.into())).collect(),
            events: EventKind::ALL.map(|kind| {
                Outcome::ALL
                    .map(|outcome| Pending::new(metrics::counter!(APPLIED_EVENTS.name, "kind" => kind.name(), "outcome" => outcome.name())))
            }),
            relay_gaps: Pending::new(metrics::counter!(RELAY_GAPS.name)),
        }
    }

    /// Records of one topic were read.
    pub fn consumed_many(&mut self, topic: &str, records: u64) {
        if let Some(topic) = self.topic(topic) {
            topic.consumed.amount += records;
        }
    }

    /// Events by kind that were applied, found to be duplicates, or relayed.
    pub fn events(&mut self, applied: &[u64; KINDS], duplicates: &[u64; KINDS], relayed: &[u64; KINDS]) {
        for (outcome, amounts) in [(Outcome::Applied, applied), (Outcome::Duplicate, duplicates), (Outcome::Relayed, relayed)] {
            for (by_outcome, amount) in self.events.iter_mut().zip(amounts) {
                if let Some(pending) = by_outcome.get_mut(outcome as usize) {
                    pending.amount += amount;
                }
            }
        }
    }

    /// Records that first arrived in `topic` and were put among the dead letters.
    pub fn dead_letters(&mut self, topic: &str, reason: Reason, letters: u64) {
        if let Some(pending) = self.topic(topic).and_then(|topic| topic.dead_letters.get_mut(reason as usize)) {
            pending.amount += letters;
        }
    }

    /// Relays that were refused because one before each is missing.
    pub fn relay_gaps(&mut self, relays: u64) {
        self.relay_gaps.amount += relays;
    }

    /// Adds what was counted to the recorder: once a batch.
    pub fn flush(&mut self) {
        for topic in &mut self.topics {
            topic.consumed.flush();
            topic.dead_letters.iter_mut().for_each(Pending::flush);
        }
        self.events.iter_mut().flatten().for_each(Pending::flush);
        self.relay_gaps.flush();
    }

    fn topic(&mut self, name: &str) -> Option<&mut Topic> {
        self.topics.iter_mut().find(|topic| topic.name == name)
    }
}

impl Topic {
    fn new(name: String) -> Self {
        Topic {
            consumed: Pending::new(metrics::counter!(CONSUMED_RECORDS.name, "topic" => name.clone())),
            dead_letters: Reason::ALL
                .map(|reason| Pending::new(metrics::counter!(DEAD_LETTERS.name, "topic" => name.clone(), "reason" => reason.code()))),
            name,
        }
    }
}

impl Pending {
    fn new(counter: Counter) -> Self {
        Pending { counter, amount: 0 }
    }

    fn flush(&mut self) {
        if self.amount > 0 {
            self.counter.increment(std::mem::take(&mut self.amount));
        }
    }
}

impl std::fmt::Debug for WorkerMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkerMetrics").finish_non_exhaustive()
    }
}
