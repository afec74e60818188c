//! Hands what leaves a task to the worker's shells, and counts what has to be acknowledged.

use super::counters::Counters;
use super::io::{Io, Ticket};
use crate::model::Event;
use crate::rows::ArchiveRows;
use crate::task::{DeadLetter, NoHeaders, Outbox, Record, RelayHeader, TimestampKind};

pub(super) struct WorkerOutbox<'a, I: Io> {
    pub io: &'a mut I,
    pub archive: &'a mut ArchiveRows,
    pub ticket: Ticket,
    pub produced: u64,
    pub counters: &'a mut Counters,
    /// The log that the record was read from, as an index into the counters' topics.
    pub topic: usize,
}

impl<I: Io> Outbox for WorkerOutbox<'_, I> {
    fn relay(&mut self, destination: u32, header: &RelayHeader, record: &Record<'_>) {
        self.produced += 1;
        self.io.produce_exchange(self.ticket, destination, &header.encode(), Some(record));
    }

    fn progress(&mut self, destination: u32, header: Vec<u8>) {
        self.produced += 1;
        self.io.produce_exchange(self.ticket, destination, &header, None);
    }

    fn contributions(&mut self, destination: u32, header: Vec<u8>, value: &[u8]) {
        self.produced += 1;
        let record = Record {
            offset: 0,
            timestamp_ms: 0,
            timestamp_kind: TimestampKind::Create,
            key: None,
            value: Some(value),
            headers: &NoHeaders,
        };
        self.io.produce_exchange(self.ticket, destination, &header, Some(&record));
    }

    fn dead_letter(&mut self, letter: &DeadLetter<'_>) {
        self.produced += 1;
        self.counters.dead_letter(&letter.origin.log.topic, self.topic, letter.reject.reason);
        self.io.produce_dead_letter(self.ticket, letter);
    }

    fn archive(&mut self, event: &Event<'_>) {
        crate::rows::archive::push(event, self.archive);
    }
}
