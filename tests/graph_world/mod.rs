//! Several tasks around engines, with logs, an exchange, checkpoints, crashes and zombies: what `worker/` does, without servers.

use std::collections::BTreeMap;

use onecode::engine::{ColdCounts, ColdGroup, Engine, ForgetRule, Mechanisms, Settings, StateKind};
use onecode::model::{Calendar, Event, TimeZone, Version, owner};
use onecode::rows::ServingRows;

use crate::oracle::{Tables, World, without_zeros};
use crate::row_reader::Served;

/// What happens next. Numbers are taken modulo what there is.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A node applies the next record of one of its logs.
    Event { node: usize, log: usize },
    /// A node reads its exchange.
    Receive { node: usize, messages: usize },
    /// A node writes rows and sends contributions, which others find in some order.
    Serve { node: usize, order: usize },
    /// A node checkpoints, or dies after its contributions left and before the checkpoint was durable.
    Checkpoint { node: usize, order: usize, is_lost: bool },
    /// A node goes back to its checkpoint; the old one may live on for a while.
    Crash { node: usize, leaves_zombie: bool },
    /// What lives on applies, reads or speaks, with its old generation.
    Zombie { zombie: usize, what: usize },
}

/// Positions in the input logs and in the exchange.
#[derive(Clone, Debug, Default)]
struct Positions {
    logs: Vec<usize>,
    exchange: usize,
}

#[derive(Debug)]
struct Node {
    task: u32,
    engine: Engine,
    generation: u64,
    sequence: u64,
    positions: Positions,
    /// What of its state is not in memory.
    cold: BTreeMap<ColdGroup, Vec<u8>>,
    /// Parts of the state that were to leave memory.
    parts: u32,
}

#[derive(Clone, Debug, Default)]
struct Checkpoint {
    rows: BTreeMap<(u8, Vec<u8>), Vec<u8>>,
    positions: Positions,
    horizon_ms: i64,
    reach_ms: i64,
}

/// A record of the exchange.
/// The bytes of a contribution.
type Message = (Version, Vec<u8>);

pub struct Cluster {
    tasks: u32,
    levels: u8,
    /// By task and log.
    logs: Vec<Vec<Vec<Event<'static>>>>,
    exchange: Vec<Vec<Message>>,
    /// How far the exchange of a task was ever read: nothing is put before that.
    most_read: Vec<usize>,
    nodes: Vec<Node>,
    zombies: Vec<Node>,
    checkpoints: Vec<Checkpoint>,
    reaches_ms: Vec<i64>,
    served: Served,
    contributions: usize,
}

const LOGS: usize = 3;

impl Node {
    /// Takes back what is missing, until nothing is.
    fn fetch(&mut self, ask: impl Fn(&mut Engine, &mut Vec<ColdGroup>)) {
        loop {
            let mut missing = Vec::new();
            ask(&mut self.engine, &mut missing);
            if missing.is_empty() {
                return;
            }
            for group in missing {
                self.take_back(group);
            }
        }
    }

    fn take_back(&mut self, group: ColdGroup) {
        let rows = self.cold.remove(&group).unwrap_or_default();
        self.engine.take_back(group, &rows).expect("what left comes back");
    }

    fn fetch_due(&mut self) {
        for group in self.engine.due_groups(usize::MAX) {
            self.take_back(group);
        }
    }

    fn fetch_all(&mut self) {
        while let Some(group) = self.cold.keys().next().copied() {
            self.take_back(group);
        }
        assert_eq!(self.engine.cold(), ColdCounts::default());
    }

    /// Takes a checkpoint back: rows in any order and with room for all of them, or as the store gives them and with room for next to nothing.
    fn restore(&mut self, stored: &Checkpoint) {
        let Node { engine, cold, .. } = self;
        let mut rows: Vec<_> = stored.rows.iter().collect();
        let has_room = self.generation.is_multiple_of(2);
        if has_room {
            rows.reverse();
        }
        for (number, ((kind, key), payload)) in rows.into_iter().enumerate() {
            engine.restore(*kind, key, payload).expect("a restorable row");
            if !has_room && number % 8 == 0 {
                evict_all(engine, cold);
            }
        }
        if !has_room {
            evict_all(engine, cold);
            let stays = stored.rows.keys().filter(|(kind, _)| *kind == StateKind::ActiveDay as u8).count();
            assert_eq!(engine.cold().keys + stays, stored.rows.len(), "whatever may leave memory did");
        }
        engine.raise_horizon(stored.horizon_ms);
        engine.raise_reach(stored.reach_ms);
    }

