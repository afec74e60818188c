//! The limit on rejected records: a bad deploy must not empty a topic into the dead letters.

use std::collections::VecDeque;
use std::fmt;

use crate::model::TopicPartition;

/// How many rejected records a worker stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RejectLimits {
    /// In a row, of one partition.
    pub max_consecutive: u64,
    /// Share of the worker's last [`RejectLimits::WINDOW`] records, judged from [`RejectLimits::COUNTED_FROM`] on.
    pub max_share: f64,
    /// Rejected records that `--accept-rejects` lets through before the limits are judged.
    pub accepted: u64,
}

impl RejectLimits {
    /// Records over which the share is taken.
    pub const WINDOW: usize = 10_000;
    /// Records before which no share is judged.
    pub const COUNTED_FROM: usize = 1_000;
}

/// A limit was passed; the worker stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TooManyRejects {
    /// Log of the last rejected record.
    pub log: TopicPartition,
    /// Its offset.
    pub offset: i64,
    /// Which limit, and how far it was passed.
    pub what: String,
}

impl fmt::Display for TooManyRejects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} at {} offset {}: look at them with `onecode dead-letter list`, mend the producer, or go on with `onecode run --accept-rejects N`",
            self.what, self.log, self.offset
        )
    }
}

/// Counts a worker's rejected records.
#[derive(Clone, Debug)]
pub struct RejectTracker {
    limits: RejectLimits,
    window: VecDeque<bool>,
    rejected_in_window: usize,
    still_accepted: u64,
}

impl RejectTracker {
    /// Nothing seen yet.
    pub fn new(limits: RejectLimits) -> Self {
        RejectTracker {
            limits,
            window: VecDeque::with_capacity(RejectLimits::WINDOW),
            rejected_in_window: 0,
            still_accepted: limits.accepted,
        }
    }

    /// Notes a record that was not rejected; `run` is the number of rejected records in a row of its log.
    #[inline]
    pub fn accepted(&mut self, run: &mut u64) {
        *run = 0;
        self.push(false);
    }

    /// Notes a rejected record. An error means that the worker has to stop.
    pub fn rejected(&mut self, run: &mut u64, log: &TopicPartition, offset: i64) -> Result<(), TooManyRejects> {
        if self.still_accepted > 0 {
            self.still_accepted -= 1;
            return Ok(());
        }
        *run += 1;
        self.push(true);
        let error = |what: String| TooManyRejects { log: log.clone(), offset, what };
        if *run > self.limits.max_consecutive {
            return Err(error(format!(
                "{run} records in a row were rejected (dead_letter.max_consecutive is {})",
                self.limits.max_consecutive
            )));
        }
        let seen = self.window.len();
        if seen >= RejectLimits::COUNTED_FROM && self.rejected_in_window as f64 > self.limits.max_share * seen as f64 {
            return Err(error(format!(
                "{} of the last {seen} records were rejected (dead_letter.max_share is {})",
                self.rejected_in_window, self.limits.max_share
            )));
        }
        Ok(())
    }

    fn push(&mut self, rejected: bool) {
        if self.window.len() == RejectLimits::WINDOW && self.window.pop_front() == Some(true) {
            self.rejected_in_window -= 1;
        }
        self.window.push_back(rejected);
        self.rejected_in_window += usize::from(rejected);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn log() -> TopicPartition {
        TopicPartition { topic: Arc::from("scans"), partition: 0 }
    }

    fn limits() -> RejectLimits {
        RejectLimits { max_consecutive: 100, max_share: 0.05, accepted: 0 }
    }

    #[test]
    fn a_hundred_in_a_row_are_let_through_and_one_more_stops() {
        let mut tracker = RejectTracker::new(limits());
        let mut run = 0;
        for offset in 0..100 {
            tracker.rejected(&mut run, &log(), offset).expect("within the limit");
        }
        let error = tracker.rejected(&mut run, &log(), 100).expect_err("over the limit");
        assert!(error.to_string().contains("scans[0] offset 100") && error.to_string().contains("--accept-rejects"), "{error}");
    }

    #[test]
    fn an_accepted_record_ends_the_run_and_the_share_is_judged_from_a_thousand_on() {
        let mut tracker = RejectTracker::new(limits());
        let mut run = 0;
        for offset in 0..999 {
            if offset % 20 == 0 {
                tracker.rejected(&mut run, &log(), offset).expect("too few to judge");
            } else {
                tracker.accepted(&mut run);
            }
        }
        assert_eq!(run, 0);
        let error = tracker.rejected(&mut run, &log(), 999).expect_err("51 of 1,000");
        assert!(error.what.starts_with("51 of the last 1000"), "{error}");
    }

    #[test]
    fn accepted_rejects_are_not_judged() {
        let mut tracker = RejectTracker::new(RejectLimits { max_consecutive: 0, accepted: 2, ..limits() });
        let mut run = 0;
        assert!(tracker.rejected(&mut run, &log(), 0).is_ok() && tracker.rejected(&mut run, &log(), 1).is_ok());
        assert!(tracker.rejected(&mut run, &log(), 2).is_err());
    }
}
