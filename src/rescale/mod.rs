//! Another number of tasks: the state moves to the new owners while the pipeline is stopped.
//!
//! `plan` decides and `moving` says what to write (both pure), `mover` reads and writes ClickHouse, `cluster` asks Kafka; `onecode rescale` ties them together.
//! Promises that nothing runs on a state that has moved in part (a marker in `task_state` refuses it), that an interrupted move
//! is repeated from the old generations, which stay until the end, and that the tables say the same before and after. Never
//! moves while an instance runs, or while a task has not read all that others have sent it.

mod cluster;
mod mover;
mod moving;
mod plan;

pub use cluster::{Members, NotEmpty, decide, make_exchange, unread};
pub use mover::{MARKER_TASK, Marker, MoveError, Moved, Mover, marker};
pub use moving::{Moving, Step};
pub use plan::{NewTask, Plan, PlanError, Source, Wanted, plan};
