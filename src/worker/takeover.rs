//! Takeover of the tasks of an assignment: claim, copy, mark, load, confirm, and only then run (`src/DESIGN.md`, section 8).
//!
//! Every claim and confirm is a commit on the worker's own thread within its present assignment; any refusal ends it. Nothing
//! leaves a task before its confirm. An outcome that is not known starts over with a claim of a higher generation.

use std::collections::BTreeMap;

use super::io::{Commit, Fatal, Io, LogError, LogRange, RunId, StoreRequest, StoredGeneration};
use super::slot::{Phase, Replay, Running};
use super::{Now, Worker};
use crate::config::StartFrom;
use crate::model::{Offset, TaskName, TopicPartition};
use crate::task::{LogRole, Positions, Restore, Task, mark_row};

/// Pause before the generations are asked for again.
const ASK_AGAIN_MS: i64 = 500;
/// State rows put into memory between two polls of the consumer.
const ROWS_PER_PIECE: usize = 20_000;

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
                Some(Phase::Claimed { .. }) => self.begin(io, slot, now),
                Some(Phase::Restoring { .. }) => self.restore_piece(slot),
                _ => {}
            }
            if matches!(self.slots.get(slot).map(|slot| &slot.phase), Some(Phase::Unreadable { .. })) {
                self.confirm_unreadable(io, slot, now)?;
            }
            if matches!(self.slots.get(slot).map(|slot| &slot.phase), Some(Phase::Restored { .. })) {
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
        let tasks: Vec<TaskName> = asking().map(|slot| slot.task.identity.name.clone()).collect();
        if tasks.is_empty() {
            return;
        }
        match io.committed(&homes) {
            Ok(committed) => {
                self.committed.extend(tasks.iter().cloned().zip(committed));
                self.question += 1;
                self.asked = tasks.iter().cloned().collect();
                io.store(StoreRequest::Newest { question: self.question, tasks });
            }
            Err(error) => self.on_log_error(error, now),
        }
    }

    pub(super) fn ask_again(&mut self, now: Now) {
        self.ask_at_ms = Some(now.mono_ms + ASK_AGAIN_MS);
    }

    /// Kafka did not do what a takeover asked: fenced, or to be asked again.
    fn on_log_error(&mut self, error: LogError, now: Now) {
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
        let mut commits = Vec::new();
        let mut next_phases = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate().filter(|(_, slot)| matches!(slot.phase, Phase::Asking)) {
            let name = &slot.task.identity.name;
            if !asked.contains(name) {
                continue;
            }
            let stored = generations.get(name).map_or(&[][..], Vec::as_slice);
            let committed = self.committed.get(name).copied().unwrap_or_default();
            let newest = stored.iter().map(|stored| stored.generation).chain(committed.generation).max();
            if slot.memory.as_ref().is_some_and(|memory| Some(memory.task.generation()) != newest) {
                slot.memory = None;
            }
            let generation = slot.memory.as_ref().map_or(newest.unwrap_or(0) + 1, |memory| memory.task.generation());
            if let Some(home) = slot.task.home() {
                commits.push(Commit { tp: home.clone(), offset: committed.offset.unwrap_or(0), generation: Some(generation) });
            }
            let source = stored.iter().filter(|stored| stored.complete).map(|stored| stored.generation).max();
            let stale = stored.iter().map(|stored| stored.generation).collect();
            next_phases.push((index, Phase::Claimed { generation, source, stale }));
        }
        if commits.is_empty() {
            return Ok(());
        }
        if let Err(error) = io.commit(&commits) {
            self.on_log_error(error, now);
            return Ok(());
        }
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
    fn run<I: Io>(&mut self, io: &mut I, slot: usize, mut running: Box<Running>, starts: &[(TopicPartition, Offset)], now: Now) {
        running.task.forget_ends();
        let started = io.start(starts);
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

    fn next_run(&mut self) -> RunId {
        let run = RunId(self.next_run);
        self.next_run += 1;
        run
    }

    /// Begins a claimed takeover when there is a free place.
    fn begin<I: Io>(&mut self, io: &mut I, slot: usize, now: Now) {
        let busy = self.slots.iter().filter(|slot| slot.phase.is_taking_over()).count();
        if busy >= self.settings.parallel_takeovers {
            return;
        }
        let run = self.next_run();
        let Some(at) = self.slots.get_mut(slot) else { return };
        let Phase::Claimed { generation, source, stale } = &mut at.phase else { return };
        let (generation, stale) = (*generation, std::mem::take(stale));
        match *source {
            Some(source) => {
                io.store(StoreRequest::Copy { run, task: at.task.identity.name.clone(), from: source, to: generation });
                at.phase = Phase::Copying { run, generation, stale };
            }
            None => self.begin_first_start(io, slot, run, generation, stale, now),
        }
    }

    /// No generation at all: resolves the start offsets, and writes them with the mark.
    fn begin_first_start<I: Io>(&mut self, io: &mut I, slot: usize, run: RunId, generation: u64, stale: Vec<u64>, now: Now) {
        let Some(task) = self.slots.get(slot).map(|slot| slot.task.clone()) else { return };
        let mut starts = BTreeMap::new();
        for (tp, role) in &task.logs {
            match io.range(tp) {
                Ok(range) => starts.insert(tp.clone(), self.start_of(*role, range)),
                Err(error) => {
                    self.set_phase(slot, Phase::Asking);
                    return self.on_log_error(error, now);
                }
            };
        }
        let engine = self.settings.engine(&task.identity);
        let settings = self.settings.task.clone();
        let mut first = Task::first_start(task.identity.clone(), generation, settings, engine, &task.logs, &starts);
        let mut rows = first.cut(now.wall_ms).rows;
        rows.append(&mark_row(&task.identity.name, generation));
        io.store(StoreRequest::Write { run, epoch: 0, rows });
        self.set_phase(slot, Phase::Marking { run, generation, stale, first: Some(Box::new(first)) });
    }

    fn start_of(&self, role: LogRole, range: LogRange) -> Offset {
        match (role, self.settings.start_from) {
            (LogRole::Input { .. }, StartFrom::Latest) => range.end,
            _ => range.start,
        }
    }

    fn set_phase(&mut self, slot: usize, phase: Phase) {
        if let Some(at) = self.slots.get_mut(slot) {
            at.phase = phase;
        }
    }

    fn slot_of(&self, run: RunId) -> Option<usize> {
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
            self.set_phase(slot, Phase::Asking);
            self.ask_again(now);
            return Ok(());
        }
        io.store(StoreRequest::Write { run, epoch: 0, rows: mark_row(&at.task.identity.name, generation) });
        at.phase = Phase::Marking { run, generation, stale, first: None };
        Ok(())
    }

    pub(super) fn on_written<I: Io>(&mut self, io: &mut I, run: RunId, epoch: u32, now: Now) -> Result<(), Fatal> {
        let marking = self.slot_of(run).filter(|slot| matches!(self.slots.get(*slot).map(|slot| &slot.phase), Some(Phase::Marking { .. })));
        let Some(at) = marking.and_then(|slot| self.slots.get_mut(slot)) else {
            self.on_checkpoint_written(io, run, epoch, now);
            return Ok(());
        };
        let Phase::Marking { generation, stale, first, .. } = &mut at.phase else { return Ok(()) };
        let (generation, stale) = (*generation, std::mem::take(stale));
        at.phase = match first.take() {
            Some(task) => Phase::Restored { run, stale, task, positions: None },
            None => {
                io.store(StoreRequest::Load { run, task: at.task.identity.name.clone(), generation });
                Phase::Loading { run, generation, stale }
            }
        };
        Ok(())
    }

    pub(super) fn on_loaded(&mut self, run: RunId, rows: Vec<u8>) {
        let Some(slot) = self.slot_of(run) else { return };
        let settings = self.settings.task.clone();
        let Some(identity) = self.slots.get(slot).map(|slot| slot.task.identity.clone()) else { return };
        let engine = self.settings.engine(&identity);
        let Some(at) = self.slots.get_mut(slot) else { return };
        let Phase::Loading { generation, stale, .. } = &mut at.phase else { return };
        let stale = std::mem::take(stale);
        let restore = Box::new(Restore::new(identity, *generation, settings, engine));
        at.phase = Phase::Restoring { run, stale, rows, at: 0, restore };
    }

    fn restore_piece(&mut self, slot: usize) {
        let Some(at) = self.slots.get_mut(slot) else { return };
        let Phase::Restoring { run, stale, rows, at: next, restore } = &mut at.phase else { return };
        let generation = restore.generation();
        for _ in 0..ROWS_PER_PIECE {
            let Some(rest) = rows.get(*next..).filter(|rest| !rest.is_empty()) else { break };
            let mut reader = Reader { rest };
            let row = reader.state_row();
            *next = rows.len() - reader.rest.len();
            let restored = match row {
                Some(row) => restore.row(row.kind, row.key, row.sequence, row.payload).map_err(|error| error.to_string()),
                None => Err(format!("task {}: clickhouse sent a state row that is cut short; start again", at.task.identity.name)),
            };
            if let Err(error) = restored {
                at.phase = Phase::Unreadable { generation, error };
                return;
            }
        }
        if *next < rows.len() {
            return;
        }
        let (run, stale) = (*run, std::mem::take(stale));
        let Phase::Restoring { restore, .. } = std::mem::replace(&mut at.phase, Phase::Asking) else { return };
        at.phase = match restore.finish(&at.task.logs) {
            Ok((task, positions)) => Phase::Restored { run, stale, task: Box::new(task), positions: Some(Box::new(positions)) },
            Err(error) => Phase::Unreadable { generation, error: error.to_string() },
        };
    }

    /// Whoever is not the owner any more has read what the owner was dropping. So only a commit that holds makes it an error.
    fn confirm_unreadable<I: Io>(&mut self, io: &mut I, slot: usize, now: Now) -> Result<(), Fatal> {
        let Some(at) = self.slots.get_mut(slot) else { return Ok(()) };
        let Phase::Unreadable { generation, error } = std::mem::replace(&mut at.phase, Phase::Asking) else { return Ok(()) };
        let offset = self.committed.get(&at.task.identity.name).and_then(|committed| committed.offset).unwrap_or(0);
        let commits: Vec<Commit> =
            at.task.home().into_iter().map(|tp| Commit { tp: tp.clone(), offset, generation: Some(generation) }).collect();
        match io.commit(&commits) {
            Ok(()) => Err(Fatal(error)),
            Err(unconfirmed) => {
                self.on_log_error(unconfirmed, now);
                Ok(())
            }
        }
    }

    /// The second commit: if it holds, no later claim exists, and the task may speak.
    fn confirm<I: Io>(&mut self, io: &mut I, slot: usize, now: Now) -> Result<(), Fatal> {
        let Some(at) = self.slots.get_mut(slot) else { return Ok(()) };
        let Phase::Restored { run, stale, task, positions } = std::mem::replace(&mut at.phase, Phase::Asking) else { return Ok(()) };
        let mut task = *task;
        let name = at.task.identity.name.clone();
        let logs = at.task.logs.clone();
        let home = task.logs().next().map(|(tp, next, _)| (tp.clone(), next));
        let commits: Vec<Commit> =
            home.into_iter().map(|(tp, offset)| Commit { tp, offset, generation: Some(task.generation()) }).collect();
        if let Err(error) = io.commit(&commits) {
            self.on_log_error(error, now);
            return Ok(());
        }
        let generations: Vec<u64> = stale.into_iter().filter(|generation| *generation < task.generation()).collect();
        if !generations.is_empty() {
            io.store(StoreRequest::Drop { task: name.clone(), generations });
        }
        let mut ends = Vec::new();
        for (index, (tp, role)) in logs.iter().enumerate() {
            match io.range(tp) {
                Ok(range) => {
                    self.check_log(&name, index, tp, *role, range, &mut task, positions.as_deref())?;
                    ends.push(range.end);
                }
                Err(error) => {
                    self.on_log_error(error, now);
                    return Ok(());
                }
            }
        }
        if let Some(positions) = &positions {
            self.check_age(&name, positions, now)?;
            self.check_repartitioned(&name, &logs, positions)?;
        }
        self.counters.takeover_ms.push(now.mono_ms - self.assigned_at_ms);
        let replay = positions.is_some().then(|| Replay { ends, serve_gate_ms: now.mono_ms + self.settings.takeover_serve_delay_ms });
        // Tasks of one assignment do not all checkpoint at the same moment.
        let spread_ms = self.settings.checkpoint_interval_ms * (slot as i64 + 1) / (self.slots.len() as i64).max(1);
        let starts: Vec<(TopicPartition, Offset)> = task.logs().map(|(tp, next, _)| (tp.clone(), next)).collect();
        let running = Box::new(Running::new(task, run, now.mono_ms, now.mono_ms + spread_ms, replay));
        self.run(io, slot, running, &starts, now);
        Ok(())
    }

    /// Compares a position with its log: lost input and recreated topics are refused.
    #[expect(clippy::too_many_arguments, reason = "one log of one takeover, and all that is known of it")]
    fn check_log(
        &self,
        name: &TaskName,
        index: usize,
        tp: &TopicPartition,
        role: LogRole,
        range: LogRange,
        task: &mut Task,
        positions: Option<&Positions>,
    ) -> Result<(), Fatal> {
        let Some(positions) = positions else { return Ok(()) };
        let Some(stands) = positions.logs.get(tp) else {
            task.start_at(index, self.start_of(role, range));
            return Ok(());
        };
        let topic_id = self.settings.task.topic_ids.get(&*tp.topic).map_or("", String::as_str);
        if !stands.topic_id.is_empty() && !topic_id.is_empty() && stands.topic_id != topic_id {
            return Err(Fatal(format!(
                "task {name}: topic `{}` was deleted and made again (its id is {topic_id}, the state was written against {}): positions of the old topic mean nothing in the new one. Restore the topic, or rebuild into a new database (`clickhouse.database`) and group (`kafka.group`): `onecode migrate`, then `onecode run`",
                tp.topic, stands.topic_id
            )));
        }
        if stands.next < range.start {
            return Err(Fatal(format!(
                "task {name}: {tp} begins at offset {}, but the next record to read is {}: {} records were removed by retention before they were read, and the tables would lack them. Restore them, or rebuild from what is left into a new database (`clickhouse.database`) and group (`kafka.group`): `onecode migrate`, then `onecode run`",
                range.start,
                stands.next,
                range.start - stands.next
            )));
        }
        if stands.next > range.end {
            return Err(Fatal(format!(
                "task {name}: {tp} ends at offset {}, but records up to {} were read already: the topic was recreated or lost acknowledged data. Restore it, or rebuild into a new database (`clickhouse.database`) and group (`kafka.group`): `onecode migrate`, then `onecode run`",
                range.end, stands.next
            )));
        }
        Ok(())
    }

    fn check_age(&self, name: &TaskName, positions: &Positions, now: Now) -> Result<(), Fatal> {
        let age_ms = now.wall_ms - positions.written_ms;
        if age_ms <= self.settings.exchange_retention_ms {
            return Ok(());
        }
        Err(Fatal(format!(
            "task {name}: its last checkpoint is {} days old, but the exchange topic keeps messages for {} days: messages to this task may be gone. Rebuild into a new database (`clickhouse.database`) and group (`kafka.group`): `onecode migrate`, then `onecode run`",
            age_ms / 86_400_000,
            self.settings.exchange_retention_ms / 86_400_000
        )))
    }

    /// A log that the state knows and that is not this task's any more although its topic is still read: another partition count.
    fn check_repartitioned(&self, name: &TaskName, logs: &[(TopicPartition, LogRole)], positions: &Positions) -> Result<(), Fatal> {
        for tp in positions.logs.keys() {
            let is_read = self.settings.topics.iter().find(|topic| topic.name == *tp.topic);
            if let Some(topic) = is_read
                && !logs.iter().any(|(log, _)| log == tp)
            {
                return Err(Fatal(format!(
                    "task {name} has read {tp} as its own, but topic `{}` has {} partitions now and the exchange has {}: set the partition count back, or stop all instances and run `onecode rescale --tasks {}`",
                    topic.name, topic.partitions, self.settings.task.tasks, topic.partitions
                )));
            }
        }
        Ok(())
    }
}

/// A row of the load: RowBinary of (kind UInt8, key String, sequence UInt64, payload String).
struct StoredRow<'a> {
    kind: u8,
    key: &'a [u8],
    sequence: u64,
    payload: &'a [u8],
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn state_row(&mut self) -> Option<StoredRow<'a>> {
        let kind = *self.take(1)?.first()?;
        let key = self.string()?;
        let sequence = u64::from_le_bytes(self.take(8)?.try_into().ok()?);
        let payload = self.string()?;
        Some(StoredRow { kind, key, sequence, payload })
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let mut length = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            length |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return self.take(usize::try_from(length).ok()?);
            }
        }
        None
    }
}
