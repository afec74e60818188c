//! What a move writes, and in which order.
//!
//! Pure: state rows in, steps out. Whoever carries the steps out in their order, and begins anew under a higher generation when one of
//! them failed, has moved the state. Holds one source's rows and all cells in memory at a time.

use std::collections::BTreeMap;

use super::mover::{MoveError, Moved};
use super::plan::{NewTask, Plan, Source};
use crate::engine::{Holder, LatestCells, OwnRows, StateRow, StoredCell, Unplaceable, holder, is_packed, row_hash};
use crate::model::{TaskName, Version, owner};
use crate::rows::{RowBuffer, ServingRows, Table};
use crate::task::{KIND_POSITIONS, Positions, StoredRows, mark_row, push_state_row};

/// Rows of one insert.
const ROWS_PER_INSERT: usize = 200_000;
/// Cells of events before the horizon are out of reach, and leave the state when they are two days older than it. A day of any
/// time zone that has an event after the horizon begins less than this before it; one that has left the state, earlier.
const COUNTED_AGAIN_MS: i64 = 48 * 3_600_000;

/// One write of a move.
#[derive(Debug)]
pub enum Step {
    /// Rows of `task_state`, in one insert.
    State(RowBuffer),
    /// The served cells of a task that can still be counted again are emptied: every count 0.
    Empty {
        /// Whose.
        task: TaskName,
        /// Since when: minutes from this second on (Unix), days from its UTC day on.
        since_s: i64,
        /// The version that says so.
        version: Version,
    },
    /// Serving rows of cells as the state has them.
    Serve(Table, RowBuffer),
}

/// A destination under way: what has not been inserted yet, and what its rows add up to.
#[derive(Debug, Default)]
struct Destination {
    rows: RowBuffer,
    count: u64,
    hash: u64,
}

/// The cells of all new tasks. A task that stays keeps its own; those of one that ends go to an heir.
#[derive(Debug, Default)]
struct Cells {
    by_place: BTreeMap<(u32, u8, Vec<u8>), StoredCell>,
    changed_hands: u64,
}

impl Cells {
    fn take(&mut self, task: &TaskName, owners: u32, cell: StoredCell) {
        let own: u32 = task.parse().unwrap_or_default();
        let (kind, key) = cell.identity();
        let place = (own % owners, kind, key.to_vec());
        self.changed_hands += u64::from(own >= owners);
        self.by_place.entry(place).and_modify(|sums| sums.add(&cell)).or_insert(cell);
    }

    fn serving_rows(&self, version: Version) -> ServingRows {
        let mut rows = ServingRows::default();
        for ((task, _, _), cell) in &self.by_place {
            cell.push_row(&task.to_string(), version, &mut rows);
        }
        rows
    }
}

/// A move under way.
#[derive(Debug)]
pub struct Moving<'a> {
    plan: &'a Plan,
    at: Version,
    destinations: BTreeMap<u32, Destination>,
    cells: Cells,
    emptied: Vec<Step>,
}

