//! The naive oracle: what the rules make of one customer's distinct events, counted one after the other.

use std::collections::{BTreeMap, BTreeSet};

use super::LogAuditError;
use super::cells::{CellKey, CellTable, Cells, Sums, add};
use super::compare::Findings;
use super::facts::{Events, Fact, Seen, Who};
use crate::audit::Conflict;
use crate::audit::events::KINDS;
use crate::audit::report::{ColumnDifference, Key, RowDifference};
use crate::model::Calendar;

/// What counting depends on besides the events.
pub(super) struct Scope<'a> {
    pub calendar: &'a Calendar,
    /// Whether the logs have every record since their first.
    pub logs_are_whole: bool,
    /// Older events have left the archive, or are about to; 0 = none has.
    pub archive_begins_ms: i64,
}

/// A customer by the events before the checkpoints.
#[derive(Debug, Default)]
pub(super) struct Counted<'a> {
    /// Of the first event: time and id.
    pub first: (i64, &'a str),
    /// Of the last event, scan, payment, share; 0 = never.
    pub last_ms: [i64; 4],
    /// Over everything; `active` is the number of days.
    pub total: Sums,
    /// By day, in order.
    pub days: Vec<(u32, Sums)>,
    /// Whether there are events after the checkpoints: newer rows may know them.
    pub moves: bool,
}

impl Counted<'_> {
    /// Its sums of a day.
    pub fn of_day(&self, day: u32) -> Option<&Sums> {
        let found = self.days.binary_search_by_key(&day, |(day, _)| *day).ok()?;
        self.days.get(found).map(|(_, sums)| sums)
    }

    /// The same, and whether there were none.
    fn on_day(&mut self, day: u32) -> (&mut Sums, bool) {
        let found = self.days.binary_search_by_key(&day, |(day, _)| *day);
        let at = found.unwrap_or_else(|at| {
            // Most have one.
            self.days.reserve_exact(1);
            self.days.insert(at, (day, Sums::default()));
            at
        });
        (&mut self.days[at].1, found.is_err())
    }
}

/// The customers of one pass.
#[derive(Debug, Default)]
pub(super) struct Customers<'a> {
    pub counted_customers: BTreeMap<Who<'a>, Counted<'a>>,
    /// Those of whom nothing can be said: conflicting events, records with dead letters that would be accepted now, events on their way.
    pub unknown: BTreeSet<Who<'a>>,
    pub conflicts: Vec<Conflict>,
    pub counted: u64,
    pub later: u64,
    pub from_archive: u64,
}

impl Customers<'_> {
    pub fn left_out(&self) -> usize {
        self.unknown.len()
    }
}

/// Counts all events of a pass, and finds what is missing in the archive.
pub(super) fn recount<'a>(
    events: &'a Events,
    scope: &Scope<'_>,
    findings: &mut Findings,
    cells: &mut Cells,
) -> Result<Customers<'a>, LogAuditError> {
    let mut customers = Customers::default();
    events.each_customer(|theirs| count_customer(theirs, scope, findings, cells, &mut customers))?;
    Ok(customers)
}

