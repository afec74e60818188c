//! What was counted against state and serving rows.

use std::collections::{BTreeMap, BTreeSet};

use super::LogAuditError;
use super::cells::{CellKey, CellTable, Cells, SUMS, Sums};
use super::facts::{Part, Who};
use super::recount::{Counted, Customers};
use super::rows::{CELL_SUMS, CustomerRow, DAY_SUMS, DayRow, Serving};
use super::snapshot::{Snapshot, StoredCustomer};
use crate::audit::report::{ColumnDifference, Key, RowDifference, TableReport};
use crate::model::Calendar;

/// Everything that is compared, in the order of the report.
const TABLES: [&str; 9] = [
    "task_state",
    "customers",
    "customer_days",
    "activity_minute",
    "activity_day",
    "active_customers_day",
    "scans",
    "purchases",
    "share_events",
];

/// Differences by table, the first ones of each kept.
#[derive(Debug)]
pub(super) struct Findings {
    listed: usize,
    tables: BTreeMap<&'static str, TableReport>,
}

impl Findings {
    pub fn new(listed: usize) -> Self {
        let empty = |table: &'static str| TableReport { table, rows: 0, left_out: 0, differences: 0, listed: Vec::new() };
        Findings { listed, tables: TABLES.into_iter().map(|table| (table, empty(table))).collect() }
    }

    /// Notes that a row was compared.
    pub fn compared(&mut self, table: &'static str) {
        self.tables.entry(table).and_modify(|report| report.rows += 1);
    }

    /// Notes that a row was not compared.
    fn left_out(&mut self, table: &'static str) {
        self.tables.entry(table).and_modify(|report| report.left_out += 1);
    }

    pub fn add(&mut self, table: &'static str, difference: RowDifference) {
        let listed = self.listed;
        self.tables.entry(table).and_modify(|report| {
            report.differences += 1;
            if report.listed.len() < listed {
                report.listed.push(difference);
            }
        });
    }

    pub fn into_tables(mut self) -> Vec<TableReport> {
        TABLES.into_iter().filter_map(|table| self.tables.remove(table)).collect()
    }

    /// Compares two rows of which at least one is there.
    fn row(&mut self, table: &'static str, key: Key, expected: Option<Columns>, seen: Option<Columns>) {
        self.compared(table);
        match (expected, seen) {
            (Some(_), None) => self.add(table, RowDifference::Missing { key }),
            (None, Some(_)) => self.add(table, RowDifference::Unexpected { key }),
            (None, None) => {}
            (Some(expected), Some(seen)) => {
                let pairs = expected.into_iter().zip(seen).filter(|(expected, seen)| expected.1 != seen.1);
                let columns: Vec<ColumnDifference> =
                    pairs.map(|((column, expected), (_, seen))| ColumnDifference { column, expected, seen }).collect();
                if !columns.is_empty() {
                    self.add(table, RowDifference::Wrong { key, columns });
                }
            }
        }
    }
}

/// Names and values.
type Columns = Vec<(String, String)>;

fn named(names: &[&str], values: impl IntoIterator<Item = String>) -> Columns {
    names.iter().map(|name| (*name).to_owned()).zip(values).collect()
}

/// Those of the sums that a table has.
fn sums(sums: &Sums, has: &[&str]) -> Columns {
    let pairs = SUMS.iter().zip(sums).filter(|(name, _)| has.contains(name));
    pairs.map(|(name, sum)| ((*name).to_owned(), sum.to_string())).collect()
}

const TIMES: [&str; 6] =
    ["first_event_time", "first_event_id", "last_event_time", "last_scan_time", "last_purchase_time", "last_share_time"];

fn customer_columns(first: (i64, &str), last_ms: &[i64; 4], total: &Sums) -> Columns {
    let times = [first.0.to_string(), first.1.to_owned()].into_iter().chain(last_ms.iter().map(i64::to_string));
    let own = [DAY_SUMS.as_slice(), &["verifies", "active"]].concat();
    [named(&TIMES, times), sums(total, &own)].concat()
}

fn key_of((brand, customer_id): Who<'_>) -> Key {
    vec![("brand".to_owned(), brand.to_owned()), ("customer_id".to_owned(), customer_id.to_owned())]
}

/// Compares the state and the rows of the customers of a pass. Returns how many rows were newer than the checkpoint.
///
/// # Errors
/// When a customer's state cannot be read.
pub(super) fn customers(
    customers: &Customers<'_>,
    snapshot: &Snapshot,
    serving: &Serving,
    part: Part,
    findings: &mut Findings,
) -> Result<u64, LogAuditError> {
    let served: BTreeMap<Who<'_>, &CustomerRow> = serving.customers.iter().map(|row| (row.who(), row)).collect();
    let everybody: BTreeSet<Who<'_>> =
        customers.counted_customers.keys().copied().chain(snapshot.customers.of(part)).chain(served.keys().copied()).collect();
    let mut newer = 0;
    let nobody = Counted::default();
    for who in everybody {
        if customers.unknown.contains(&who) {
            findings.left_out("task_state");
            findings.left_out("customers");
            continue;
        }
        let counted = customers.counted_customers.get(&who).unwrap_or(&nobody);
        compare_state(who, counted, snapshot.stored(who)?, findings);
        let covers = |version: u64| !counted.moves || snapshot.checkpoint_of(who.1).is_some_and(|checkpoint| checkpoint.covers(version));
        let seen = served.get(&who).copied();
        if seen.is_none_or(|row| covers(row.version)) {
            compare_customer(who, counted, seen, findings);
        } else {
            newer += 1;
        }
    }
    Ok(newer + compare_days(customers, snapshot, serving, findings))
}

