//! The end of a takeover: the second commit, after which the task may speak.

use super::boundary::Boundary;
use super::io::{Claim, Commit, Fatal, Io, StoreRequest};
use super::slot::{Phase, Replay, Running, Taken};
use super::{Now, Worker};
use crate::model::{Offset, TopicPartition};

impl Worker {
    /// Whoever is not the owner any more has read what the owner was dropping. So only a commit that holds makes it an error.
    pub(super) fn confirm_unreadable<I: Io>(&mut self, io: &mut I, slot: usize, now: Now) -> Result<(), Fatal> {
        let Some(at) = self.slots.get_mut(slot) else { return Ok(()) };
        let Phase::Unreadable { generation, error } = std::mem::replace(&mut at.phase, Phase::Asking) else { return Ok(()) };
        let offset = self.committed.get(&at.task.identity.name).and_then(|committed| committed.offset).unwrap_or(0);
        let claim = Some(Claim { generation, has_state: true });
        let commits: Vec<Commit> = at.task.home().into_iter().map(|tp| Commit { tp: tp.clone(), offset, claim }).collect();
        match io.commit(&commits) {
            Ok(()) => Err(Fatal(error)),
            Err(unconfirmed) => {
                self.on_log_error(unconfirmed, now);
                Ok(())
            }
        }
    }

    /// The second commit: if it holds, no later claim exists, and the task may speak.
    pub(super) fn confirm<I: Io>(&mut self, io: &mut I, slot: usize, now: Now) -> Result<(), Fatal> {
        let Some(at) = self.slots.get_mut(slot) else { return Ok(()) };
        let Phase::Restored { run, stale, taken } = std::mem::replace(&mut at.phase, Phase::Asking) else { return Ok(()) };
        let Taken { task, positions, is_first, .. } = *taken;
        let name = at.task.identity.name.clone();
        let logs = at.task.logs.clone();
        let claim = Some(Claim { generation: task.generation(), has_state: true });
        io.cross(Boundary::Restored);
        let home = task.logs().next().map(|(tp, offset, _)| Commit { tp: tp.clone(), offset, claim });
        if let Err(error) = io.commit(home.as_slice()) {
            self.on_log_error(error, now);
            return Ok(());
        }
        io.cross(Boundary::Confirmed);
        let is_stale = |generation: &u64| *generation < task.generation() && *generation != task.stored_generation();
        let generations: Vec<u64> = stale.into_iter().filter(is_stale).collect();
        if !generations.is_empty() {
            io.store(StoreRequest::Drop { task: name.clone(), generations });
            io.cross(Boundary::Dropped);
        }
        let mut ends = Vec::new();
        for (tp, _) in &logs {
            match io.range(tp) {
                Ok(range) => {
                    if !is_first {
                        self.check_log(&name, tp, range, &positions)?;
                    }
                    ends.push(range.end);
                }
                Err(error) => {
                    self.on_log_error(error, now);
                    return Ok(());
                }
            }
        }
        if !is_first {
            self.check_age(&name, &positions, now)?;
            self.check_repartitioned(&name, &logs, &positions)?;
        }
        self.counters.takeover_ms.push(now.mono_ms - self.assigned_at_ms);
        let serve_gate_ms = now.mono_ms + (self.settings.takeover_serve_delay_ms >> task.haste());
        let replay = (!is_first).then_some(Replay { ends, serve_gate_ms });
        // Tasks of one assignment do not all checkpoint at the same moment.
        let spread_ms = self.settings.checkpoint_interval_ms * (slot as i64 + 1) / (self.slots.len() as i64).max(1);
        let first_checkpoint_ms = now.mono_ms + (spread_ms >> task.haste());
        let starts: Vec<(TopicPartition, Offset)> = task.logs().map(|(tp, next, _)| (tp.clone(), next)).collect();
        let mut running = Box::new(Running::new(task, run, now.mono_ms, first_checkpoint_ms, replay));
        if !is_first {
            // What a crash would replay begins at the predecessor's.
            running.checkpointed_at_ms -= (now.wall_ms - positions.written_ms).max(0);
        }
        self.run(io, slot, running, &starts, now);
        Ok(())
    }
}
