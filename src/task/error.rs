//! Why a task cannot go on from what is stored.

use super::cold::ColdStoreError;
use super::positions::PositionsError;
use crate::engine::RestoreError;
use crate::model::TaskName;

/// A reason to stop a task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// The positions row does not fit.
    #[error("task {task}: {source}")]
    Positions {
        /// Task.
        task: TaskName,
        /// What does not fit.
        source: PositionsError,
    },
    /// A state row cannot be read.
    #[error("task {task} generation {generation}: {source}; restore `task_state` from a backup, or rebuild into a new database")]
    Corrupt {
        /// Task.
        task: TaskName,
        /// Generation.
        generation: u64,
        /// What is wrong.
        source: RestoreError,
    },
    /// Not what was written.
    #[error(
        "task {task} generation {generation}: the state has {found_rows} rows with hash {found_hash:016x}, its positions row says {stored_rows} rows with hash {stored_hash:016x}: rows of `task_state` were lost or changed; restore them from a backup, or rebuild into a new database"
    )]
    Integrity {
        /// Task.
        task: TaskName,
        /// Generation.
        generation: u64,
        /// Rows found.
        found_rows: u64,
        /// Their hash.
        found_hash: u64,
        /// Rows written.
        stored_rows: u64,
        /// Their hash.
        stored_hash: u64,
    },
    /// Cold state did not come back.
    #[error(
        "task {task}: cold state cannot be taken back from the local disk: {what}; nothing is lost, the task begins again from its last checkpoint when onecode is started again; check the disk of `pipeline.cold_dir`"
    )]
    Cold {
        /// Task.
        task: TaskName,
        /// What went wrong.
        what: String,
    },
    /// Cold state cannot leave memory.
    #[error(
        "task {task}: cold state cannot leave memory: {source}; make room on the disk of `pipeline.cold_dir`, or raise `limits.cold_bytes`"
    )]
    NoRoom {
        /// Task.
        task: TaskName,
        /// What the store says.
        source: ColdStoreError,
    },
    /// A generation is marked complete and has no positions row.
    #[error(
        "task {task} generation {generation} is marked complete but has no positions row: rows of `task_state` were lost; restore them from a backup, or rebuild into a new database"
    )]
    NoPositions {
        /// Task.
        task: TaskName,
        /// Generation.
        generation: u64,
    },
}
