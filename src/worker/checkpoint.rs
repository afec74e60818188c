//! Checkpoints: cut, wait for everything that the cut stands on, write it in one atomic insert, commit the offsets.

use super::boundary::Boundary;
use super::cold::Memory;
use super::io::{Claim, Commit, Fatal, Io, LogError, RunId, StoreRequest};
use super::outbox::WorkerOutbox;
use super::slot::{Checkpoint, Closing, Phase, Running};
use super::{Now, Ticket, Worker};
use crate::task::{LogRole, owner_row};

/// A checkpoint of a quiet task is written again after this: a day.
const REWRITE_AFTER_MS: i64 = 86_400_000;

/// The number under which it is written that a task has written for the last time: no cut has it.
const CLOSING_EPOCH: u32 = u32::MAX;

/// How long a drain waits for that.
const CLOSING_PATIENCE_MS: i64 = 2_000;

impl Worker {
    /// Begins checkpoints whose time has come, and writes those whose cut is covered.
    pub(super) fn advance_checkpoints<I: Io>(&mut self, io: &mut I, now: Now) -> Result<(), Fatal> {
        let mut memory = self.memory();
        for slot in 0..self.slots.len() {
            if self.is_checkpoint_due(slot, now, memory) {
                self.cut(io, slot, now)?;
                memory = self.memory();
            }
            self.write_if_covered(io, slot);
            if self.draining {
                self.close(io, slot, now);
            }
        }
        self.is_short_of_memory = memory != Memory::Enough;
        Ok(())
    }

    fn is_checkpoint_due(&mut self, slot: usize, now: Now, memory: Memory) -> bool {
        let (draining, most_dirty_keys) = (self.draining, self.settings.dirty_keys_per_checkpoint);
        let is_full = memory == Memory::Full;
        let early_ms = if memory == Memory::Enough { 0 } else { self.settings.checkpoint_interval_ms * 3 / 4 };
        let Some(running) = self.running_mut(slot) else { return false };
        if running.closing != Closing::Open
            || running.checkpoint.is_some()
            || !running.may_serve(now.mono_ms, draining || is_full, most_dirty_keys)
        {
            return false;
        }
        if !running.task.has_unsaved() {
            // Nothing to save: what is stored is as good as new. It is written again now and then all the same, because a
            // checkpoint older than the exchange's retention is not gone on from.
            running.checkpointed_at_ms = now.mono_ms;
            return now.mono_ms - running.written_at_ms >= REWRITE_AFTER_MS;
        }
        let dirty_keys = running.task.engine().dirty_state();
        let is_large = dirty_keys >= most_dirty_keys || is_full && dirty_keys > 0;
        draining || is_large || now.mono_ms >= running.next_checkpoint_ms - early_ms
    }

    /// Fixes rows and positions at this moment. Events applied from here on belong to the next cut.
    fn cut<I: Io>(&mut self, io: &mut I, slot: usize, now: Now) -> Result<(), Fatal> {
        let Some(Phase::Running(running)) = self.slots.get_mut(slot).map(|slot| &mut slot.phase) else { return Ok(()) };
        let ticket = Ticket { run: running.run, epoch: running.epoch };
        let (archive, counters) = (&mut self.archive_open, &mut self.counters);
        let mut out = WorkerOutbox { io, archive, ticket, produced: 0, counters, topic: 0 };
        running.task.send_progress(now.wall_ms, &mut out);
        running.task.send_reach(&mut out);
        running.task.drain_contributions(&mut out);
        let produced = out.produced;
        running.produced(produced);
        running.task.drain_rows(&mut self.serving_open);
        let cut = running.task.cut(now.wall_ms, io.spare(None));
        running.checkpoint = Some(Checkpoint {
            epoch: running.epoch,
            needs_serving: self.serving.needed(self.serving_open.is_empty()),
            needs_archive: self.archive.needed(self.archive_open.is_empty()),
            bytes: cut.rows.bytes(),
            rows: Some(cut.rows),
            offsets: cut.offsets,
            cut_at_ms: now.mono_ms,
        });
        running.epoch += 1;
        running.next_checkpoint_ms = now.mono_ms + self.settings.checkpoint_interval_ms;
        io.cross(Boundary::Cut);
        self.relieve_memory(slot)
    }

    fn write_if_covered<I: Io>(&mut self, io: &mut I, slot: usize) {
        let (served, archived) = (self.serving.done(), self.archive.done());
        let switches = self.settings.switches;
        let Some(running) = self.running_mut(slot) else { return };
        let run = running.run;
        let Some(epoch) = running.checkpoint.as_ref().map(|checkpoint| checkpoint.epoch) else { return };
        let acknowledged = running.all_acknowledged(epoch);
        let Some(checkpoint) = &mut running.checkpoint else { return };
        let rows_are_in = served >= checkpoint.needs_serving && archived >= checkpoint.needs_archive;
        let is_covered = (acknowledged || !switches.awaits_acknowledgements) && (rows_are_in || !switches.awaits_rows);
        if is_covered && let Some(rows) = checkpoint.rows.take() {
            io.cross(Boundary::Covered);
            io.store(StoreRequest::Write { run, epoch, rows });
            io.cross(Boundary::StateSent);
        }
    }

