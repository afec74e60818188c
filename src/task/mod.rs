//! The life of one task between its takeover and its end: what happens to a record, and what a checkpoint contains.
//!
//! Owns a task's positions, relay chains, forget horizon and engine. Promises that all of it is a function of the records
//! and the times handed in: no clock, no IO, no randomness. Never sends anything itself: what has to leave goes into an
//! [`Outbox`] that the worker provides.

mod cell_log;
mod checkpoint;
mod cold;
mod contribution;
mod dead_letter;
mod error;
mod exchange;
mod first_rows;
mod former;
mod horizon;
mod positions;
mod record;
mod rejects;
mod relay;
mod restore;
mod restore_halves;
mod run;
mod speak;
mod state_rows;

pub use cell_log::PackRule;
pub use checkpoint::{Cut, KIND_MARK, KIND_POSITIONS, STATE_COLUMNS, mark_row, owner_row, push_mark_row, push_state_row};
pub use cold::{ColdStore, ColdStoreError, ColdStores};
pub use contribution::{Reach, Reaches, decode_contributions, encode_contributions_header, encode_reach};
pub use dead_letter::{DEAD_LETTER_HEADERS, DeadLetter, Origin, dead_letter_headers};
pub use error::TaskError;
pub use horizon::Horizon;
pub use positions::{LogPosition, Positions, PositionsError};
pub use record::{Headers, NoHeaders, Record, TimestampKind};
pub use rejects::{RejectLimits, RejectTracker, TooManyRejects};
pub use relay::{EXCHANGE_HEADER, Inbox, Incoming, Mark, OpenGap, RelayHeader, SourceLog, Verdict, decode_header, encode_progress};
pub use restore::Restore;
pub use restore_halves::{CustomersHalf, GraphHalf};
pub use run::{Decoded, Generations, LogRole, Outbox, Outcome, Task, TaskIdentity, TaskSettings};
pub use state_rows::{StoredRow, StoredRows};
