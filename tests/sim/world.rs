//! Everything outside of the workers: brokers, ClickHouse, what is on its way, the clock; and the [`Io`] through which the real
//! worker sees it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use onecode::model::{Offset, TopicPartition};
use onecode::task::{DeadLetter, EXCHANGE_HEADER, Record, dead_letter_headers};
use onecode::worker::{Boundary, Commit, Committed, InFlight, Io, LogError, LogRange, Now, RunId, StoreReply, StoreRequest, Ticket};

use super::kafka::{Headers, Kafka, MemberId, Message};
use super::random::Random;
use super::store::{Owner, Store};

/// The exchange of the first number of tasks; that of another has it for the beginning of its name.
pub const EXCHANGE: &str = "exchange";
pub const DEAD_LETTERS: &str = "dead-letters";

/// Where a consumer is in one of its partitions.
#[derive(Debug)]
pub struct Fetch {
    pub next: Offset,
    pub is_paused: bool,
    /// The end that was reported last.
    pub told_end: Option<Offset>,
}

/// What one incarnation of a worker has to do with the world: its consumer, its producer, and answers on their way to it.
#[derive(Debug)]
pub struct Link {
    pub owner: Owner,
    /// Static members keep their slot's name.
    pub instance: Option<usize>,
    pub member: Option<MemberId>,
    pub generation: u64,
    pub is_awaiting: bool,
    pub has_assignment: bool,
    pub fetches: BTreeMap<TopicPartition, Fetch>,
    pub queues: BTreeMap<TopicPartition, VecDeque<Message>>,
    pub acknowledged: Vec<(Ticket, usize)>,
    pub in_flight: InFlight,
    pub replies: Vec<StoreReply>,
    pub clock_skew_ms: i64,
    /// It died at a boundary: what it still does until it is noticed has no effect.
    pub died_at: Option<Boundary>,
}

impl Link {
    pub fn new(owner: Owner, instance: Option<usize>, clock_skew_ms: i64) -> Self {
        Link {
            owner,
            instance,
            member: None,
            generation: 0,
            is_awaiting: false,
            has_assignment: false,
            fetches: BTreeMap::new(),
            queues: BTreeMap::new(),
            acknowledged: Vec::new(),
            in_flight: InFlight::default(),
            replies: Vec::new(),
            clock_skew_ms,
            died_at: None,
        }
    }

    pub fn is_quiet(&self) -> bool {
        self.replies.is_empty() && self.acknowledged.is_empty() && self.queues.values().all(VecDeque::is_empty)
    }
}

/// What a person reads when a seed fails.
#[derive(Debug, Default)]
pub struct Trace {
    pub is_on: bool,
    pub lines: Vec<String>,
}

/// Whether a topic is the exchange of any number of tasks.
pub fn is_exchange(topic: &str) -> bool {
    topic.starts_with(EXCHANGE)
}

/// The world.
#[derive(Debug)]
pub struct World {
    /// The exchange that workers use.
    pub exchange: Arc<str>,
    pub random: Random,
    pub now_ms: i64,
    pub kafka: Kafka,
    pub store: Store,
    /// By slot; `None` while the worker is dead.
    pub links: Vec<Option<Link>>,
    pub trace: Trace,
    /// Requests to brokers may fail without an outage.
    pub has_faults: bool,
    /// Of a thousand boundaries that are crossed, a process dies at so many.
    pub deadly_permille: u32,
    /// For the tests of the tests: Kafka acknowledges what it does not have yet.
    pub acknowledges_early: bool,
}

/// Unix milliseconds at which every run begins: 2026-01-10 00:00 UTC.
pub const BEGIN_MS: i64 = 20_463 * 86_400_000;

/// Adds a line to the trace; the text is made only when somebody will read it.
macro_rules! trace {
    ($world:expr, $($text:tt)+) => {
        if $world.trace.is_on {
            let line = format!("{:>10.3}s {}", $world.now_ms as f64 / 1_000.0, format_args!($($text)+));
            $world.trace.lines.push(line);
        }
    };
}
pub(super) use trace;

