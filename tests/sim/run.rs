//! One run: a phase of faults, then rest, then everything must be as the oracle says; then once more after all workers died at rest.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;

use onecode::model::{Offset, Reason, TopicPartition, owner};
use onecode::task::{Record, TimestampKind};
use onecode::worker::{Fatal, Worker};

use super::inputs::{Arrival, FUTURE_SKEW_MS, Sent, Verdict};
use super::kafka::{Kafka, Stored};
use super::plan::{Plan, Scenario, topic_of};
use super::random::Random;
use super::store::{Defects, Owner, Store};
use super::world::{Link, Trace, World, reply_text, trace};

/// A process.
#[derive(Debug)]
pub struct Process {
    pub worker: Worker,
    /// Stopped by a signal until then.
    frozen_until_ms: i64,
    /// Does not hear of the group until then.
    deaf_until_ms: i64,
    /// Is not heard by the coordinator until then, but goes on working.
    mute_until_ms: i64,
    pub is_draining: bool,
}

/// What must hold at the end.
#[derive(Debug, Default)]
pub struct Expectation {
    /// Events of which at least one record was acceptable.
    pub accepted: BTreeSet<usize>,
    /// Records that have to be among the dead letters.
    pub rejected: BTreeMap<(TopicPartition, Offset), Reason>,
    /// Records of which nothing is known.
    pub unknown: BTreeSet<(TopicPartition, Offset)>,
    /// Events by the position of their records.
    pub event_of: BTreeMap<(TopicPartition, Offset), usize>,
}

enum Judged {
    Accepted(usize),
    Rejected(Reason),
    Unknown,
}

/// Counts over a run, to see that the faults are there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stats {
    pub crashes: u64,
    pub freezes: u64,
    pub expelled: u64,
    pub rebalances: u64,
    pub outages: u64,
    pub drains: u64,
    pub fenced: u64,
    pub takeovers: u64,
    pub checkpoints: u64,
    pub refused_relays: u64,
    pub relayed: u64,
    pub duplicates: u64,
    pub replaced: u64,
    pub mutes: u64,
    /// Events refused because their ids may have been forgotten.
    pub refused_events: u64,
}

impl Stats {
    pub fn add(&mut self, other: &Stats) {
        self.crashes += other.crashes;
        self.freezes += other.freezes;
        self.expelled += other.expelled;
        self.rebalances += other.rebalances;
        self.outages += other.outages;
        self.drains += other.drains;
        self.fenced += other.fenced;
        self.takeovers += other.takeovers;
        self.checkpoints += other.checkpoints;
        self.refused_relays += other.refused_relays;
        self.relayed += other.relayed;
        self.duplicates += other.duplicates;
        self.replaced += other.replaced;
        self.mutes += other.mutes;
        self.refused_events += other.refused_events;
    }
}

/// A run under way.
#[derive(Debug)]
pub struct Run {
    pub plan: Plan,
    pub world: World,
    pub processes: Vec<Option<Process>>,
    restart_at_ms: Vec<i64>,
    incarnations: u32,
    arrived: usize,
    /// Events sent so far.
    pub sent: Vec<Sent>,
    pub expected: Expectation,
    pub stats: Stats,
    kafka_down_until_ms: i64,
    store_down_until_ms: i64,
    /// A log that cannot be fetched until then.
    stalled: Option<(TopicPartition, i64)>,
}

/// Rounds after which a system at rest must be quiet.
const SETTLE_ROUNDS: usize = 4_000;
const SETTLE_STEP_MS: i64 = 100;
const HOUR_MS: i64 = 3_600_000;

impl Run {
    pub fn new(plan: Plan, random: Random, traced: bool) -> Run {
        let world = World {
            random,
            now_ms: 0,
            kafka: Kafka::new(plan.partitions.clone(), &Plan::not_read()),
            store: Store::default(),
            links: (0..plan.workers).map(|_| None).collect(),
            trace: Trace { is_on: traced, lines: Vec::new() },
            has_faults: plan.has_faults,
            acknowledges_early: false,
        };
        Run {
            processes: (0..plan.workers).map(|_| None).collect(),
            restart_at_ms: vec![0; plan.workers],
            plan,
            world,
            incarnations: 0,
            arrived: 0,
            sent: Vec::new(),
            expected: Expectation::default(),
            stats: Stats::default(),
            kafka_down_until_ms: 0,
            store_down_until_ms: 0,
            stalled: None,
        }
    }

