//! ClickHouse: serving tables and the archive as ReplacingMergeTree sees them, `task_state` with its generations, and the shell
//! that repeats requests until they are answered.
//!
//! A request may be answered late, in any order, or carried out without an answer and repeated; what was sent may land long
//! after its sender is gone. Rows of serving tables and of a copy may land in pieces, a write to `task_state` never does.

mod moves;

use std::collections::{BTreeMap, BTreeSet};

use onecode::engine::{Half, packed_kind};
use onecode::model::TaskName;
use onecode::rows::{RowBuffer, Table};
use onecode::task::KIND_MARK;
use onecode::worker::{RowKey, RunId, StoreReply, StoreRequest, StoredGeneration, Tally};

use super::random::Random;
use crate::oracle::Tables;
use crate::row_reader::{RawRow, Reader, decoded, raw_rows};

/// One incarnation of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    pub slot: usize,
    pub incarnation: u32,
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "w{}.{}", self.slot, self.incarnation)
    }
}

/// A row of `task_state`.
#[derive(Clone, Debug)]
pub struct StateRow {
    pub task: TaskName,
    pub generation: u64,
    pub kind: u8,
    pub key: Vec<u8>,
    pub sequence: u64,
    pub payload: Vec<u8>,
    pub is_deleted: bool,
}

#[derive(Clone, Debug)]
pub struct StateValue {
    pub sequence: u64,
    pub payload: Vec<u8>,
    pub is_deleted: bool,
}

/// Rows of one generation of one task by kind and key.
pub type Generation = BTreeMap<(u8, Vec<u8>), StateValue>;

/// Rows of one piece of a load.
const ROWS_A_PIECE: usize = 40;

#[derive(Debug)]
enum Work {
    Insert { table: Table, batch: u64, rows: Vec<RawRow> },
    Newest { question: u64, tasks: Vec<TaskName> },
    Copy { run: RunId, task: TaskName, from: u64, to: u64, snapshot: Option<Vec<StateRow>> },
    Write { run: RunId, epoch: u32, rows: Vec<StateRow> },
    Load { run: RunId, task: TaskName, generation: u64, half: Option<Half>, after: Option<RowKey> },
    Tally { run: RunId, task: TaskName, generation: u64 },
    Owners { run: RunId, task: TaskName, besides: u64 },
    Drop { task: TaskName, generations: Vec<u64> },
}

#[derive(Debug)]
struct Pending {
    owner: Owner,
    work: Work,
}

/// What may still land although nobody waits for it.
#[derive(Debug)]
enum Late {
    Rows(Table, Vec<RawRow>),
    State(Vec<StateRow>),
}

/// What is wrong with this store, for the tests of the tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Defects {
    /// Writes to `task_state` may land in pieces.
    pub tears_state: bool,
    /// Serving and archive inserts are acknowledged before they are in.
    pub acknowledges_early: bool,
    /// Versions of rows lack their generation.
    pub ignores_generation: bool,
    /// A move to another number of tasks leaves served cells as they are.
    pub keeps_served_cells: bool,
    /// Packs of cells are read newest first.
    pub reads_packs_backwards: bool,
    /// Packs of cells that are to go stay.
    pub keeps_packs: bool,
}

/// ClickHouse and the requests on their way to it.
#[derive(Debug, Default)]
pub struct Store {
    rows: BTreeMap<(Table, Vec<u8>), (u64, Vec<u8>)>,
    pub state: BTreeMap<(TaskName, u64), Generation>,
    pending: Vec<Pending>,
    late: Vec<Late>,
    /// Checkpoints of senders that are gone, on a long way: as a rule they land when their generation is being taken over.
    held: Vec<Vec<StateRow>>,
    pub is_down: bool,
    /// Copies that were made, and not copied from since.
    copies: BTreeSet<(Owner, TaskName, u64)>,
    /// Copies that whoever made them had to read, because their source had been written to between.
    pub read_again: u64,
    /// Takeovers of rows in place, of which was asked whose they were.
    pub asked_for_owners: u64,
    pub defects: Defects,
    /// A key that said two things with one version.
    pub contradiction: Option<String>,
}

