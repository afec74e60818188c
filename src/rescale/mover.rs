//! ClickHouse as a move needs it: reads the sources, and carries out the steps of [`Moving`].
//!
//! Promises that every new generation is complete, with count and hash of its rows, or has no completeness mark; that what was
//! read is what was written by its task's positions row; and that it can be repeated as long as the old generations are there.

use std::collections::BTreeMap;
use std::time::Duration;

use clickhouse::Client;

use super::moving::{Moving, Step};
use super::plan::{Plan, Source};
use crate::config::ClickHouse;
use crate::engine::{StateRow, Unplaceable};
use crate::model::{TaskName, Version};
use crate::rows::{RowBuffer, Table};
use crate::store::{Admin, AdminError, complete_generations, literal};
use crate::task::{KIND_MARK, KIND_POSITIONS, Positions, PositionsError, STATE_COLUMNS, StoredRows, push_state_row};

/// The name under which `task_state` says that a move is under way.
pub const MARKER_TASK: &str = "rescale";
const MARKER_GENERATION: u64 = 1;
/// A load of one task's state, or an insert of a part of it, takes no longer.
const PATIENCE: Duration = Duration::from_secs(600);

/// A move that was begun and has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Number of tasks before.
    pub from: u32,
    /// Number of tasks after.
    pub to: u32,
    /// The new exchange topic.
    pub exchange: String,
}

/// What was moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// State rows written.
    pub rows: u64,
    /// Cells that were added to another task's.
    pub cells: u64,
}

/// Why the state was not moved.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// ClickHouse did not do what was asked.
    #[error(transparent)]
    Store(#[from] AdminError),
    /// An insert failed.
    #[error("ClickHouse did not take rows of `{table}`: {source}; run `onecode rescale` again, which begins anew")]
    Insert {
        /// Table.
        table: &'static str,
        /// The server's words.
        source: clickhouse::error::Error,
    },
    /// A row that cannot be placed.
    #[error("task {task}: {source}; restore `task_state` from a backup")]
    Unplaceable {
        /// Task.
        task: TaskName,
        /// The row.
        source: Unplaceable,
    },
    /// A positions row that cannot be read.
    #[error("task {task} generation {generation}: {source}")]
    Positions {
        /// Task.
        task: TaskName,
        /// Generation.
        generation: u64,
        /// What is wrong.
        source: PositionsError,
    },
    /// Not what was written.
    #[error(
        "task {task} generation {generation}: the state has {found} rows and its positions row says {stored}, or their hashes differ: rows of `task_state` were lost or changed; restore them from a backup"
    )]
    Integrity {
        /// Task.
        task: TaskName,
        /// Generation.
        generation: u64,
        /// Rows found.
        found: u64,
        /// Rows written.
        stored: u64,
    },
}

/// A move that was begun and has not ended, if there is one.
///
/// # Errors
/// [`AdminError`].
pub async fn marker(admin: &Admin) -> Result<Option<Marker>, AdminError> {
    let query = format!("SELECT key FROM task_state FINAL WHERE task = {} AND kind = {KIND_POSITIONS}", literal(MARKER_TASK));
    let keys: Vec<String> = admin.rows(&query).await?;
    Ok(keys.first().and_then(|key| {
        let mut words = key.splitn(3, ' ');
        Some(Marker { from: words.next()?.parse().ok()?, to: words.next()?.parse().ok()?, exchange: words.next()?.to_owned() })
    }))
}

/// ClickHouse, for moving.
pub struct Mover {
    admin: Admin,
    client: Client,
}

impl std::fmt::Debug for Mover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mover").field("admin", &self.admin).finish_non_exhaustive()
    }
}

impl Mover {
    /// For the configured server and database.
    pub fn new(config: &ClickHouse) -> Mover {
        // Nothing is inserted later than it is acknowledged, and nothing is dropped because it looks like something before.
        let admin = Admin::new(config).with_patience(PATIENCE).with_setting("async_insert", 0).with_setting("insert_deduplicate", 0);
        let admin = admin.with_setting("max_partitions_per_insert_block", 0);
        let client = admin.client();
        Mover { admin, client }
    }

    /// The newest complete generation of every task that was written for so many tasks, and the largest generation of any task.
    ///
    /// # Errors
    /// When ClickHouse does not answer, or a positions row cannot be read.
    pub async fn sources(&self, tasks: u32) -> Result<(Vec<Source>, u64), MoveError> {
        let query = format!("SELECT max(generation) FROM task_state WHERE task != {}", literal(MARKER_TASK));
        let stored: Vec<u64> = self.admin.rows(&query).await?;
        let complete: Vec<(String, u64, u64)> = self.admin.rows(&complete_generations()).await?;
        let newest = stored.into_iter().chain(complete.iter().map(|(_, _, owner)| *owner)).max().unwrap_or_default();
        let mut sources: BTreeMap<TaskName, Source> = BTreeMap::new();
        for (task, generation, _) in complete {
            let task = TaskName::from(task);
            let positions = self.positions(&task, generation).await?;
            if positions.tasks == tasks {
                sources.insert(task.clone(), Source { task, generation, positions });
            }
        }
        Ok((sources.into_values().collect(), newest))
    }

    async fn positions(&self, task: &TaskName, generation: u64) -> Result<Positions, MoveError> {
        let bytes = self.rows_of(task, generation, &format!("kind = {KIND_POSITIONS}")).await?;
        let payload = StoredRows::new(&bytes).read().map_or(&[][..], |row| row.payload);
        Positions::decode(payload).map_err(|source| MoveError::Positions { task: task.clone(), generation, source })
    }

