//! Back-pressure: stop fetching when too much is on its way, and go on when it has gone down by half. The consumer is polled
//! all the time, so that an outage of any length costs no membership.

use super::Worker;
use super::cold::Memory;
use super::io::Io;
use super::slot::Phase;
use crate::model::{Offset, TopicPartition};

/// Whether fetching is paused, and why.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pressure {
    pub paused: bool,
    /// Because of rows that wait for ClickHouse.
    pub waits_for_rows: bool,
}

impl Worker {
    /// Bytes on their way to ClickHouse and Kafka.
    pub(super) fn buffered_bytes<I: Io>(&self, io: &I) -> usize {
        let cuts: usize = self
            .slots
            .iter()
            .map(|slot| match &slot.phase {
                Phase::Running(running) => running.checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.bytes),
                _ => 0,
            })
            .sum();
        self.serving_open.bytes()
            + self.serving.in_flight_bytes()
            + self.archive_open.bytes()
            + self.archive.in_flight_bytes()
            + cuts
            + io.in_flight().bytes
    }

    fn dirty_keys_most(&self) -> usize {
        self.slots
            .iter()
            .map(|slot| match &slot.phase {
                Phase::Running(running) => running.task.engine().dirty_state(),
                _ => 0,
            })
            .max()
            .unwrap_or(0)
    }

    pub(super) fn relieve_pressure<I: Io>(&mut self, io: &mut I) {
        if self.draining {
            return;
        }
        let limit = |number: usize| if self.pressure.paused { number / 2 } else { number };
        self.pressure.waits_for_rows = self.buffered_bytes(io) > limit(self.settings.buffered_bytes);
        let too_much = self.pressure.waits_for_rows
            || io.in_flight().messages > limit(self.settings.in_flight_messages)
            || io.in_flight().bytes > limit(self.settings.in_flight_bytes)
            || self.dirty_keys_most() > limit(4 * self.settings.dirty_keys_per_checkpoint)
            || self.dirty_keys_most() > 0 && self.memory() == Memory::Full
            || self.is_hasty();
        if too_much == self.pressure.paused {
            return;
        }
        let positions = self.running_positions();
        if too_much {
            let partitions: Vec<TopicPartition> = positions.into_iter().map(|(tp, _)| tp).collect();
            io.pause(&partitions);
            self.pressure.paused = true;
            return;
        }
        // Always from the tasks' own positions: what the client remembers of a paused partition is not relied on.
        match io.start(&positions) {
            Ok(()) => self.pressure.paused = false,
            Err(error) => self.last_error = Some(format!("fetching could not go on: {error}")),
        }
    }

    /// Logs of tasks that run, with the offsets to go on from.
    fn running_positions(&self) -> Vec<(TopicPartition, Offset)> {
        let running = self.slots.iter().filter_map(|slot| match &slot.phase {
            Phase::Running(running) => Some(running),
            _ => None,
        });
        running.flat_map(|running| running.task.logs().map(|(tp, next, _)| (tp.clone(), next))).collect()
    }
}
