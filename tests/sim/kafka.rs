//! Kafka: logs with offsets and append times, and the coordinator of one group (classic protocol, eager, range assignor).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;

use onecode::model::{Offset, TopicPartition};
use onecode::worker::{Commit, Committed, LogError, Ticket};

/// A member is expelled when it was not heard of for this long.
pub const SESSION_TIMEOUT_MS: i64 = 10_000;
/// A rebalance waits no longer for members to join again.
const REBALANCE_TIMEOUT_MS: i64 = 15_000;

pub type Headers = Vec<(String, Option<Vec<u8>>)>;

/// A record of a log.
#[derive(Debug)]
pub struct Stored {
    pub offset: Offset,
    pub timestamp_ms: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Headers,
}

/// One partition. Offsets may have holes, as transaction markers leave them.
#[derive(Debug, Default)]
pub struct Log {
    records: Vec<Rc<Stored>>,
    pub start: Offset,
    pub end: Offset,
}

impl Log {
    pub fn append(&mut self, timestamp_ms: i64, key: Option<Vec<u8>>, value: Option<Vec<u8>>, headers: Headers) -> Offset {
        let offset = self.end;
        self.records.push(Rc::new(Stored { offset, timestamp_ms, key, value, headers }));
        self.end += 1;
        offset
    }

    /// An offset without a record.
    pub fn append_marker(&mut self) {
        self.end += 1;
    }

    /// The first record at or after an offset.
    pub fn first_from(&self, offset: Offset) -> Option<Rc<Stored>> {
        let index = self.records.partition_point(|record| record.offset < offset);
        self.records.get(index).cloned()
    }

    pub fn records(&self) -> impl Iterator<Item = &Stored> {
        self.records.iter().map(|record| &**record)
    }

    /// Retention: what lies before an offset can be read no more (it is kept for the comparison at the end).
    pub fn remove_before(&mut self, offset: Offset) {
        self.start = self.start.max(offset.min(self.end));
    }
}

/// A produced message on its way to its log.
#[derive(Clone, Debug)]
pub struct Message {
    pub ticket: Ticket,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Headers,
}

impl Message {
    pub fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len)
    }
}

pub type MemberId = u64;

#[derive(Debug)]
struct Member {
    /// Slot of a static member.
    instance: Option<usize>,
    last_seen_ms: i64,
    has_joined: bool,
}

/// The group's coordinator.
#[derive(Debug, Default)]
pub struct Group {
    pub generation: u64,
    preparing_since_ms: Option<i64>,
    members: BTreeMap<MemberId, Member>,
    assignment: BTreeMap<MemberId, Vec<TopicPartition>>,
    committed: BTreeMap<TopicPartition, Committed>,
    next_member: MemberId,
}

impl Group {
    /// A new member, or the successor of a static one: that takes its predecessor's place without a rebalance.
    pub fn join(&mut self, instance: Option<usize>, now_ms: i64) -> MemberId {
        self.next_member += 1;
        let id = self.next_member;
        let predecessor = self.members.iter().find(|(_, member)| instance.is_some() && member.instance == instance).map(|(id, _)| *id);
        self.members.insert(id, Member { instance, last_seen_ms: now_ms, has_joined: true });
        match predecessor {
            Some(old) => {
                self.members.remove(&old);
                if let Some(partitions) = self.assignment.remove(&old) {
                    self.assignment.insert(id, partitions);
                }
            }
            None => self.prepare(now_ms),
        }
        id
    }

    fn prepare(&mut self, now_ms: i64) {
        if self.preparing_since_ms.is_none() {
            self.preparing_since_ms = Some(now_ms);
            for member in self.members.values_mut() {
                member.has_joined = false;
            }
        }
    }

    /// An operator or a changed subscription makes the group rebalance.
    pub fn rebalance(&mut self, now_ms: i64) {
        if !self.members.is_empty() {
            self.prepare(now_ms);
        }
    }

    /// Time jumped: nobody is late for having slept with everybody else.
    pub fn jumped_to(&mut self, now_ms: i64) {
        if self.preparing_since_ms.is_some() {
            self.preparing_since_ms = Some(now_ms);
        }
    }

    pub fn rejoin(&mut self, id: MemberId) {
        if let Some(member) = self.members.get_mut(&id) {
            member.has_joined = true;
        }
    }

    pub fn leave(&mut self, id: MemberId, now_ms: i64) {
        if self.members.remove(&id).is_some() {
            self.assignment.remove(&id);
            self.prepare(now_ms);
        }
    }

    /// All members were stopped for longer than a session.
    pub fn lose_members(&mut self) {
        self.members.clear();
        self.assignment.clear();
        self.preparing_since_ms = None;
    }

    pub fn heartbeat(&mut self, id: MemberId, now_ms: i64) {
        if let Some(member) = self.members.get_mut(&id) {
            member.last_seen_ms = now_ms;
        }
    }

    pub fn has_member(&self, id: MemberId) -> bool {
        self.members.contains_key(&id)
    }

    /// Whether a static member's place was taken by another process.
    pub fn is_replaced(&self, id: MemberId, instance: Option<usize>) -> bool {
        instance.is_some() && !self.has_member(id) && self.members.values().any(|member| member.instance == instance)
    }

    pub fn is_preparing(&self) -> bool {
        self.preparing_since_ms.is_some()
    }

    pub fn must_rejoin(&self, id: MemberId) -> bool {
        self.is_preparing() && self.members.get(&id).is_some_and(|member| !member.has_joined)
    }