fn compare_state(who: Who<'_>, counted: &Counted<'_>, stored: Option<StoredCustomer>, findings: &mut Findings) {
    let mut key = vec![("kind".to_owned(), "customer".to_owned())];
    key.extend(key_of(who));
    let expected = (counted.first.0 != 0).then(|| customer_columns(counted.first, &counted.last_ms, &counted.total));
    // Somebody who was only named as a sharer has a state and no event.
    let stored = stored.filter(|stored| stored.first.0 != 0);
    let columns = |stored: &StoredCustomer| customer_columns((stored.first.0, &stored.first.1), &stored.last_ms, &stored.total);
    findings.row("task_state", key.clone(), expected, stored.as_ref().map(columns));
    for (day, of_day) in stored.iter().flat_map(|stored| &stored.days) {
        let has = [DAY_SUMS.as_slice(), &["verifies"]].concat();
        let mut key = key.clone();
        key.push(("day".to_owned(), date(*day)));
        findings.row("task_state", key, counted.of_day(*day).map(|expected| sums(expected, &has)), Some(sums(of_day, &has)));
    }
}

fn compare_customer(who: Who<'_>, counted: &Counted<'_>, seen: Option<&CustomerRow>, findings: &mut Findings) {
    let expected = (counted.first.0 != 0).then(|| customer_columns(counted.first, &counted.last_ms, &counted.total));
    let seen = seen.filter(|row| row.first_ms != 0).map(|row| {
        let last_ms = [row.last_ms, row.last_scan_ms, row.last_purchase_ms, row.last_share_ms];
        customer_columns((row.first_ms, &row.first_event_id), &last_ms, &row.sums)
    });
    findings.row("customers", key_of(who), expected, seen);
}

fn compare_days(customers: &Customers<'_>, snapshot: &Snapshot, serving: &Serving, findings: &mut Findings) -> u64 {
    let served: BTreeMap<(Who<'_>, u32), &DayRow> = serving.days.iter().map(|row| ((row.who(), row.day), row)).collect();
    let counted = customers.counted_customers.iter().flat_map(|(who, counted)| counted.days.iter().map(|(day, _)| (*who, *day)));
    let everything: BTreeSet<(Who<'_>, u32)> = counted.chain(served.keys().copied()).collect();
    let mut newer = 0;
    for (who, day) in everything {
        if customers.unknown.contains(&who) {
            findings.left_out("customer_days");
            continue;
        }
        let counted = customers.counted_customers.get(&who);
        let seen = served.get(&(who, day)).copied();
        let moves = counted.is_some_and(|counted| counted.moves);
        let covers = |version: u64| snapshot.checkpoint_of(who.1).is_some_and(|checkpoint| checkpoint.covers(version));
        if moves && seen.is_some_and(|row| !covers(row.version)) {
            newer += 1;
            continue;
        }
        let mut key = key_of(who);
        key.push(("day".to_owned(), date(day)));
        let expected = counted.and_then(|counted| counted.of_day(day));
        findings.row("customer_days", key, expected.map(|day| sums(day, &DAY_SUMS)), seen.map(|row| sums(&row.sums, &DAY_SUMS)));
    }
    newer
}

/// Compares the cells, of all passes together. Returns how many rows were newer than the checkpoint.
pub(super) fn cells(cells: &Cells, snapshot: &Snapshot, calendar: &Calendar, findings: &mut Findings) -> u64 {
    let mut newer = 0;
    for (key, cell) in cells.by_key() {
        let has: &[&str] = if key.table == CellTable::ActiveDay { &["scans", "shares", "orders", "active"] } else { &CELL_SUMS };
        let table = key.table.name();
        if cell.is_unknown {
            findings.left_out(table);
            continue;
        }
        if begins_ms(&key, calendar) >= snapshot.forgotten_before_ms() {
            let mut shown = vec![("kind".to_owned(), table.to_owned())];
            shown.extend(cell_key(&key));
            findings.row("task_state", shown, Some(sums(&cell.counted, has)), Some(sums(&cell.stored, has)));
        }
        if key.table == CellTable::Minute && key.bucket < cells.first_minute {
            continue;
        }
        if cell.moves {
            newer += 1;
            continue;
        }
        findings.row(table, cell_key(&key), Some(sums(&cell.counted, has)), Some(sums(&cell.seen, has)));
    }
    newer
}

/// When the minute or day of a cell begins, Unix milliseconds.
fn begins_ms(key: &CellKey<'_>, calendar: &Calendar) -> i64 {
    let number = i64::from(key.bucket);
    match key.table {
        CellTable::Minute => number * 1_000,
        CellTable::Day | CellTable::ActiveDay => number * 86_400_000 - i64::from(calendar.zone(key.brand).offset_minutes()) * 60_000,
    }
}

fn cell_key(key: &CellKey<'_>) -> Key {
    let minute = || jiff::Timestamp::from_second(key.bucket.into()).map_or_else(|_| key.bucket.to_string(), |time| time.to_string());
    let (brand, campaign, sku) = (key.brand.to_owned(), key.campaign.to_owned(), key.sku.to_owned());
    let (channel, region) = (key.channel.to_owned(), key.region.to_string());
    let columns = match key.table {
        CellTable::Minute => {
            vec![("brand", brand), ("minute", minute()), ("campaign", campaign), ("channel", channel), ("region", region)]
        }
        CellTable::Day => {
            let day = ("day", date(key.bucket));
            vec![("brand", brand), day, ("campaign", campaign), ("sku", sku), ("channel", channel), ("region", region)]
        }
        CellTable::ActiveDay => vec![("brand", brand), ("day", date(key.bucket))],
    };
    columns.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn date(day: u32) -> String {
    let begins = jiff::Timestamp::from_second(i64::from(day) * 86_400);
    begins.map_or_else(|_| day.to_string(), |time| time.to_string().chars().take(10).collect())
}
