//! From the rows of a generation back to a task.

use std::sync::Arc;

use smallvec::SmallVec;

use super::cell_log::CellLog;
use super::checkpoint::{KIND_MARK, KIND_POSITIONS};
use super::cold::{Cold, ColdStore};
use super::error::TaskError;
use super::positions::{Positions, PositionsError};
use super::run::{Generations, LogRole, Task, TaskIdentity, TaskSettings};
use super::state_rows::StoredRow;
use crate::engine::{
    Engine, FORESEEN, OwnRowsFilter, PackPlace, PackedRow, PackedRows, RestoreError, Settings as EngineSettings, StateKind, first_rows,
    packed_kind,
};
use crate::model::TopicPartition;

/// Rebuilds a task from the rows of its generation, in pieces, so that the worker can keep polling in between.
#[derive(Debug)]
pub struct Restore {
    identity: TaskIdentity,
    generations: Generations,
    settings: Arc<TaskSettings>,
    engine: Engine,
    cold: Cold,
    cells: CellLog,
    /// Keys of which a first pack may say what was before.
    own_rows: OwnRowsFilter,
    positions: Option<Positions>,
    largest_sequence: u64,
}

impl Restore {
    /// Nothing read yet.
    pub fn new(
        identity: TaskIdentity,
        generations: Generations,
        settings: Arc<TaskSettings>,
        engine: EngineSettings,
        cold: Box<dyn ColdStore>,
    ) -> Self {
        let (engine, cold, cells) = (Engine::new(engine), Cold::new(cold), CellLog::new(settings.packs));
        Restore {
            identity,
            generations,
            settings,
            engine,
            cold,
            cells,
            own_rows: OwnRowsFilter::default(),
            positions: None,
            largest_sequence: 0,
        }
    }

    /// The state so far.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Memory that the reading takes besides the state, bytes.
    pub fn own_bytes(&self) -> usize {
        self.own_rows.allocated_bytes()
    }

    /// Frees about `bytes` of memory; returns how many groups left. What follows of a key that left is added to it.
    ///
    /// # Errors
    /// [`TaskError::NoRoom`]: not all that should have left did, and the task goes on; [`TaskError::Cold`]: it cannot.
    pub fn evict(&mut self, bytes: usize) -> Result<usize, TaskError> {
        self.cold.evict(&self.identity.name, &mut self.engine, bytes)
    }

    /// Reads ahead in memory for rows that are taken next, of which [`FORESEEN`] at most are worth it.
    pub fn foresee(&self, rows: &[StoredRow<'_>]) {
        self.engine.foresee_rows(rows.iter().filter_map(|row| Some((StateKind::from_number(row.kind)?, row.key, row.payload))));
    }

    /// Takes one live row; rows come by kind and key. How many keys it told of.
    ///
    /// # Errors
    /// What the checkpoint cannot have held, and [`TaskError::Cold`].
    pub fn row(&mut self, kind: u8, key: &[u8], sequence: u64, payload: &[u8]) -> Result<usize, TaskError> {
        self.largest_sequence = self.largest_sequence.max(sequence);
        match kind {
            KIND_MARK => {}
            KIND_POSITIONS => {
                let positions = Positions::decode(payload).map_err(|source| self.positions_error(source))?;
                self.own_rows = OwnRowsFilter::new(positions.live_rows);
                self.positions = Some(positions);
            }
            _ if packed_kind(kind).is_some() => return self.pack(kind, key, payload),
            _ if let Some((kind, rows)) = first_rows(kind, key, payload) => return self.first_pack(kind, rows),
            _ => {
                self.engine.restore(kind, key, payload).map_err(|source| self.corrupt(source))?;
                self.own_rows.note(kind, key);
                if let Some(place) = PackPlace::of(kind, key) {
                    self.cells.found_row(place);
                }
            }
        }
        Ok(1)
    }

    /// What is said of a cell that has left memory meanwhile is said of nothing else: it comes back first.
    fn pack(&mut self, kind: u8, key: &[u8], payload: &[u8]) -> Result<usize, TaskError> {
        let (at, mut cells) = PackedRows::of_row(kind, key, payload).map_err(|source| self.corrupt(source))?;
        self.cells.found_pack(at);
        let mut keys = 0;
        while let Some(cell) = cells.read().map_err(|source| self.corrupt(source))? {
            self.cold.fetch_for_cell(&self.identity.name, &mut self.engine, at.place.kind, cell.key)?;
            let change = self.engine.restore_packed(at.place.kind, &cell).map_err(|source| self.corrupt(source))?;
            self.cells.found_entry(at, change);
            keys += 1;
        }
        Ok(keys)
    }

    /// What is said of a key that has a row of its own is outdated. That row came before, and may have left memory again: then it comes back.
    fn first_pack(&mut self, kind: StateKind, mut rows: PackedRows<'_>) -> Result<usize, TaskError> {
        // Nothing leaves memory before the pack is taken; while all is in it, the filter need not be asked.
        let has_cold = self.engine.cold().groups > 0;
        let mut keys = 0;
        loop {
            let mut next: SmallVec<[PackedRow<'_>; FORESEEN]> = SmallVec::new();
            while next.len() < FORESEEN
                && let Some(row) = rows.read().map_err(|source| self.corrupt(source))?
            {
                next.push(row);
            }
            if next.is_empty() {
                return Ok(keys);
            }
            keys += next.len();
            self.engine.foresee_rows(next.iter().map(|row| (kind, row.key, row.payload)));
            for row in next {
                if has_cold && self.own_rows.may_have(kind, row.key) {
                    self.cold.fetch_for_row(&self.identity.name, &mut self.engine, kind, row.key)?;
                }
                self.engine.restore_unless_known(kind, row.key, row.payload).map_err(|source| self.corrupt(source))?;
            }
        }
    }

    fn corrupt(&self, source: RestoreError) -> TaskError {
        TaskError::Corrupt { task: self.identity.name.clone(), generation: self.generations.stored, source }
    }

    fn positions_error(&self, source: PositionsError) -> TaskError {
        TaskError::Positions { task: self.identity.name.clone(), source }
    }

    /// All rows were read: verifies them and gives the task, with the positions that it starts from.
    pub fn finish(mut self, logs: &[(TopicPartition, LogRole)]) -> Result<(Task, Positions), TaskError> {
        let Some(mut positions) = self.positions.take() else {
            return Err(TaskError::NoPositions { task: self.identity.name, generation: self.generations.stored });
        };
        positions
            .check(self.settings.tasks, &self.settings.fingerprint, &self.settings.cluster_id)
            .map_err(|source| self.positions_error(source))?;
        self.engine.note_restored();
        let live = self.engine.live();
        if (live.count, live.hash) != (positions.live_rows, positions.live_hash) {
            return Err(TaskError::Integrity {
                task: self.identity.name,
                generation: self.generations.stored,
                found_rows: live.count,
                found_hash: live.hash,
                stored_rows: positions.live_rows,
                stored_hash: positions.live_hash,
            });
        }
        positions.sequence = positions.sequence.max(self.largest_sequence);
        let task = Task::with_positions(
            self.identity,
            self.generations,
            self.settings,
            (self.engine, self.cold, self.cells),
            logs,
            positions.clone(),
        );
        Ok((task, positions))
    }
}
