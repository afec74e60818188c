//! Moves the rows of `task_state` to their new tasks, and the cells of tasks that end to those that stay.
//!
//! Promises that every new generation is complete, with count and hash of its rows, or has no completeness mark; that what was
//! read is what was written by its task's positions row; and that it can be repeated as long as the old generations are there.
//! Holds one task's rows and all cells in memory at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use clickhouse::Client;

use super::plan::{NewTask, Plan, Source};
use crate::config::ClickHouse;
use crate::engine::{Holder, StateRow, StoredCell, Unplaceable, holder, row_hash};
use crate::model::{TaskName, Version, owner};
use crate::rows::{RowBuffer, ServingRows, Table};
use crate::store::{Admin, AdminError, literal};
use crate::task::{KIND_MARK, KIND_POSITIONS, Positions, PositionsError, STATE_COLUMNS, StoredRows, mark_row, push_state_row};

/// The name under which `task_state` says that a move is under way.
pub const MARKER_TASK: &str = "rescale";
const MARKER_GENERATION: u64 = 1;
/// Rows of one insert.
const ROWS_PER_INSERT: usize = 200_000;
/// Cells of events before the horizon are out of reach, and leave the state when they are two days older than it. A day of any
/// time zone that has an event after the horizon begins less than this before it; one that has left the state, earlier.
const COUNTED_AGAIN_MS: i64 = 48 * 3_600_000;
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

/// A destination under way: what has not been inserted yet, and what its rows add up to.
#[derive(Debug, Default)]
struct Destination {
    rows: RowBuffer,
    count: u64,
    hash: u64,
}

/// The cells of all new tasks. A task that stays keeps its own; those of one that ends go to an heir.
#[derive(Debug, Default)]
struct Cells {
    by_place: BTreeMap<(u32, u8, Vec<u8>), StoredCell>,
    changed_hands: u64,
}

impl Cells {
    fn take(&mut self, task: &TaskName, owners: u32, cell: StoredCell) {
        let own: u32 = task.parse().unwrap_or_default();
        let (kind, key) = cell.identity();
        let place = (own % owners, kind, key.to_vec());
        self.changed_hands += u64::from(own >= owners);
        self.by_place.entry(place).and_modify(|sums| sums.add(&cell)).or_insert(cell);
    }

    fn serving_rows(&self, version: Version) -> ServingRows {
        let mut rows = ServingRows::default();
        for ((task, _, _), cell) in &self.by_place {
            cell.push_row(&task.to_string(), version, &mut rows);
        }
        rows
    }
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
        let query = format!(
            "SELECT task, generation, max(kind = {KIND_MARK}) AS complete FROM task_state WHERE task != {} GROUP BY task, generation ORDER BY task, generation",
            literal(MARKER_TASK)
        );
        let found: Vec<(String, u64, u8)> = self.admin.rows(&query).await?;
        let newest = found.iter().map(|(_, generation, _)| *generation).max().unwrap_or_default();
        let mut sources: BTreeMap<TaskName, Source> = BTreeMap::new();
        for (task, generation, _) in found.into_iter().filter(|(_, _, complete)| *complete == 1) {
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
        let at = Version::new(generation, plan.sequence);
        let mut destinations: BTreeMap<u32, Destination> = (0..plan.owners).map(|task| (task, Destination::default())).collect();
        let mut cells = Cells::default();
        for source in sources {
            let bytes = self.load(source).await?;
            tell(source, source.positions.live_rows);
            let mut rows = StoredRows::new(&bytes);
            while let Some(row) = rows.read() {
                let unplaceable = |error| MoveError::Unplaceable { task: source.task.clone(), source: error };
                match holder(row.kind, row.key).map_err(unplaceable)? {
                    Holder::OwnerOf(customer) => {
                        let task = owner(customer, plan.owners);
                        let destination = destinations.entry(task).or_default();
                        self.move_row(destination, task, at, (row.kind, row.key, row.payload)).await?;
                    }
                    Holder::Anyone => {
                        let cell = StoredCell::read(row.kind, row.key, row.payload).map_err(unplaceable)?;
                        cells.take(&source.task, plan.owners, cell);
                    }
                }
            }
        }
        let mut moved = Moved { rows: 0, cells: cells.changed_hands };
        self.empty_cells(sources, Version::new(generation, plan.sequence - 1)).await?;
        for (table, rows) in cells.serving_rows(at).take(|_| Vec::new()) {
            self.insert(table.name(), table.columns(), rows).await?;
        }
        for ((task, kind, key), cell) in cells.by_place {
            self.move_row(destinations.entry(task).or_default(), task, at, (kind, &key, &cell.payload())).await?;
        }
        for task in &plan.tasks {
            let destination = task.name.parse().ok().and_then(|task| destinations.remove(&task)).unwrap_or_default();
            moved.rows += destination.count;
            self.finish_task(task, destination, generation).await?;
        }
        for name in &plan.ended {
            let positions = Positions { tasks: plan.owners, sequence: plan.sequence, ..Positions::default() };
            self.finish_task(&NewTask { name: name.clone(), positions }, Destination::default(), generation).await?;
        }
        Ok(moved)
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

    /// Readers see nothing any more of what the old tasks counted and can still be counted again; what the state has of it follows.
    /// Why not only of tasks that end: a process that was killed has served cells that no checkpoint knows of. Its task would
    /// count them again and overwrite them; after the move, other tasks do.
    async fn empty_cells(&self, sources: &[Source], version: Version) -> Result<(), MoveError> {
        for source in sources.iter().filter(|source| source.task.parse::<u32>().is_ok()) {
            let from_s = (source.positions.horizon_ms - COUNTED_AGAIN_MS).max(0) / 1_000;
            for (table, since) in [
                (Table::ActivityMinute, format!("minute >= toDateTime({from_s}, 'UTC')")),
                (Table::ActivityDay, format!("day >= toDate(toDateTime({from_s}, 'UTC'))")),
                (Table::ActiveCustomersDay, format!("day >= toDate(toDateTime({from_s}, 'UTC'))")),
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
                    task = literal(&source.task),
                );
                self.admin.execute(&statement).await?;
            }
        }
        Ok(())
    }