    pub fn set_defects(&mut self, defects: Defects, acknowledges_early: bool) {
        self.world.store.defects = defects;
        self.world.acknowledges_early = acknowledges_early;
    }

    // ---- the phase of faults ----

    pub fn work(&mut self) -> Result<(), String> {
        // The last records arrive while there are still faults to come.
        let busy_steps = self.plan.steps * 7 / 10;
        for step in 0..self.plan.steps {
            self.pause();
            while self.arrived * busy_steps < step * self.plan.records && self.arrived < self.plan.records {
                self.arrive();
            }
            self.act()?;
        }
        Ok(())
    }

    /// Time between two steps: a moment, and in the scenario of weeks sometimes hours.
    fn pause(&mut self) {
        let mut pause_ms = self.world.random.between(0, self.plan.pace_ms);
        if self.plan.scenario == Scenario::Weeks && self.world.random.chance(20) {
            pause_ms = self.world.random.between(HOUR_MS, 36 * HOUR_MS);
            trace!(self.world, "{} hours pass", pause_ms / HOUR_MS);
            self.world.kafka.group.jumped_to(self.world.now_ms + pause_ms);
        }
        self.pass(pause_ms);
    }

    /// Time passes; whoever is alive is heard of by the coordinator.
    fn pass(&mut self, pause_ms: i64) {
        self.world.now_ms += pause_ms;
        let now_ms = self.world.now_ms;
        if self.world.kafka.is_down && now_ms >= self.kafka_down_until_ms {
            trace!(self.world, "brokers are back");
            self.world.kafka.is_down = false;
        }
        if self.world.store.is_down && now_ms >= self.store_down_until_ms {
            trace!(self.world, "clickhouse is back");
            self.world.store.is_down = false;
        }
        for slot in 0..self.processes.len() {
            let is_alive =
                self.processes[slot].as_ref().is_some_and(|process| process.frozen_until_ms <= now_ms && process.mute_until_ms <= now_ms);
            let is_heard = is_alive || self.world.kafka.is_down;
            if let Some(member) = self.world.links[slot].as_ref().and_then(|link| link.member)
                && is_heard
            {
                self.world.kafka.group.heartbeat(member, now_ms);
            }
        }
        if !self.world.kafka.is_down {
            let members = self.world.kafka.group.members();
            let subscribed = self.world.kafka.subscribed.clone();
            if self.world.kafka.group.advance(now_ms, &subscribed) {
                trace!(self.world, "the group has generation {}, {members} members", self.world.kafka.group.generation);
                self.stats.rebalances += 1;
            }
            self.stats.expelled += members.saturating_sub(self.world.kafka.group.members()) as u64;
        }
    }

    fn act(&mut self) -> Result<(), String> {
        let slot = self.world.random.below(self.plan.workers);
        if self.plan.has_faults && self.world.random.chance(self.plan.fault_permille) {
            self.fault(slot);
            return Ok(());
        }
        match self.world.random.below(100) {
            0..60 => self.step_worker(slot),
            60..84 => {
                self.step_store();
                Ok(())
            }
            84..96 => {
                if !self.plan.is_kafka_slow || self.world.random.chance(100) {
                    (0..3).for_each(|_| {
                        self.world.produce_one(slot);
                    });
                }
                Ok(())
            }
            _ => {
                self.world.land_orphan();
                if self.world.random.chance(100) {
                    self.world.kafka.retain();
                }
                Ok(())
            }
        }
    }

    /// A record arrives at its topic: a new event, a repeat of an older one, or something that nobody accepts.
    pub fn arrive(&mut self) {
        self.arrived += 1;
        let wall_ms = self.world.wall_ms();
        let random = &mut self.world.random;
        let producer = &mut self.plan.producer;
        let what = random.below(100);
        if self.sent.is_empty() || what < 55 {
            self.sent.push(producer.event(random, wall_ms));
        } else if self.plan.has_twins && what < 60 {
            self.sent.extend(producer.twins(random, wall_ms));
        }
        let is_new = what < 60;
        let index = if is_new { self.sent.len() - 1 } else { random.below(self.sent.len()) };
        let sent = self.sent[index].clone();
        let arrival = if what < 92 { producer.record(random, index, &sent) } else { producer.invalid(random, &sent) };
        self.append(arrival);
    }

