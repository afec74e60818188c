//! From the rows of a generation back to a task.

use std::sync::Arc;

use super::cell_log::CellLog;
use super::cold::{Cold, ColdStore};
use super::error::TaskError;
use super::positions::{Positions, PositionsError};
use super::restore_halves::{CustomersHalf, GraphHalf, Origin, Part};
use super::run::{Generations, LogRole, Task, TaskIdentity, TaskSettings};
use super::state_rows::StoredRow;
use crate::engine::{Engine, GraphRestored, Known, OwnRowsFilter, Settings as EngineSettings};
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
    /// Room was made for as many keys as there were at the last cut.
    has_room: bool,
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
            has_room: false,
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

    /// Whether the task's own row was read, which tells how many keys there are: before it comes nothing but other rows of the customers' half.
    pub fn has_positions(&self) -> bool {
        self.positions.is_some()
    }

    /// Whether some of what was read has left memory again: then rows are to be taken by [`Restore::rows`] alone.
    pub fn has_cold(&self) -> bool {
        self.engine.cold().groups > 0
    }

    /// Takes some live rows; rows come by kind and key. How many keys they told of, each row at least one.
    ///
    /// # Errors
    /// What the checkpoint cannot have held, and [`TaskError::Cold`].
    pub fn rows(&mut self, rows: &[StoredRow<'_>]) -> Result<usize, TaskError> {
        if self.has_cold() {
            self.fetch_for(rows)?;
        }
        let (mut customers, mut graph) = self.halves();
        let mut owners = Vec::new();
        let keys = customers.take(rows, &mut owners)?;
        graph.take(rows, &mut owners.into_iter())?;
        let restored = graph.finish();
        self.restored(restored);
        Ok(keys)
    }

    /// The state in two halves, which two threads may work on: both are to take the same rows, the customers' half first. Not while some of the state is cold.
    pub fn halves(&mut self) -> (CustomersHalf<'_>, GraphHalf<'_>) {
        if let Some(positions) = self.positions.as_ref().filter(|_| !self.has_room) {
            self.engine.reserve(&positions.sizes, positions.live_rows);
            self.has_room = true;
        }
        let Restore { identity, generations, engine, cells, own_rows, positions, largest_sequence, .. } = self;
        let origin = Origin { task: &identity.name, generation: generations.stored };
        let (customers, graph) = engine.restoring();
        (CustomersHalf { origin, customers, cells, own_rows, positions, largest_sequence }, GraphHalf { origin, graph })
    }

    /// Both halves have taken the same rows.
    pub fn restored(&mut self, graph: GraphRestored) {
        self.engine.restored(graph);
    }

    /// What is said of a cell that has left memory meanwhile is said of nothing else: it comes back first. What a first pack says of a key that has a row of its own is
    /// outdated: that row came before, and may have left memory again, so it comes back too.
    fn fetch_for(&mut self, rows: &[StoredRow<'_>]) -> Result<(), TaskError> {
        let Restore { identity, generations, engine, cold, own_rows, .. } = self;
        let name = &identity.name;
        Origin { task: name, generation: generations.stored }.parts(rows, |part| match part {
            Part::Cells(at, mut cells) => {
                while let Some(cell) = cells.read()? {
                    cold.fetch_for_cell(name, engine, at.place.kind, cell.key)?;
                }
                Ok(())
            }
            Part::Keys(keys, Known::IsSkipped) => {
                for key in keys.iter().filter(|key| own_rows.may_have(key.kind, key.key)) {
                    cold.fetch_for_row(name, engine, key.kind, key.key)?;
                }
                Ok(())
            }
            Part::Keys(..) | Part::Positions(_) => Ok(()),
        })
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
