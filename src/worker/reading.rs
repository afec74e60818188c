//! Reading the state of a task that is taken over back into memory.
//!
//! Owns [`Reading`]: whose rows are read, and how far. It begins with the copying, and from its source, so that neither waits for the other. Promises that
//! what was read is what the copy holds: until the claim was known, an owner before us may have written to the source between the two, and then both
//! tallies differ and the copy is read instead. Never lets a task run: that is for the confirm.

use smallvec::SmallVec;

use super::io::{Io, RowKey, RunId, StoreRequest, Tally};
use super::slot::{Phase, Taken};
use super::taking::{NotTaken, take_alone, take_shared};
use super::{Now, Worker};
use crate::engine::{Engine, Half};
use crate::model::{TaskName, TopicPartition};
use crate::task::{Generations, LogRole, Positions, Restore, StoredRows, Task, TaskError};

/// State on its way into memory.
#[derive(Debug)]
pub(super) struct Reading {
    /// The run whose answers count.
    run: RunId,
    /// The generation whose rows are read: the source of a copy, or the copy.
    from: u64,
    /// Those of the task.
    generations: Generations,
    /// One of all rows, or one of each half.
    loads: SmallVec<[Load; 2]>,
    /// From the first piece on.
    restore: Option<Box<Restore>>,
    tally: Tally,
    /// How it ended.
    end: Option<Result<(), String>>,
}

/// Rows that one query has.
#[derive(Debug)]
struct Load {
    half: Option<Half>,
    piece: Option<Piece>,
    /// The one behind it.
    ahead: Option<Piece>,
    is_done: bool,
}

/// Rows that were read, and how many bytes of them are taken back.
#[derive(Debug)]
struct Piece {
    rows: Vec<u8>,
    at: usize,
    has_more: bool,
    /// Its last row, if the piece behind it is still to be asked for.
    more_behind: Option<RowKey>,
}

impl Piece {
    /// The rows that are still to be taken back.
    fn left(&self) -> StoredRows<'_> {
        StoredRows::new(self.rows.get(self.at..).unwrap_or_default())
    }
}

impl Load {
    /// Whether its rows may be taken: before the task's positions come other rows of their half alone.
    fn is_due(&self, has_positions: bool) -> bool {
        has_positions || self.half != Some(Half::Graph)
    }

    /// Where the piece behind the one that is here begins, if it is to be asked for.
    fn asks_behind(&mut self) -> Option<RowKey> {
        self.piece.as_mut()?.more_behind.take()
    }

    /// Goes on to the piece behind one that was taken.
    fn advance(&mut self) {
        if let Some(taken) = self.piece.take_if(|piece| piece.at >= piece.rows.len()) {
            self.piece = self.ahead.take();
            self.is_done = !taken.has_more;
        }
    }
}

impl Reading {
    /// Asks for the first rows; `is_halved`: by a query for each half.
    pub fn begin<I: Io>(io: &mut I, run: RunId, task: &TaskName, from: u64, generations: Generations, is_halved: bool) -> Reading {
        let halves: &[Option<Half>] = if is_halved { &[Some(Half::Customers), Some(Half::Graph)] } else { &[None] };
        let begin = |half: &Option<Half>| {
            io.store(StoreRequest::Load { run, task: task.clone(), generation: from, half: *half, after: None });
            Load { half: *half, piece: None, ahead: None, is_done: false }
        };
        let loads = halves.iter().map(begin).collect();
        Reading { run, from, generations, loads, restore: None, tally: Tally::default(), end: None }
    }

    /// The state so far.
    pub fn engine(&self) -> Option<&Engine> {
        self.restore.as_ref().map(|restore| restore.engine())
    }

    /// Memory that it takes besides the state, bytes.
    pub fn own_bytes(&self) -> usize {
        self.restore.as_ref().map_or(0, |restore| restore.own_bytes())
    }

    /// Frees about so many bytes of memory; see [`Restore::evict`].
    pub fn evict(&mut self, bytes: usize) -> Option<Result<usize, TaskError>> {
        self.restore.as_mut().map(|restore| restore.evict(bytes))
    }

    /// What was read so far is no state.
    pub fn fail(&mut self, error: String) {
        self.end = Some(Err(error));
    }

    /// A piece came.
    fn push(&mut self, half: Option<Half>, rows: Vec<u8>, more_behind: Option<RowKey>) {
        let Some(load) = self.loads.iter_mut().find(|load| load.half == half) else { return };
        let place = if load.piece.is_none() { &mut load.piece } else { &mut load.ahead };
        *place = Some(Piece { rows, at: 0, has_more: more_behind.is_some(), more_behind });
    }

    /// Whether rows are here that may be taken back now.
    fn is_ready(&self) -> bool {
        self.end.is_none() && self.loads.iter().any(|load| load.piece.is_some() && load.is_due(self.has_positions()))
    }

    fn has_positions(&self) -> bool {
        self.restore.as_ref().is_some_and(|restore| restore.has_positions())
    }

