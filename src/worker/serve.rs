//! The serving rhythm: dirty keys become rows, rows become one batch, and the next waits until it is in. Contributions leave at the
//! same moments, so that they coalesce as rows do.

use super::boundary::Boundary;
use super::io::{Io, StoreRequest, Ticket};
use super::outbox::WorkerOutbox;
use super::slot::{Phase, Running};
use super::{Now, Worker};
use crate::rows::Table;

impl Worker {
    /// Serves when it is time and the batch before is in.
    pub(super) fn serve<I: Io>(&mut self, io: &mut I, now: Now) {
        if self.serving.is_in_flight() {
            return;
        }
        let interval_ms =
            if self.is_behind() && !self.is_urgent() { self.settings.serve_interval_behind_ms } else { self.settings.serve_interval_ms };
        // Boundaries of the wall clock, the same for all workers of a process, so that their rows make one insert.
        let is_time = now.wall_ms.div_euclid(interval_ms) != self.last_serve_wall_ms.div_euclid(interval_ms);
        if !is_time && !self.draining {
            return;
        }
        self.last_serve_wall_ms = now.wall_ms;
        let (draining, most_dirty_keys) = (self.draining, self.settings.dirty_keys_per_checkpoint);
        for slot in &mut self.slots {
            if let Phase::Running(running) = &mut slot.phase
                && running.may_serve(now.mono_ms, draining, most_dirty_keys)
            {
                running.task.drain_rows(&mut self.serving_open);
                let ticket = Ticket { run: running.run, epoch: running.epoch };
                let (archive, counters) = (&mut self.archive_open, &mut self.counters);
                let mut out = WorkerOutbox { io: &mut *io, archive, ticket, produced: 0, counters, topic: 0 };
                running.task.drain_contributions(&mut out);
                let produced = out.produced;
                running.produced(produced);
            }
        }
        let tables = self.serving_open.take(|table| io.spare(Some(table)));
        if let Some(batch) = self.serving.seal(now.mono_ms, &tables) {
            io.cross(Boundary::RowsDrained);
            self.times_in_flight.append(&mut self.times_open);
            for (table, rows) in tables {
                io.store(StoreRequest::Insert { table, batch, rows });
            }
            io.cross(Boundary::RowsSent);
        }
    }

    /// Tasks whose checkpoint is under way.
    fn cut_tasks(&self) -> impl Iterator<Item = &Running> {
        self.slots.iter().filter_map(|slot| match &slot.phase {
            Phase::Running(running) if running.checkpoint.is_some() => Some(&**running),
            _ => None,
        })
    }

    /// Whether a checkpoint is under way of a task whose predecessors came to none: nothing else is more urgent.
    pub(super) fn is_hasty(&self) -> bool {
        self.cut_tasks().any(|running| running.task.haste() > 0)
    }

    /// Whether everything else waits for rows to be in: nothing is read before, so that nothing more could join them, or a checkpoint is
    /// under way before which state cannot leave memory.
    fn is_urgent(&self) -> bool {
        self.pressure.waits_for_rows || self.cut_tasks().any(|running| self.is_short_of_memory || running.task.haste() > 0)
    }

    /// Whether there is a backlog: for a while some log of a running task was neither read to its end nor nearly.
    pub(super) fn is_behind(&self) -> bool {
        self.behind_since_ms.is_some_and(|since_ms| self.last_tick_ms - since_ms > BEHIND_AFTER_MS)
    }

    /// Notes whether all logs were read to their ends, or nearly, at this moment. Under a steady load some log always has a next record: what
    /// was read of it is young then.
    pub(super) fn note_backlog(&mut self, now: Now) {
        self.last_tick_ms = now.mono_ms;
        let caught_up = self.slots.iter().all(|slot| match &slot.phase {
            Phase::Running(running) => running.task.has_read_up_to(now.wall_ms - BEHIND_AFTER_MS),
            _ => true,
        });
        self.behind_since_ms = if caught_up { None } else { self.behind_since_ms.or(Some(now.mono_ms)) };
    }

    /// Sends archive rows when there are enough of them, or they have waited long enough.
    pub(super) fn send_archive<I: Io>(&mut self, io: &mut I, now: Now) {
        if self.archive.is_in_flight() || self.archive_open.is_empty() {
            return;
        }
        let waited = now.mono_ms - self.archive.sealed_at_ms() >= self.settings.archive_interval_ms;
        if !waited && !self.draining && !self.is_urgent() && self.archive_open.rows() < self.settings.archive_rows {
            return;
        }
        let tables = self.archive_open.take(|table| io.spare(Some(table)));
        if let Some(batch) = self.archive.seal(now.mono_ms, &tables) {
            for (table, rows) in tables {
                io.store(StoreRequest::Insert { table, batch, rows });
            }
            io.cross(Boundary::ArchiveSent);
        }
    }

    pub(super) fn on_inserted(&mut self, table: Table, batch: u64) {
        if table.is_archive() {
            self.archive.inserted(table, batch);
        } else {
            if self.serving.inserted(table, batch) {
                self.counters.served.append(&mut self.times_in_flight);
            }
        }
    }
}

/// A log that has not been read to its end, or up to records so young, for this long is a backlog.
const BEHIND_AFTER_MS: i64 = 3_000;
