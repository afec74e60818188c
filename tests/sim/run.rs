//! One run: a phase of faults, then rest, then everything must be as the oracle says; then once more after all workers died at rest.

mod faults;
mod rescale;
mod rest;
mod workers;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use onecode::model::{Offset, Reason, TopicPartition, owner};
use onecode::worker::{Boundary, Worker};

use super::inputs::{Arrival, FUTURE_SKEW_MS, Sent, Verdict};
use super::kafka::Kafka;
use super::plan::{Plan, Scenario, topic_of};
use super::random::Random;
use super::store::{Defects, Store};
use super::world::{EXCHANGE, Trace, World, trace};

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
    /// Records that were too late when they arrived, before the allowed lateness was raised: they are rejected or accepted, by whether
    /// they were read before.
    pub undecided: BTreeSet<(TopicPartition, Offset)>,
    /// Records too late for the present settings: event, and how late.
    pub too_late: BTreeMap<(TopicPartition, Offset), (usize, i64)>,
    /// Events with a record that is acceptable only since the raise: it may lie before the horizon already.
    pub beyond: BTreeSet<usize>,
}

enum Judged {
    Accepted(usize),
    Rejected(Reason),
    /// By so many milliseconds.
    TooLate(usize, i64),
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
    /// Copies that were read because their source had changed while it was read.
    pub read_again: u64,
    pub refused_relays: u64,
    pub relayed: u64,
    pub duplicates: u64,
    pub replaced: u64,
    pub mutes: u64,
    /// Topics that got more partitions, and raises of the allowed lateness.
    pub grown: u64,
    pub raised: u64,
    /// Moves to another number of tasks.
    pub rescaled: u64,
    /// Topics that came to share the tasks' partitions.
    pub shared: u64,
    /// Deaths at each boundary.
    pub deaths: [u64; Boundary::ALL.len()],
    /// Events refused because their ids may have been forgotten.
    pub refused_events: u64,
    /// Groups of cold state that left memory, and came back.
    pub evicted: u64,
    pub loaded: u64,
}

impl Stats {
    pub fn add(&mut self, other: &Stats) {
        self.crashes += other.crashes;
        self.evicted += other.evicted;
        self.loaded += other.loaded;
        self.freezes += other.freezes;
        self.expelled += other.expelled;
        self.rebalances += other.rebalances;
        self.outages += other.outages;
        self.drains += other.drains;
        self.fenced += other.fenced;
        self.takeovers += other.takeovers;
        self.checkpoints += other.checkpoints;
        self.read_again += other.read_again;
        self.refused_relays += other.refused_relays;
        self.relayed += other.relayed;
        self.duplicates += other.duplicates;
        self.replaced += other.replaced;
        self.mutes += other.mutes;
        self.grown += other.grown;
        self.raised += other.raised;
        self.shared += other.shared;
        self.rescaled += other.rescaled;
        self.refused_events += other.refused_events;
        self.deaths.iter_mut().zip(other.deaths).for_each(|(sum, more)| *sum += more);
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
    /// The allowed lateness before it was raised.
    first_lateness_ms: i64,
    /// The number of tasks was changed: cells are compared as readers sum them.
    pub has_rescaled: bool,
    /// A log that cannot be fetched until then.
    stalled: Option<(TopicPartition, i64)>,
}

const HOUR_MS: i64 = 3_600_000;

impl Run {
    pub fn new(plan: Plan, random: Random, traced: bool) -> Run {
        let world = World {
            exchange: Arc::from(EXCHANGE),
            random,
            now_ms: 0,
            kafka: Kafka::new(plan.partitions.clone(), &Plan::not_read()),
            store: Store::default(),
            links: (0..plan.workers).map(|_| None).collect(),
            trace: Trace { is_on: traced, lines: Vec::new() },
            has_faults: plan.has_faults,
            deadly_permille: plan.deadly_permille,
            acknowledges_early: false,
        };
        Run {
            processes: (0..plan.workers).map(|_| None).collect(),
            restart_at_ms: vec![0; plan.workers],
            first_lateness_ms: plan.max_lateness_ms,
            has_rescaled: false,
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
        let change_step = self.plan.change.as_ref().map(|change| change.at_permille * self.plan.steps / 1_000);
        let rescale = self.plan.rescale.map(|(at_permille, tasks)| (at_permille * self.plan.steps / 1_000, tasks));
        for step in 0..self.plan.steps {
            if Some(step) == change_step {
                self.reconfigure();
            }
            if let Some((_, tasks)) = rescale.filter(|(at, tasks)| *at == step && *tasks != self.plan.tasks) {
                self.rescale(tasks)?;
            }
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
        let timestamp_ms = wall_ms + if self.plan.has_producer_times { self.world.random.between(-30 * HOUR_MS, HOUR_MS / 3) } else { 0 };
        let has_marker = self.world.random.chance(50);
        let log = self.world.kafka.log_mut(&tp);
        if has_marker {
            log.append_marker();
        }
        let offset = log.append(timestamp_ms, arrival.key, arrival.value, arrival.headers);
        trace!(self.world, "{tp} {offset}: {:?} of {}", arrival.verdict, arrival.customer_id);
        let at = (tp, offset);
        match self.judge(arrival.verdict, timestamp_ms) {
            Judged::Accepted(index) => {
                if timestamp_ms - self.sent[index].event.time_ms > self.first_lateness_ms {
                    self.expected.beyond.insert(index);
                }
                self.expected.accepted.insert(index);
                self.expected.event_of.insert(at, index);
            }
            Judged::Rejected(reason) => {
                self.expected.rejected.insert(at, reason);
            }
            Judged::TooLate(index, late_ms) => {
                self.expected.too_late.insert(at.clone(), (index, late_ms));
                self.expected.rejected.insert(at, Reason::TooOld);
            }
            Judged::Unknown => {
                self.expected.unknown.insert(at);
            }
        }
    }

    fn judge(&self, verdict: Verdict, timestamp_ms: i64) -> Judged {
        let index = match verdict {
            Verdict::Unknown => return Judged::Unknown,
            Verdict::Reject(reason) => return Judged::Rejected(reason),
            Verdict::Event(index) => index,
        };
        let ahead_ms = self.sent[index].event.time_ms - timestamp_ms;
        match ahead_ms {
            _ if ahead_ms > FUTURE_SKEW_MS => Judged::Rejected(Reason::FutureTime),
            _ if -ahead_ms > self.plan.max_lateness_ms => Judged::TooLate(index, -ahead_ms),
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
}
