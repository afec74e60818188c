//! From record to acknowledged row: one observation a record, at the price of a few integers a batch.
//!
//! The general histogram keeps every observation until it is scraped; at hundreds of thousands a second that would cost more than
//! the work that it measures. This one has fixed buckets and takes a count with each value.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use super::names::{END_TO_END, Kind};

const MAX_BUCKETS: usize = 24;
const MICROS_PER_MS: u64 = 1_000;
const MS_PER_SECOND: f64 = 1_000.0;
/// Records whose timestamps are this close are observed as one.
const SLOT_MS: i64 = 50;
/// More slots than this (a replay of days in one batch) are not worth their memory: records go to the last slot.
const MAX_SLOTS: usize = 4_096;

/// Counts by bucket, shared by all threads.
#[derive(Debug)]
pub(super) struct FixedHistogram {
    buckets: [AtomicU64; MAX_BUCKETS],
    sum_micros: AtomicU64,
    count: AtomicU64,
}

pub(super) static END_TO_END_SECONDS: FixedHistogram = FixedHistogram::new();

impl FixedHistogram {
    const fn new() -> Self {
        FixedHistogram { buckets: [const { AtomicU64::new(0) }; MAX_BUCKETS], sum_micros: AtomicU64::new(0), count: AtomicU64::new(0) }
    }

    fn observe(&self, milliseconds: u64, count: u64) {
        let seconds = milliseconds as f64 / MS_PER_SECOND;
        let slot = bounds().iter().position(|bound| seconds <= *bound);
        if let Some(bucket) = slot.and_then(|slot| self.buckets.get(slot)) {
            bucket.fetch_add(count, Ordering::Relaxed);
        }
        let micros = milliseconds.saturating_mul(MICROS_PER_MS).saturating_mul(count);
        self.sum_micros.fetch_add(micros, Ordering::Relaxed);
        self.count.fetch_add(count, Ordering::Relaxed);
    }

    /// In Prometheus' text format.
    pub fn render(&self) -> String {
        let name = END_TO_END.name;
        let mut text = format!("# HELP {name} {}\n# TYPE {name} histogram\n", END_TO_END.help);
        let mut below = 0;
        for (bound, bucket) in bounds().iter().zip(&self.buckets) {
            below += bucket.load(Ordering::Relaxed);
            line(&mut text, format_args!("{name}_bucket{{le=\"{bound}\"}} {below}"));
        }
        // Read last, so that no bucket is above the total.
        let count = self.count.load(Ordering::Relaxed).max(below);
        line(&mut text, format_args!("{name}_bucket{{le=\"+Inf\"}} {count}"));
        line(&mut text, format_args!("{name}_sum {}", self.sum_micros.load(Ordering::Relaxed) as f64 / 1_000_000.0));
        line(&mut text, format_args!("{name}_count {count}"));
        text.push('\n');
        text
    }
}

fn bounds() -> &'static [f64] {
    match END_TO_END.kind {
        Kind::Histogram(bounds) => bounds,
        Kind::Counter | Kind::Gauge => &[],
    }
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    if text.write_fmt(arguments).is_ok() {
        text.push('\n');
    }
}

/// Timestamps of records whose rows are not acknowledged yet. Bounded: a few thousand slots, whatever the number of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordTimes {
    slots: Vec<(i64, u64)>,
}

impl RecordTimes {
    /// Notes a record by its timestamp (Unix milliseconds).
    pub fn note(&mut self, record_time_ms: i64) {
        self.add(record_time_ms.div_euclid(SLOT_MS), 1);
    }

    /// Adds what another has noted, and empties it.
    pub fn append(&mut self, other: &mut RecordTimes) {
        for (slot, count) in other.slots.drain(..) {
            self.add(slot, count);
        }
    }

    /// Whether nothing is noted.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The rows of all noted records are acknowledged at `now_ms`: observes their ages, and empties this.
    pub fn acknowledged(&mut self, now_ms: i64) {
        for (slot, count) in self.slots.drain(..) {
            let age_ms = now_ms.saturating_sub(slot.saturating_mul(SLOT_MS)).max(0);
            END_TO_END_SECONDS.observe(age_ms.unsigned_abs(), count);
        }
    }

    fn add(&mut self, slot: i64, count: u64) {
        // Logs are read in turn and their times move together: the slot is nearly always among the last.
        let is_full = self.slots.len() >= MAX_SLOTS;
        let mut recent = self.slots.iter_mut().rev().take(8);
        match recent.find(|(known, _)| *known == slot || is_full) {
            Some((_, noted)) => *noted += count,
            None => self.slots.push((slot, count)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_is_observed_once_in_the_bucket_of_its_age() {
        let histogram = FixedHistogram::new();
        histogram.observe(100, 3);
        histogram.observe(101, 2);
        histogram.observe(90_000_000, 1);
        let text = histogram.render();
        assert!(text.contains("_bucket{le=\"0.1\"} 3\n"), "{text}");
        assert!(text.contains("_bucket{le=\"0.25\"} 5\n"), "{text}");
        assert!(text.contains("_bucket{le=\"86400\"} 5\n"), "{text}");
        assert!(text.contains("_bucket{le=\"+Inf\"} 6\n") && text.contains("_count 6\n"), "{text}");
        assert!(text.contains("_sum 90000.502\n"), "{text}");
    }

    #[test]
    fn bounds_fit_the_buckets_and_grow() {
        assert!(bounds().len() <= MAX_BUCKETS && bounds().windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn noted_times_stay_bounded_and_lose_no_record() {
        let mut times = RecordTimes::default();
        for number in 0..100_000 {
            times.note(number * 1_000);
        }
        assert_eq!(times.slots.len(), MAX_SLOTS);
        assert_eq!(times.slots.iter().map(|(_, count)| count).sum::<u64>(), 100_000);
        let mut all = RecordTimes::default();
        all.append(&mut times);
        assert!(times.is_empty() && !all.is_empty());
        all.acknowledged(0);
        assert!(all.is_empty());
    }
}