/// What became of one event.
enum Verdict<'a> {
    Counts(Fact<'a>),
    Later(Fact<'a>),
    /// Nothing can be said.
    Unknown,
    Nothing,
}

fn count_customer<'a>(
    theirs: &[(Fact<'a>, Seen)],
    scope: &Scope<'_>,
    findings: &mut Findings,
    cells: &mut Cells,
    customers: &mut Customers<'a>,
) {
    let (mut counted, mut later, mut is_unknown) = (Vec::new(), Vec::new(), false);
    let mut rest = theirs;
    while let Some((first, _)) = rest.first() {
        // Scans by others than consumers share ids with scans by consumers, and are sorted in between.
        let same = rest.iter().take_while(|(fact, _)| (fact.rank, &fact.event_id) == (first.rank, &first.event_id)).count();
        let (group, after) = rest.split_at(same);
        rest = after;
        for event in distinct_events(group) {
            match judge(&event, scope, findings, customers) {
                Verdict::Counts(fact) if fact.is_own() => counted.push(fact),
                Verdict::Later(fact) if fact.is_own() => later.push(fact),
                Verdict::Unknown if event.first().is_some_and(|(fact, _)| fact.is_own()) => is_unknown = true,
                _ => {}
            }
        }
    }
    customers.counted += counted.len() as u64;
    customers.later += later.len() as u64;
    let Some((someone, _)) = theirs.first() else { return };
    if is_unknown {
        let own = theirs.iter().map(|(fact, _)| fact).filter(|fact| fact.is_own());
        own.flat_map(|fact| cells_of(fact, scope.calendar)).for_each(|cell| cells.is_unknown(&cell));
        customers.unknown.insert(someone.who());
        return;
    }
    counted.sort_unstable_by_key(order);
    // An earlier event may take the new customer from its first.
    let first = counted.first().filter(|_| !later.is_empty());
    for cell in later.iter().chain(first).flat_map(|fact| cells_of(fact, scope.calendar)) {
        cells.moves(&cell);
    }
    if counted.is_empty() && later.is_empty() {
        return;
    }
    let mut customer = count(&counted, scope.calendar, cells);
    customer.moves = !later.is_empty();
    customers.counted_customers.insert(someone.who(), customer);
}

/// The events of one kind and id: one, but for scans by others than consumers.
fn distinct_events<'g, 'a>(group: &'g [(Fact<'a>, Seen)]) -> Vec<Vec<&'g (Fact<'a>, Seen)>> {
    let mut events: Vec<Vec<&(Fact<'a>, Seen)>> = Vec::new();
    for entry in group {
        let known = events.iter_mut().find(|event| event.first().is_some_and(|(fact, _)| fact.is_same_event(&entry.0)));
        match known {
            Some(event) => event.push(entry),
            None => events.push(vec![entry]),
        }
    }
    events
}

fn judge<'a>(event: &[&(Fact<'a>, Seen)], scope: &Scope<'_>, findings: &mut Findings, customers: &mut Customers<'_>) -> Verdict<'a> {
    let facts = |is_wanted: &dyn Fn(Seen) -> bool| -> BTreeSet<Fact<'a>> {
        event.iter().filter(|(_, seen)| is_wanted(*seen)).map(|(fact, _)| *fact).collect()
    };
    let sent = facts(&|seen| seen != Seen::Archived);
    let archived = facts(&|seen| seen == Seen::Archived);
    let has = |wanted: Seen| event.iter().any(|(_, seen)| *seen == wanted);
    let Some(fact) = sent.first().or(archived.first()).copied() else { return Verdict::Nothing };
    let contents = if sent.is_empty() { archived.len() } else { sent.len() };
    if contents > 1 {
        if fact.is_own() {
            customers.conflicts.push(Conflict {
                brand: fact.brand.to_owned(),
                customer_id: fact.customer_id.to_owned(),
                kind: KINDS.get(usize::from(fact.rank)).copied().unwrap_or_default(),
                event_id: fact.event_id.to_owned(),
                contents: contents as u64,
            });
        }
        return Verdict::Unknown;
    }
    if sent.is_empty() {
        if !scope.logs_are_whole {
            customers.from_archive += 1;
            return Verdict::Counts(fact);
        }
        findings.add(fact.table(), RowDifference::Unexpected { key: archive_key(&fact) });
        return Verdict::Nothing;
    }
    let is_counted = has(Seen::Counted);
    if !is_counted && has(Seen::Letter) {
        return Verdict::Unknown;
    }
    if is_counted && fact.time_ms >= scope.archive_begins_ms {
        findings.compared(fact.table());
        match archived.first() {
            None => findings.add(fact.table(), RowDifference::Missing { key: archive_key(&fact) }),
            Some(_) if archived.contains(&fact) && archived.len() == 1 => {}
            Some(_) => {
                for other in archived.iter().filter(|other| **other != fact) {
                    findings.add(fact.table(), RowDifference::Wrong { key: archive_key(&fact), columns: wrong_columns(&fact, other) });
                }
            }
        }
    }
    match is_counted {
        true => Verdict::Counts(fact),
        false if has(Seen::OnItsWay) => Verdict::Unknown,
        false => Verdict::Later(fact),
    }
}

fn archive_key(fact: &Fact<'_>) -> Key {
    [("brand", fact.brand), ("customer_id", fact.customer_id), ("event_id", fact.event_id)]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
}

