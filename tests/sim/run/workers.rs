//! What workers do between two faults: they start, fetch, hear of the group, of Kafka and of ClickHouse, tick, and end.

use std::rc::Rc;

use onecode::model::TopicPartition;
use onecode::task::{Record, TimestampKind};
use onecode::worker::{Boundary, Fatal, Io as _, Worker};

use super::{HOUR_MS, Process, Run};
use crate::sim::kafka::Stored;
use crate::sim::store::Owner;
use crate::sim::world::{Link, World, is_exchange, reply_text, trace};

impl Run {
    pub(super) fn start(&mut self, slot: usize) {
        self.incarnations += 1;
        let owner = Owner { slot, incarnation: self.incarnations };
        // A process may be started under the name of another.
        let is_impostor = self.world.has_faults && self.world.random.chance(30);
        let name = if is_impostor { self.world.random.below(self.plan.workers) } else { slot };
        let instance = self.plan.is_static.then_some(name);
        let skew_ms = self.world.random.pick(&[0, 0, 0, -60_000, 60_000, -HOUR_MS, HOUR_MS]);
        trace!(self.world, "{owner} starts as {instance:?}");
        self.world.links[slot] = Some(Link::new(owner, instance, skew_ms));
        self.processes[slot] = Some(Process {
            worker: Worker::new(self.plan.settings.clone()),
            frozen_until_ms: 0,
            deaf_until_ms: 0,
            mute_until_ms: 0,
            is_draining: false,
        });
    }

    pub(super) fn step_worker(&mut self, slot: usize) -> Result<(), String> {
        let now_ms = self.world.now_ms;
        let Some(process) = &self.processes[slot] else {
            if now_ms >= self.restart_at_ms[slot] {
                self.start(slot);
            }
            return Ok(());
        };
        if process.frozen_until_ms > now_ms {
            return Ok(());
        }
        let is_deaf = process.deaf_until_ms > now_ms;
        match self.world.random.below(100) {
            0..42 => self.fetch(slot),
            42..50 if !is_deaf => self.poll_group(slot),
            42..62 => self.acknowledge(slot),
            62..78 => self.reply(slot),
            _ => self.tick(slot),
        }
    }

    pub(super) fn with_worker(
        &mut self,
        slot: usize,
        call: impl FnOnce(&mut Worker, &mut World) -> Result<(), Fatal>,
    ) -> Result<(), String> {
        let Some(process) = &mut self.processes[slot] else { return Ok(()) };
        let outcome = call(&mut process.worker, &mut self.world);
        if self.bury(slot) {
            return Ok(());
        }
        outcome.map_err(|Fatal(text)| format!("worker {slot} stopped: {text}"))
    }

    /// Whether the process died at a boundary; then it is gone.
    pub(super) fn bury(&mut self, slot: usize) -> bool {
        let Some(boundary) = self.world.links[slot].as_ref().and_then(|link| link.died_at) else { return false };
        self.stats.deaths[boundary as usize] += 1;
        self.crash(slot);
        true
    }

    pub(super) fn fetch(&mut self, slot: usize) -> Result<(), String> {
        if self.world.kafka.is_down {
            return Ok(());
        }
        let link = self.world.link(slot);
        let open: Vec<TopicPartition> = link.fetches.iter().filter(|(_, fetch)| !fetch.is_paused).map(|(tp, _)| tp.clone()).collect();
        if open.is_empty() {
            return Ok(());
        }
        let tp = open[self.world.random.below(open.len())].clone();
        if self.stalled.as_ref().is_some_and(|(stalled, until_ms)| *stalled == tp && self.world.now_ms < *until_ms) {
            return Ok(());
        }
        for _ in 0..self.world.random.pick(&[1, 1, 2, 5, 20]) {
            if !self.fetch_some(slot, &tp)? {
                break;
            }
        }
        Ok(())
    }

    /// Hands the next few records of a log in, or its end. Whether there was anything new.
    pub(super) fn fetch_some(&mut self, slot: usize, tp: &TopicPartition) -> Result<bool, String> {
        let log = self.world.kafka.log(tp);
        let (start, end) = (log.start, log.end);
        let Some(fetch) = self.world.links[slot].as_mut().and_then(|link| link.fetches.get_mut(tp)) else { return Ok(false) };
        if fetch.next < start {
            fetch.is_paused = true;
            let next = fetch.next;
            trace!(self.world, "worker {slot} reads {tp} from {next}, but it begins at {start}");
            let now = self.world.now(slot);
            self.with_worker(slot, |worker, _| {
                if let Some(index) = worker.log_index(&tp.topic, tp.partition) {
                    worker.on_out_of_range(index, now);
                }
                Ok(())
            })?;
            return Ok(false);
        }
        // Runs of one to four records, as the consumer hands them in, without a throw of the dice.
        let most = 1 + fetch.next.rem_euclid(4) as usize;
        let mut records = Vec::new();
        while let Some(record) = log.first_from(fetch.next).filter(|_| records.len() < most) {
            fetch.next = record.offset + 1;
            records.push(record);
        }
        if !records.is_empty() {
            fetch.told_end = None;
        } else if fetch.told_end == Some(end) {
            return Ok(false);
        } else {
            fetch.next = fetch.next.max(end);
            fetch.told_end = Some(end);
        }
        let is_producers = self.plan.has_producer_times && !is_exchange(&tp.topic);
        let timestamp_kind = if is_producers { TimestampKind::Create } else { TimestampKind::LogAppend };
        self.with_worker(slot, |worker, world| {
            let Some(index) = worker.log_index(&tp.topic, tp.partition) else { return Ok(()) };
            if records.is_empty() {
                worker.on_end(index, end);
                return Ok(());
            }
            on_records(worker, world, (slot, index), &records, timestamp_kind)
        })?;
        Ok(true)
    }

