//! What a seed decides before a run begins: the cluster, the workers, their settings, and the records that arrive.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use onecode::config::{Fingerprint, StartFrom};
use onecode::decode::{Format, Rules};
use onecode::model::{Calendar, EventKind, TimeZone};
use onecode::task::{LogRole, PackRule, RejectLimits, TaskSettings};
use onecode::worker::{Switches, TopicSpec, WorkerSettings};

use super::cold::ColdMemories;
use super::inputs::{EVENT_BYTES, FUTURE_SKEW_MS, Producer};
use super::random::Random;
use super::world::{DEAD_LETTERS, EXCHANGE};

/// Few, so that chains are cut.
pub const LEVELS: u8 = 3;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// What kind of run it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Minutes of work with faults; nothing is forgotten.
    Minutes,
    /// Weeks with a short memory: ids are forgotten, and sources run at very different speeds.
    Weeks,
}

/// What an operator changes while everything is stopped, once in a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Of a thousand steps, at this one.
    pub at_permille: usize,
    /// An input topic gets so many more partitions.
    pub grows: Option<(&'static str, u32)>,
    /// So many that there are as many partitions as tasks, if there are fewer.
    pub comes_to_share: bool,
    /// `pipeline.max_lateness_days` is raised to so many times what it was.
    pub lateness_times: Option<i64>,
}

impl Change {
    /// That of a seed; most have none. Drawn from numbers of its own, so that the other seeds stay as they were.
    pub fn of(seed: u64) -> Option<Change> {
        let mut random = Random::new(seed ^ 0x6368_616e_6765);
        if !random.chance(250) {
            return None;
        }
        let topic = random.pick(&["scans", "purchases", "shares"]);
        let what = random.below(3);
        Some(Change {
            at_permille: 100 + random.below(800),
            grows: (what != 1).then(|| (topic, 1 + random.below(2) as u32)),
            lateness_times: (what != 0).then(|| random.pick(&[2, 3])),
            comes_to_share: random.chance(500),
        })
    }
}

/// A run before it begins.
#[derive(Debug)]
pub struct Plan {
    pub scenario: Scenario,
    pub tasks: u32,
    pub partitions: BTreeMap<Arc<str>, u32>,
    pub workers: usize,
    pub is_static: bool,
    pub has_faults: bool,
    /// Brokers take messages slowly, so that many are on their way when their producer dies.
    pub is_kafka_slow: bool,
    pub steps: usize,
    /// Longest pause between two steps.
    pub pace_ms: i64,
    pub max_lateness_ms: i64,
    /// Records that arrive.
    pub records: usize,
    pub has_twins: bool,
    /// Records bear the times of their producers, whose clocks are off, and not the broker's.
    pub has_producer_times: bool,
    pub producer: Producer,
    pub settings: WorkerSettings,
    pub change: Option<Change>,
    /// At this one of a thousand steps, another number of tasks.
    pub rescale: Option<(usize, u32)>,
    /// Of a thousand boundaries that are crossed, a process dies at so many.
    pub deadly_permille: u32,
    /// Faults in a thousand steps.
    pub fault_permille: u32,
}

/// The name of the input topic of a kind.
pub fn topic_of(kind: EventKind) -> &'static str {
    match kind {
        EventKind::Scan => "scans",
        EventKind::Purchase => "purchases",
        EventKind::Share => "shares",
    }
}

/// Minutes east of UTC of a brand, as the oracle knows them.
pub fn offset_minutes(brand: &str) -> i64 {
    if brand == "bolt" { -210 } else { 480 }
}

fn calendar() -> Calendar {
    let zone = |text: &str| text.parse::<TimeZone>().expect("a zone");
    Calendar::new(zone("+08:00"), BTreeMap::from([("bolt".to_owned(), zone("-03:30"))]))
}

impl Plan {
    pub fn new(random: &mut Random, scenario: Scenario) -> Plan {
        let tasks = random.between(1, 4) as u32;
        let mut partitions: BTreeMap<Arc<str>, u32> = EventKind::ALL
            .into_iter()
            .map(|kind| (Arc::from(topic_of(kind)), if random.chance(700) { tasks } else { random.between(1, 5) as u32 }))
            .collect();
        partitions.insert(Arc::from(EXCHANGE), tasks);
        partitions.insert(Arc::from(DEAD_LETTERS), 2);
        let (max_lateness_ms, forget_slack_ms, pace_ms, steps) = match scenario {
            Scenario::Minutes => (35 * DAY_MS, 7 * DAY_MS, random.pick(&[10, 30, 100]), random.pick(&[600, 2_000, 4_000])),
            Scenario::Weeks => (DAY_MS, 12 * HOUR_MS, 60, random.pick(&[1_500, 4_000])),
        };
        let task = TaskSettings {
            tasks,
            rules: Rules { event_bytes: EVENT_BYTES, future_skew_ms: FUTURE_SKEW_MS, max_lateness_ms, ..Rules::default() },
            inputs: EventKind::ALL.into_iter().map(|kind| (topic_of(kind).to_owned(), (kind, Format::Auto))).collect(),
            max_lateness_ms,
            forget_slack_ms,
            progress_every_ms: forget_slack_ms / 16,
            // Small ones, so that days are written anew often.
            packs: PackRule {
                full_bytes: random.pick(&[1, 100, 1_000]),
                least_outdated: random.pick(&[0, 2, 20]),
                least_rows: random.pick(&[1, 2, 8]),
            },
            fingerprint: Fingerprint::default(),
            cluster_id: "cluster".to_owned(),
            topic_ids: BTreeMap::new(),
        };
        let mut settings = worker_settings(random, task, &partitions);
        if scenario == Scenario::Weeks {
            // A sender may be down for days here.
            settings.relay_gap_limit_ms = 400 * DAY_MS;
        }
        Plan {
            scenario,
            tasks,
            workers: random.between(1, 3) as usize,
            is_static: random.chance(500),
            has_faults: random.chance(900),
            is_kafka_slow: random.chance(300),
            steps,
            pace_ms,
            max_lateness_ms,
            records: random.pick(&[5, 25, 80, 150]),
            has_twins: random.chance(200),
            has_producer_times: random.chance(200),
            producer: Producer::new(random.pick(&[2, 5, 12]), max_lateness_ms, random.pick(&[50, 300, 900]), random.pick(&[200, 800])),
            settings,
            change: None,
            rescale: None,
            partitions,
            deadly_permille: random.pick(&[0, 0, 5, 30]),
            fault_permille: random.pick(&[2, 5, 15]),
        }
    }