    /// A source's rows, verified against its positions row.
    async fn load(&self, source: &Source) -> Result<Vec<u8>, MoveError> {
        let bytes = self.rows_of(&source.task, source.generation, &format!("kind NOT IN ({KIND_POSITIONS}, {KIND_MARK})")).await?;
        let (mut found, mut hash) = (0, 0);
        let mut rows = StoredRows::new(&bytes);
        while let Some(row) = rows.read() {
            found += 1;
            hash ^= row_hash(row.kind, row.key, row.payload).get();
        }
        let stored = source.positions.live_rows;
        if (found, hash, rows.unread()) != (stored, source.positions.live_hash, 0) {
            return Err(MoveError::Integrity { task: source.task.clone(), generation: source.generation, found, stored });
        }
        Ok(bytes)
    }

    async fn move_row(&self, destination: &mut Destination, task: u32, at: Version, row: (u8, &[u8], &[u8])) -> Result<(), MoveError> {
        let (kind, key, payload) = row;
        destination.count += 1;
        destination.hash ^= row_hash(kind, key, payload).get();
        let row = StateRow { kind, key: key.to_vec(), payload: payload.to_vec(), deleted: false };
        push_state_row(&mut destination.rows, &TaskName::from(task.to_string()), at.generation(), at.sequence(), &row);
        if destination.rows.rows() < ROWS_PER_INSERT {
            return Ok(());
        }
        self.insert("task_state", &STATE_COLUMNS, std::mem::take(&mut destination.rows)).await
    }

    /// The rest of a task's rows with its positions, and then its mark.
    async fn finish_task(&self, task: &NewTask, destination: Destination, generation: u64) -> Result<(), MoveError> {
        let positions = Positions { live_rows: destination.count, live_hash: destination.hash, ..task.positions.clone() };
        let row = StateRow { kind: KIND_POSITIONS, key: Vec::new(), payload: positions.encode(), deleted: false };
        let mut rows = destination.rows;
        push_state_row(&mut rows, &task.name, generation, positions.sequence, &row);
        self.insert("task_state", &STATE_COLUMNS, rows).await?;
        self.insert("task_state", &STATE_COLUMNS, mark_row(&task.name, generation)).await
    }

    async fn insert(&self, table: &'static str, columns: &[&str], rows: RowBuffer) -> Result<(), MoveError> {
        let statement = format!("INSERT INTO {table} ({}) FORMAT RowBinary", columns.join(", "));
        let mut insert = self.client.insert_formatted_with(statement).with_timeouts(Some(PATIENCE), Some(PATIENCE));
        let sent = async {
            insert.send(rows.into_bytes().into()).await?;
            insert.end().await
        };
        sent.await.map_err(|source| MoveError::Insert { table, source })
    }
}
