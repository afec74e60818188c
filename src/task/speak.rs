//! What a task says of its own accord: how far it has read, how far back it may still reach, contributions.

use super::contribution::{Reach, Records, encode_contributions_header, encode_reach};
use super::error::TaskError;
use super::horizon::Horizon;
use super::relay::encode_progress;
use super::run::{LogRole, Outbox, Task};
use crate::model::{Version, owner};

/// Reaches are messages too, and messages move the horizon: a floor lets a quiet pipeline fall silent.
const LEAST_REACH_STEP_MS: i64 = 3_600_000;

impl Task {
    /// Moves the forget horizon and forgets a bounded piece; `now_ms` caps timestamps that producers set.
    ///
    /// # Errors
    /// [`TaskError::Cold`]: the task is of no further use; nothing of it may be saved.
    pub fn advance_horizon(&mut self, now_ms: i64, sweep_keys: usize) -> Result<(), TaskError> {
        let reached = self.reached(now_ms);
        let horizon_ms = reached.horizon_ms(self.settings.max_lateness_ms, self.settings.forget_slack_ms);
        if horizon_ms > self.engine.horizon_ms() {
            self.engine.raise_horizon(horizon_ms);
        }
        self.engine.sweep(sweep_keys);
        self.fetch_due(sweep_keys)
    }

    fn reached(&self, now_ms: i64) -> Horizon {
        let mut horizon = Horizon::default();
        for log in &self.logs {
            let time_ms = if log.time_is_producers { log.record_time_ms.min(now_ms) } else { log.record_time_ms };
            horizon.log(time_ms, log.at_end);
        }
        for (source, mark) in self.inbox.marks() {
            if !self.has_all_relays_of(source) {
                horizon.source(mark.record_time_ms.min(now_ms));
            }
        }
        if self.awaits_first_relay() {
            horizon.source(0);
        }
        horizon
    }

    /// Tells destinations how far their sources have read, where that has moved enough since they last heard.
    pub fn send_progress<O: Outbox>(&mut self, now_ms: i64, out: &mut O) {
        let newest_ms = self.reached(now_ms).reached_ms();
        let own = self.identity.owns;
        for log in &mut self.logs {
            if log.role == LogRole::Exchange {
                continue;
            }
            let time_ms = if log.at_end { newest_ms.max(log.record_time_ms.min(now_ms)) } else { log.record_time_ms.min(now_ms) };
            for (destination, (previous, told_ms)) in (0_u32..).zip(log.sent.iter().zip(log.told_ms.iter_mut())) {
                if *previous >= 0 && own != Some(destination) && time_ms.saturating_sub(*told_ms) >= self.settings.progress_every_ms {
                    *told_ms = time_ms;
                    out.progress(destination, encode_progress(&log.tp, *previous, time_ms));
                }
            }
        }
    }

    /// Sends what every touched pair of the graph now says. Each drain speaks with a version of its own.
    pub fn drain_contributions<O: Outbox>(&mut self, out: &mut O) {
        let Some(task) = self.identity.owns.filter(|_| self.engine.dirty_contributions() > 0) else { return };
        self.sequence += 1;
        let header = encode_contributions_header(task, Version::new(self.generations.spoken, self.sequence));
        let tasks = self.settings.tasks;
        let mut records = Records::default();
        self.engine.drain_contributions(|sharer_id, contribution| {
            let destination = owner(sharer_id, tasks);
            if let Some(value) = records.add(destination, contribution) {
                out.contributions(destination, header.clone(), &value);
            }
        });
        for (destination, value) in records.rest() {
            out.contributions(destination, header.clone(), &value);
        }
    }

    /// The last cut is durable, and the group still holds this task's worker for its owner.
    pub fn note_saved(&mut self) {
        self.saved_horizon_ms = self.cut_horizon_ms;
        self.haste = self.haste.saturating_sub(1);
    }

    /// Tells all tasks how far back events of this one may still reach, where that has moved enough since they last heard.
    pub fn send_reach<O: Outbox>(&mut self, out: &mut O) {
        let step_ms = self.settings.progress_every_ms.max(LEAST_REACH_STEP_MS);
        let Some(task) = self.identity.owns.filter(|_| self.saved_horizon_ms - self.told_horizon_ms >= step_ms) else { return };
        self.told_horizon_ms = self.saved_horizon_ms;
        let header = encode_reach(task, Reach { generation: self.generations.spoken, horizon_ms: self.saved_horizon_ms });
        for destination in 0..self.settings.tasks {
            out.progress(destination, header.clone());
        }
    }
}
