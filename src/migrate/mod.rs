//! Creating, upgrading and checking what the pipeline stands on: the database with its tables and views, and the topics.
//!
//! Owns the schema that is shipped ([`schema`]), the comparison with the one on the server ([`compare`], which `onecode run` also asks
//! before it starts), and the topics' settings ([`topics`]). Promises that everything here may be repeated, and that nothing that
//! exists is dropped or altered beyond what a step says. Never touches rows.

mod clickhouse;
mod comments;
mod compare;
mod inspect;
pub mod schema;
pub mod topics;

pub use clickhouse::{Step, apply, plan};
pub use compare::{Difference, compare};
pub use inspect::{Inspection, inspect};

use crate::store::AdminError;

/// Why a migration stopped. What was done before stays done; a later run goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// ClickHouse could not be asked or refused a statement.
    #[error(transparent)]
    ClickHouse(#[from] AdminError),
    /// Kafka could not be asked, or topics are missing.
    #[error(transparent)]
    Topics(#[from] topics::TopicError),
    /// The text of an applied migration is not the one that was applied.
    #[error(
        "migration {name} is not the text that was applied to this database; migrations are never edited: use the released binary, and put a change into a new migration"
    )]
    Edited {
        /// File without extension.
        name: String,
    },
    /// The database has migrations that this binary does not know.
    #[error(
        "the database was migrated by a newer release (it has {name}, which this binary does not know); use that release or a newer one"
    )]
    NewerDatabase {
        /// File without extension.
        name: String,
    },
}