    pub fn assignment_of(&self, id: MemberId) -> Vec<TopicPartition> {
        self.assignment.get(&id).cloned().unwrap_or_default()
    }

    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// Expels silent members, and ends a rebalance that everybody has joined or that took too long.
    pub fn advance(&mut self, now_ms: i64, topics: &BTreeMap<Arc<str>, u32>) -> bool {
        let silent: Vec<MemberId> =
            self.members.iter().filter(|(_, member)| now_ms - member.last_seen_ms > SESSION_TIMEOUT_MS).map(|(id, _)| *id).collect();
        for id in silent {
            self.leave(id, now_ms);
        }
        let Some(since_ms) = self.preparing_since_ms else { return false };
        let is_late = now_ms - since_ms > REBALANCE_TIMEOUT_MS;
        if !is_late && self.members.values().any(|member| !member.has_joined) {
            return false;
        }
        self.members.retain(|_, member| member.has_joined);
        self.generation += 1;
        self.preparing_since_ms = None;
        self.assign_ranges(topics);
        true
    }

    fn assign_ranges(&mut self, topics: &BTreeMap<Arc<str>, u32>) {
        let mut order: Vec<(usize, MemberId)> =
            self.members.iter().map(|(id, member)| (member.instance.unwrap_or(usize::MAX), *id)).collect();
        order.sort_unstable();
        self.assignment = order.iter().map(|(_, id)| (*id, Vec::new())).collect();
        if order.is_empty() {
            return;
        }
        for (topic, partitions) in topics {
            let (each, more) = (*partitions as usize / order.len(), *partitions as usize % order.len());
            let mut next = 0;
            for (place, (_, id)) in order.iter().enumerate() {
                let count = each + usize::from(place < more);
                let mine = (next..next + count).map(|partition| TopicPartition { topic: topic.clone(), partition: partition as i32 });
                self.assignment.entry(*id).or_default().extend(mine);
                next += count;
            }
        }
    }

    /// Accepts a commit of a live member of the present generation, for any partition.
    pub fn commit(&mut self, id: Option<MemberId>, generation: u64, commits: &[Commit]) -> Result<(), LogError> {
        if !id.is_some_and(|id| self.has_member(id)) {
            return Err(LogError::Fenced("unknown member id".to_owned()));
        }
        if generation != self.generation {
            return Err(LogError::Fenced("illegal generation".to_owned()));
        }
        for commit in commits {
            let entry = Committed { offset: Some(commit.offset), claim: commit.claim };
            self.committed.insert(commit.tp.clone(), entry);
        }
        Ok(())
    }

    pub fn committed(&self, tp: &TopicPartition) -> Committed {
        self.committed.get(tp).copied().unwrap_or_default()
    }

    /// Offsets expired, or the group was deleted: only a group without members loses them.
    pub fn lose_offsets(&mut self) -> bool {
        let may = self.members.is_empty() && !self.committed.is_empty();
        if may {
            self.committed.clear();
        }
        may
    }
}

/// All brokers.
#[derive(Debug)]
pub struct Kafka {
    pub logs: BTreeMap<TopicPartition, Log>,
    pub partitions: BTreeMap<Arc<str>, u32>,
    /// The topics that workers read.
    pub subscribed: BTreeMap<Arc<str>, u32>,
    pub group: Group,
    pub is_down: bool,
    /// What dead producers had on its way, in order by log.
    pub orphans: Vec<(TopicPartition, VecDeque<Message>)>,
}

impl Kafka {
    pub fn new(partitions: BTreeMap<Arc<str>, u32>, not_read: &BTreeSet<Arc<str>>) -> Self {
        let logs = partitions.iter().flat_map(|(topic, count)| {
            (0..*count as i32).map(|partition| (TopicPartition { topic: topic.clone(), partition }, Log::default()))
        });
        let subscribed = partitions.iter().filter(|(topic, _)| !not_read.contains(*topic)).map(|(topic, count)| (topic.clone(), *count));
        Kafka {
            logs: logs.collect(),
            subscribed: subscribed.collect(),
            partitions,
            group: Group::default(),
            is_down: false,
            orphans: Vec::new(),
        }
    }

    /// Retention takes what is before the committed offsets: nobody who may still own a task needs it.
    pub fn retain(&mut self) {
        for (tp, log) in self.logs.iter_mut().filter(|(tp, _)| self.subscribed.contains_key(&tp.topic)) {
            log.remove_before(self.group.committed(tp).offset.unwrap_or(0));
        }
    }

    /// An operator makes a topic, for workers to read.
    pub fn add_topic(&mut self, topic: &Arc<str>, partitions: u32) {
        for partition in 0..partitions as i32 {
            self.logs.insert(TopicPartition { topic: topic.clone(), partition }, Log::default());
        }
        for counts in [&mut self.partitions, &mut self.subscribed] {
            counts.insert(topic.clone(), partitions);
        }
    }

    /// An operator adds partitions to a topic that workers read.
    pub fn grow(&mut self, topic: &str, more: u32) {
        let topic: Arc<str> = Arc::from(topic);
        let before = self.partitions[&topic];
        for partition in before..before + more {
            self.logs.insert(TopicPartition { topic: topic.clone(), partition: partition as i32 }, Log::default());
        }
        for counts in [&mut self.partitions, &mut self.subscribed] {
            counts.insert(topic.clone(), before + more);
        }
    }

    pub fn log(&self, tp: &TopicPartition) -> &Log {
        self.logs.get(tp).expect("a log of the cluster")
    }

    pub fn log_mut(&mut self, tp: &TopicPartition) -> &mut Log {
        self.logs.get_mut(tp).expect("a log of the cluster")
    }
}