    /// Nothing, a part or all of the state leaves memory after a checkpoint.
    fn forget_in_memory(&mut self) {
        let bytes = match self.sequence % 4 {
            0 => 0,
            1 => self.engine.used_bytes() / 4,
            _ => usize::MAX,
        };
        // Of every five parts that leave one finds no room.
        let Node { engine, cold, parts, .. } = self;
        let evicted = engine.evict(bytes, |groups| {
            *parts += 1;
            let is_kept = !parts.is_multiple_of(5);
            cold.extend(groups.iter().filter(|_| is_kept).map(|evicted| (evicted.group, evicted.rows.clone())));
            is_kept
        });
        evicted.expect("what is refused comes back");
        assert_eq!(self.engine.cold().groups, self.cold.len());
    }
}

impl Cluster {
    /// Tasks whose logs hold these events, by the customer's owner and the kind of event.
    pub fn new(tasks: u32, levels: u8, arrivals: &[Event<'static>]) -> Self {
        let count = tasks as usize;
        let node = |task| Node {
            task,
            engine: Engine::new(settings(task, levels)),
            generation: 1,
            sequence: 0,
            positions: Positions { logs: vec![0; LOGS], exchange: 0 },
            cold: BTreeMap::new(),
            parts: 0,
        };
        let checkpoint = Checkpoint { positions: Positions { logs: vec![0; LOGS], exchange: 0 }, ..Checkpoint::default() };
        let mut cluster = Cluster {
            tasks,
            levels,
            logs: vec![vec![Vec::new(); LOGS]; count],
            exchange: vec![Vec::new(); count],
            most_read: vec![0; count],
            nodes: (0..tasks).map(node).collect(),
            zombies: Vec::new(),
            checkpoints: vec![checkpoint; count],
            reaches_ms: vec![0; count],
            served: Served::default(),
            contributions: 0,
        };
        for event in arrivals {
            cluster.deliver(event);
        }
        cluster
    }

    /// What the oracle has to know.
    pub fn world(&self) -> World {
        let task: fn(&str) -> String = match self.tasks {
            1 => |_| "0".to_owned(),
            2 => |customer| owner(customer, 2).to_string(),
            3 => |customer| owner(customer, 3).to_string(),
            _ => |customer| owner(customer, 4).to_string(),
        };
        World { task, offset_minutes: |_| 480, levels: self.levels.into() }
    }

    pub fn owner(&self, customer_id: &str) -> usize {
        owner(customer_id, self.tasks) as usize
    }

    /// Puts an event at the end of its log.
    pub fn deliver(&mut self, event: &Event<'static>) {
        let task = self.owner(&event.customer_id);
        self.logs[task][event.kind() as usize].push(event.clone());
    }

    /// Puts an event into its log and has it applied before everything else that is waiting.
    pub fn deliver_first(&mut self, event: &Event<'static>) {
        let task = self.owner(&event.customer_id);
        self.deliver(event);
        apply_next(&mut self.nodes[task], &self.logs, event.kind() as usize);
    }

    /// A node applies all that is waiting, and speaks.
    pub fn step_all_of(&mut self, node: usize) {
        for log in 0..LOGS {
            while apply_next(&mut self.nodes[node], &self.logs, log) {}
        }
        self.step(Step::Serve { node, order: 0 });
    }

    pub fn step(&mut self, step: Step) {
        let count = self.nodes.len();
        match step {
            Step::Event { node, log } => {
                apply_next(&mut self.nodes[node % count], &self.logs, log % LOGS);
            }
            Step::Receive { node, messages } => {
                for _ in 0..messages {
                    receive_next(&mut self.nodes[node % count], &self.exchange, &mut self.most_read);
                }
            }
            Step::Serve { node, order } => self.speak(node % count, order),
            Step::Checkpoint { node, order, is_lost } => {
                self.speak(node % count, order);
                if is_lost {
                    self.crash(node % count, false);
                } else {
                    self.checkpoint(node % count);
                }
            }
            Step::Crash { node, leaves_zombie } => self.crash(node % count, leaves_zombie),
            Step::Zombie { zombie, what } => self.zombie_step(zombie, what),
        }
    }

    fn zombie_step(&mut self, zombie: usize, what: usize) {
        if self.zombies.is_empty() {
            return;
        }
        let mut node = self.zombies.swap_remove(zombie % self.zombies.len());
        match what % 6 {
            0..3 => {
                apply_next(&mut node, &self.logs, what % LOGS);
            }
            3 => {
                receive_next(&mut node, &self.exchange, &mut self.most_read);
            }
            _ => self.speak_as(&mut node, what),
        }
        self.zombies.push(node);
    }

    fn speak(&mut self, index: usize, order: usize) {
        let engine = Engine::new(settings(0, self.levels));
        let replacement =
            Node { task: 0, engine, generation: 0, sequence: 0, positions: Positions::default(), cold: BTreeMap::new(), parts: 0 };
        let mut node = std::mem::replace(&mut self.nodes[index], replacement);
        self.speak_as(&mut node, order);
        self.nodes[index] = node;
    }

    /// Rows and contributions. Each contribution comes to lie somewhere behind what its receiver has read.
    fn speak_as(&mut self, node: &mut Node, order: usize) {
        node.sequence += 1;
        let version = Version::new(node.generation, node.sequence);
        let mut rows = ServingRows::default();
        let dirty = node.engine.dirty_rows();
        node.engine.drain_rows(version, &mut rows);
        assert_eq!((rows.rows(), node.engine.dirty_rows()), (dirty, 0), "every dirty key is one row");
        self.served.insert(&rows);
        let Cluster { exchange, most_read, contributions, tasks, .. } = self;
        let waiting = node.engine.dirty_contributions();
        let before = *contributions;
        node.engine.drain_contributions(|customer_id, contribution| {
            *contributions += 1;
            let destination = owner(customer_id, *tasks) as usize;
            let log = &mut exchange[destination];
            let places = log.len() - most_read[destination] + 1;
            let place = if order == 0 { log.len() } else { most_read[destination] + (order + *contributions) % places };
            log.insert(place, (version, contribution.to_vec()));
        });
        assert_eq!((*contributions - before, node.engine.dirty_contributions()), (waiting, 0));
    }

    /// Everything was said; what changed becomes durable, with the positions.
    fn checkpoint(&mut self, index: usize) {
        let node = &mut self.nodes[index];
        let mut rows = Vec::new();
        node.engine.cut(&mut rows);
        assert_eq!(node.engine.dirty_state(), 0);
        let stored = &mut self.checkpoints[index];
        for row in rows {
            if row.deleted {
                assert!(stored.rows.remove(&(row.kind, row.key)).is_some(), "only stored rows are deleted");
            } else {
                stored.rows.insert((row.kind, row.key), row.payload);
            }
        }
        stored.positions = node.positions.clone();
        stored.horizon_ms = node.engine.horizon_ms();
        stored.reach_ms = self.reaches_ms[index];
        assert_eq!(node.engine.live().count as usize, stored.rows.len());
        assert_eq!(node.engine.keys().total(), stored.rows.len());
        node.forget_in_memory();
        assert_eq!(node.engine.live().count as usize, stored.rows.len());
        assert_eq!(node.engine.keys().total(), stored.rows.len());
    }

    fn crash(&mut self, index: usize, leaves_zombie: bool) {
        let stored = &self.checkpoints[index];
        let old = &self.nodes[index];
        let mut node = Node {
            task: old.task,
            engine: Engine::new(settings(old.task, self.levels)),
            generation: old.generation + 1,
            sequence: 0,
            positions: stored.positions.clone(),
            cold: BTreeMap::new(),
            parts: 0,
        };
        node.restore(stored);
        let old = std::mem::replace(&mut self.nodes[index], node);
        if leaves_zombie {
            self.zombies.push(old);
        }
    }

    /// All apply, read and speak until there is nothing left to apply, to read or to say.
    pub fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 1_000_000, "the exchange never falls silent");
            let mut moved = false;
            for index in 0..self.nodes.len() {
                for log in 0..LOGS {
                    while apply_next(&mut self.nodes[index], &self.logs, log) {
                        moved = true;
                    }
                }
                while receive_next(&mut self.nodes[index], &self.exchange, &mut self.most_read) {
                    moved = true;
                }
                moved |= self.nodes[index].engine.dirty_contributions() > 0;
                self.speak(index, 0);
            }
            if !moved {
                return;
            }
        }
    }

    /// Everybody checkpoints, and comes back from it; zombies are gone.
    pub fn die_at_rest(&mut self) {
        self.zombies.clear();
        for index in 0..self.nodes.len() {
            self.checkpoint(index);
            self.crash(index, false);
            let engine = &self.nodes[index].engine;
            assert_eq!((engine.dirty_rows(), engine.dirty_state(), engine.dirty_contributions()), (0, 0, 0));
        }
    }

    /// Moves a task's horizon, and what it has heard of all tasks; forgets what may go.
    pub fn raise_horizon(&mut self, index: usize, horizon_ms: i64, reach_ms: i64) {
        self.reaches_ms[index] = reach_ms;
        let engine = &mut self.nodes[index].engine;
        engine.raise_horizon(horizon_ms);
        engine.raise_reach(reach_ms);
        while engine.sweep(100) == 100 {}
        self.nodes[index].fetch_due();
        self.checkpoint(index);
    }

    /// Contributions sent so far.
    pub fn contributions(&self) -> usize {
        self.contributions
    }

    /// What a reader sees.
    pub fn tables(&self) -> Tables {
        without_zeros(self.served.tables())
    }

    /// All rows that the states of the nodes amount to.
    pub fn rows_of_the_state(&mut self) -> Tables {
        let mut served = Served::default();
        for node in &mut self.nodes {
            node.fetch_all();
            node.engine.mark_everything_for_serving();
            let mut rows = ServingRows::default();
            let dirty = node.engine.dirty_rows();
            node.engine.drain_rows(Version::new(1_000_000, 1), &mut rows);
            assert_eq!(rows.rows(), dirty);
            served.insert(&rows);
        }
        without_zeros(served.tables())
    }
}

