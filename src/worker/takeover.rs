//! Takeover of the tasks of an assignment: claim, copy and mark or go on in place, confirm, and only then run (`src/DESIGN.md`, section 8). What is read
//! meanwhile is `reading.rs`'s.
//!
//! Every claim and confirm is a commit on the worker's own thread within its present assignment; any refusal ends it. Nothing
//! leaves a task before its confirm. An outcome that is not known starts over with a claim of a higher generation.

use std::collections::BTreeMap;

use super::assignment::relaying_task;
use super::boundary::Boundary;
use super::io::{Claim, Commit, Fatal, Io, LogError, LogRange, RunId, StoreRequest, StoredGeneration};
use super::reading::Reading;
use super::slot::{Phase, Running, Taken};
use super::{Now, Worker};
use crate::config::StartFrom;
use crate::model::{Offset, TaskName, TopicPartition};
use crate::task::{Generations, LogRole, Positions, Task, mark_row, owner_row};

/// Pause before the generations are asked for again.
const ASK_AGAIN_MS: i64 = 500;

impl Worker {
    pub(super) fn advance_takeovers<I: Io>(&mut self, io: &mut I, now: Now) -> Result<(), Fatal> {
        if self.draining {
            return Ok(());
        }
        if self.ask_at_ms.is_some_and(|at_ms| now.mono_ms >= at_ms) {
            self.ask(io, now);
        }
        for slot in 0..self.slots.len() {
            match self.slots.get(slot).map(|slot| &slot.phase) {
                Some(Phase::Claimed { .. }) => self.begin(io, slot),
                Some(Phase::Restoring { .. }) => self.settle_reading(io, slot),
                _ => {}
            }
            self.read_piece(io, slot);
            if matches!(self.slots.get(slot).map(|slot| &slot.phase), Some(Phase::Unreadable { .. })) {
                self.confirm_unreadable(io, slot, now)?;
            }
            if matches!(self.slots.get(slot).map(|slot| &slot.phase), Some(Phase::Restored { .. })) && !self.settle_starts(io, slot, now) {
                self.confirm(io, slot, now)?;
            }
        }
        Ok(())
    }

    /// Asks the coordinator and ClickHouse which generations there are.
    fn ask<I: Io>(&mut self, io: &mut I, now: Now) {
        self.ask_at_ms = None;
        let asking = || self.slots.iter().filter(|slot| matches!(slot.phase, Phase::Asking));
        let homes: Vec<TopicPartition> = asking().filter_map(|slot| slot.task.home().cloned()).collect();
        let mut tasks: Vec<TaskName> = asking().map(|slot| slot.task.identity.name.clone()).collect();
        if tasks.is_empty() {
            return;
        }
        match io.committed(&homes) {
            Ok(committed) => {
                self.committed.extend(tasks.iter().cloned().zip(committed));
                self.question += 1;
                self.asked = tasks.iter().cloned().collect();
                let former: Vec<TaskName> = asking().flat_map(|slot| slot.task.once_relayed()).map(relaying_task).collect();
                self.forget_former(&former);
                tasks.extend(former);
                io.store(StoreRequest::Newest { question: self.question, tasks });
                io.cross(Boundary::Asked);
            }
            Err(error) => self.on_log_error(error, now),
        }
    }

    pub(super) fn ask_again(&mut self, now: Now) {
        self.ask_at_ms = Some(now.mono_ms + ASK_AGAIN_MS);
    }

    /// Kafka did not do what a takeover asked: fenced, or to be asked again.
    pub(super) fn on_log_error(&mut self, error: LogError, now: Now) {
        match error {
            LogError::Fenced(error) => self.on_fenced(&error),
            LogError::Unavailable(error) => {
                self.last_error = Some(format!("kafka does not answer: {error}"));
                self.ask_again(now);
            }
        }
    }