    pub(super) fn poll_group(&mut self, slot: usize) -> Result<(), String> {
        if self.world.kafka.is_down {
            return Ok(());
        }
        let now_ms = self.world.now_ms;
        let now = self.world.now(slot);
        let group = &mut self.world.kafka.group;
        let link = self.world.links[slot].as_mut().expect("a living worker");
        let owner = link.owner;
        let Some(member) = link.member else {
            link.member = Some(group.join(link.instance, now_ms));
            link.is_awaiting = true;
            trace!(self.world, "{owner} joins");
            return Ok(());
        };
        if group.is_replaced(member, link.instance) {
            trace!(self.world, "{owner} ends: another process has taken its instance id");
            self.stats.replaced += 1;
            self.crash(slot);
        } else if !group.has_member(member) {
            link.member = None;
            trace!(self.world, "{owner} notices that it was expelled");
            self.revoke(slot);
        } else if group.must_rejoin(member) {
            group.rejoin(member);
            link.is_awaiting = true;
            trace!(self.world, "{owner} gives its partitions back and joins again");
            self.revoke(slot);
        } else if link.is_awaiting && !group.is_preparing() {
            link.is_awaiting = false;
            link.generation = group.generation;
            let partitions = group.assignment_of(member);
            let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
            trace!(self.world, "{owner} is assigned {}", names.join(" "));
            self.with_worker(slot, |worker, _| worker.on_assigned(&partitions, now))?;
        }
        Ok(())
    }

    pub(super) fn revoke(&mut self, slot: usize) {
        self.world.link(slot).fetches.clear();
        if let Some(process) = &mut self.processes[slot] {
            process.worker.on_revoked();
            self.world.io(slot).cross(Boundary::Revoked);
            self.bury(slot);
        }
    }

    pub(super) fn acknowledge(&mut self, slot: usize) -> Result<(), String> {
        let link = self.world.links[slot].as_mut().expect("a living worker");
        if link.acknowledged.is_empty() {
            return Ok(());
        }
        let (ticket, bytes) = link.acknowledged.swap_remove(self.world.random.below(link.acknowledged.len()));
        link.in_flight.messages -= 1;
        link.in_flight.bytes -= bytes;
        self.with_worker(slot, |worker, _| worker.on_delivered(ticket, Ok(())))
    }

    pub(super) fn reply(&mut self, slot: usize) -> Result<(), String> {
        let now = self.world.now(slot);
        let link = self.world.links[slot].as_mut().expect("a living worker");
        if link.replies.is_empty() {
            return Ok(());
        }
        let reply = link.replies.swap_remove(self.world.random.below(link.replies.len()));
        let owner = link.owner;
        trace!(self.world, "{owner} hears: {}", reply_text(&reply));
        self.with_worker(slot, |worker, world| worker.on_store(&mut world.io(slot), reply, now))
    }

    pub(super) fn tick(&mut self, slot: usize) -> Result<(), String> {
        let now = self.world.now(slot);
        self.with_worker(slot, |worker, world| worker.tick(&mut world.io(slot), now))?;
        let is_done = self.processes[slot].as_ref().is_some_and(|process| process.is_draining && process.worker.is_drained());
        if is_done {
            self.world.io(slot).cross(Boundary::Drained);
            if self.bury(slot) {
                return Ok(());
            }
        }
        if is_done {
            self.end_drained(slot);
        }
        Ok(())
    }

    /// A drained process flushes its producer and leaves; a static member stays in the group until its session ends.
    pub(super) fn end_drained(&mut self, slot: usize) {
        while self.world.produce_one(slot) {}
        self.count(slot);
        let mut link = self.world.links[slot].take().expect("a living worker");
        trace!(self.world, "{} has drained and ends", link.owner);
        if let (Some(member), None, false) = (link.member, link.instance, self.world.kafka.is_down) {
            self.world.kafka.group.leave(member, self.world.now_ms);
        }
        self.world.abandon_queues(&mut link);
        self.world.store.abandon(link.owner, &mut self.world.random);
        self.processes[slot] = None;
        self.restart_at_ms[slot] = self.world.now_ms + self.world.random.between(0, 20_000);
    }

    pub(super) fn count(&mut self, slot: usize) {
        let Some(process) = &mut self.processes[slot] else { return };
        let counters = process.worker.counters().take();
        self.stats.fenced += counters.fenced;
        self.stats.evicted += counters.evicted;
        self.stats.loaded += counters.loaded;
        self.stats.takeovers += counters.takeover_ms.len() as u64;
        self.stats.checkpoints += counters.checkpoint_ms.len() as u64;
        self.stats.refused_relays += counters.refused_relays;
        self.stats.relayed += counters.relayed.iter().sum::<u64>();
        self.stats.duplicates += counters.duplicates.iter().sum::<u64>();
    }
}

fn on_records(
    worker: &mut Worker,
    world: &mut World,
    (slot, log): (usize, usize),
    stored: &[Rc<Stored>],
    timestamp_kind: TimestampKind,
) -> Result<(), Fatal> {
    let records = stored.iter().map(|stored| Record {
        offset: stored.offset,
        timestamp_ms: stored.timestamp_ms,
        timestamp_kind,
        key: stored.key.as_deref(),
        value: stored.value.as_deref(),
        headers: &stored.headers,
    });
    let records: Vec<Record<'_>> = records.collect();
    worker.on_records(&mut world.io(slot), log, &records)
}