    /// Takes back some keys of the pieces that are here, with their rows.
    fn take_back(&mut self, task: &TaskName) -> Result<(), String> {
        let Reading { loads, restore: Some(restore), tally, .. } = self else { return Ok(()) };
        let (is_halved, has_positions) = (loads.len() > 1, restore.has_positions());
        // The graph's first: it has the longer way.
        let due = loads.iter_mut().rev().filter(|load| load.is_due(has_positions));
        let mut pieces: Vec<&mut Piece> = due.filter_map(|load| load.piece.as_mut()).collect();
        let mut rows: Vec<StoredRows<'_>> = pieces.iter().map(|piece| piece.left()).collect();
        let taken = if is_halved { take_shared(restore, &mut rows, tally) } else { take_alone(restore, &mut rows, tally) };
        let left: Vec<usize> = rows.iter().map(StoredRows::unread).collect();
        for (piece, left) in pieces.iter_mut().zip(left) {
            piece.at = piece.rows.len() - left;
        }
        match taken {
            Ok(()) => Ok(()),
            Err(NotTaken::CutShort) => Err(format!("task {task}: clickhouse sent a state row that is cut short; start again")),
            Err(NotTaken::Task(error)) => Err(error.to_string()),
        }
    }

    /// The task, if all was read and `copied` is what was read, or what was read is the copy.
    fn finish(self, copied: Option<Tally>, logs: &[(TopicPartition, LogRole)]) -> Result<(Task, Positions), String> {
        self.end.unwrap_or(Ok(()))?;
        if copied.is_some_and(|copied| copied != self.tally) {
            return Err("the source was written to between being read and being copied".to_owned());
        }
        let restore = self.restore.ok_or("no row was read")?;
        restore.finish(logs).map_err(|error| error.to_string())
    }
}

impl Worker {
    /// A piece of rows is here: of a state, or where a log was read to.
    pub(super) fn on_loaded(&mut self, (run, half): (RunId, Option<Half>), rows: Vec<u8>, more_behind: Option<RowKey>, now: Now) {
        let Some(slot) = self.slots.iter_mut().find(|slot| slot.reading.as_ref().is_some_and(|reading| reading.run == run)) else {
            let inheriting = |slot: &usize| matches!(self.slots.get(*slot).map(|slot| &slot.phase), Some(Phase::Inheriting { .. }));
            if let Some(slot) = self.slot_of(run).filter(inheriting) {
                self.inherit(slot, &rows, now);
            }
            return;
        };
        let Some(reading) = &mut slot.reading else { return };
        if reading.restore.is_none() {
            let identity = slot.task.identity.clone();
            let (engine, cold) = (self.settings.engine(&identity), self.settings.cold.open(&identity.name));
            let restore = Restore::new(identity, reading.generations, self.settings.task.clone(), engine, cold);
            reading.restore = Some(Box::new(restore));
        }
        reading.push(half, rows, more_behind);
    }

    /// Whether a piece of some task's state is here that was not taken back yet.
    pub fn is_taking_back(&self) -> bool {
        self.slots.iter().any(|slot| slot.reading.as_ref().is_some_and(Reading::is_ready))
    }

    /// Takes back a part of the pieces that are here. Those behind them are asked for first, so that they come meanwhile.
    pub(super) fn read_piece<I: Io>(&mut self, io: &mut I, slot: usize) {
        let Some(at) = self.slots.get_mut(slot) else { return };
        let Some(reading) = at.reading.as_mut().filter(|reading| reading.is_ready()) else { return };
        let task = &at.task.identity.name;
        for load in &mut reading.loads {
            if let Some(after) = load.asks_behind() {
                let (run, generation, half) = (reading.run, reading.from, load.half);
                io.store(StoreRequest::Load { run, task: task.clone(), generation, half, after: Some(after) });
            }
        }
        if let Err(error) = reading.take_back(task) {
            return reading.fail(error);
        }
        reading.loads.iter_mut().for_each(Load::advance);
        // Without positions, which come first of one half, what is left of the other is no state.
        let has_positions = reading.has_positions();
        if reading.loads.iter().all(|load| load.is_done || !load.is_due(has_positions)) {
            reading.end = Some(Ok(()));
            return;
        }
        self.relieve_restore(slot);
    }

    /// The copy was counted.
    pub(super) fn on_tallied(&mut self, run: RunId, copied: Tally) {
        let Some(at) = self.slot_of(run).and_then(|slot| self.slots.get_mut(slot)) else { return };
        let Phase::Tallying { generation, stale, .. } = &mut at.phase else { return };
        at.phase = Phase::Restoring { run, stored: *generation, stale: std::mem::take(stale), copied: Some(copied) };
    }

    /// The copy is whole, or there is none to be made. When all was read, the task is restored, or the copy is read because something else was.
    pub(super) fn settle_reading<I: Io>(&mut self, io: &mut I, slot: usize) {
        let compares = self.settings.switches.compares_copies;
        if self.slots.get(slot).and_then(|slot| slot.reading.as_ref()).is_none_or(|reading| reading.end.is_none()) {
            return;
        }
        let next_run = self.next_run();
        let Some(at) = self.slots.get_mut(slot) else { return };
        let Phase::Restoring { run, stored, stale, copied } = &mut at.phase else { return };
        let Some(reading) = at.reading.take() else { return };
        let (generations, is_own, is_halved) = (reading.generations, reading.from == *stored, reading.loads.len() > 1);
        let must_equal = copied.filter(|_| compares && !is_own);
        at.phase = match reading.finish(must_equal, &at.task.logs) {
            Ok((task, positions)) => {
                let taken = Box::new(Taken { task, positions, is_first: false, has_new_starts: false });
                Phase::Restored { run: *run, stale: std::mem::take(stale), taken }
            }
            Err(error) if is_own => Phase::Unreadable { generation: generations.spoken, error },
            Err(error) => {
                self.last_error = Some(format!(
                    "task {}: what was read while it was copied is not what the copy has, so that is read: {error}",
                    at.task.identity.name
                ));
                at.reading = Some(Reading::begin(io, next_run, &at.task.identity.name, *stored, generations, is_halved));
                return;
            }
        };
    }
}