    /// The generations are known: claims them all in one commit. Only the answer to the last question counts, and only for the
    /// tasks that it was about: of any other nothing is known, and nothing known is not "no generation at all".
    pub(super) fn on_newest<I: Io>(
        &mut self,
        io: &mut I,
        question: u64,
        generations: &BTreeMap<TaskName, Vec<StoredGeneration>>,
        now: Now,
    ) -> Result<(), Fatal> {
        if question != self.question || self.draining {
            return Ok(());
        }
        let asked = std::mem::take(&mut self.asked);
        self.former
            .extend(generations.iter().filter_map(|(name, stored)| Some((name.clone(), StoredGeneration::newest(stored)?.generation))));
        let mut commits = Vec::new();
        let mut next_phases = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate().filter(|(_, slot)| matches!(slot.phase, Phase::Asking)) {
            let name = &slot.task.identity.name;
            if !asked.contains(name) {
                continue;
            }
            let stored = generations.get(name).map_or(&[][..], Vec::as_slice);
            let committed = self.committed.get(name).copied().unwrap_or_default();
            let newest = stored.iter().map(|stored| stored.owner).chain(committed.claim.map(|claim| claim.generation)).max();
            let source = StoredGeneration::newest(stored);
            let had_state = committed.claim.is_some_and(|claim| claim.has_state);
            let is_lost = had_state && source.is_none();
            if is_lost {
                slot.memory = None;
            }
            if slot.memory.as_ref().is_some_and(|memory| Some(memory.task.generation()) != newest) {
                slot.memory = None;
            }
            let generation = slot.memory.as_ref().map_or(newest.unwrap_or(0) + 1, |memory| memory.task.generation());
            if let Some(home) = slot.task.home() {
                let claim = Some(Claim { generation, has_state: had_state || source.is_some() });
                commits.push(Commit { tp: home.clone(), offset: committed.offset.unwrap_or(0), claim });
            }
            let stale = stored.iter().map(|stored| stored.generation).collect();
            let phase = if is_lost {
                Phase::Unreadable { generation, error: lost_state_text(name, newest.unwrap_or(0)) }
            } else {
                Phase::Claimed { generation, source, stale }
            };
            next_phases.push((index, phase));
        }
        if commits.is_empty() {
            return Ok(());
        }
        if let Err(error) = io.commit(&commits) {
            self.on_log_error(error, now);
            return Ok(());
        }
        io.cross(Boundary::Claimed);
        for (index, phase) in next_phases {
            let Some(memory) = self.slots.get_mut(index).map(|slot| slot.memory.take()) else { continue };
            match memory {
                Some(running) => self.keep(io, index, running, now),
                None => {
                    if let Some(slot) = self.slots.get_mut(index) {
                        slot.phase = phase;
                    }
                }
            }
        }
        Ok(())
    }

    /// Goes on with memory that is still the newest. A checkpoint that ended while the task was not ours has not committed its
    /// offsets, so the next one does.
    fn keep<I: Io>(&mut self, io: &mut I, slot: usize, mut running: Box<Running>, now: Now) {
        running.task.mark_moved();
        let starts: Vec<(TopicPartition, Offset)> = running.task.logs().map(|(tp, next, _)| (tp.clone(), next)).collect();
        self.run(io, slot, running, &starts, now);
    }

    /// Begins to fetch for a task that is in memory and confirmed.
    pub(super) fn run<I: Io>(&mut self, io: &mut I, slot: usize, mut running: Box<Running>, starts: &[(TopicPartition, Offset)], now: Now) {
        running.task.forget_ends();
        let started = io.start(starts);
        io.cross(Boundary::Started);
        let paused = self.pressure.paused;
        let Some(at) = self.slots.get_mut(slot) else { return };
        match started {
            Ok(()) => {
                at.phase = Phase::Running(running);
                if paused {
                    let partitions: Vec<TopicPartition> = starts.iter().map(|(tp, _)| tp.clone()).collect();
                    io.pause(&partitions);
                }
            }
            Err(error) => {
                at.memory = Some(running);
                at.phase = Phase::Asking;
                self.on_log_error(error, now);
            }
        }
    }

    pub(super) fn next_run(&mut self) -> RunId {
        let run = RunId(self.next_run);
        self.next_run += 1;
        run
    }

    /// Begins a claimed takeover when there is a free place.
    fn begin<I: Io>(&mut self, io: &mut I, slot: usize) {
        let busy = self.slots.iter().filter(|slot| slot.phase.is_taking_over()).count();
        if busy >= self.settings.parallel_takeovers {
            return;
        }
        let (run, reading_run) = (self.next_run(), self.next_run());
        let Some(at) = self.slots.get_mut(slot) else { return };
        let Phase::Claimed { generation, source, stale } = &mut at.phase else { return };
        let (generation, stale) = (*generation, std::mem::take(stale));
        let may_go_on = |source: &StoredGeneration| source.may_go_on() || !self.settings.switches.goes_on_only_where_closed;
        let is_halved = source.is_some_and(|source| source.rows >= self.settings.halved_rows);
        let name = &at.task.identity.name;
        match *source {
            Some(source) if may_go_on(&source) => {
                io.store(StoreRequest::Write { run, epoch: 0, rows: owner_row(name, source.generation, generation, false) });
                let generations = Generations { spoken: generation, stored: source.generation };
                at.reading = Some(Reading::begin(io, reading_run, name, source.generation, generations, is_halved));
                at.phase = Phase::GoingOn { run, generation, source, stale };
            }
            Some(source) => {
                io.store(StoreRequest::Copy { run, task: name.clone(), from: source.generation, to: generation });
                let generations = Generations { spoken: generation, stored: generation };
                at.reading = Some(Reading::begin(io, reading_run, name, source.generation, generations, is_halved));
                at.phase = Phase::Copying { run, generation, stale };
            }
            None => {
                let (identity, logs) = (at.task.identity.clone(), &at.task.logs);
                let (engine, cold) = (self.settings.engine(&identity), self.settings.cold.open(&identity.name));
                let task = Task::first_start(identity, generation, self.settings.task.clone(), engine, cold, logs);
                let taken = Box::new(Taken { task, positions: Positions::default(), is_first: true, has_new_starts: false });
                at.phase = Phase::Restored { run, stale, taken };
            }
        }
    }

