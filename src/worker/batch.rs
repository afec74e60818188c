//! Rows on their way to ClickHouse: an open batch that grows, and at most one that is in flight.
//!
//! One in flight at a time is what lets repeated changes of a key coalesce under backlog: while a batch is not acknowledged,
//! keys stay dirty instead of becoming more rows.

use std::collections::BTreeSet;

use crate::rows::{RowBuffer, Table};

/// Numbers batches, and knows up to which one everything is in.
#[derive(Debug, Default)]
pub struct Batches {
    sealed: u64,
    done: u64,
    waiting_for: BTreeSet<Table>,
    in_flight_bytes: usize,
    sealed_at_ms: i64,
}

impl Batches {
    /// Whether a batch is in flight.
    pub fn is_in_flight(&self) -> bool {
        self.sealed > self.done
    }

    /// The batch that must be done for everything that is open or in flight now to be in.
    pub fn needed(&self, open_is_empty: bool) -> u64 {
        if open_is_empty { self.sealed } else { self.sealed + 1 }
    }

    /// All batches up to this one are in.
    pub fn done(&self) -> u64 {
        self.done
    }

    /// Bytes in flight.
    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    /// When the last batch was sealed, on the worker's clock.
    pub fn sealed_at_ms(&self) -> i64 {
        self.sealed_at_ms
    }

    /// Seals a batch with these tables; `None` when one is in flight or there is nothing to send.
    pub fn seal(&mut self, now_ms: i64, tables: &[(Table, RowBuffer)]) -> Option<u64> {
        debug_assert!(!self.is_in_flight());
        self.sealed_at_ms = now_ms;
        if tables.is_empty() {
            return None;
        }
        self.sealed += 1;
        self.waiting_for = tables.iter().map(|(table, _)| *table).collect();
        self.in_flight_bytes = tables.iter().map(|(_, rows)| rows.bytes()).sum();
        Some(self.sealed)
    }

    /// One table of a batch is in. Returns whether that completes the batch.
    pub fn inserted(&mut self, table: Table, batch: u64) -> bool {
        if batch != self.sealed || !self.waiting_for.remove(&table) || !self.waiting_for.is_empty() {
            return false;
        }
        self.done = self.sealed;
        self.in_flight_bytes = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> RowBuffer {
        let mut rows = RowBuffer::default();
        rows.push(|columns| {
            columns.u64(1);
        });
        rows
    }

    #[test]
    fn a_batch_is_done_when_its_last_table_is_in() {
        let mut batches = Batches::default();
        assert_eq!(batches.needed(true), 0);
        assert_eq!(batches.needed(false), 1);
        let sealed = batches.seal(5, &[(Table::Customers, rows()), (Table::CustomerDays, rows())]);
        assert_eq!((sealed, batches.in_flight_bytes(), batches.needed(false)), (Some(1), 16, 2));
        assert!(!batches.inserted(Table::Customers, 1) && !batches.inserted(Table::Customers, 1));
        assert!(batches.is_in_flight());
        assert!(batches.inserted(Table::CustomerDays, 1));
        assert_eq!((batches.done(), batches.is_in_flight()), (1, false));
        assert_eq!(batches.seal(6, &[]), None);
    }
}
