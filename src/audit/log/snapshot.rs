//! The newest checkpoint of every task: its positions and its state, in one SELECT.

use std::collections::BTreeMap;

use clickhouse::Row;
use prost::Message as _;
use serde::Deserialize;

use super::LogAuditError;
use super::cells::{CellKey, CellTable, Cells, Sums, add};
use super::facts::{Part, Who};
use super::packed::{Packed, Place};
use crate::engine::{LatestCells, OwnRows, PACKED_ROW_KINDS, StateKind, first_pack_kind};
use crate::model::{Offset, TopicPartition, Version, owner};
use crate::pb;
use crate::rescale::MARKER_TASK;
use crate::store::{Admin, literal, newest_generations};
use crate::task::{KIND_POSITIONS, Positions};

/// A checkpoint without its state.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// The generation that wrote it.
    pub generation: u64,
    pub positions: Positions,
}

impl Checkpoint {
    /// Whether a row of this version says what the checkpoint says: spoken under its generation, and not after it.
    pub fn covers(&self, version: u64) -> bool {
        let version = Version(version);
        version.generation() == self.generation && version.sequence() <= self.positions.sequence
    }
}

/// A customer as the state has it.
#[derive(Debug, Default)]
pub(super) struct StoredCustomer {
    /// Of the first event: time and id; (0, "") for somebody who was only named.
    pub first: (i64, String),
    /// Of the last event, scan, payment, share.
    pub last_ms: [i64; 4],
    /// Over everything; `active` is the number of days.
    pub total: Sums,
    /// Days that are kept one by one.
    pub days: Vec<(u32, Sums)>,
}

/// All customers of the state, as they are stored: taken apart one after the other.
#[derive(Debug, Default)]
pub(super) struct StoredCustomers {
    packed: Packed,
    /// By brand and customer.
    places: Vec<Place>,
}

impl StoredCustomers {
    fn push(&mut self, who: Who<'_>, state: &[u8]) -> Result<(), LogAuditError> {
        self.places.push(self.packed.put(&(who, state))?);
        Ok(())
    }

    fn sort(&mut self) {
        let packed = &self.packed;
        let who = |place: Place| packed.get::<Who<'_>>(place).unwrap_or_default();
        self.places.sort_unstable_by(|one, other| who(*one).cmp(&who(*other)));
    }

    fn who(&self, place: Place) -> Who<'_> {
        self.packed.get(place).unwrap_or_default()
    }

    /// Those of a part, in order.
    pub fn of(&self, part: Part) -> impl Iterator<Item = Who<'_>> {
        self.places.iter().map(|place| self.who(*place)).filter(move |(_, customer)| part.has(customer))
    }

    /// One of them.
    ///
    /// # Errors
    /// When its state cannot be read.
    pub fn get(&self, who: Who<'_>) -> Result<Option<StoredCustomer>, String> {
        let Ok(found) = self.places.binary_search_by(|place| self.who(*place).cmp(&who)) else { return Ok(None) };
        let Some(place) = self.places.get(found) else { return Ok(None) };
        let (_, state): (Who<'_>, &[u8]) = self.packed.get(*place).map_err(|error| error.to_string())?;
        let state = pb::CustomerState::decode(state).map_err(|error| error.to_string())?;
        Ok(Some(stored_customer(&state)))
    }
}

/// Everything that the checkpoints say.
#[derive(Debug, Default)]
pub(in crate::audit) struct Snapshot {
    tasks: u32,
    checkpoints: BTreeMap<String, Checkpoint>,
    /// Which task reads a log, and where it stands.
    homes: BTreeMap<TopicPartition, (String, Offset)>,
    pub(super) customers: StoredCustomers,
}

/// Whether a record is in the state of its customer's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    In,
    After,
    Unknown,
}

impl Snapshot {
    /// Positions and state; what it says of cells, over all tasks, goes to the cells.
    pub(super) async fn read(admin: &Admin, tasks: u32, cells: &mut Cells) -> Result<Snapshot, LogAuditError> {
        let mut kinds = [StateKind::Customer, StateKind::ActiveDay].map(|kind| kind as u8).to_vec();
        kinds.extend(first_pack_kind(StateKind::Customer as u8));
        kinds.extend(PACKED_ROW_KINDS);
        Snapshot::read_kinds(admin, tasks, &kinds, cells).await
    }