impl Store {
    pub fn send(&mut self, owner: Owner, request: StoreRequest) {
        match &request {
            StoreRequest::Copy { task, from, .. } => self.copies.retain(|(_, of, generation)| (of, generation) != (task, from)),
            StoreRequest::Load { task, generation, half: None | Some(Half::Customers), after: None, .. }
                if self.copies.contains(&(owner, task.clone(), *generation)) =>
            {
                self.read_again += 1;
            }
            _ => {}
        }
        let work = match request {
            StoreRequest::Insert { table, batch, rows } => Work::Insert { table, batch, rows: raw_rows(table, &rows) },
            StoreRequest::Newest { question, tasks } => Work::Newest { question, tasks },
            StoreRequest::Copy { run, task, from, to } => Work::Copy { run, task, from, to, snapshot: None },
            StoreRequest::Write { run, epoch, rows } => Work::Write { run, epoch, rows: state_rows(&rows) },
            StoreRequest::Load { run, task, generation, half, after } => Work::Load { run, task, generation, half, after },
            StoreRequest::Tally { run, task, generation } => Work::Tally { run, task, generation },
            StoreRequest::Owners { run, task, besides } => Work::Owners { run, task, besides },
            StoreRequest::Drop { task, generations } => Work::Drop { task, generations },
        };
        self.pending.push(Pending { owner, work });
    }

    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.late.is_empty() && self.held.is_empty()
    }

    /// Carries out, loses, tears or answers one request. `faults`: outcomes other than prompt success are possible.
    pub fn step(&mut self, random: &mut Random, faults: bool) -> Option<(Owner, StoreReply)> {
        if !self.held.is_empty() && random.chance(5) {
            let rows = self.held.swap_remove(random.below(self.held.len()));
            self.late.push(Late::State(rows));
        }
        if !self.late.is_empty() && (self.pending.is_empty() || random.chance(150)) {
            self.land_one(random);
            return None;
        }
        if self.pending.is_empty() || (self.is_down && !random.chance(20)) {
            return None;
        }
        let index = random.below(self.pending.len());
        if faults && (self.is_down || random.chance(120)) {
            return self.fail(index, random);
        }
        self.carry_out(index, random)
    }

    /// What the server does with a request whose answer is lost: nothing, a part, everything, or everything later. Only a copy,
    /// which is tried once, is answered: its outcome is unknown.
    fn fail(&mut self, index: usize, random: &mut Random) -> Option<(Owner, StoreReply)> {
        let defects = self.defects;
        let how = random.below(4);
        let mut landing = Vec::new();
        match &mut self.pending[index].work {
            Work::Insert { table, rows, .. } => {
                let mut some = rows.clone();
                if how < 2 {
                    random.shuffle(&mut some);
                    some.truncate(random.below(rows.len() + 1));
                }
                landing.push(Late::Rows(*table, some));
            }
            Work::Write { rows, .. } => {
                let mut some = rows.clone();
                if defects.tears_state {
                    random.shuffle(&mut some);
                    some.truncate(random.below(rows.len() + 1));
                }
                landing.push(Late::State(some));
            }
            Work::Copy { task, from, to, snapshot, .. } => {
                let mut rows = snapshot.take().unwrap_or_else(|| rows_of(&self.state, task, *from, *to));
                random.shuffle(&mut rows);
                let later = rows.split_off(random.below(rows.len() + 1));
                landing.push(Late::State(rows));
                if random.chance(500) {
                    self.late.push(Late::State(later));
                }
            }
            Work::Drop { .. } => {
                // Nobody waits, and the next takeover drops it.
                self.pending.swap_remove(index);
                return None;
            }
            Work::Newest { .. } | Work::Load { .. } | Work::Tally { .. } | Work::Owners { .. } => return None,
        }
        match how {
            0 => {}
            1 | 2 => landing.into_iter().for_each(|late| self.land(late)),
            _ => self.late.extend(landing),
        }
        let Work::Copy { run, .. } = self.pending[index].work else { return None };
        let owner = self.pending.swap_remove(index).owner;
        Some((owner, StoreReply::Copied { run, result: Err("no answer".to_owned()) }))
    }

    fn carry_out(&mut self, index: usize, random: &mut Random) -> Option<(Owner, StoreReply)> {
        if let Work::Copy { task, from, to, snapshot, .. } = &mut self.pending[index].work {
            // One SELECT sees one moment, and its rows arrive in pieces.
            let mut rows = snapshot.take().unwrap_or_else(|| rows_of(&self.state, task, *from, *to));
            let left = rows.split_off(random.below(rows.len() + 1));
            let is_done = left.is_empty();
            *snapshot = Some(left);
            self.land(Late::State(rows));
            if !is_done {
                return None;
            }
        }
        let Pending { owner, work } = self.pending.swap_remove(index);
        let reply = match work {
            Work::Insert { table, batch, rows } => {
                if self.defects.acknowledges_early {
                    self.late.push(Late::Rows(table, rows));
                } else {
                    self.land(Late::Rows(table, rows));
                }
                StoreReply::Inserted { table, batch }
            }
            Work::Newest { question, tasks } => {
                let generations = tasks.into_iter().map(|task| (task.clone(), self.generations(&task, 0))).collect();
                StoreReply::Newest { question, generations }
            }
            Work::Copy { run, task, to, .. } => {
                self.copies.insert((owner, task, to));
                StoreReply::Copied { run, result: Ok(()) }
            }
            Work::Write { run, epoch, rows } => {
                self.land(Late::State(rows));
                StoreReply::Written { run, epoch }
            }
            Work::Load { run, task, generation, half, after } => {
                let (rows, more_behind) = self.load(&task, generation, half, after.as_ref());
                self.land_held(&task, generation, random);
                StoreReply::Loaded { run, half, rows, more_behind }
            }
            Work::Tally { run, task, generation } => {
                let mut tally = Tally::default();
                rows_of(&self.state, &task, generation, generation).iter().for_each(|row| tally.add(row.kind, row.sequence));
                StoreReply::Tallied { run, tally }
            }
            Work::Owners { run, task, besides } => {
                self.asked_for_owners += 1;
                StoreReply::Owners { run, generations: self.generations(&task, besides) }
            }
            Work::Drop { task, generations } => {
                for generation in generations {
                    self.state.remove(&(task.clone(), generation));
                }
                return None;
            }
        };
        Some((owner, reply))
    }

    /// The sender is gone: what it had sent lands later, in part, or never.
    pub fn abandon(&mut self, owner: Owner, random: &mut Random) {
        let (theirs, others) = std::mem::take(&mut self.pending).into_iter().partition(|pending| pending.owner == owner);
        self.pending = others;
        for Pending { work, .. } in theirs {
            if random.chance(400) {
                continue;
            }
            match work {
                Work::Insert { table, mut rows, .. } => {
                    random.shuffle(&mut rows);
                    rows.truncate(1 + random.below(rows.len()));
                    self.late.push(Late::Rows(table, rows));
                }
                Work::Copy { task, from, to, snapshot, .. } => {
                    let mut rows = snapshot.unwrap_or_else(|| rows_of(&self.state, &task, from, to));
                    random.shuffle(&mut rows);
                    rows.truncate(1 + random.below(rows.len().max(1)));
                    self.late.push(Late::State(rows));
                }
                Work::Write { mut rows, .. } => {
                    if self.defects.tears_state {
                        random.shuffle(&mut rows);
                        rows.truncate(1 + random.below(rows.len()));
                    }
                    if random.chance(500) {
                        self.held.push(rows);
                    } else {
                        self.late.push(Late::State(rows));
                    }
                }
                Work::Newest { .. } | Work::Load { .. } | Work::Tally { .. } | Work::Owners { .. } | Work::Drop { .. } => {}
            }
        }
        if self.defects.acknowledges_early {
            self.late.retain(|late| matches!(late, Late::State(_)) || random.chance(300));
        }
    }

    fn land_one(&mut self, random: &mut Random) {
        let late = self.late.swap_remove(random.below(self.late.len()));
        self.land(late);
    }

    /// Puts the state back to an earlier moment: what was written since is on its long way.
    pub fn hold_back(&mut self, before: BTreeMap<(TaskName, u64), Generation>) {
        let after = std::mem::replace(&mut self.state, before);
        for ((task, generation), rows) in after {
            let known = self.state.get(&(task.clone(), generation));
            let is_later = |(key, value): &(&(u8, Vec<u8>), &StateValue)| {
                known.and_then(|known| known.get(*key)).map(|before| before.sequence) != Some(value.sequence)
            };
            let row = |((kind, key), value): (&(u8, Vec<u8>), &StateValue)| StateRow {
                task: task.clone(),
                generation,
                kind: *kind,
                key: key.clone(),
                sequence: value.sequence,
                payload: value.payload.clone(),
                is_deleted: value.is_deleted,
            };
            let later: Vec<StateRow> = rows.iter().filter(is_later).map(row).collect();
            self.held.push(later);
        }
        self.held.retain(|rows| !rows.is_empty());
    }

    /// Half of the checkpoints of this generation that were long on their way land.
    fn land_held(&mut self, task: &TaskName, generation: u64, random: &mut Random) {
        let is_due = |rows: &mut Vec<StateRow>| {
            rows.first().is_some_and(|row| row.task == *task && row.generation == generation) && random.chance(500)
        };
        let due: Vec<_> = self.held.extract_if(.., is_due).collect();
        due.into_iter().for_each(|rows| self.land(Late::State(rows)));
    }

    /// Everything that is still on its way lands, or is lost for good.
    pub fn land_all(&mut self, random: &mut Random) {
        for late in std::mem::take(&mut self.late) {
            if self.defects.acknowledges_early || random.chance(700) {
                self.land(late);
            }
        }
    }

    fn land(&mut self, late: Late) {
        match late {
            Late::Rows(table, rows) => rows.into_iter().for_each(|row| self.land_row(table, row)),
            Late::State(rows) => rows.into_iter().for_each(|row| self.land_state(row)),
        }
    }

    fn land_row(&mut self, table: Table, row: RawRow) {
        let version = if self.defects.ignores_generation { row.version & ((1 << 40) - 1) } else { row.version };
        let entry = self.rows.entry((table, row.key)).or_insert_with(|| (version, row.values.clone()));
        if entry.0 > version {
            return;
        }
        if entry.0 == version && entry.1 != row.values && self.contradiction.is_none() {
            self.contradiction = Some(format!("{table:?} says two things with version {version}: {:?} and {:?}", entry.1, row.values));
        }
        *entry = (version, row.values);
    }

    fn land_state(&mut self, row: StateRow) {
        if self.defects.keeps_packs && row.is_deleted && packed_kind(row.kind).is_some() {
            return;
        }
        let rows = self.state.entry((row.task, row.generation)).or_default();
        let value = StateValue { sequence: row.sequence, payload: row.payload, is_deleted: row.is_deleted };
        match rows.get_mut(&(row.kind, row.key.clone())) {
            Some(known) if known.sequence > value.sequence => {}
            Some(known) => *known = value,
            None => {
                rows.insert((row.kind, row.key), value);
            }
        }
    }

    fn generations(&self, task: &TaskName, besides: u64) -> Vec<StoredGeneration> {
        let of_task = self.state.iter().filter(|((name, _), rows)| name == task && !rows.is_empty());
        of_task.map(|((_, generation), rows)| stored(*generation, rows, besides)).collect()
    }

    /// A piece of the live rows, and whether there may be more.
    fn load(&self, task: &TaskName, generation: u64, half: Option<Half>, after: Option<&RowKey>) -> (Vec<u8>, Option<RowKey>) {
        let mut buffer = RowBuffer::default();
        let rows = self.state.get(&(task.clone(), generation)).into_iter().flatten();
        let is_asked_for = |kind: u8| kind != KIND_MARK && half.is_none_or(|half| Half::of(kind) == half);
        let mut live: Vec<_> = rows.filter(|((kind, _), value)| is_asked_for(*kind) && !value.is_deleted).collect();
        if self.defects.reads_packs_backwards {
            live.reverse();
            live.sort_by_key(|((kind, key), _)| (*kind, if packed_kind(*kind).is_some() { None } else { Some(key) }));
        }
        // In one piece when they are out of order: the next would begin behind the last key.
        let at_once = if self.defects.reads_packs_backwards { usize::MAX } else { ROWS_A_PIECE };
        let mut last = None;
        for (row_key @ (kind, key), value) in live.into_iter().filter(|(key, _)| after.is_none_or(|after| *key > after)).take(at_once) {
            last = Some(row_key);
            buffer.push(|out| {
                out.u8(*kind).blob(key).u64(value.sequence).blob(&value.payload);
            });
        }
        let more_behind = last.filter(|_| buffer.rows() == at_once).cloned();
        (buffer.row_binary(), more_behind)
    }

    /// What a reader sees under FINAL.
    pub fn tables(&self) -> Tables {
        let rows = self.rows.iter().map(|((table, key), (_, values))| {
            let (key, values) = decoded(*table, key, values);
            ((*table, key), values)
        });
        rows.collect()
    }
}