impl<'a> Moving<'a> {
    /// Nothing taken yet. `generation` lies above every one in use.
    pub fn new(plan: &'a Plan, generation: u64) -> Moving<'a> {
        Moving {
            plan,
            at: Version::new(generation, plan.sequence),
            destinations: (0..plan.owners).map(|task| (task, Destination::default())).collect(),
            cells: Cells::default(),
            emptied: Vec::new(),
        }
    }

    /// Places the rows of a source (as [`StoredRows`] reads them, by kind and key, without positions and mark), verified against its positions row. What it
    /// returns can be written already.
    ///
    /// # Errors
    /// [`MoveError`], when they are not what was written.
    pub fn take(&mut self, source: &Source, bytes: &[u8]) -> Result<Vec<Step>, MoveError> {
        let packed = verify(source, bytes)?;
        let mut steps = Vec::new();
        each_row(source, bytes, |kind, key, payload| {
            if !is_packed(kind) {
                steps.extend(self.take_row(source, (kind, key, payload))?);
            }
            Ok(())
        })?;
        for ((kind, key), payload) in packed.iter() {
            steps.extend(self.take_row(source, (*kind, key, payload))?);
        }
        self.empty_cells(source);
        Ok(steps)
    }

    fn take_row(&mut self, source: &Source, row: (u8, &[u8], &[u8])) -> Result<Option<Step>, MoveError> {
        let unplaceable = |error| MoveError::Unplaceable { task: source.task.clone(), source: error };
        let (kind, key, payload) = row;
        match holder(kind, key).map_err(unplaceable)? {
            Holder::OwnerOf(customer) => {
                let task = owner(customer, self.plan.owners);
                Ok(self.place(task, row))
            }
            Holder::Anyone => {
                let cell = StoredCell::read(kind, key, payload).map_err(unplaceable)?;
                self.cells.take(&source.task, self.plan.owners, cell);
                Ok(None)
            }
        }
    }

    /// Readers see nothing any more of what the old tasks counted and can still be counted again; what the state has of it follows.
    /// Why not only of tasks that end: a process that was killed has served cells that no checkpoint knows of. Its task would
    /// count them again and overwrite them; after the move, other tasks do.
    fn empty_cells(&mut self, source: &Source) {
        if source.task.parse::<u32>().is_ok() {
            let since_s = (source.positions.horizon_ms - COUNTED_AGAIN_MS).max(0) / 1_000;
            let version = Version::new(self.at.generation(), self.at.sequence() - 1);
            self.emptied.push(Step::Empty { task: source.task.clone(), since_s, version });
        }
    }

    /// Adds a row to its new task; rows that make an insert.
    fn place(&mut self, task: u32, (kind, key, payload): (u8, &[u8], &[u8])) -> Option<Step> {
        let destination = self.destinations.entry(task).or_default();
        destination.count += 1;
        destination.hash ^= row_hash(kind, key, payload).get();
        let row = StateRow { kind, key: key.to_vec(), payload: payload.to_vec(), deleted: false };
        push_state_row(&mut destination.rows, &TaskName::from(task.to_string()), self.at.generation(), self.at.sequence(), &row);
        (destination.rows.rows() >= ROWS_PER_INSERT).then(|| Step::State(std::mem::take(&mut destination.rows)))
    }

    /// All sources were taken: the rest of the steps. The marks of the new generations come last.
    pub fn finish(mut self) -> (Vec<Step>, Moved) {
        let cells = std::mem::take(&mut self.cells);
        let mut moved = Moved { rows: 0, cells: cells.changed_hands };
        let mut steps = std::mem::take(&mut self.emptied);
        steps.extend(cells.serving_rows(self.at).take(|_| Vec::new()).into_iter().map(|(table, rows)| Step::Serve(table, rows)));
        for ((task, kind, key), cell) in cells.by_place {
            steps.extend(self.place(task, (kind, &key, &cell.payload())));
        }
        for task in &self.plan.tasks {
            let destination = task.name.parse().ok().and_then(|task| self.destinations.remove(&task)).unwrap_or_default();
            moved.rows += destination.count;
            steps.extend(self.finish_task(task, destination));
        }
        for name in &self.plan.ended {
            let positions = Positions { tasks: self.plan.owners, sequence: self.plan.sequence, ..Positions::default() };
            steps.extend(self.finish_task(&NewTask { name: name.clone(), positions }, Destination::default()));
        }
        (steps, moved)
    }

    /// The rest of a task's rows with its positions, and then its mark.
    fn finish_task(&self, task: &NewTask, destination: Destination) -> [Step; 2] {
        let positions = Positions { live_rows: destination.count, live_hash: destination.hash, ..task.positions.clone() };
        let row = StateRow { kind: KIND_POSITIONS, key: Vec::new(), payload: positions.encode(), deleted: false };
        let mut rows = destination.rows;
        push_state_row(&mut rows, &task.name, self.at.generation(), positions.sequence, &row);
        [Step::State(rows), Step::State(mark_row(&task.name, self.at.generation()))]
    }
}

/// Compares the rows with what their task's positions row says, and gives the cells among them that packs may name anew.
fn verify(source: &Source, bytes: &[u8]) -> Result<LatestCells, MoveError> {
    let (mut found, mut hash) = (0, 0);
    let mut packed = LatestCells::default();
    let mut add = |kind: u8, key: &[u8], payload: &[u8]| {
        found += 1;
        hash ^= row_hash(kind, key, payload).get();
    };
    let unread = each_row(source, bytes, |kind, key, payload| {
        if !packed.take(kind, key, payload).map_err(|_| unplaceable(source, kind, key))? {
            add(kind, key, payload);
        }
        Ok(())
    })?;
    packed.iter().for_each(|((kind, key), payload)| add(*kind, key, payload));
    let stored = source.positions.live_rows;
    if (found, hash, unread) != (stored, source.positions.live_hash, 0) {
        return Err(MoveError::Integrity { task: source.task.clone(), generation: source.generation, found, stored });
    }
    Ok(packed)
}

/// Visits kind, key and payload of each row, those of first packs one by one. Returns the bytes behind the last whole row.
fn each_row(source: &Source, bytes: &[u8], mut visit: impl FnMut(u8, &[u8], &[u8]) -> Result<(), MoveError>) -> Result<usize, MoveError> {
    let mut rows = StoredRows::new(bytes);
    let mut own = OwnRows::default();
    while let Some(row) = rows.read() {
        for (kind, key, payload) in own.rows_of(row.kind, row.key, row.payload).map_err(|_| unplaceable(source, row.kind, row.key))? {
            visit(kind, key, payload)?;
        }
    }
    Ok(rows.unread())
}

fn unplaceable(source: &Source, kind: u8, key: &[u8]) -> MoveError {
    MoveError::Unplaceable { task: source.task.clone(), source: Unplaceable { kind, key: key.to_vec() } }
}