fn evict_all(engine: &mut Engine, cold: &mut BTreeMap<ColdGroup, Vec<u8>>) {
    let evicted = engine.evict(usize::MAX, |groups| {
        cold.extend(groups.iter().map(|evicted| (evicted.group, evicted.rows.clone())));
        true
    });
    evicted.expect("all are kept");
}

fn settings(task: u32, levels: u8) -> Settings {
    let zone = "+08:00".parse::<TimeZone>().expect("a zone");
    let forget = ForgetRule { slack_ms: 0, pass_step_ms: 1 };
    Settings {
        task: task.to_string().into(),
        calendar: Calendar::new(zone, BTreeMap::new()),
        forget,
        levels,
        mechanisms: Mechanisms::default(),
    }
}

fn apply_next(node: &mut Node, logs: &[Vec<Vec<Event<'static>>>], log: usize) -> bool {
    let at = &mut node.positions.logs[log];
    let Some(event) = logs[node.task as usize][log].get(*at) else { return false };
    *at += 1;
    node.fetch(|engine, missing| engine.missing_for_event(event, missing));
    node.engine.apply(event);
    true
}

fn receive_next(node: &mut Node, exchange: &[Vec<Message>], most_read: &mut [usize]) -> bool {
    let task = node.task as usize;
    let Some((version, contribution)) = exchange[task].get(node.positions.exchange) else { return false };
    node.positions.exchange += 1;
    most_read[task] = most_read[task].max(node.positions.exchange);
    node.fetch(|engine, missing| engine.missing_for_contribution(contribution, missing));
    node.engine.receive(*version, contribution).expect("a contribution");
    true
}