fn wrong_columns(expected: &Fact<'_>, seen: &Fact<'_>) -> Vec<ColumnDifference> {
    let columns = |fact: &Fact<'_>| {
        [
            ("event_time", fact.time_ms.to_string()),
            ("subject", fact.subject.to_owned()),
            ("share_id", fact.share_id.to_owned()),
            ("sharer_id", fact.sharer_id.to_owned()),
            ("kind", fact.kind.to_owned()),
            ("role", fact.role.to_owned()),
            ("amount", fact.amount.to_string()),
            ("campaign", fact.campaign.to_owned()),
            ("sku", fact.sku.to_owned()),
            ("region", fact.region.to_string()),
            ("channel", fact.channel.to_owned()),
            ("rewarded", fact.rewarded.to_string()),
        ]
    };
    let pairs = columns(expected).into_iter().zip(columns(seen));
    pairs
        .filter(|(expected, seen)| expected.1 != seen.1)
        .map(|((column, expected), (_, seen))| ColumnDifference { column: column.to_owned(), expected, seen })
        .collect()
}

fn order<'a>(fact: &Fact<'a>) -> (i64, &'a str, u8) {
    (fact.time_ms, fact.event_id, fact.rank)
}

fn day_of(fact: &Fact<'_>, calendar: &Calendar) -> u32 {
    let local_ms = fact.time_ms + i64::from(calendar.zone(fact.brand).offset_minutes()) * 60_000;
    u32::try_from(local_ms.div_euclid(86_400_000).clamp(0, 65_535)).unwrap_or_default()
}

/// Its minute, its day, and the customers of its day.
fn cells_of<'a>(fact: &Fact<'a>, calendar: &Calendar) -> [CellKey<'a>; 3] {
    let (brand, campaign, channel) = (fact.brand, fact.campaign, fact.channel);
    let minute = u32::try_from(fact.time_ms.div_euclid(60_000) * 60).unwrap_or(u32::MAX);
    let (day, province) = (day_of(fact, calendar), fact.region / 10_000 * 10_000);
    [
        CellKey { table: CellTable::Minute, brand, bucket: minute, campaign, sku: "", channel, region: province },
        CellKey { table: CellTable::Day, brand, bucket: day, campaign, sku: fact.sku, channel, region: fact.region },
        CellKey { table: CellTable::ActiveDay, brand, bucket: day, campaign: "", sku: "", channel: "", region: 0 },
    ]
}

/// What one event adds to its day.
fn sums_of(fact: &Fact<'_>) -> Sums {
    let is = |holds: bool| i64::from(holds);
    let is_scan = fact.rank == 0;
    let came_by_somebody = !fact.sharer_id.is_empty() && fact.sharer_id != fact.customer_id;
    [
        is(is_scan),
        is(is_scan && fact.kind == "verify"),
        is(is_scan && fact.kind == "draw"),
        is(is_scan && (fact.kind == "follow" || fact.kind == "points")),
        is(is_scan && came_by_somebody),
        is(fact.rank == 2),
        is(fact.kind == "payment"),
        is(fact.kind == "refund"),
        if fact.kind == "payment" { fact.amount } else { 0 },
        if fact.kind == "refund" { fact.amount } else { 0 },
        0,
        0,
    ]
}

const JOINS: usize = 3;
const NEW_CUSTOMERS: usize = 10;
const ACTIVE: usize = 11;

fn count<'a>(counted: &[Fact<'a>], calendar: &Calendar, cells: &mut Cells) -> Counted<'a> {
    let mut customer = Counted::default();
    for (index, fact) in counted.iter().enumerate() {
        let sums = sums_of(fact);
        if index == 0 {
            customer.first = (fact.time_ms, fact.event_id);
        }
        let kinds = [true, fact.rank == 0, fact.kind == "payment", fact.rank == 2];
        customer.last_ms.iter_mut().zip(kinds).filter(|(_, is_kind)| *is_kind).for_each(|(last, _)| *last = fact.time_ms.max(*last));
        add(&mut customer.total, &sums);
        let (before, is_new_day) = customer.on_day(day_of(fact, calendar));
        // Customers of a day: active, and by what they did for the first time that day.
        let mut of_day = Sums::default();
        for did in [0, 5, 6] {
            of_day[did] = i64::from(before[did] == 0 && sums[did] > 0);
        }
        of_day[ACTIVE] = i64::from(is_new_day);
        add(before, &sums);
        customer.total[ACTIVE] += i64::from(is_new_day);
        let mut of_cell = sums;
        of_cell[JOINS] = 0;
        of_cell[NEW_CUSTOMERS] = i64::from(index == 0);
        let [minute, day, active_day] = cells_of(fact, calendar);
        cells.count(&minute, &of_cell);
        cells.count(&day, &of_cell);
        cells.count(&active_day, &of_day);
    }
    customer
}
