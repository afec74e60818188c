//! What goes wrong: crashes, freezes, zombies, outages, rebalances, and drains in between.

use std::sync::Arc;

use onecode::model::TopicPartition;

use super::{HOUR_MS, Run};
use crate::sim::plan::Scenario;
use crate::sim::world::trace;

impl Run {
    pub(super) fn fault(&mut self, slot: usize) {
        let now_ms = self.world.now_ms;
        match self.world.random.below(26) {
            22.. => self.mute(slot),
            20..22 => {
                let logs: Vec<TopicPartition> = self.world.kafka.logs.keys().cloned().collect();
                let tp = logs[self.world.random.below(logs.len())].clone();
                let hours = if self.plan.scenario == Scenario::Weeks { self.world.random.between(1, 100) } else { 0 };
                trace!(self.world, "{tp} cannot be fetched for {hours} hours and 20 s");
                self.stalled = Some((tp, now_ms + hours * HOUR_MS + 20_000));
            }
            0..7 => self.crash(slot),
            7..11 => self.freeze(slot),
            11..13 => {
                trace!(self.world, "the group rebalances");
                self.world.kafka.group.rebalance(now_ms);
            }
            13..15 => {
                self.kafka_down_until_ms = now_ms + self.world.random.between(100, 200 * self.plan.pace_ms);
                self.world.kafka.is_down = true;
                self.stats.outages += 1;
                trace!(self.world, "brokers are away");
            }
            15..17 => {
                self.store_down_until_ms = now_ms + self.world.random.between(100, 200 * self.plan.pace_ms);
                self.world.store.is_down = true;
                self.stats.outages += 1;
                trace!(self.world, "clickhouse is away");
            }
            17 => self.drain(slot),
            18 => (0..self.plan.workers).for_each(|slot| self.crash(slot)),
            _ => {
                if self.world.kafka.group.lose_offsets() {
                    trace!(self.world, "the group's offsets have expired");
                }
            }
        }
    }

    pub fn crash(&mut self, slot: usize) {
        self.count(slot);
        let Some(mut link) = self.world.links[slot].take() else { return };
        trace!(self.world, "{} crashes", link.owner);
        self.processes[slot] = None;
        self.world.abandon_queues(&mut link);
        self.world.store.abandon(link.owner, &mut self.world.random);
        self.stats.crashes += 1;
        self.restart_at_ms[slot] = self.world.now_ms + self.world.random.pick(&[0, 1_000, 15_000, 60_000]);
    }

    /// An operator stops everything, changes the cluster or the configuration, and starts again.
    pub(super) fn reconfigure(&mut self) {
        let Some(change) = self.plan.change.clone() else { return };
        (0..self.plan.workers).for_each(|slot| self.crash(slot));
        self.world.kafka.group.lose_members();
        // A topic whose partitions are the tasks' own needs `onecode rescale`: that is refused, and tested apart.
        let tasks = self.plan.tasks;
        if let Some((topic, more)) = change.grows.filter(|(topic, _)| self.plan.partitions[*topic] != tasks) {
            self.grow(topic, more);
            self.stats.shared += u64::from(self.plan.partitions[topic] == tasks);
        }
        if let Some(times) = change.lateness_times {
            self.raise_lateness(times);
        }
    }

    /// An input topic gets more partitions, and whoever starts from now on knows it.
    pub fn grow(&mut self, topic: &str, more: u32) {
        trace!(self.world, "{topic} gets {more} more partitions");
        self.world.kafka.group.lose_members();
        self.world.kafka.grow(topic, more);
        self.plan.partitions = self.world.kafka.partitions.clone();
        self.plan.settings.topics.iter_mut().filter(|spec| spec.name == topic).for_each(|spec| spec.partitions += more);
        self.stats.grown += 1;
    }

    /// What was too late may be accepted from now on: if nobody has read it yet, or if whoever did had no checkpoint after it.
    fn raise_lateness(&mut self, times: i64) {
        self.plan.max_lateness_ms *= times;
        let max_lateness_ms = self.plan.max_lateness_ms;
        trace!(self.world, "events may be {} hours late now", max_lateness_ms / HOUR_MS);
        let mut task = (*self.plan.settings.task).clone();
        task.max_lateness_ms = max_lateness_ms;
        task.rules.max_lateness_ms = max_lateness_ms;
        self.plan.settings.task = Arc::new(task);
        let too_late = std::mem::take(&mut self.expected.too_late);
        for (at, (index, late_ms)) in too_late {
            if late_ms <= max_lateness_ms {
                self.expected.rejected.remove(&at);
                self.expected.accepted.insert(index);
                self.expected.beyond.insert(index);
                self.expected.event_of.insert(at.clone(), index);
                self.expected.undecided.insert(at);
            }
        }
        self.stats.raised += 1;
    }

    pub(super) fn freeze(&mut self, slot: usize) {
        let now_ms = self.world.now_ms;
        let Some(process) = &mut self.processes[slot] else { return };
        process.frozen_until_ms = now_ms + self.world.random.pick(&[500, 8_000, 16_000, 30_000]);
        process.deaf_until_ms = process.frozen_until_ms + self.world.random.pick(&[0, 1_000, 5_000]);
        self.stats.freezes += 1;
        trace!(self.world, "worker {slot} freezes until {} ms", process.frozen_until_ms);
    }

    /// The group's coordinator and this worker lose sight of each other, and it goes on as if it owned its tasks.
    pub(super) fn mute(&mut self, slot: usize) {
        let now_ms = self.world.now_ms;
        let Some(process) = &mut self.processes[slot] else { return };
        process.mute_until_ms = now_ms + self.world.random.pick(&[5_000, 15_000, 30_000]);
        process.deaf_until_ms = process.mute_until_ms;
        self.stats.mutes += 1;
        trace!(self.world, "the coordinator does not hear worker {slot} until {} ms", process.mute_until_ms);
    }

    pub fn drain(&mut self, slot: usize) {
        let Some(process) = &mut self.processes[slot] else { return };
        if process.is_draining {
            return;
        }
        trace!(self.world, "worker {slot} drains");
        process.is_draining = true;
        self.stats.drains += 1;
        process.worker.start_drain(&mut self.world.io(slot));
        self.bury(slot);
    }
}
