//! The newest checkpoint of every task: its positions and its state, in one SELECT.

use std::collections::BTreeMap;

use prost::Message as _;

use super::LogAuditError;
use crate::engine::StateKind;
use crate::model::{Offset, TopicPartition, Version, owner};
use crate::pb;
use crate::rescale::MARKER_TASK;
use crate::store::{Admin, literal};
use crate::task::{KIND_MARK, KIND_POSITIONS, Positions};

/// Sums of a cell or day, in the order of [`SUMS`].
pub(super) type Sums = [i64; 12];
/// Names of the sums, as the tables have them.
pub(super) const SUMS: [&str; 12] =
    ["scans", "verifies", "draws", "joins", "visits", "shares", "orders", "refunds", "paid", "refunded", "new_customers", "active"];

/// A checkpoint without its state.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// Under which generation it is stored.
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

/// Brand and customer.
pub(super) type Who = (String, String);

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
    pub days: BTreeMap<u32, Sums>,
}

/// Table, and the columns of a cell's key as texts.
pub(super) type CellKey = (&'static str, Vec<String>);

/// Everything that the checkpoints say.
#[derive(Debug, Default)]
pub(in crate::audit) struct Snapshot {
    tasks: u32,
    checkpoints: BTreeMap<String, Checkpoint>,
    /// Which task reads a log, and where it stands.
    homes: BTreeMap<TopicPartition, (String, Offset)>,
    pub(super) customers: BTreeMap<Who, StoredCustomer>,
    /// Summed over the tasks.
    pub(super) cells: BTreeMap<CellKey, Sums>,
}

/// Whether a record is in the state of its customer's task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    In,
    After,
    Unknown,
}

impl Snapshot {
    /// Positions and state.
    pub(super) async fn read(admin: &Admin, tasks: u32) -> Result<Snapshot, LogAuditError> {
        let kinds = [StateKind::Customer, StateKind::MinuteCell, StateKind::DayCell, StateKind::ActiveDay];
        Snapshot::read_kinds(admin, tasks, &kinds.map(|kind| kind as u8)).await
    }

    /// Positions alone.
    pub async fn read_positions(admin: &Admin, tasks: u32) -> Result<Snapshot, LogAuditError> {
        Snapshot::read_kinds(admin, tasks, &[]).await
    }

    async fn read_kinds(admin: &Admin, tasks: u32, kinds: &[u8]) -> Result<Snapshot, LogAuditError> {
        let kinds: Vec<String> = [KIND_POSITIONS].iter().chain(kinds).map(u8::to_string).collect();
        let query = format!(
            "SELECT toString(s.task) AS task, generation, kind, key, payload FROM task_state AS s FINAL \
             WHERE s.task != {} AND (s.task, generation) IN (SELECT task, max(generation) FROM task_state WHERE kind = {KIND_MARK} GROUP BY task) \
             AND kind IN ({}) ORDER BY kind",
            literal(MARKER_TASK),
            kinds.join(", "),
        );
        let answer = admin.bytes(&query).await?;
        let mut rest = Reader(&answer);
        let mut snapshot = Snapshot { tasks, ..Snapshot::default() };
        while !rest.0.is_empty() {
            let task = rest.text().map_err(|reason| LogAuditError::State { task: "of no name".to_owned(), kind: 0, reason })?;
            let row = StateRow::read(&mut rest).map_err(|reason| LogAuditError::State { task: task.clone(), kind: 0, reason })?;
            let kind = row.kind;
            snapshot.row(&task, &row).map_err(|reason| LogAuditError::State { task, kind, reason })?;
        }
        if let Some(task) = (0..tasks).map(|task| task.to_string()).find(|task| !snapshot.checkpoints.contains_key(task)) {
            return Err(LogAuditError::NoCheckpoint { task });
        }
        snapshot.find_homes();
        Ok(snapshot)
    }