/// What is said of a generation as a whole.
fn stored(generation: u64, rows: &Generation, besides: u64) -> StoredGeneration {
    let owners = rows.iter().filter_map(|((kind, key), row)| {
        let owner = u64::from_be_bytes(key.as_slice().try_into().ok()?);
        (*kind == KIND_MARK && owner != besides).then_some((owner, !row.payload.is_empty()))
    });
    let (owner, is_closed) = owners.max().unwrap_or((generation, false));
    StoredGeneration {
        generation,
        complete: rows.contains_key(&(KIND_MARK, Vec::new())),
        owner,
        is_closed,
        rows: rows.len() as u64,
        gone: rows.values().filter(|row| row.is_deleted).count() as u64,
    }
}

/// Live rows of a generation, as another.
fn rows_of(state: &BTreeMap<(TaskName, u64), Generation>, task: &TaskName, from: u64, to: u64) -> Vec<StateRow> {
    let rows = state.get(&(task.clone(), from)).into_iter().flatten();
    rows.filter(|((kind, _), value)| *kind != KIND_MARK && !value.is_deleted)
        .map(|((kind, key), value)| StateRow {
            task: task.clone(),
            generation: to,
            kind: *kind,
            key: key.clone(),
            sequence: value.sequence,
            payload: value.payload.clone(),
            is_deleted: false,
        })
        .collect()
}

fn state_rows(buffer: &RowBuffer) -> Vec<StateRow> {
    let bytes = buffer.row_binary();
    let mut reader = Reader(&bytes);
    let mut rows = Vec::with_capacity(buffer.rows());
    for _ in 0..buffer.rows() {
        let task = TaskName::from(String::from_utf8(reader.blob()).expect("a task's name"));
        let generation = u64::from_le_bytes(reader.bytes());
        let [kind] = reader.bytes();
        let key = reader.blob();
        let sequence = u64::from_le_bytes(reader.bytes());
        let payload = reader.blob();
        let [is_deleted] = reader.bytes();
        rows.push(StateRow { task, generation, kind, key, sequence, payload, is_deleted: is_deleted == 1 });
    }
    rows
}