    /// With a change to come. The topic that grows is one that does not share the tasks' partitions, if there is one. Events are made as late as
    /// will then be allowed.
    pub fn take_change(&mut self, change: Option<Change>) {
        if let Some(times) = change.as_ref().and_then(|change| change.lateness_times) {
            self.producer.raise_lateness(self.max_lateness_ms * times);
        }
        self.change = change.map(|mut change| {
            let inputs = ["scans", "purchases", "shares"].into_iter().filter(|topic| self.partitions[*topic] != self.tasks);
            let grown = change.grows.map(|(topic, _)| topic);
            if let (Some((topic, _)), Some(other)) = (&mut change.grows, inputs.max_by_key(|topic| Some(*topic) == grown)) {
                *topic = other;
            }
            if let Some((topic, more)) = &mut change.grows
                && change.comes_to_share
                && self.partitions[*topic] < self.tasks
            {
                *more = self.tasks - self.partitions[*topic];
            }
            change
        });
    }

    /// With another number of tasks to come, at some seeds. Not where events are refused because their ids may have been forgotten: tasks have
    /// one horizon after a move, the latest of all, and refuse what one of them had served and not saved.
    pub fn take_rescale(&mut self, seed: u64) {
        let mut random = Random::new(seed ^ 0x7265_7363_616c_6521);
        let forgets = self.scenario == Scenario::Weeks || self.change.as_ref().is_some_and(|change| change.lateness_times.is_some());
        if random.chance(200) && !forgets {
            self.rescale = Some((100 + random.below(800), random.between(1, 4) as u32));
        }
    }

    /// The exchange and the number of tasks from now on.
    pub fn change_tasks(&mut self, exchange: &str, tasks: u32) {
        self.tasks = tasks;
        Arc::make_mut(&mut self.settings.task).tasks = tasks;
        let spec = self.settings.topics.iter_mut().find(|spec| spec.role == LogRole::Exchange).expect("an exchange");
        (spec.name, spec.partitions) = (exchange.to_owned(), tasks);
    }

    /// Another number of tasks; every input has as many partitions.
    pub fn set_tasks(&mut self, tasks: u32) {
        self.tasks = tasks;
        Arc::make_mut(&mut self.settings.task).tasks = tasks;
        for topic in [EXCHANGE, "scans", "purchases", "shares"] {
            self.set_partitions(topic, tasks);
        }
    }

    /// Another number of partitions of a topic.
    pub fn set_partitions(&mut self, topic: &str, partitions: u32) {
        self.partitions.insert(Arc::from(topic), partitions);
        self.settings.topics.iter_mut().filter(|spec| spec.name == topic).for_each(|spec| spec.partitions = partitions);
    }

    /// Topics that workers do not read.
    pub fn not_read() -> BTreeSet<Arc<str>> {
        BTreeSet::from([Arc::from(DEAD_LETTERS)])
    }
}

fn worker_settings(random: &mut Random, task: TaskSettings, partitions: &BTreeMap<Arc<str>, u32>) -> WorkerSettings {
    let role = |topic: &str| match EventKind::ALL.into_iter().find(|kind| topic_of(*kind) == topic) {
        Some(kind) => LogRole::Input { kind, format: Format::Auto },
        None => LogRole::Exchange,
    };
    let is_tight = random.chance(250);
    WorkerSettings {
        serve_interval_ms: 1_000,
        serve_interval_behind_ms: 5_000,
        archive_interval_ms: random.pick(&[1_000, 5_000]),
        archive_rows: 50,
        checkpoint_interval_ms: random.pick(&[1_000, 5_000, 30_000]),
        dirty_keys_per_checkpoint: if is_tight { 6 } else { 10_000 },
        buffered_bytes: if is_tight { 3_000 } else { 10_000_000 },
        in_flight_messages: if is_tight { 4 } else { 10_000 },
        in_flight_bytes: if is_tight { 2_000 } else { 1 << 20 },
        takeover_serve_delay_ms: random.pick(&[0, 3_000, 10_000]),
        relay_gap_limit_ms: 10 * MINUTE_MS,
        parallel_takeovers: random.pick(&[1, 4]),
        halved_rows: random.pick(&[0, 50, u64::MAX]),
        sweep_keys: random.pick(&[3, 20_000]),
        exchange_retention_ms: 400 * DAY_MS,
        start_from: StartFrom::Earliest,
        rejects: RejectLimits { max_consecutive: u64::MAX, max_share: 1.0, accepted: 0 },
        topics: partitions
            .iter()
            .filter(|(topic, _)| ***topic != *DEAD_LETTERS)
            .map(|(topic, count)| TopicSpec { name: topic.to_string(), role: role(topic), partitions: *count })
            .collect(),
        task: Arc::new(task),
        calendar: calendar(),
        switches: Switches::default(),
        levels: LEVELS,
        state_bytes: usize::MAX / 2,
        cold: Arc::new(ColdMemories),
    }
}
