//! Mechanisms that the promise rests on. The product always runs with all of them: no configuration reaches this. Tests switch
//! them off one at a time, to see that the simulator notices what is then lost.

use crate::engine::Mechanisms;

/// Which mechanisms work; by default all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    /// Those of a task's state.
    pub engine: Mechanisms,
    /// A checkpoint waits until Kafka has what was produced before its cut.
    pub awaits_acknowledgements: bool,
    /// A checkpoint waits until the rows of its cut are in.
    pub awaits_rows: bool,
    /// The forget horizon stands still until a takeover's replay is over.
    pub horizon_awaits_replay: bool,
    /// What was read from the source of a copy counts only if the copy has the same rows.
    pub compares_copies: bool,
    /// Rows are taken over without a copy only where their owner has written for the last time.
    pub goes_on_only_where_closed: bool,
    /// A log that a relay-only task has read is gone on with where that task stands.
    pub reads_on: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Switches {
            engine: Mechanisms::default(),
            awaits_acknowledgements: true,
            awaits_rows: true,
            horizon_awaits_replay: true,
            compares_copies: true,
            goes_on_only_where_closed: true,
            reads_on: true,
        }
    }
}
