//! What was counted against state and serving rows.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Part;
use super::recount::{Cells, Counted, Customers};
use super::rows::{self, CELL_SUMS, CustomerRow, DAY_SUMS, Serving};
use super::snapshot::{CellKey, SUMS, Snapshot, StoredCustomer, Sums, Who};
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

fn customer_columns(first: &(i64, String), last_ms: &[i64; 4], total: &Sums) -> Columns {
    let times = [first.0.to_string(), first.1.clone()].into_iter().chain(last_ms.iter().map(i64::to_string));
    let own = [DAY_SUMS.as_slice(), &["verifies", "active"]].concat();
    [named(&TIMES, times), sums(total, &own)].concat()
}

fn key_of(who: &Who) -> Key {
    vec![("brand".to_owned(), who.0.clone()), ("customer_id".to_owned(), who.1.clone())]
}

/// Compares the state and the rows of the customers of a pass. Returns how many rows were newer than the checkpoint.
pub(super) fn customers(customers: &Customers, snapshot: &Snapshot, serving: &Serving, part: Part, findings: &mut Findings) -> u64 {
    let stored = snapshot.customers.keys().filter(|(_, customer)| part.has(customer));
    let everybody: BTreeSet<&Who> = customers.counted_customers.keys().chain(stored).chain(serving.customers.keys()).collect();
    let mut newer = 0;
    let nobody = Counted::default();
    for who in everybody {
        if customers.unknown.contains(who) {
            findings.left_out("task_state");
            findings.left_out("customers");
            continue;
        }
        let counted = customers.counted_customers.get(who).unwrap_or(&nobody);
        let stored = snapshot.customers.get(who);
        compare_state(who, counted, stored, findings);
        let covers = |version: u64| !counted.moves || snapshot.checkpoint_of(&who.1).is_some_and(|checkpoint| checkpoint.covers(version));
        let seen = serving.customers.get(who);
        if seen.is_none_or(|row| covers(row.version)) {
            compare_customer(who, counted, seen, findings);
        } else {
            newer += 1;
        }
    }
    newer + compare_days(customers, snapshot, serving, findings)
}

fn compare_state(who: &Who, counted: &Counted, stored: Option<&StoredCustomer>, findings: &mut Findings) {
    let mut key = vec![("kind".to_owned(), "customer".to_owned())];
    key.extend(key_of(who));
    let expected = (counted.first.0 != 0).then(|| customer_columns(&counted.first, &counted.last_ms, &counted.total));
    // Somebody who was only named as a sharer has a state and no event.
    let stored = stored.filter(|stored| stored.first.0 != 0);
    findings.row("task_state", key.clone(), expected, stored.map(|stored| customer_columns(&stored.first, &stored.last_ms, &stored.total)));
    for (day, of_day) in stored.iter().flat_map(|stored| &stored.days) {
        let has = [DAY_SUMS.as_slice(), &["verifies"]].concat();
        let mut key = key.clone();
        key.push(("day".to_owned(), date(*day)));
        findings.row("task_state", key, counted.days.get(day).map(|expected| sums(expected, &has)), Some(sums(of_day, &has)));
    }
}

fn compare_customer(who: &Who, counted: &Counted, seen: Option<&CustomerRow>, findings: &mut Findings) {
    let expected = (counted.first.0 != 0).then(|| customer_columns(&counted.first, &counted.last_ms, &counted.total));
    let seen = seen.filter(|row| row.first_ms != 0).map(|row| {
        let mut total = Sums::default();
        total.iter_mut().zip(&row.sums).for_each(|(total, sum)| *total = *sum);
        let last_ms = [row.last_ms, row.last_scan_ms, row.last_purchase_ms, row.last_share_ms];
        customer_columns(&(row.first_ms, row.first_event_id.clone()), &last_ms, &total)
    });
    findings.row("customers", key_of(who), expected, seen);
}