    /// Takes a row: positions come first. What another number of tasks left behind is nobody's state.
    fn row(&mut self, task: &str, row: &StateRow<'_>) -> Result<(), String> {
        if row.kind == KIND_POSITIONS {
            let positions = Positions::decode(row.payload).map_err(|error| error.to_string())?;
            if positions.tasks == self.tasks {
                self.checkpoints.insert(task.to_owned(), Checkpoint { generation: row.generation, positions });
            }
            return Ok(());
        }
        if self.checkpoints.contains_key(task) { self.take(row.kind, row.key, row.payload) } else { Ok(()) }
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

    /// Cells of events before this may have left the state of some task, Unix milliseconds.
    pub(super) fn forgotten_before_ms(&self) -> i64 {
        self.checkpoints.values().map(|checkpoint| checkpoint.positions.horizon_ms).max().unwrap_or_default()
    }

    fn take(&mut self, kind: u8, key: &[u8], payload: &[u8]) -> Result<(), String> {
        let mut key = Reader(key);
        let unreadable = |source: prost::DecodeError| source.to_string();
        let cell = match StateKind::from_number(kind) {
            Some(StateKind::Customer) => {
                let who = (key.text()?, key.text()?);
                let state = pb::CustomerState::decode(payload).map_err(unreadable)?;
                self.customers.insert(who, stored_customer(&state));
                return Ok(());
            }
            Some(StateKind::MinuteCell) => {
                let (brand, minute) = (key.text()?, key.number()?);
                ("activity_minute", vec![brand, (u64::from(minute) * 60).to_string(), key.text()?, key.text()?, key.number()?.to_string()])
            }
            Some(StateKind::DayCell) => {
                let (brand, day) = (key.text()?, key.number()?.to_string());
                ("activity_day", vec![brand, day, key.text()?, key.text()?, key.text()?, key.number()?.to_string()])
            }
            Some(StateKind::ActiveDay) => ("active_customers_day", vec![key.text()?, key.number()?.to_string()]),
            _ => return Ok(()),
        };
        let sums = sums_of(&pb::SumsState::decode(payload).map_err(unreadable)?);
        let known = self.cells.entry(cell).or_default();
        known.iter_mut().zip(sums).for_each(|(known, sum)| *known = known.wrapping_add(sum));
        Ok(())
    }
}

fn stored_customer(state: &pb::CustomerState) -> StoredCustomer {
    let mut stored = StoredCustomer {
        first: state.first.as_ref().map(|first| (first.time_ms, first.event_id.clone())).unwrap_or_default(),
        last_ms: [state.last_event_ms, state.last_scan_ms, state.last_purchase_ms, state.last_share_ms],
        ..StoredCustomer::default()
    };
    let mut add = |sums: &pb::SumsState| stored.total.iter_mut().zip(sums_of(sums)).for_each(|(total, sum)| *total += sum);
    state.before.iter().for_each(&mut add);
    state.months.iter().filter_map(|month| month.sums.as_ref()).for_each(&mut add);
    for day in &state.days {
        let sums = day.sums.unwrap_or_default();
        add(&sums);
        stored.days.insert(day.day, sums_of(&sums));
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
struct StateRow<'a> {
    generation: u64,
    kind: u8,
    key: &'a [u8],
    payload: &'a [u8],
}

impl<'a> StateRow<'a> {
    fn read(rest: &mut Reader<'a>) -> Result<Self, String> {
        let generation = u64::from_le_bytes(rest.chunk()?);
        let [kind] = rest.chunk()?;
        Ok(StateRow { generation, kind, key: rest.blob()?, payload: rest.blob()? })
    }
}

/// Reads RowBinary and keys: texts with a LEB128 length, numbers of keys in four bytes, big endian.
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

    fn text(&mut self) -> Result<String, String> {
        String::from_utf8(self.blob()?.to_vec()).map_err(|error| error.to_string())
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
