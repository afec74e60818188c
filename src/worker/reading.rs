//! Reading the state of a task that is taken over back into memory.
//!
//! Owns [`Reading`]: whose rows are read, and how far. It begins with the copying, and from its source, so that neither waits for the other. Promises that
//! what was read is what the copy holds: until the claim was known, an owner before us may have written to the source between the two, and then both
//! tallies differ and the copy is read instead. Never lets a task run: that is for the confirm.

use smallvec::SmallVec;

use super::io::{Io, RunId, StoreRequest, Tally};
use super::slot::{Phase, Taken};
use super::{Now, Worker};
use crate::engine::{Engine, FORESEEN, is_pack};
use crate::model::{TaskName, TopicPartition};
use crate::task::{Generations, LogRole, Positions, Restore, StoredRow, StoredRows, Task, TaskError};

/// State keys put into memory between two polls of the consumer.
const KEYS_PER_PIECE: usize = 20_000;

/// State on its way into memory.
#[derive(Debug)]
pub(super) struct Reading {
    /// The run whose answers count.
    run: RunId,
    /// The generation whose rows are read: the source of a copy, or the copy.
    from: u64,
    /// Those of the task.
    generations: Generations,
    piece: Option<Piece>,
    ahead: Option<Piece>,
    /// From the first piece on.
    restore: Option<Box<Restore>>,
    tally: Tally,
    /// How it ended.
    end: Option<Result<(), String>>,
}

/// Rows that were read, and how many bytes of them are taken back.
#[derive(Debug)]
struct Piece {
    rows: Vec<u8>,
    at: usize,
    has_more: bool,
}

impl Reading {
    /// Asks for the first rows.
    pub fn begin<I: Io>(io: &mut I, run: RunId, task: &TaskName, from: u64, generations: Generations) -> Reading {
        io.store(StoreRequest::Load { run, task: task.clone(), generation: from, after: None });
        Reading { run, from, generations, piece: None, ahead: None, restore: None, tally: Tally::default(), end: None }
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

    /// Takes back some keys of the piece that is here, with their rows.
    fn take_back(&mut self, task: &TaskName) -> Result<(), String> {
        let (Some(Piece { rows, at, .. }), Some(restore)) = (&mut self.piece, &mut self.restore) else { return Ok(()) };
        let mut keys = 0;
        while keys < KEYS_PER_PIECE {
            let Some(rest) = rows.get(*at..).filter(|rest| !rest.is_empty()) else { break };
            let mut reader = StoredRows::new(rest);
            let next = next_rows(&mut reader);
            *at = rows.len() - reader.unread();
            if next.is_empty() {
                return Err(format!("task {task}: clickhouse sent a state row that is cut short; start again"));
            }
            restore.foresee(&next);
            for row in next {
                let taken = restore.row(row.kind, row.key, row.sequence, row.payload).map_err(|error| error.to_string())?;
                self.tally.add(row.sequence);
                keys += taken.max(1);
            }
        }
        Ok(())
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
    pub(super) fn on_loaded(&mut self, run: RunId, rows: Vec<u8>, has_more: bool, now: Now) {
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
        let place = if reading.piece.is_none() { &mut reading.piece } else { &mut reading.ahead };
        *place = Some(Piece { rows, at: 0, has_more });
    }

    /// Whether a piece of some task's state is here that was not taken back yet.
    pub fn is_taking_back(&self) -> bool {
        self.slots.iter().any(|slot| slot.reading.as_ref().is_some_and(|reading| reading.end.is_none() && reading.piece.is_some()))
    }

    /// Takes back a part of the piece that is here. The piece behind it is asked for first, so that it comes meanwhile.
    pub(super) fn read_piece<I: Io>(&mut self, io: &mut I, slot: usize) {
        let Some(at) = self.slots.get_mut(slot) else { return };
        let Some(reading) = at.reading.as_mut().filter(|reading| reading.end.is_none()) else { return };
        let task = &at.task.identity.name;
        let Some(Piece { rows, at: done, has_more }) = &reading.piece else { return };
        let has_more = *has_more;
        if *done == 0
            && has_more
            && let Some(after) = last_key(rows)
        {
            io.store(StoreRequest::Load { run: reading.run, task: task.clone(), generation: reading.from, after: Some(after) });
        }
        if let Err(error) = reading.take_back(task) {
            return reading.fail(error);
        }
        if reading.piece.as_ref().is_some_and(|piece| piece.at >= piece.rows.len()) {
            reading.piece = reading.ahead.take();
            if !has_more {
                reading.end = Some(Ok(()));
                return;
            }
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
        let (generations, is_own) = (reading.generations, reading.from == *stored);
        let must_equal = copied.filter(|_| compares && !is_own);
        at.phase = match reading.finish(must_equal, &at.task.logs) {
            Ok((task, positions)) => {
                let taken = Box::new(Taken { task, positions, is_first: false, has_new_starts: false });
                Phase::Restored { run: *run, stale: std::mem::take(stale), taken }
            }
            Err(error) if is_own => Phase::Unreadable { generation: generations.spoken, error },
            Err(_) => {
                at.reading = Some(Reading::begin(io, next_run, &at.task.identity.name, *stored, generations));
                return;
            }
        };
    }
}

/// Some rows, for which is read ahead in memory together: a pack is many by itself. None if the first is cut short.
fn next_rows<'a>(rows: &mut StoredRows<'a>) -> SmallVec<[StoredRow<'a>; FORESEEN]> {
    let mut next: SmallVec<[StoredRow<'a>; FORESEEN]> = SmallVec::new();
    while next.len() < FORESEEN
        && next.last().is_none_or(|last| !is_pack(last.kind))
        && let Some(row) = rows.read()
    {
        next.push(row);
    }
    next
}

/// Kind and key of the last row.
fn last_key(rows: &[u8]) -> Option<(u8, Vec<u8>)> {
    let mut reader = StoredRows::new(rows);
    let last = std::iter::from_fn(|| reader.read()).last();
    last.map(|row| (row.kind, row.key.to_vec()))
}