impl World {
    /// The time as a worker's clocks show it.
    pub fn now(&self, slot: usize) -> Now {
        let skew_ms = self.links[slot].as_ref().map_or(0, |link| link.clock_skew_ms);
        Now { mono_ms: self.now_ms, wall_ms: BEGIN_MS + self.now_ms + skew_ms }
    }

    pub fn wall_ms(&self) -> i64 {
        BEGIN_MS + self.now_ms
    }

    pub fn link(&mut self, slot: usize) -> &mut Link {
        self.links[slot].as_mut().expect("a living worker")
    }

    pub fn io(&mut self, slot: usize) -> SimIo<'_> {
        SimIo { world: self, slot }
    }

    /// Lets brokers take the next message of one queue of a producer. Whether there was one.
    pub fn produce_one(&mut self, slot: usize) -> bool {
        let wall_ms = self.wall_ms();
        let Some(link) = &mut self.links[slot] else { return false };
        let waiting: Vec<TopicPartition> = link.queues.iter().filter(|(_, queue)| !queue.is_empty()).map(|(tp, _)| tp.clone()).collect();
        if waiting.is_empty() || self.kafka.is_down {
            return false;
        }
        let tp = waiting[self.random.below(waiting.len())].clone();
        let Some(message) = link.queues.get_mut(&tp).and_then(VecDeque::pop_front) else { return false };
        if !self.acknowledges_early {
            link.acknowledged.push((message.ticket, message.bytes()));
        }
        self.append(&tp, wall_ms, message);
        true
    }

    /// Kafka takes a message, and once in a while twice: at once, or when others have spoken since.
    fn append(&mut self, tp: &TopicPartition, wall_ms: i64, message: Message) {
        if self.has_faults && self.random.chance(30) {
            let copy = message.clone();
            if self.random.chance(500) {
                self.kafka.orphans.push((tp.clone(), VecDeque::from([copy])));
            } else {
                self.kafka.log_mut(tp).append(wall_ms, copy.key, copy.value, copy.headers);
            }
        }
        self.kafka.log_mut(tp).append(wall_ms, message.key, message.value, message.headers);
    }

    /// Has brokers take so many of a thousand messages of the exchange once more, later and in any order. Returns how many.
    pub fn copy_exchange(&mut self, permille: u32) -> usize {
        let before = self.kafka.orphans.len();
        for (tp, log) in self.kafka.logs.iter().filter(|(tp, _)| tp.topic == self.exchange) {
            for record in log.records() {
                if self.random.chance(permille) {
                    let ticket = Ticket { run: RunId(0), epoch: 0 };
                    let (key, value, headers) = (record.key.clone(), record.value.clone(), record.headers.clone());
                    self.kafka.orphans.push((tp.clone(), VecDeque::from([Message { ticket, key, value, headers }])));
                }
            }
        }
        self.kafka.orphans.len() - before
    }

    /// Lets brokers take a message of a producer that is gone. Whether there was one.
    pub fn land_orphan(&mut self) -> bool {
        let wall_ms = self.wall_ms();
        if self.kafka.is_down || self.kafka.orphans.is_empty() {
            return false;
        }
        let index = self.random.below(self.kafka.orphans.len());
        let (tp, queue) = &mut self.kafka.orphans[index];
        let (tp, message) = (tp.clone(), queue.pop_front());
        if queue.is_empty() {
            self.kafka.orphans.swap_remove(index);
        }
        if let Some(message) = message {
            trace!(self, "a message of a dead producer reaches {tp}");
            self.append(&tp, wall_ms, message);
        }
        true
    }

    /// A producer dies: of each queue a prefix may still land, and sometimes one of it is missing.
    pub fn abandon_queues(&mut self, link: &mut Link) {
        for (tp, mut queue) in std::mem::take(&mut link.queues) {
            if queue.is_empty() || self.random.chance(300) {
                continue;
            }
            queue.truncate(1 + self.random.below(queue.len()));
            if queue.len() > 1 && self.random.chance(500) {
                queue.remove(self.random.below(queue.len()));
            }
            self.kafka.orphans.push((tp, queue));
        }
        if self.random.chance(500) {
            while self.land_orphan() {}
        }
    }

    fn broker(&mut self) -> Result<(), LogError> {
        if self.kafka.is_down || (self.has_faults && self.random.chance(20)) {
            return Err(LogError::Unavailable("no broker answers".to_owned()));
        }
        Ok(())
    }
}

