//! Cold state of a task: what is not in memory comes back before it is needed, and leaves when memory is short.
//!
//! Owns when to ask the engine and the store. Promises that a group is in exactly one of the two, and that nothing is lost when the
//! store refuses: the group goes back into memory. Never knows what a store is made of.

use std::fmt;

use super::error::TaskError;
use super::run::Task;
use crate::engine::{ColdGroup, Engine, Evicted, StateKind};
use crate::model::{Event, TaskName};

/// Why groups of cold state could not be kept, or not be got back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ColdStoreError(pub String);

/// Keeps groups of one task's state out of memory. It need not outlive the process: what is in it is in `task_state` too.
pub trait ColdStore: fmt::Debug + Send {
    /// Keeps groups: all of them, or none.
    ///
    /// # Errors
    /// [`ColdStoreError`]: none is kept.
    fn put(&mut self, groups: &[Evicted]) -> Result<(), ColdStoreError>;
    /// Gives a group's rows, and need not keep them any longer.
    ///
    /// # Errors
    /// [`ColdStoreError`]: the group is lost, and the task has to begin again from its last checkpoint.
    fn take(&mut self, group: ColdGroup) -> Result<Vec<u8>, ColdStoreError>;
}

/// Opens stores: one for each task that is taken over.
pub trait ColdStores: fmt::Debug + Send + Sync {
    /// An empty store. Dropping it frees what it keeps.
    fn open(&self, task: &TaskName) -> Box<dyn ColdStore>;
}

/// A state and what of it is not in memory.
#[derive(Debug)]
pub(super) struct Cold {
    store: Box<dyn ColdStore>,
    missing: Vec<ColdGroup>,
    /// Groups that came back since they were last counted.
    loaded: u64,
}

impl Cold {
    pub(super) fn new(store: Box<dyn ColdStore>) -> Self {
        Cold { store, missing: Vec::new(), loaded: 0 }
    }

    /// Takes back whatever `ask` names, until it names nothing more.
    fn fetch(&mut self, task: &TaskName, engine: &mut Engine, ask: impl Fn(&Engine, &mut Vec<ColdGroup>)) -> Result<(), TaskError> {
        loop {
            self.missing.clear();
            ask(engine, &mut self.missing);
            if self.missing.is_empty() {
                return Ok(());
            }
            let mut groups = std::mem::take(&mut self.missing);
            // The cells of an event and of the first event that it replaces may be neighbours.
            groups.sort_unstable();
            groups.dedup();
            for group in &groups {
                self.take_back(task, engine, *group)?;
            }
            self.missing = groups;
        }
    }

    /// Takes back what holds a cell of which a row says something new.
    pub(super) fn fetch_for_cell(&mut self, task: &TaskName, engine: &mut Engine, kind: StateKind, key: &[u8]) -> Result<(), TaskError> {
        self.fetch(task, engine, |engine, missing| engine.missing_for_cell(kind, key, missing))
    }

    /// Takes back what holds a key that may have a row of its own.
    pub(super) fn fetch_for_row(&mut self, task: &TaskName, engine: &mut Engine, kind: StateKind, key: &[u8]) -> Result<(), TaskError> {
        self.fetch(task, engine, |engine, missing| engine.missing_for_row(kind, key, missing))
    }

    fn take_back(&mut self, task: &TaskName, engine: &mut Engine, group: ColdGroup) -> Result<(), TaskError> {
        let lost = |what: String| TaskError::Cold { task: task.clone(), what };
        let rows = self.store.take(group).map_err(|error| lost(error.to_string()))?;
        self.loaded += 1;
        engine.take_back(group, &rows).map_err(|error| lost(error.to_string()))
    }

    /// Frees about `bytes` of memory; returns how many groups left. What the store refuses stays in memory.
    pub(super) fn evict(&mut self, task: &TaskName, engine: &mut Engine, bytes: usize) -> Result<usize, TaskError> {
        let mut refused = None;
        let keep = |groups: &[Evicted]| self.store.put(groups).map_err(|error| refused = Some(error)).is_ok();
        let left = engine.evict(bytes, keep).map_err(|error| TaskError::Cold { task: task.clone(), what: error.to_string() })?;
        match refused {
            None => Ok(left),
            Some(source) => Err(TaskError::NoRoom { task: task.clone(), source }),
        }
    }
}

impl Task {
    pub(super) fn fetch_for_event(&mut self, event: &Event<'_>) -> Result<(), TaskError> {
        self.cold.fetch(&self.identity.name, &mut self.engine, |engine, missing| engine.missing_for_event(event, missing))
    }

    pub(super) fn fetch_for_contribution(&mut self, contribution: &[u8]) -> Result<(), TaskError> {
        let ask = |engine: &Engine, missing: &mut Vec<ColdGroup>| engine.missing_for_contribution(contribution, missing);
        self.cold.fetch(&self.identity.name, &mut self.engine, ask)
    }

    /// Groups that came back since the last call.
    pub fn take_loaded(&mut self) -> u64 {
        std::mem::take(&mut self.cold.loaded)
    }

    /// Takes back what the sweep wants to look at, no more than `most` groups.
    pub(super) fn fetch_due(&mut self, most: usize) -> Result<(), TaskError> {
        for group in self.engine.due_groups(most) {
            self.cold.take_back(&self.identity.name, &mut self.engine, group)?;
        }
        Ok(())
    }

    /// Frees about `bytes` of memory, if nothing waits to be served, sent or cut; returns how many groups left.
    ///
    /// # Errors
    /// [`TaskError::NoRoom`]: not all that should have left did, and the task goes on; [`TaskError::Cold`]: it cannot.
    pub fn evict(&mut self, bytes: usize) -> Result<usize, TaskError> {
        self.cold.evict(&self.identity.name, &mut self.engine, bytes)
    }
}
