//! Whether the tables say what the set of events says, and whether the dead letters are the records that the rules reject.

use std::collections::{BTreeMap, BTreeSet};

use onecode::model::{Body, Event, Line, Reason, TopicPartition, owner};
use onecode::rows::Table;
use onecode::task::DEAD_LETTER_HEADERS;

use super::inputs::TWINS;
use super::kafka::Stored;
use super::plan::{LEVELS, Scenario, offset_minutes};
use super::run::Run;
use super::world::{DEAD_LETTERS, is_exchange};
use crate::oracle::{Tables, Value, World as Oracle, without_zeros};

/// More differences than this are not shown.
const SHOWN: usize = 12;

/// Compares everything. An error is for a person to read.
pub fn compare(run: &mut Run) -> Result<(), String> {
    if let Some(contradiction) = &run.world.store.contradiction {
        return Err(contradiction.clone());
    }
    let refused = check_letters(run, &letters(run)?)?;
    run.stats.refused_events = refused.len() as u64;
    let found = run.world.store.tables().into_iter().filter(|((_, key), _)| key.first() != Some(&text(TWINS))).collect();
    let found: Tables = without_zeros(found);
    let counted: Vec<Event<'static>> = counted(run, &found, &refused)?;
    let expected = expected(&counted, run.plan.tasks);
    let (expected, found) = if run.has_rescaled { (over_tasks(expected), over_tasks(found)) } else { (expected, found) };
    let differences = differences(&expected, &found);
    if differences.is_empty() {
        return Ok(());
    }
    let shown: Vec<String> = differences.iter().take(SHOWN).cloned().collect();
    Err(format!("{} rows differ:\n  {}", differences.len(), shown.join("\n  ")))
}

/// With cells as readers sum them over the tasks: those of a task that has ended are kept by another, and a correction may be taken back
/// where it was never added. Counts wrap.
fn over_tasks(tables: Tables) -> Tables {
    let is_cell = |table: Table| matches!(table, Table::ActivityMinute | Table::ActivityDay | Table::ActiveCustomersDay);
    let mut summed = Tables::new();
    for ((table, mut key), row) in tables {
        if !is_cell(table) {
            summed.insert((table, key), row);
            continue;
        }
        key.pop();
        let sum = summed.entry((table, key)).or_insert_with(|| vec![number(0); row.len()]);
        for (sum, value) in sum.iter_mut().zip(row) {
            if let (Value::Number(sum), Value::Number(value)) = (sum, value) {
                *sum = (*sum + value).rem_euclid(1 << 64);
            }
        }
    }
    summed.retain(|(table, _), row| !is_cell(*table) || row.iter().any(|value| *value != number(0)));
    summed
}

/// The events that must be in the tables: every accepted one. Those that came after their ids may have been forgotten are refused in
/// plain sight, and then they must not be there.
fn counted(run: &Run, found: &Tables, refused: &BTreeSet<usize>) -> Result<Vec<Event<'static>>, String> {
    let mut counted = Vec::new();
    for index in &run.expected.accepted {
        let event = &run.sent[*index].event;
        if refused.contains(index) && !found.contains_key(&archive_row(event).0) {
            continue;
        }
        counted.push(event.clone());
    }
    // What was allowed to be so late only in the course of the run may lie before the horizon.
    let unduly: Vec<&usize> = refused.difference(&run.expected.beyond).collect();
    if run.plan.scenario == Scenario::Minutes && !unduly.is_empty() {
        return Err(format!("nothing can be forgotten within minutes, but {unduly:?} were refused as too old"));
    }
    Ok(counted)
}

fn differences(expected: &Tables, found: &Tables) -> Vec<String> {
    let keys: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    keys.into_iter()
        .filter(|key| expected.get(*key) != found.get(*key))
        .map(|key| format!("{:?} {:?}\n    expected {:?}\n    found    {:?}", key.0, key.1, expected.get(key), found.get(key)))
        .collect()
}