    pub(super) fn start_of(&self, role: LogRole, range: LogRange) -> Offset {
        match (role, self.settings.start_from) {
            (LogRole::Input { .. }, StartFrom::Latest) => range.end,
            _ => range.start,
        }
    }

    pub(super) fn set_phase(&mut self, slot: usize, phase: Phase) {
        if let Some(at) = self.slots.get_mut(slot) {
            at.phase = phase;
        }
    }

    pub(super) fn slot_of(&self, run: RunId) -> Option<usize> {
        self.slots.iter().position(|slot| slot.phase.run() == Some(run))
    }

    pub(super) fn on_copied<I: Io>(&mut self, io: &mut I, run: RunId, result: Result<(), String>, now: Now) -> Result<(), Fatal> {
        let Some(slot) = self.slot_of(run) else { return Ok(()) };
        let Some(at) = self.slots.get_mut(slot) else { return Ok(()) };
        let Phase::Copying { generation, stale, .. } = &mut at.phase else { return Ok(()) };
        let (generation, stale) = (*generation, std::mem::take(stale));
        if let Err(error) = result {
            // A copy of unknown outcome may land later, in part: its generation is never used.
            self.last_error = Some(format!("copying generation {generation} has an unknown outcome: {error}"));
            at.reading = None;
            at.phase = Phase::Asking;
            self.ask_again(now);
            return Ok(());
        }
        io.cross(Boundary::Copied);
        io.store(StoreRequest::Write { run, epoch: 0, rows: mark_row(&at.task.identity.name, generation) });
        at.phase = Phase::Marking { run, generation, stale, taken: None };
        Ok(())
    }

    pub(super) fn on_written<I: Io>(&mut self, io: &mut I, run: RunId, epoch: u32, now: Now) -> Result<(), Fatal> {
        let slot = self.slot_of(run).and_then(|slot| self.slots.get_mut(slot));
        let Some(at) = slot.filter(|at| matches!(at.phase, Phase::Marking { .. } | Phase::GoingOn { .. })) else {
            self.on_checkpoint_written(io, run, epoch, now);
            return Ok(());
        };
        if let Phase::GoingOn { generation, .. } = at.phase {
            io.cross(Boundary::TakenOver);
            io.store(StoreRequest::Owners { run, task: at.task.identity.name.clone(), besides: generation });
            return Ok(());
        }
        io.cross(Boundary::Marked);
        let Phase::Marking { generation, stale, taken, .. } = &mut at.phase else { return Ok(()) };
        let (generation, stale) = (*generation, std::mem::take(stale));
        at.phase = match taken.take() {
            Some(mut taken) => {
                taken.task.mark_moved();
                Phase::Restored { run, stale, taken }
            }
            None => {
                io.store(StoreRequest::Tally { run, task: at.task.identity.name.clone(), generation });
                Phase::Tallying { run, generation, stale }
            }
        };
        Ok(())
    }

    /// Whose the rows were when they had become ours. An owner that took them over before our claim has said so before its confirm: it is seen here, and then they are
    /// not ours alone. The claim above, which is made then, finds an owner that has not closed them, and copies.
    pub(super) fn on_owners(&mut self, run: RunId, stored: &[StoredGeneration], now: Now) {
        let Some(at) = self.slot_of(run).and_then(|slot| self.slots.get_mut(slot)) else { return };
        let Phase::GoingOn { source, stale, .. } = &mut at.phase else { return };
        let whose = |stored: &StoredGeneration| (stored.generation, stored.owner, stored.is_closed);
        if StoredGeneration::newest(stored).as_ref().map(whose) == Some(whose(source)) {
            at.phase = Phase::Restoring { run, stored: source.generation, stale: std::mem::take(stale), copied: None };
        } else {
            at.reading = None;
            at.phase = Phase::Asking;
            self.ask_again(now);
        }
    }
}

fn lost_state_text(task: &TaskName, generation: u64) -> String {
    format!(
        "task {task}: the consumer group says that it had state (generation {generation}), but `task_state` has no complete generation of it: the table was emptied, or another database is configured. Set `clickhouse.database` back or restore `task_state` from a backup; to rebuild from the logs, use a new database (`clickhouse.database`) and group (`kafka.group`): `onecode migrate`, then `onecode run`"
    )
}
