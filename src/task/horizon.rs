//! The forget horizon: before which event time ids may be forgotten, and older events are refused.
//!
//! `H = min over the task's own logs and the relay sources it has seen of their record time − max_lateness − forget_slack`,
//! and it only grows. A log that was read to its end counts as the newest. So a repeat is recognised or refused, never
//! counted twice (`src/DESIGN.md`, section 4).

/// Record times that bound the horizon, gathered over logs and relay sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Horizon {
    newest_ms: i64,
    slowest_ms: Option<i64>,
    unknown: bool,
}

impl Horizon {
    /// Adds a log: its last record time (0 = nothing read yet), and whether it was read to its end.
    pub fn log(&mut self, record_time_ms: i64, at_end: bool) {
        self.newest_ms = self.newest_ms.max(record_time_ms);
        if at_end {
            return;
        }
        if record_time_ms == 0 {
            self.unknown = true;
        } else {
            self.slow(record_time_ms);
        }
    }

    /// Adds a relay source by the record time of its last message.
    pub fn source(&mut self, record_time_ms: i64) {
        self.newest_ms = self.newest_ms.max(record_time_ms);
        self.slow(record_time_ms);
    }

    fn slow(&mut self, record_time_ms: i64) {
        self.slowest_ms = Some(self.slowest_ms.map_or(record_time_ms, |slowest| slowest.min(record_time_ms)));
    }

    /// The record time that every log and source has reached, Unix milliseconds; 0 = unknown.
    pub fn reached_ms(&self) -> i64 {
        if self.unknown { 0 } else { self.slowest_ms.unwrap_or(self.newest_ms) }
    }

    /// The horizon, Unix milliseconds; 0 = nothing may be forgotten.
    pub fn horizon_ms(&self, max_lateness_ms: i64, forget_slack_ms: i64) -> i64 {
        self.reached_ms().saturating_sub(max_lateness_ms).saturating_sub(forget_slack_ms).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::Horizon;

    #[test]
    fn the_slowest_log_that_has_more_to_read_decides() {
        let mut horizon = Horizon::default();
        horizon.log(1_000, false);
        horizon.log(400, true);
        horizon.source(900);
        assert_eq!(horizon.horizon_ms(100, 10), 790);
    }

    #[test]
    fn a_log_of_which_nothing_was_read_holds_the_horizon_back_unless_it_is_empty() {
        let mut horizon = Horizon::default();
        horizon.log(1_000, true);
        assert_eq!(horizon.horizon_ms(100, 10), 890);
        horizon.log(0, true);
        assert_eq!(horizon.horizon_ms(100, 10), 890);
        horizon.log(0, false);
        assert_eq!(horizon.horizon_ms(100, 10), 0);
    }
}