fn expected(events: &[Event<'static>], tasks: u32) -> Tables {
    let task: fn(&str) -> String = match tasks {
        1 => |_| "0".to_owned(),
        2 => |customer| owner(customer, 2).to_string(),
        3 => |customer| owner(customer, 3).to_string(),
        4 => |customer| owner(customer, 4).to_string(),
        more => panic!("{more} tasks"),
    };
    let mut tables = Oracle { task, offset_minutes, levels: LEVELS.into() }.tables(events);
    tables.extend(events.iter().map(archive_row));
    tables
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn number(value: impl Into<i128>) -> Value {
    Value::Number(value.into())
}

fn list<'a>(lines: &'a [Line<'static>], column: impl Fn(&'a Line<'static>) -> String) -> Value {
    Value::Text(format!("[{}]", lines.iter().map(column).collect::<Vec<_>>().join(", ")))
}

type KeyAndRow = ((Table, Vec<Value>), Vec<Value>);

/// The row that an event leaves in the archive.
fn archive_row(event: &Event<'static>) -> KeyAndRow {
    let (share, sharer) = event.via.as_ref().map_or(("", ""), |via| (&*via.share_id, &*via.sharer_id));
    let own_key = || vec![text(&event.brand), text(&event.customer_id), number(event.time_ms), text(&event.event_id)];
    match &event.body {
        Body::Scan(scan) => {
            let key = vec![text(&event.brand), text(&scan.code), number(event.time_ms), text(&event.event_id), text(&event.customer_id)];
            let mut row: Vec<Value> =
                [share, sharer, &scan.gtin, &scan.serial, &scan.sku, &scan.batch, &scan.campaign].into_iter().map(text).collect();
            row.extend([number(scan.region), text(&scan.channel), text(&scan.device), text(scan.purpose.name()), text(scan.role.name())]);
            ((Table::Scans, key), row)
        }
        Body::Purchase(purchase) => {
            let mut row = vec![text(&purchase.order_id), text(purchase.kind.name()), number(purchase.amount), text(&purchase.currency)];
            row.push(list(&purchase.lines, |line| line.sku.to_string()));
            row.push(list(&purchase.lines, |line| line.quantity.to_string()));
            row.push(list(&purchase.lines, |line| line.amount.to_string()));
            row.extend([share, sharer, &purchase.campaign].into_iter().map(text));
            row.extend([number(purchase.region), text(&purchase.channel), text(&purchase.store)]);
            ((Table::Purchases, own_key()), row)
        }
        Body::Share(body) => {
            let mut row: Vec<Value> = [&body.share_id, share, sharer, &body.campaign, &body.sku].into_iter().map(text).collect();
            row.extend([number(body.region), text(&body.channel), number(i128::from(body.rewarded))]);
            ((Table::ShareEvents, own_key()), row)
        }
    }
}

// ---- dead letters ----

/// A dead letter: its record's first position, and its reason.
struct Letter<'a> {
    at: (TopicPartition, i64),
    reason: String,
    stored: &'a Stored,
}

fn letters(run: &Run) -> Result<Vec<Letter<'_>>, String> {
    let logs = run.world.kafka.logs.iter().filter(|(tp, _)| *tp.topic == *DEAD_LETTERS);
    logs.flat_map(|(_, log)| log.records()).map(letter).collect()
}

fn letter(stored: &Stored) -> Result<Letter<'_>, String> {
    let values: BTreeMap<&str, String> = stored
        .headers
        .iter()
        .map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_deref().unwrap_or_default()).into_owned()))
        .collect();
    let header = |index: usize| {
        let name = DEAD_LETTER_HEADERS[index];
        values.get(name).cloned().ok_or_else(|| format!("a dead letter without {name}: {:?}", stored.headers))
    };
    let parsed = |index: usize| header(index)?.parse::<i64>().map_err(|error| format!("{}: {error}", DEAD_LETTER_HEADERS[index]));
    let tp = TopicPartition { topic: header(0)?.into(), partition: parsed(1)? as i32 };
    Ok(Letter { at: (tp, parsed(2)?), reason: header(5)?, stored })
}

/// Every record that the rules reject has a dead letter with its bytes, and no other has one; but of events too old by the horizon,
/// which are returned.
fn check_letters(run: &Run, letters: &[Letter<'_>]) -> Result<BTreeSet<usize>, String> {
    let mut refused = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for Letter { at, reason, stored } in letters {
        let (tp, offset) = at;
        if is_exchange(&tp.topic) {
            return Err(format!("a dead letter of the exchange: {tp} {offset}, {reason}"));
        }
        let original = run.world.kafka.log(tp).first_from(*offset).filter(|record| record.offset == *offset);
        let Some(original) = original else { return Err(format!("a dead letter of {tp} {offset}, where there is no record")) };
        let is_whole = original.key == stored.key && original.value == stored.value && stored.headers.starts_with(&original.headers);
        if !is_whole {
            return Err(format!("the dead letter of {tp} {offset} is not the record: {stored:?}"));
        }
        if run.expected.unknown.contains(at) {
            continue;
        }
        match (run.expected.rejected.get(at), run.expected.event_of.get(at)) {
            (Some(expected), _) if expected.code() == reason => {
                seen.insert(at.clone());
            }
            (None, Some(index)) if reason == Reason::TooOld.code() => {
                // One that was too late excuses no other record of its event.
                let is_accepted =
                    |(other, known): (&(TopicPartition, i64), &usize)| known == index && !run.expected.undecided.contains(other);
                if !run.expected.undecided.contains(at) || !run.expected.event_of.iter().any(is_accepted) {
                    refused.insert(*index);
                }
            }
            (expected, _) => return Err(format!("a dead letter of {tp} {offset} because of {reason}; expected was {expected:?}")),
        }
    }
    match run.expected.rejected.iter().find(|(at, _)| !seen.contains(*at)) {
        Some(((tp, offset), reason)) => Err(format!("no dead letter of {tp} {offset} ({reason:?})")),
        None => Ok(refused),
    }
}