/// The world as one worker sees it.
pub struct SimIo<'a> {
    world: &'a mut World,
    slot: usize,
}

impl SimIo<'_> {
    fn owner(&self) -> Owner {
        self.world.links[self.slot].as_ref().map_or(Owner { slot: self.slot, incarnation: 0 }, |link| link.owner)
    }

    fn is_dead(&self) -> bool {
        self.world.links[self.slot].as_ref().is_none_or(|link| link.died_at.is_some())
    }

    fn alive(&mut self) -> Result<(), LogError> {
        if self.is_dead() { Err(LogError::Unavailable("dead".to_owned())) } else { self.world.broker() }
    }

    fn produce(&mut self, topic: &str, partition: i32, message: Message) {
        let early = self.world.acknowledges_early;
        let is_dead = self.is_dead();
        let link = self.world.link(self.slot);
        if is_dead {
            return;
        }
        link.in_flight.messages += 1;
        link.in_flight.bytes += message.bytes();
        if early {
            link.acknowledged.push((message.ticket, message.bytes()));
        }
        link.queues.entry(TopicPartition { topic: Arc::from(topic), partition }).or_default().push_back(message);
    }
}

fn all_headers(headers: &dyn onecode::task::Headers) -> Headers {
    let mut all = Vec::new();
    headers.visit(&mut |name, value| all.push((name.to_owned(), value.map(<[u8]>::to_vec))));
    all
}

impl Io for SimIo<'_> {
    fn commit(&mut self, commits: &[Commit]) -> Result<(), LogError> {
        if self.is_dead() {
            return Err(LogError::Unavailable("dead".to_owned()));
        }
        let owner = self.owner();
        let available = self.world.broker();
        let is_carried_out = available.is_ok() || (!self.world.kafka.is_down && self.world.random.chance(500));
        let (member, generation) = {
            let link = self.world.link(self.slot);
            (link.member, link.generation)
        };
        let outcome = if is_carried_out { self.world.kafka.group.commit(member, generation, commits).and(available) } else { available };
        trace!(
            self.world,
            "{owner} commits {}: {}",
            commits_text(commits),
            outcome.as_ref().map_or_else(ToString::to_string, |()| "ok".to_owned())
        );
        outcome
    }

    fn committed(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Committed>, LogError> {
        self.alive()?;
        Ok(partitions.iter().map(|tp| self.world.kafka.group.committed(tp)).collect())
    }

    fn range(&mut self, tp: &TopicPartition) -> Result<LogRange, LogError> {
        self.alive()?;
        let log = self.world.kafka.log(tp);
        Ok(LogRange { start: log.start, end: log.end })
    }

    fn start(&mut self, starts: &[(TopicPartition, Offset)]) -> Result<(), LogError> {
        self.alive()?;
        let owner = self.owner();
        for (tp, offset) in starts {
            trace!(self.world, "{owner} reads {tp} from {offset}");
            let fetch = Fetch { next: *offset, is_paused: false, told_end: None };
            self.world.link(self.slot).fetches.insert(tp.clone(), fetch);
        }
        Ok(())
    }

    fn pause(&mut self, partitions: &[TopicPartition]) {
        let owner = self.owner();
        trace!(self.world, "{owner} pauses {} partitions", partitions.len());
        let link = self.world.link(self.slot);
        for tp in partitions {
            if let Some(fetch) = link.fetches.get_mut(tp) {
                fetch.is_paused = true;
            }
        }
    }

    fn produce_exchange(&mut self, ticket: Ticket, partition: u32, header: &[u8], record: Option<&Record<'_>>) {
        let owner = self.owner();
        let mut headers = record.map_or_else(Headers::new, |record| all_headers(record.headers));
        headers.push((EXCHANGE_HEADER.to_owned(), Some(header.to_vec())));
        trace!(self.world, "{owner} run {} sends to exchange[{partition}]: {:?}", ticket.run.0, onecode::task::decode_header(header));
        let bytes = |part: Option<&[u8]>| part.map(<[u8]>::to_vec);
        let (key, value) = record.map_or((None, None), |record| (bytes(record.key), bytes(record.value)));
        let exchange = self.world.exchange.clone();
        self.produce(&exchange, partition as i32, Message { ticket, key, value, headers });
    }

    fn produce_dead_letter(&mut self, ticket: Ticket, letter: &DeadLetter<'_>) {
        let owner = self.owner();
        trace!(self.world, "{owner} dead letter of {} {}: {}", letter.origin.log, letter.origin.offset, letter.reject);
        let mut headers = all_headers(letter.headers);
        headers.extend(dead_letter_headers(letter).into_iter().map(|(name, value)| (name.to_owned(), Some(value.into_bytes()))));
        let (key, value) = (letter.key.map(<[u8]>::to_vec), letter.value.map(<[u8]>::to_vec));
        let partition = self.world.random.below(2) as i32;
        self.produce(DEAD_LETTERS, partition, Message { ticket, key, value, headers });
    }

    fn cross(&mut self, boundary: Boundary) {
        let may_die = self.world.has_faults && self.world.deadly_permille > 0 && !self.is_dead();
        if may_die && self.world.random.chance(self.world.deadly_permille) {
            trace!(self.world, "{} dies at the boundary {}", self.owner(), boundary.name());
            self.world.link(self.slot).died_at = Some(boundary);
        }
    }

    fn store(&mut self, request: StoreRequest) {
        if self.is_dead() {
            return;
        }
        let owner = self.owner();
        trace!(self.world, "{owner} asks clickhouse: {}", request_text(&request));
        self.world.store.send(owner, request);
    }

    fn in_flight(&self) -> InFlight {
        self.world.links[self.slot].as_ref().map_or(InFlight::default(), |link| link.in_flight)
    }
}