    /// Positions alone.
    pub async fn read_positions(admin: &Admin, tasks: u32) -> Result<Snapshot, LogAuditError> {
        Snapshot::read_kinds(admin, tasks, &[], &mut Cells::default()).await
    }

    async fn read_kinds(admin: &Admin, tasks: u32, kinds: &[u8], cells: &mut Cells) -> Result<Snapshot, LogAuditError> {
        let kinds: Vec<String> = [KIND_POSITIONS].iter().chain(kinds).map(u8::to_string).collect();
        // In the order of the table's key, so that the server streams them; a task's positions come first, and packs of cells in the order of their cuts.
        let query = format!(
            "SELECT toString(s.task) AS task, generation, kind, key, payload FROM task_state AS s FINAL \
             WHERE s.task != {} AND (s.task, generation) IN ({}) \
             AND kind IN ({}) ORDER BY s.task, generation, kind, key",
            literal(MARKER_TASK),
            newest_generations(),
            kinds.join(", "),
        );
        let mut snapshot = Snapshot { tasks, ..Snapshot::default() };
        let mut packed = OfTask::default();
        admin.each::<StateRow<'_>, LogAuditError>(&query, |row| snapshot.row(&row, &mut packed, cells)).await?;
        packed.end(cells)?;
        if let Some(task) = (0..tasks).map(|task| task.to_string()).find(|task| !snapshot.checkpoints.contains_key(task)) {
            return Err(LogAuditError::NoCheckpoint { task });
        }
        snapshot.find_homes();
        snapshot.customers.sort();
        Ok(snapshot)
    }

    /// Takes a row: positions come first. What another number of tasks left behind is nobody's state.
    fn row(&mut self, row: &StateRow<'_>, packed: &mut OfTask, cells: &mut Cells) -> Result<(), LogAuditError> {
        packed.begin(row.task, cells)?;
        let unreadable = |reason: String| LogAuditError::State { task: row.task.to_owned(), kind: row.kind, reason };
        if row.kind == KIND_POSITIONS {
            let positions = Positions::decode(row.payload).map_err(|error| unreadable(error.to_string()))?;
            if positions.tasks == self.tasks {
                // Rows that were copied, or taken over, were written by an earlier generation than the one that they are stored under, or by a later one.
                let generation = if positions.generation == 0 { row.generation } else { positions.generation };
                self.checkpoints.insert(row.task.to_owned(), Checkpoint { generation, positions });
            }
            return Ok(());
        }
        if !self.checkpoints.contains_key(row.task) {
            return Ok(());
        }
        let rows = packed.own.rows_of(row.kind, row.key, row.payload).map_err(|error| unreadable(error.to_string()))?;
        for (kind, key, payload) in rows {
            if StateKind::from_number(kind) == Some(StateKind::Customer) {
                self.customers.push(who_of(key).map_err(unreadable)?, payload)?;
            } else if !packed.latest.take(kind, key, payload).map_err(|error| unreadable(error.to_string()))? {
                take_cell(kind, key, payload, cells).map_err(unreadable)?;
            }
        }
        Ok(())
    }

    /// A log belongs to the task that has read it furthest: others may know it from before a topic was taken out.
    fn find_homes(&mut self) {
        for (task, checkpoint) in &self.checkpoints {
            for (log, position) in &checkpoint.positions.logs {
                let known = self.homes.entry(log.clone()).or_insert((task.clone(), position.next));
                if position.next > known.1 {
                    *known = (task.clone(), position.next);
                }
            }
        }
    }

    /// Whether the tasks stand at these ends, or after them.
    pub fn has_reached(&self, ends: &BTreeMap<TopicPartition, Offset>) -> bool {
        ends.iter().all(|(log, end)| *end == 0 || self.homes.get(log).is_some_and(|(_, next)| next >= end))
    }

