//! The rows of a generation as the two halves of a state take them (`engine/restore.rs`): packs are taken apart, and each half leaves alone what is not its own.
//!
//! Promises that both halves see the same keys in the same order.

use smallvec::SmallVec;

use super::cell_log::CellLog;
use super::checkpoint::{KIND_MARK, KIND_POSITIONS};
use super::error::TaskError;
use super::positions::Positions;
use super::state_rows::StoredRow;
use crate::engine::{
    CustomersRestore, FORESEEN, GraphRestore, GraphRestored, Known, OwnRowsFilter, Owner, PackKey, PackPlace, PackedRow, PackedRows,
    RestoreError, RowChange, StateKind, Stored, first_rows, packed_kind,
};
use crate::model::TaskName;

/// Whose rows they are: for errors.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin<'r> {
    pub(super) task: &'r TaskName,
    pub(super) generation: u64,
}

/// What rows hold.
pub(super) enum Part<'p, 'a> {
    /// The task's positions.
    Positions(&'a [u8]),
    /// Keys, and what it means if one was told of before.
    Keys(&'p [Stored<'a>], Known),
    /// A pack of cells.
    Cells(PackKey, PackedRows<'a>),
}

/// Why a part was not taken.
pub(super) enum Refused {
    Row(RestoreError),
    Task(TaskError),
}

impl From<RestoreError> for Refused {
    fn from(error: RestoreError) -> Self {
        Refused::Row(error)
    }
}

impl From<TaskError> for Refused {
    fn from(error: TaskError) -> Self {
        Refused::Task(error)
    }
}

impl Origin<'_> {
    /// Visits what rows hold, [`FORESEEN`] keys at a time.
    pub(super) fn parts<'a>(
        self,
        rows: &[StoredRow<'a>],
        mut visit: impl FnMut(Part<'_, 'a>) -> Result<(), Refused>,
    ) -> Result<(), TaskError> {
        visit_parts(rows, &mut visit).map_err(|refused| match refused {
            Refused::Row(source) => TaskError::Corrupt { task: self.task.clone(), generation: self.generation, source },
            Refused::Task(error) => error,
        })
    }
}

fn visit_parts<'a>(rows: &[StoredRow<'a>], visit: &mut impl FnMut(Part<'_, 'a>) -> Result<(), Refused>) -> Result<(), Refused> {
    let mut keys: SmallVec<[Stored<'a>; FORESEEN]> = SmallVec::new();
    for row in rows {
        let StoredRow { kind, key, payload, .. } = *row;
        if let Some(kind) = StateKind::from_number(kind) {
            keys.push(Stored { kind, key, payload });
            if keys.len() == FORESEEN {
                visit(Part::Keys(&keys, Known::IsAnError))?;
                keys.clear();
            }
            continue;
        }
        visit(Part::Keys(&keys, Known::IsAnError))?;
        keys.clear();
        match kind {
            KIND_MARK => {}
            KIND_POSITIONS => visit(Part::Positions(payload))?,
            _ if packed_kind(kind).is_some() => {
                let (at, cells) = PackedRows::of_row(kind, key, payload)?;
                visit(Part::Cells(at, cells))?;
            }
            _ => {
                let (kind, mut rows) = first_rows(kind, key, payload).ok_or(RestoreError::Kind(kind))?;
                loop {
                    let next = next_packed(&mut rows)?;
                    if next.is_empty() {
                        break;
                    }
                    keys.extend(next.iter().map(|row| Stored { kind, key: row.key, payload: row.payload }));
                    visit(Part::Keys(&keys, Known::IsSkipped))?;
                    keys.clear();
                }
            }
        }
    }
    visit(Part::Keys(&keys, Known::IsAnError))
}

fn next_packed<'a>(rows: &mut PackedRows<'a>) -> Result<SmallVec<[PackedRow<'a>; FORESEEN]>, RestoreError> {
    let mut next = SmallVec::new();
    while next.len() < FORESEEN
        && let Some(row) = rows.read()?
    {
        next.push(row);
    }
    Ok(next)
}

/// The half that has all but the graph.
#[derive(Debug)]
pub struct CustomersHalf<'r> {
    pub(super) origin: Origin<'r>,
    pub(super) customers: CustomersRestore<'r>,
    pub(super) cells: &'r mut CellLog,
    pub(super) own_rows: &'r mut OwnRowsFilter,
    pub(super) positions: &'r mut Option<Positions>,
    pub(super) largest_sequence: &'r mut u64,
}

impl CustomersHalf<'_> {
    /// Takes some rows, and adds whose they are for the other half. How many keys they told of, each row at least one.
    ///
    /// # Errors
    /// What the checkpoint cannot have held.
    pub fn take(&mut self, rows: &[StoredRow<'_>], owners: &mut Vec<Owner>) -> Result<usize, TaskError> {
        let CustomersHalf { origin, customers, cells, own_rows, positions, largest_sequence } = self;
        let mut keys = 0;
        origin.parts(rows, |part| {
            match part {
                Part::Positions(payload) => {
                    let read = Positions::decode(payload).map_err(|source| TaskError::Positions { task: origin.task.clone(), source })?;
                    **own_rows = OwnRowsFilter::new(read.live_rows);
                    **positions = Some(read);
                }
                Part::Keys(rows, known) => {
                    customers.take(rows, known, owners)?;
                    keys += rows.len();
                    if known == Known::IsAnError {
                        rows.iter().for_each(|row| note_own_row(row, own_rows, cells));
                    }
                }
                Part::Cells(at, pack) => keys += take_pack(customers, cells, at, pack)?,
            }
            Ok(())
        })?;
        **largest_sequence = rows.iter().map(|row| row.sequence).fold(**largest_sequence, u64::max);
        Ok(keys.max(rows.len()))
    }
}

fn note_own_row(row: &Stored<'_>, own_rows: &mut OwnRowsFilter, cells: &mut CellLog) {
    own_rows.note(row.kind as u8, row.key);
    if let Some(place) = PackPlace::of(row.kind as u8, row.key) {
        cells.found_row(place);
    }
}

fn take_pack(
    customers: &mut CustomersRestore<'_>,
    cells: &mut CellLog,
    at: PackKey,
    mut pack: PackedRows<'_>,
) -> Result<usize, RestoreError> {
    cells.found_pack(at);
    let mut keys = 0;
    loop {
        let next = next_packed(&mut pack)?;
        if next.is_empty() {
            return Ok(keys);
        }
        keys += next.len();
        let mut changes: SmallVec<[Option<RowChange>; FORESEEN]> = SmallVec::new();
        customers.take_packed(at.place.kind, &next, |change| changes.push(change))?;
        cells.found_entries(at, &changes);
    }
}

/// The half that is the graph.
#[derive(Debug)]
pub struct GraphHalf<'r> {
    pub(super) origin: Origin<'r>,
    pub(super) graph: GraphRestore<'r>,
}

impl GraphHalf<'_> {
    /// Takes the rows that the other half took, with the owners that it found for them.
    ///
    /// # Errors
    /// What the checkpoint cannot have held.
    pub fn take(&mut self, rows: &[StoredRow<'_>], owners: &mut impl Iterator<Item = Owner>) -> Result<(), TaskError> {
        let graph = &mut self.graph;
        self.origin.parts(rows, |part| {
            if let Part::Keys(rows, known) = part {
                graph.take(rows, known, owners)?;
            }
            Ok(())
        })
    }

    /// What the other half has to know in the end: for [`super::Restore::restored`].
    pub fn finish(self) -> GraphRestored {
        self.graph.finish()
    }
}