fn compare_days(customers: &Customers, snapshot: &Snapshot, serving: &Serving, findings: &mut Findings) -> u64 {
    let counted = customers.counted_customers.iter().flat_map(|(who, counted)| counted.days.keys().map(|day| (who.clone(), *day)));
    let everything: BTreeSet<(Who, u32)> = counted.chain(serving.days.keys().cloned()).collect();
    let mut newer = 0;
    for (who, day) in everything {
        if customers.unknown.contains(&who) {
            findings.left_out("customer_days");
            continue;
        }
        let counted = customers.counted_customers.get(&who);
        let seen = serving.days.get(&(who.clone(), day));
        let moves = counted.is_some_and(|counted| counted.moves);
        let covers = |version: u64| snapshot.checkpoint_of(&who.1).is_some_and(|checkpoint| checkpoint.covers(version));
        if moves && seen.is_some_and(|(_, version)| !covers(*version)) {
            newer += 1;
            continue;
        }
        let mut key = key_of(&who);
        key.push(("day".to_owned(), date(day)));
        let expected = counted.and_then(|counted| counted.days.get(&day));
        findings.row("customer_days", key, expected.map(|day| sums(day, &DAY_SUMS)), seen.map(|(day, _)| sums(day, &DAY_SUMS)));
    }
    newer
}

/// Compares the cells, of all passes together. Returns how many rows were newer than the checkpoint.
pub(super) fn cells(counted: &Cells, snapshot: &Snapshot, serving: &rows::Cells, calendar: &Calendar, findings: &mut Findings) -> u64 {
    let mut newer = 0;
    let none = Sums::default();
    let everything: BTreeSet<&CellKey> = counted.sums.keys().chain(serving.sums.keys()).chain(snapshot.cells.keys()).collect();
    for cell in everything {
        let (table, columns) = cell;
        let has: &[&str] = if *table == "active_customers_day" { &["scans", "shares", "orders", "active"] } else { &CELL_SUMS };
        if counted.unknown.contains(cell) {
            findings.left_out(table);
            continue;
        }
        let expected = counted.sums.get(cell).unwrap_or(&none);
        if begins_ms(cell, calendar) >= snapshot.forgotten_before_ms() {
            let mut key = vec![("kind".to_owned(), (*table).to_owned())];
            key.extend(cell_key(cell));
            let stored = snapshot.cells.get(cell).unwrap_or(&none);
            findings.row("task_state", key, Some(sums(expected, has)), Some(sums(stored, has)));
        }
        let is_expired = *table == "activity_minute"
            && columns.get(1).and_then(|minute| minute.parse().ok()).is_some_and(|minute: u32| minute < serving.first_minute);
        if is_expired {
            continue;
        }
        if counted.moving.contains(cell) {
            newer += 1;
            continue;
        }
        let seen = serving.sums.get(cell).unwrap_or(&none);
        findings.row(table, cell_key(cell), Some(sums(expected, has)), Some(sums(seen, has)));
    }
    newer
}

/// When the minute or day of a cell begins, Unix milliseconds.
fn begins_ms((table, columns): &CellKey, calendar: &Calendar) -> i64 {
    let number: i64 = columns.get(1).and_then(|bucket| bucket.parse().ok()).unwrap_or_default();
    if *table == "activity_minute" {
        return number * 1_000;
    }
    let zone = calendar.zone(columns.first().map_or("", String::as_str));
    number * 86_400_000 - i64::from(zone.offset_minutes()) * 60_000
}

fn cell_key((table, columns): &CellKey) -> Key {
    let names: &[&str] = match *table {
        "activity_minute" => &["brand", "minute", "campaign", "channel", "region"],
        "activity_day" => &["brand", "day", "campaign", "sku", "channel", "region"],
        _ => &["brand", "day"],
    };
    let shown = names.iter().zip(columns).map(|(name, value)| match (*name, value.parse::<u32>()) {
        ("day", Ok(day)) => date(day),
        ("minute", Ok(seconds)) => jiff::Timestamp::from_second(seconds.into()).map_or_else(|_| value.clone(), |time| time.to_string()),
        _ => value.clone(),
    });
    names.iter().map(|name| (*name).to_owned()).zip(shown).collect()
}

fn date(day: u32) -> String {
    let begins = jiff::Timestamp::from_second(i64::from(day) * 86_400);
    begins.map_or_else(|_| day.to_string(), |time| time.to_string().chars().take(10).collect())
}