    /// The last relay from each log to each task that its home has sent.
    pub fn sent(&self) -> BTreeMap<(TopicPartition, u32), Offset> {
        let sent = |(log, (home, _)): (&TopicPartition, &(String, Offset))| {
            let positions = self.checkpoints.get(home).map(|checkpoint| &checkpoint.positions);
            let marks = positions.into_iter().flat_map(|positions| &positions.sent).filter(|((source, _), _)| source == log);
            marks.map(|(way, offset)| (way.clone(), *offset)).collect::<Vec<_>>()
        };
        self.homes.iter().flat_map(sent).collect()
    }

    /// Whether all of these have come to their tasks.
    pub fn has_received(&self, sent: &BTreeMap<(TopicPartition, u32), Offset>) -> bool {
        sent.iter().all(|((log, destination), offset)| {
            let checkpoint = self.checkpoints.get(&destination.to_string());
            checkpoint.and_then(|checkpoint| checkpoint.positions.received.get(log)).is_some_and(|mark| mark.offset >= *offset)
        })
    }

    /// Where a record of a customer's own event stands.
    pub(super) fn standing(&self, log: &TopicPartition, offset: Offset, customer_id: &str) -> Standing {
        let Some((home, next)) = self.homes.get(log) else { return Standing::After };
        let destination = owner(customer_id, self.tasks);
        let name = destination.to_string();
        let positions = self.checkpoints.get(home).map(|checkpoint| &checkpoint.positions);
        let sent = positions.and_then(|positions| positions.sent.get(&(log.clone(), destination)));
        // What its home has not read itself came to it by relay from the task that read the log before.
        let came_by_relay =
            sent.is_some() && positions.and_then(|positions| positions.logs.get(log)).is_some_and(|at| offset < at.read_from);
        if *home == name && !came_by_relay {
            return if offset < *next { Standing::In } else { Standing::After };
        }
        let mark = self.checkpoints.get(&name).and_then(|checkpoint| checkpoint.positions.received.get(log));
        match (mark, sent) {
            (Some(mark), _) if offset <= mark.offset => Standing::In,
            (Some(_), _) => Standing::After,
            // Nothing was ever relayed on this way since the tasks were numbered so: what was read came to its owner before that.
            (None, None) if offset < *next => Standing::In,
            (None, Some(_)) if offset < *next => Standing::Unknown,
            (None, _) => Standing::After,
        }
    }

    /// Whether the task of a log has read a record: then a scan by somebody else than a consumer is archived.
    pub(super) fn is_read(&self, log: &TopicPartition, offset: Offset) -> bool {
        self.homes.get(log).is_some_and(|(_, next)| offset < *next)
    }

    /// The checkpoint of a customer's task.
    pub(super) fn checkpoint_of(&self, customer_id: &str) -> Option<&Checkpoint> {
        self.checkpoints.get(&owner(customer_id, self.tasks).to_string())
    }

    /// A customer's state.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn stored(&self, who: Who<'_>) -> Result<Option<StoredCustomer>, LogAuditError> {
        let task = || owner(who.1, self.tasks).to_string();
        self.customers.get(who).map_err(|reason| LogAuditError::State { task: task(), kind: StateKind::Customer as u8, reason })
    }

    /// Cells of events before this may have left the state of some task, Unix milliseconds.
    pub(super) fn forgotten_before_ms(&self) -> i64 {
        self.checkpoints.values().map(|checkpoint| checkpoint.positions.horizon_ms).max().unwrap_or_default()
    }
}

fn who_of(key: &[u8]) -> Result<Who<'_>, String> {
    let mut key = Reader(key);
    Ok((key.text()?, key.text()?))
}

/// What rows of one task say that later ones have to know: cells of which a pack may say something else, and keys of which a first pack says what was before.
#[derive(Default)]
struct OfTask {
    task: String,
    latest: LatestCells,
    own: OwnRows,
}

impl OfTask {
    /// Rows of a task follow.
    fn begin(&mut self, task: &str, cells: &mut Cells) -> Result<(), LogAuditError> {
        if self.task != task {
            self.end(cells)?;
            self.own = OwnRows::default();
            task.clone_into(&mut self.task);
        }
        Ok(())
    }