    /// A drained task says that it has written for the last time, so that its successor need not copy what is stored. That is worth some waiting, but no more.
    fn close<I: Io>(&mut self, io: &mut I, slot: usize, now: Now) {
        let Some(at) = self.slots.get_mut(slot) else { return };
        let Phase::Running(running) = &mut at.phase else { return };
        match running.closing {
            Closing::Open if running.checkpoint.is_none() && !running.task.has_unsaved() => {
                let (stored, owner) = (running.task.stored_generation(), running.task.generation());
                io.store(StoreRequest::Write {
                    run: running.run,
                    epoch: CLOSING_EPOCH,
                    rows: owner_row(&at.task.identity.name, stored, owner, true),
                });
                running.closing = Closing::Begun { at_ms: now.mono_ms };
            }
            Closing::Begun { at_ms } if now.mono_ms - at_ms > CLOSING_PATIENCE_MS => running.closing = Closing::Done,
            _ => {}
        }
    }

    /// A checkpoint is durable: commits its offsets, for lag tools and with the generation in the metadata.
    pub(super) fn on_checkpoint_written<I: Io>(&mut self, io: &mut I, run: RunId, epoch: u32, now: Now) {
        if epoch == CLOSING_EPOCH {
            if let Some(running) = self.running_of(run) {
                running.closing = Closing::Done;
                io.cross(Boundary::Closed);
            }
            return;
        }
        let mut commits = Vec::new();
        let mut owned = false;
        for slot in &mut self.slots {
            let Phase::Running(running) = &mut slot.phase else { continue };
            if let Some(checkpoint) = finished(running, run, epoch, now.mono_ms) {
                owned = true;
                self.counters.checkpoint_ms.push(now.mono_ms - checkpoint.cut_at_ms);
                commits = commits_of(&slot.task.logs[..1], &checkpoint, running.task.generation());
            }
        }
        if !owned {
            // Not ours at present: durable in its own generation's partition, and not to be committed.
            let kept = self.slots.iter_mut().filter_map(|slot| slot.memory.as_deref_mut()).chain(self.parked.values_mut());
            for running in kept {
                finished(running, run, epoch, now.mono_ms);
            }
            return;
        }
        io.cross(Boundary::StateIn);
        match io.commit(&commits) {
            Ok(()) => {
                io.cross(Boundary::Committed);
                if let Some(running) = self.running_of(run) {
                    running.task.note_saved();
                }
            }
            Err(LogError::Unavailable(error)) => {
                // Offsets serve lag tools alone; the next checkpoint commits them.
                self.last_error = Some(format!("offsets could not be committed: {error}"));
                if let Some(running) = self.running_of(run) {
                    running.task.mark_moved();
                }
            }
            Err(LogError::Fenced(error)) => self.on_fenced(&error),
        }
    }

    /// The group has another idea: everything stops speaking until the next assignment.
    pub(super) fn on_fenced(&mut self, error: &str) {
        self.counters.fenced += 1;
        self.last_error = Some(format!("fenced: {error}"));
        self.on_revoked();
    }

    fn running_of(&mut self, run: RunId) -> Option<&mut Running> {
        self.slots.iter_mut().find_map(|slot| match &mut slot.phase {
            Phase::Running(running) if running.run == run => Some(&mut **running),
            _ => None,
        })
    }

    pub(super) fn running_mut(&mut self, slot: usize) -> Option<&mut Running> {
        match &mut self.slots.get_mut(slot)?.phase {
            Phase::Running(running) => Some(running),
            _ => None,
        }
    }
}

fn finished(running: &mut Running, run: RunId, epoch: u32, now_ms: i64) -> Option<Checkpoint> {
    if running.run != run || running.checkpoint.as_ref().is_none_or(|checkpoint| checkpoint.epoch != epoch) {
        return None;
    }
    running.checkpointed_at_ms = now_ms;
    running.written_at_ms = now_ms;
    running.checkpoint.take()
}

fn commits_of(home: &[(crate::model::TopicPartition, LogRole)], checkpoint: &Checkpoint, generation: u64) -> Vec<Commit> {
    checkpoint
        .offsets
        .iter()
        .map(|(tp, offset)| Commit {
            tp: tp.clone(),
            offset: *offset,
            claim: home.iter().any(|(home, _)| home == tp).then_some(Claim { generation, has_state: true }),
        })
        .collect()
}
