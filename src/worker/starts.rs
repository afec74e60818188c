//! Where a taken-over task begins in logs of which its state says nothing.
//!
//! A log that a relay-only task has read before (its topic grew to as many partitions as there are tasks) is gone on with where that
//! task stands; any other begins where the configuration says. Promises that the start is as durable as the state before the task
//! runs: resolved anew after a crash, it could skip records.

use super::assignment::relaying_task;
use super::checks::{is_remade, remade_text};
use super::io::{Io, StoreRequest};
use super::slot::Phase;
use super::{Now, Worker};
use crate::model::{TaskName, TopicPartition};
use crate::task::{KIND_POSITIONS, LogRole, Positions, StoredRows, push_mark_row};

impl Worker {
    /// Settles where to begin in new logs, and has it written. Whether there is any; then the takeover goes on when that is done.
    pub(super) fn settle_starts<I: Io>(&mut self, io: &mut I, slot: usize, now: Now) -> bool {
        let Some(at) = self.slots.get_mut(slot) else { return false };
        let Phase::Restored { taken, .. } = &at.phase else { return false };
        let new: Vec<(usize, (TopicPartition, LogRole))> =
            at.task.logs.iter().cloned().enumerate().filter(|(_, (tp, _))| !taken.positions.logs.contains_key(tp)).collect();
        if new.is_empty() && !taken.has_new_starts {
            return false;
        }
        let reads_on = self.settings.switches.reads_on;
        let former_of = |tp: &TopicPartition| {
            let name = at.task.once_relayed().any(|relayed| reads_on && relayed == tp).then(|| relaying_task(tp))?;
            self.former.get(&name).map(|generation| (name, *generation))
        };
        let inherited = new.iter().find_map(|(log, (tp, _))| Some((*log, former_of(tp)?)));
        if let Some((log, (task, generation))) = inherited {
            let Phase::Restored { run, stale, taken } = std::mem::replace(&mut at.phase, Phase::Asking) else { return true };
            io.store(StoreRequest::Load { run, task, generation, half: None, after: None });
            at.phase = Phase::Inheriting { run, stale, taken, log };
            return true;
        }
        self.write_starts(io, slot, new, now);
        true
    }

    /// Resolves the starts that nobody knows, and writes all; a first start becomes complete by it.
    fn write_starts<I: Io>(&mut self, io: &mut I, slot: usize, new: Vec<(usize, (TopicPartition, LogRole))>, now: Now) {
        let mut starts = Vec::new();
        for (log, (tp, role)) in new {
            match io.range(&tp) {
                Ok(range) => starts.push((log, self.start_of(role, range))),
                Err(error) => {
                    self.set_phase(slot, Phase::Asking);
                    return self.on_log_error(error, now);
                }
            }
        }
        let Some(at) = self.slots.get_mut(slot) else { return };
        let Phase::Restored { run, stale, mut taken } = std::mem::replace(&mut at.phase, Phase::Asking) else { return };
        for (log, start) in starts {
            taken.task.start_at(log, start);
        }
        let generation = taken.task.stored_generation();
        let mut rows = taken.task.cut(now.wall_ms, Vec::new()).rows;
        if taken.is_first {
            push_mark_row(&mut rows, &at.task.identity.name, generation);
        }
        io.store(StoreRequest::Write { run, epoch: 0, rows });
        taken.positions.logs.extend(taken.task.log_positions());
        taken.has_new_starts = false;
        at.phase = Phase::Marking { run, generation, stale, taken: Some(taken) };
    }

    /// The row is here that says how far a log was read by the task that only relayed it.
    pub(super) fn inherit(&mut self, slot: usize, rows: &[u8], now: Now) {
        let Some(at) = self.slots.get_mut(slot) else { return };
        let Phase::Inheriting { run, stale, mut taken, log } = std::mem::replace(&mut at.phase, Phase::Asking) else { return };
        let (name, Some((tp, _))) = (&at.task.identity.name, at.task.logs.get(log)) else { return };
        let former = relaying_task(tp);
        let Some(row) = StoredRows::new(rows).read().filter(|row| row.kind == KIND_POSITIONS) else {
            // A successor has dropped that generation meanwhile.
            return self.ask_again(now);
        };
        let topic_id = self.settings.task.topic_ids.get(&*tp.topic).map_or("", String::as_str);
        let positions = match Positions::decode(row.payload) {
            Ok(positions) => positions,
            Err(error) => {
                let error = format!("task {former}: {error}");
                at.phase = Phase::Unreadable { generation: taken.task.generation(), error };
                return;
            }
        };
        // What another number of tasks left behind says nothing of this one's relays.
        let stands = (positions.tasks == self.settings.task.tasks).then(|| taken.task.read_on(log, &positions)).flatten();
        if let Some(stored) = stands.as_ref().filter(|stands| is_remade(topic_id, &stands.topic_id)) {
            let error = remade_text(name, &tp.topic, topic_id, &stored.topic_id);
            at.phase = Phase::Unreadable { generation: taken.task.generation(), error };
            return;
        }
        match stands {
            Some(stands) => {
                taken.positions.logs.insert(tp.clone(), stands);
                taken.has_new_starts = true;
            }
            None => {
                self.former.remove(&former);
            }
        }
        at.phase = Phase::Restored { run, stale, taken };
    }

    /// What relay-only tasks have stored is asked for anew.
    pub(super) fn forget_former(&mut self, tasks: &[TaskName]) {
        for task in tasks {
            self.former.remove(task);
        }
    }
}