    /// All rows of the task were read.
    fn end(&mut self, cells: &mut Cells) -> Result<(), LogAuditError> {
        for ((kind, key), payload) in std::mem::take(&mut self.latest).iter() {
            take_cell(*kind, key, payload, cells).map_err(|reason| LogAuditError::State {
                task: self.task.clone(),
                kind: *kind,
                reason,
            })?;
        }
        Ok(())
    }
}

/// Adds a cell of a task.
fn take_cell(kind: u8, key: &[u8], payload: &[u8], cells: &mut Cells) -> Result<(), String> {
    let mut key = Reader(key);
    let nowhere = CellKey { table: CellTable::ActiveDay, brand: key.text()?, bucket: 0, campaign: "", sku: "", channel: "", region: 0 };
    let number = key.number()?;
    let cell = match StateKind::from_number(kind) {
        Some(StateKind::MinuteCell) => CellKey {
            table: CellTable::Minute,
            bucket: number.saturating_mul(60),
            campaign: key.text()?,
            channel: key.text()?,
            region: key.number()?,
            ..nowhere
        },
        Some(StateKind::DayCell) => CellKey {
            table: CellTable::Day,
            bucket: number,
            campaign: key.text()?,
            sku: key.text()?,
            channel: key.text()?,
            region: key.number()?,
            ..nowhere
        },
        Some(StateKind::ActiveDay) => CellKey { bucket: number, ..nowhere },
        _ => return Ok(()),
    };
    cells.store(&cell, &sums_of(&pb::SumsState::decode(payload).map_err(|error| error.to_string())?));
    Ok(())
}

fn stored_customer(state: &pb::CustomerState) -> StoredCustomer {
    let mut stored = StoredCustomer {
        first: state.first.as_ref().map(|first| (first.time_ms, first.event_id.clone())).unwrap_or_default(),
        last_ms: [state.last_event_ms, state.last_scan_ms, state.last_purchase_ms, state.last_share_ms],
        ..StoredCustomer::default()
    };
    let mut total = |sums: &pb::SumsState| add(&mut stored.total, &sums_of(sums));
    state.before.iter().for_each(&mut total);
    state.months.iter().filter_map(|month| month.sums.as_ref()).for_each(&mut total);
    for day in &state.days {
        let sums = day.sums.unwrap_or_default();
        total(&sums);
        stored.days.push((day.day, sums_of(&sums)));
    }
    if let Some(active) = stored.total.last_mut() {
        *active += i64::try_from(state.days.len()).unwrap_or(i64::MAX);
    }
    stored
}

fn sums_of(state: &pb::SumsState) -> Sums {
    [
        state.scans,
        state.verifies,
        state.draws,
        state.joins,
        state.visits,
        state.shares,
        state.orders,
        state.refunds,
        state.paid,
        state.refunded,
        state.new_customers,
        state.active,
    ]
    .map(u64::cast_signed)
}

/// A row as the server sends it.
#[derive(Row, Deserialize)]
struct StateRow<'a> {
    task: &'a str,
    generation: u64,
    kind: u8,
    key: &'a [u8],
    payload: &'a [u8],
}

/// Reads keys: texts with a LEB128 length, numbers of keys in four bytes, big endian.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn blob(&mut self) -> Result<&'a [u8], String> {
        let mut length = 0_u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.chunk()?;
            length |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        let length = usize::try_from(length).map_err(|error| error.to_string())?;
        let (blob, rest) = self.0.split_at_checked(length).ok_or("it is cut short")?;
        self.0 = rest;
        Ok(blob)
    }

    fn text(&mut self) -> Result<&'a str, String> {
        std::str::from_utf8(self.blob()?).map_err(|error| error.to_string())
    }

    fn number(&mut self) -> Result<u32, String> {
        Ok(u32::from_be_bytes(self.chunk()?))
    }

    fn chunk<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], String> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or("it is cut short")?;
        self.0 = rest;
        Ok(*bytes)
    }
}