    fn append(&mut self, arrival: Arrival) {
        let topic: Arc<str> = Arc::from(topic_of(arrival.kind));
        let partitions = self.plan.partitions[&topic];
        let own = owner(&arrival.customer_id, partitions) as i32;
        let partition = if arrival.is_misrouted { self.world.random.below(partitions as usize) as i32 } else { own };
        let tp = TopicPartition { topic, partition };
        let wall_ms = self.world.wall_ms();
        let has_marker = self.world.random.chance(50);
        let log = self.world.kafka.log_mut(&tp);
        if has_marker {
            log.append_marker();
        }
        let offset = log.append(wall_ms, arrival.key, arrival.value, arrival.headers);
        trace!(self.world, "{tp} {offset}: {:?} of {}", arrival.verdict, arrival.customer_id);
        let at = (tp, offset);
        match self.judge(arrival.verdict, wall_ms) {
            Judged::Accepted(index) => {
                self.expected.accepted.insert(index);
                self.expected.event_of.insert(at, index);
            }
            Judged::Rejected(reason) => {
                self.expected.rejected.insert(at, reason);
            }
            Judged::Unknown => {
                self.expected.unknown.insert(at);
            }
        }
    }

    fn judge(&self, verdict: Verdict, wall_ms: i64) -> Judged {
        let index = match verdict {
            Verdict::Unknown => return Judged::Unknown,
            Verdict::Reject(reason) => return Judged::Rejected(reason),
            Verdict::Event(index) => index,
        };
        let ahead_ms = self.sent[index].event.time_ms - wall_ms;
        match ahead_ms {
            _ if ahead_ms > FUTURE_SKEW_MS => Judged::Rejected(Reason::FutureTime),
            _ if -ahead_ms > self.plan.max_lateness_ms => Judged::Rejected(Reason::TooOld),
            _ => Judged::Accepted(index),
        }
    }

    fn step_store(&mut self) {
        let faults = self.world.has_faults;
        if let Some((owner, reply)) = self.world.store.step(&mut self.world.random, faults) {
            let link = self.world.links[owner.slot].as_mut().filter(|link| link.owner == owner);
            if let Some(link) = link {
                link.replies.push(reply);
            }
        }
    }

    // ---- workers ----

