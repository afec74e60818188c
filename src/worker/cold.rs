//! Memory: what has gone cold leaves it when the worker's tasks have too much together.
//!
//! Promises to look at memory after every cut, when nothing of the task waits for anything, and after every piece of a restore.

use super::Worker;
use super::io::Fatal;
use super::reading::Reading;
use crate::engine::Engine;
use crate::task::TaskError;

/// How much memory is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Memory {
    /// No state has to leave.
    Enough,
    /// State has to leave: from an eighth below the limit on, so that there is room until the next cut.
    Short,
    /// The limit itself is reached. What has changed cannot leave before it is cut: so everything that has is cut at once, and nothing
    /// more is read until it is.
    Full,
}

impl Worker {
    /// From now on state may take so much, bytes; no more than [`super::WorkerSettings::state_bytes`].
    pub fn limit_state(&mut self, bytes: usize) {
        self.state_limit = bytes.min(self.settings.state_bytes);
    }

    /// Whether some of the state is not in memory: any record may bring much of it back.
    pub fn has_cold_state(&self) -> bool {
        self.engines().any(|engine| engine.cold().groups > 0)
    }

    /// All state that is in memory: of tasks at work, under restoration, and kept in case that they come back.
    fn engines(&self) -> impl Iterator<Item = &Engine> {
        let at_work = self.slots.iter().filter_map(|slot| slot.engine());
        let kept = self.slots.iter().filter_map(|slot| slot.memory.as_deref()).chain(self.parked.values());
        at_work.chain(kept.map(|running| running.task.engine()))
    }

    /// The memory that state has taken, places that left free included, bytes.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.engines().map(Engine::state_bytes).sum::<usize>() + self.reading_bytes()
    }

    /// How much of that is places that left free, bytes.
    pub(super) fn vacant_bytes(&self) -> usize {
        self.engines().map(Engine::vacant_bytes).sum()
    }

    /// The memory that state uses, bytes.
    fn used_bytes(&self) -> usize {
        self.engines().map(Engine::used_bytes).sum::<usize>() + self.reading_bytes()
    }

    /// Memory that restorations take besides their states, until they are over, bytes.
    fn reading_bytes(&self) -> usize {
        self.slots.iter().filter_map(|slot| slot.reading.as_ref()).map(Reading::own_bytes).sum()
    }

    /// How much memory is left. Adds up what every key of every task takes: to be asked once, not for each task.
    pub(super) fn memory(&self) -> Memory {
        let (used, limit) = (self.used_bytes(), self.state_limit);
        match used {
            _ if used > limit => Memory::Full,
            _ if used > limit - limit / 8 => Memory::Short,
            _ => Memory::Enough,
        }
    }

    /// What a task with so much memory has to give up: half of its share of the limit is left to it. Every cycle of reading, cutting and giving up
    /// waits for ClickHouse, so that little room for each makes a slow pipeline.
    fn excess(&self, used_bytes: usize) -> usize {
        if self.memory() == Memory::Enough {
            return 0;
        }
        let share = self.state_limit / self.slots.len().max(1);
        used_bytes.saturating_sub(share / 2)
    }

    /// Frees memory of a task that was just cut.
    pub(super) fn relieve_memory(&mut self, slot: usize) -> Result<(), Fatal> {
        let used = self.running_mut(slot).map_or(0, |running| running.task.engine().used_bytes());
        let excess = self.excess(used);
        let Some(running) = self.running_mut(slot).filter(|_| excess > 0) else { return Ok(()) };
        let outcome = running.task.evict(excess);
        self.note_eviction(outcome)
    }

    /// Frees memory of a task under restoration. A store that is full only means that memory is not freed; what it has lost is found
    /// out when it is needed.
    pub(super) fn relieve_restore(&mut self, slot: usize) {
        let used = self.slots.get(slot).and_then(|slot| slot.reading.as_ref()?.engine()).map_or(0, Engine::used_bytes);
        let excess = self.excess(used);
        if excess == 0 {
            return;
        }
        let Some(outcome) = self.slots.get_mut(slot).and_then(|slot| slot.reading.as_mut()?.evict(excess)) else { return };
        if let Err(Fatal(error)) = self.note_eviction(outcome)
            && let Some(reading) = self.slots.get_mut(slot).and_then(|slot| slot.reading.as_mut())
        {
            reading.fail(error);
        }
    }

    fn note_eviction(&mut self, outcome: Result<usize, TaskError>) -> Result<(), Fatal> {
        match outcome {
            Ok(groups) => self.counters.evicted += groups as u64,
            Err(error @ TaskError::NoRoom { .. }) => self.last_error = Some(error.to_string()),
            Err(error) => return Err(Fatal(error.to_string())),
        }
        Ok(())
    }
}
