//! No faults any more: everything must come to rest within a bounded time.

use onecode::model::TopicPartition;

use super::Run;
use crate::sim::world::trace;

/// Rounds after which a system at rest must be quiet.
const SETTLE_ROUNDS: usize = 4_000;
const SETTLE_STEP_MS: i64 = 100;

impl Run {
    /// No faults any more: everything comes to rest within a bounded time.
    pub fn settle(&mut self) -> Result<(), String> {
        trace!(self.world, "---- no more faults ----");
        self.world.has_faults = false;
        self.kafka_down_until_ms = 0;
        self.store_down_until_ms = 0;
        self.stalled = None;
        self.pass(0);
        for slot in 0..self.plan.workers {
            self.restart_at_ms[slot] = 0;
            if let Some(process) = &mut self.processes[slot] {
                process.frozen_until_ms = 0;
                process.deaf_until_ms = 0;
                process.mute_until_ms = 0;
            }
        }
        self.world.store.land_all(&mut self.world.random);
        while self.world.land_orphan() {}
        for _ in 0..SETTLE_ROUNDS {
            self.pass(SETTLE_STEP_MS);
            for slot in 0..self.plan.workers {
                self.settle_worker(slot)?;
            }
            for _ in 0..20 {
                self.step_store();
            }
            self.world.store.land_all(&mut self.world.random);
            if self.unsettled().is_none() {
                (0..self.plan.workers).for_each(|slot| self.count(slot));
                return Ok(());
            }
        }
        Err(format!("no rest after {SETTLE_ROUNDS} rounds: {}", self.unsettled().unwrap_or_default()))
    }

    /// Lets everything act for some rounds, without faults, and whether or not it comes to rest.
    pub fn act_for(&mut self, rounds: usize) -> Result<(), String> {
        for _ in 0..rounds {
            self.pass(SETTLE_STEP_MS);
            for slot in 0..self.plan.workers {
                self.settle_worker(slot)?;
            }
            (0..3).for_each(|_| self.step_store());
        }
        Ok(())
    }

    pub(super) fn settle_worker(&mut self, slot: usize) -> Result<(), String> {
        if self.processes[slot].is_none() {
            self.start(slot);
        }
        self.poll_group(slot)?;
        // It may die at any boundary.
        let lives = |run: &Run| run.processes[slot].is_some();
        if !lives(self) {
            return Ok(());
        }
        let logs: Vec<TopicPartition> = self.world.link(slot).fetches.keys().cloned().collect();
        for tp in logs {
            for _ in 0..20 {
                let is_open = lives(self) && self.world.link(slot).fetches.get(&tp).is_some_and(|fetch| !fetch.is_paused);
                if !is_open || !self.fetch_some(slot, &tp)? {
                    break;
                }
            }
        }
        while lives(self) && self.world.produce_one(slot) {}
        while lives(self) && !self.world.link(slot).acknowledged.is_empty() {
            self.acknowledge(slot)?;
        }
        while lives(self) && !self.world.link(slot).replies.is_empty() {
            self.reply(slot)?;
        }
        if lives(self) { self.tick(slot) } else { Ok(()) }
    }

    /// Lets workers and servers act until every task runs, and not a moment longer.
    pub fn until_running(&mut self) -> Result<(), String> {
        for _ in 0..SETTLE_ROUNDS {
            self.pass(10);
            for slot in 0..self.plan.workers {
                self.settle_worker(slot)?;
            }
            for _ in 0..20 {
                self.step_store();
            }
            if (0..self.plan.workers).all(|slot| self.all_run(slot)) {
                return Ok(());
            }
        }
        Err(format!("no takeover after {SETTLE_ROUNDS} rounds"))
    }

    fn all_run(&mut self, slot: usize) -> bool {
        let now = self.world.now(slot);
        let Some(process) = &self.processes[slot] else { return false };
        let tasks = process.worker.view(&self.world.io(slot), now).tasks;
        !tasks.is_empty() && tasks.iter().all(|task| task.running)
    }

    /// What is not at rest yet.
    pub(super) fn unsettled(&mut self) -> Option<String> {
        self.unsettled_but_for(0)
    }

    /// The same where so many gaps in relays may stay open in each worker.
    pub(super) fn unsettled_but_for(&mut self, most_gaps: usize) -> Option<String> {
        if self.world.kafka.group.is_preparing() || !self.world.store.is_idle() {
            return Some("a rebalance or a request is under way".to_owned());
        }
        for (slot, process) in self.processes.iter().enumerate() {
            let (Some(process), Some(link)) = (process, &self.world.links[slot]) else { return Some(format!("worker {slot} is dead")) };
            if link.is_awaiting || !link.is_quiet() {
                return Some(format!("worker {slot} has answers to hear"));
            }
            let now = self.world.now(slot);
            let view = process.worker.view(&self.world.io(slot), now);
            if view.insert_in_flight || view.relay_gaps > most_gaps {
                return Some(format!("worker {slot}: insert in flight: {}, relay gaps: {}", view.insert_in_flight, view.relay_gaps));
            }
            if let Some(task) = view.tasks.iter().find(|task| !task.running || !task.serving || task.dirty_keys > 0) {
                return Some(format!("worker {slot}: {task:?}, last error {:?}", view.last_error));
            }
        }
        let group = &self.world.kafka.group;
        let behind =
            self.world.kafka.logs.iter().find(|(tp, log)| {
                self.world.kafka.subscribed.contains_key(&tp.topic) && group.committed(tp).offset.unwrap_or(0) != log.end
            });
        behind.map(|(tp, log)| format!("{tp} ends at {}, committed is {:?}", log.end, group.committed(tp)))
    }
}