    fn start(&mut self, slot: usize) {
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

    fn step_worker(&mut self, slot: usize) -> Result<(), String> {
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

    fn with_worker(&mut self, slot: usize, call: impl FnOnce(&mut Worker, &mut World) -> Result<(), Fatal>) -> Result<(), String> {
        let Some(process) = &mut self.processes[slot] else { return Ok(()) };
        call(&mut process.worker, &mut self.world).map_err(|Fatal(text)| format!("worker {slot} stopped: {text}"))
    }

    fn fetch(&mut self, slot: usize) -> Result<(), String> {
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
            if !self.fetch_one(slot, &tp)? {
                break;
            }
        }
        Ok(())
    }

    /// Hands the next record of a log in, or its end. Whether there was anything new.
    fn fetch_one(&mut self, slot: usize, tp: &TopicPartition) -> Result<bool, String> {
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
        let record = log.first_from(fetch.next);
        match &record {
            Some(record) => {
                fetch.next = record.offset + 1;
                fetch.told_end = None;
            }
            None if fetch.told_end == Some(end) => return Ok(false),
            None => {
                fetch.next = fetch.next.max(end);
                fetch.told_end = Some(end);
            }
        }
        self.with_worker(slot, |worker, world| {
            let Some(index) = worker.log_index(&tp.topic, tp.partition) else { return Ok(()) };
            match record {
                Some(record) => on_record(worker, world, slot, index, &record),
                None => {
                    worker.on_end(index, end);
                    Ok(())
                }
            }
        })?;
        Ok(true)
    }

    fn poll_group(&mut self, slot: usize) -> Result<(), String> {
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

    fn revoke(&mut self, slot: usize) {
        self.world.link(slot).fetches.clear();
        if let Some(process) = &mut self.processes[slot] {
            process.worker.on_revoked();
        }
    }

    fn acknowledge(&mut self, slot: usize) -> Result<(), String> {
        let link = self.world.links[slot].as_mut().expect("a living worker");
        if link.acknowledged.is_empty() {
            return Ok(());
        }
        let (ticket, bytes) = link.acknowledged.swap_remove(self.world.random.below(link.acknowledged.len()));
        link.in_flight.messages -= 1;
        link.in_flight.bytes -= bytes;
        self.with_worker(slot, |worker, _| worker.on_delivered(ticket, Ok(())))
    }

    fn reply(&mut self, slot: usize) -> Result<(), String> {
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

    fn tick(&mut self, slot: usize) -> Result<(), String> {
        let now = self.world.now(slot);
        self.with_worker(slot, |worker, world| worker.tick(&mut world.io(slot), now))?;
        let is_done = self.processes[slot].as_ref().is_some_and(|process| process.is_draining && process.worker.is_drained());
        if is_done {
            self.end_drained(slot);
        }
        Ok(())
    }

    /// A drained process flushes its producer and leaves; a static member stays in the group until its session ends.
    fn end_drained(&mut self, slot: usize) {
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

    fn count(&mut self, slot: usize) {
        let Some(process) = &mut self.processes[slot] else { return };
        let counters = process.worker.counters().take();
        self.stats.fenced += counters.fenced;
        self.stats.takeovers += counters.takeover_ms.len() as u64;
        self.stats.checkpoints += counters.checkpoint_ms.len() as u64;
        self.stats.refused_relays += counters.refused_relays;
        self.stats.relayed += counters.relayed.iter().sum::<u64>();
        self.stats.duplicates += counters.duplicates.iter().sum::<u64>();
    }

    // ---- faults ----

    fn fault(&mut self, slot: usize) {
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

    fn freeze(&mut self, slot: usize) {
        let now_ms = self.world.now_ms;
        let Some(process) = &mut self.processes[slot] else { return };
        process.frozen_until_ms = now_ms + self.world.random.pick(&[500, 8_000, 16_000, 30_000]);
        process.deaf_until_ms = process.frozen_until_ms + self.world.random.pick(&[0, 1_000, 5_000]);
        self.stats.freezes += 1;
        trace!(self.world, "worker {slot} freezes until {} ms", process.frozen_until_ms);
    }

    /// The group's coordinator and this worker lose sight of each other, and it goes on as if it owned its tasks.
    fn mute(&mut self, slot: usize) {
        let now_ms = self.world.now_ms;
        let Some(process) = &mut self.processes[slot] else { return };
        process.mute_until_ms = now_ms + self.world.random.pick(&[5_000, 15_000, 30_000]);
        process.deaf_until_ms = process.mute_until_ms;
        self.stats.mutes += 1;
        trace!(self.world, "the coordinator does not hear worker {slot} until {} ms", process.mute_until_ms);
    }

    fn drain(&mut self, slot: usize) {
        let Some(process) = &mut self.processes[slot] else { return };
        if process.is_draining {
            return;
        }
        trace!(self.world, "worker {slot} drains");
        process.is_draining = true;
        self.stats.drains += 1;
        process.worker.start_drain(&mut self.world.io(slot));
    }

    // ---- rest ----

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

    fn settle_worker(&mut self, slot: usize) -> Result<(), String> {
        if self.processes[slot].is_none() {
            self.start(slot);
        }
        self.poll_group(slot)?;
        if self.processes[slot].is_none() {
            return Ok(());
        }
        let logs: Vec<TopicPartition> = self.world.link(slot).fetches.keys().cloned().collect();
        for tp in logs {
            for _ in 0..20 {
                let is_open = self.world.link(slot).fetches.get(&tp).is_some_and(|fetch| !fetch.is_paused);
                if !is_open || !self.fetch_one(slot, &tp)? {
                    break;
                }
            }
        }
        while self.world.produce_one(slot) {}
        while !self.world.link(slot).acknowledged.is_empty() {
            self.acknowledge(slot)?;
        }
        while !self.world.link(slot).replies.is_empty() {
            self.reply(slot)?;
        }
        self.tick(slot)
    }

    /// What is not at rest yet.
    fn unsettled(&mut self) -> Option<String> {
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
            if view.insert_in_flight || view.relay_gaps > 0 {
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

fn on_record(worker: &mut Worker, world: &mut World, slot: usize, log: usize, stored: &Rc<Stored>) -> Result<(), Fatal> {
    let record = Record {
        offset: stored.offset,
        timestamp_ms: stored.timestamp_ms,
        timestamp_kind: TimestampKind::LogAppend,
        key: stored.key.as_deref(),
        value: stored.value.as_deref(),
        headers: &stored.headers,
    };
    worker.on_record(&mut world.io(slot), log, &record)
}