fn commits_text(commits: &[Commit]) -> String {
    let texts: Vec<String> = commits
        .iter()
        .map(|commit| {
            let generation = commit.claim.map_or(String::new(), |claim| format!(" generation {}", claim.generation));
            format!("{} at {}{generation}", commit.tp, commit.offset)
        })
        .collect();
    texts.join(", ")
}

fn request_text(request: &StoreRequest) -> String {
    match request {
        StoreRequest::Insert { table, batch, rows } => format!("insert batch {batch}, {} rows into {}", rows.rows(), table.name()),
        StoreRequest::Newest { question, tasks } => format!("generations of {tasks:?} (question {question})"),
        StoreRequest::Copy { run, task, from, to } => format!("copy task {task} from generation {from} to {to} (run {})", run.0),
        StoreRequest::Write { run, epoch, rows } => format!("write {} state rows (run {} cut {epoch})", rows.rows(), run.0),
        StoreRequest::Load { run, task, generation, half, after } => {
            let from = after.as_ref().map_or_else(String::new, |(kind, key)| format!(" behind {kind} {key:02x?}"));
            format!("load task {task} generation {generation} half {half:?}{from} (run {})", run.0)
        }
        StoreRequest::Tally { run, task, generation } => format!("count generation {generation} of task {task} (run {})", run.0),
        StoreRequest::Owners { run, task, besides } => format!("owners of task {task} besides {besides} (run {})", run.0),
        StoreRequest::Drop { task, generations } => format!("drop generations {generations:?} of task {task}"),
    }
}

pub fn reply_text(reply: &StoreReply) -> String {
    match reply {
        StoreReply::Inserted { table, batch } => format!("batch {batch} is in {}", table.name()),
        StoreReply::Newest { question, generations } => format!("generations (question {question}): {generations:?}"),
        StoreReply::Copied { run, result } => format!("copy of run {}: {result:?}", run.0),
        StoreReply::Written { run, epoch } => format!("run {} cut {epoch} is written", run.0),
        StoreReply::Loaded { run, half, rows, more_behind } => {
            format!("run {} loads {} bytes of half {half:?}, more: {}", run.0, rows.len(), more_behind.is_some())
        }
        StoreReply::Tallied { run, tally } => format!("run {} has {tally:?}", run.0),
        StoreReply::Owners { run, generations } => format!("run {} hears of owners: {generations:?}", run.0),
        StoreReply::Refused { error } => format!("refused: {error}"),
    }
}