    async fn rows_of(&self, task: &TaskName, generation: u64, which: &str) -> Result<Vec<u8>, MoveError> {
        let query = format!(
            "SELECT {} FROM task_state FINAL WHERE task = {} AND generation = {generation} AND {which} ORDER BY kind, key",
            StoredRows::COLUMNS,
            literal(task)
        );
        Ok(self.admin.bytes(&query).await?)
    }

    /// How many inserts into the database the server is carrying out: a process that is gone may have sent them.
    ///
    /// # Errors
    /// [`MoveError`].
    pub async fn inserts_under_way(&self) -> Result<u64, MoveError> {
        let query = "SELECT count() FROM system.processes WHERE query_kind = 'Insert' AND current_database = currentDatabase()";
        let counts: Vec<u64> = self.admin.rows(query).await?;
        Ok(counts.first().copied().unwrap_or_default())
    }

    /// Says that a move is under way: from here on nothing runs until it has ended.
    ///
    /// # Errors
    /// [`MoveError`].
    pub async fn begin(&self, marker: &Marker) -> Result<(), MoveError> {
        let row = StateRow {
            kind: KIND_POSITIONS,
            key: format!("{} {} {}", marker.from, marker.to, marker.exchange).into_bytes(),
            payload: Vec::new(),
            deleted: false,
        };
        let mut rows = RowBuffer::default();
        push_state_row(&mut rows, &MARKER_TASK.into(), MARKER_GENERATION, 0, &row);
        self.insert("task_state", &STATE_COLUMNS, rows).await
    }

    /// Writes every new task's state under `generation`, with its mark, an empty one for every task that ends, and the serving rows
    /// of cells that change hands. `tell` hears of each source that was read.
    ///
    /// # Errors
    /// [`MoveError`]; it can be repeated under a higher generation.
    pub async fn write(
        &self,
        sources: &[Source],
        plan: &Plan,
        generation: u64,
        mut tell: impl FnMut(&Source, u64),
    ) -> Result<Moved, MoveError> {
        let mut moving = Moving::new(plan, generation);
        for source in sources {
            let bytes = self.rows_of(&source.task, source.generation, &format!("kind NOT IN ({KIND_POSITIONS}, {KIND_MARK})")).await?;
            let steps = moving.take(source, &bytes)?;
            tell(source, source.positions.live_rows);
            self.carry_out(steps).await?;
        }
        let (steps, moved) = moving.finish();
        self.carry_out(steps).await?;
        Ok(moved)
    }

    async fn carry_out(&self, steps: Vec<Step>) -> Result<(), MoveError> {
        for step in steps {
            match step {
                Step::State(rows) => self.insert("task_state", &STATE_COLUMNS, rows).await?,
                Step::Empty { task, since_s, version } => self.empty_cells(&task, since_s, version).await?,
                Step::Serve(table, rows) => self.insert(table.name(), table.columns(), rows).await?,
            }
        }
        Ok(())
    }

    /// The move has ended: the pipeline may run. Then drops the old generations; one that stays is dropped by its task's takeover.
    ///
    /// # Errors
    /// [`MoveError`], when the marker cannot be removed.
    pub async fn end(&self, sources: &[Source]) -> Result<(), MoveError> {
        self.drop_generation(MARKER_TASK, MARKER_GENERATION).await?;
        for source in sources {
            if let Err(error) = self.drop_generation(&source.task, source.generation).await {
                tracing::warn!("generation {} of task {} stays: {error}", source.generation, source.task);
            }
        }
        Ok(())
    }

    async fn drop_generation(&self, task: &str, generation: u64) -> Result<(), MoveError> {
        Ok(self.admin.execute(&format!("ALTER TABLE task_state DROP PARTITION ({}, {generation})", literal(task))).await?)
    }

    async fn empty_cells(&self, task: &TaskName, since_s: i64, version: Version) -> Result<(), MoveError> {
        for (table, since) in [
            (Table::ActivityMinute, format!("minute >= toDateTime({since_s}, 'UTC')")),
            (Table::ActivityDay, format!("day >= toDate(toDateTime({since_s}, 'UTC'))")),
            (Table::ActiveCustomersDay, format!("day >= toDate(toDateTime({since_s}, 'UTC'))")),
        ] {
            let emptied = |column: &&str| match *column {
                "brand" | "minute" | "day" | "campaign" | "sku" | "channel" | "region" | "task" => (*column).to_owned(),
                "version" => version.0.to_string(),
                _ => "0".to_owned(),
            };
            let values: Vec<String> = table.columns().iter().map(emptied).collect();
            let statement = format!(
                "INSERT INTO {name} ({columns}) SELECT DISTINCT {values} FROM {name} WHERE task = {task} AND {since}",
                name = table.name(),
                columns = table.columns().join(", "),
                values = values.join(", "),
                task = literal(task),
            );
            self.admin.execute(&statement).await?;
        }
        Ok(())
    }

    async fn insert(&self, table: &'static str, columns: &[&str], rows: RowBuffer) -> Result<(), MoveError> {
        let statement = format!("INSERT INTO {table} ({}) FORMAT RowBinary", columns.join(", "));
        let mut insert = self.client.insert_formatted_with(statement).with_timeouts(Some(PATIENCE), Some(PATIENCE));
        let sent = async {
            insert.send(rows.row_binary().into()).await?;
            insert.end().await
        };
        sent.await.map_err(|source| MoveError::Insert { table, source })
    }
}
