//! The batch oracle: the serving tables recounted from the set of distinct events, in the plainest way that `rules.md` allows.
//!
//! Shares no code with the engine. Slow on purpose: every row is a filter over all events.
#![allow(dead_code, reason = "each test program uses a part")]

use std::collections::{BTreeMap, BTreeSet};

use onecode::model::{Body, Event, PurchaseKind, Role, ScanPurpose};
use onecode::rows::Table;

/// A column's value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Value {
    Text(String),
    Number(i128),
}

/// Table and key columns to the other columns, without the version.
pub type Tables = BTreeMap<(Table, Vec<Value>), Vec<Value>>;

/// The calendar, the tasks and the depth, as the oracle needs them.
#[derive(Clone, Copy)]
pub struct World {
    /// The task of a customer.
    pub task: fn(&str) -> String,
    /// Minutes east of UTC of a brand.
    pub offset_minutes: fn(&str) -> i64,
    /// How deep subtrees and cascades reach.
    pub levels: usize,
}

/// A row of zeros and no row mean the same in the tables of levels.
pub fn without_zeros(tables: Tables) -> Tables {
    let has_levels = |table: Table| matches!(table, Table::CustomerSubtrees | Table::ShareCascades);
    let is_zero = |row: &[Value]| row.iter().all(|value| *value == Value::Number(0));
    tables.into_iter().filter(|((table, _), row)| !has_levels(*table) || !is_zero(row)).collect()
}

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn number(value: impl Into<i128>) -> Value {
    Value::Number(value.into())
}

fn count<'a>(events: &[&'a Event<'a>], is_counted: impl Fn(&Event<'_>) -> bool) -> Value {
    Value::Number(events.iter().filter(|event| is_counted(event)).count() as i128)
}

fn money<'a>(events: &[&'a Event<'a>], kind: PurchaseKind) -> Value {
    let sum: i128 = events.iter().map(|event| purchase_amount(event, kind)).sum();
    Value::Number(sum.min(i128::from(i64::MAX)))
}

fn purchase_amount(event: &Event<'_>, kind: PurchaseKind) -> i128 {
    match &event.body {
        Body::Purchase(purchase) if purchase.kind == kind => purchase.amount.into(),
        _ => 0,
    }
}

fn is_scan(event: &Event<'_>) -> bool {
    matches!(event.body, Body::Scan(_))
}

fn is_share(event: &Event<'_>) -> bool {
    matches!(event.body, Body::Share(_))
}

fn is_scan_for(event: &Event<'_>, purposes: &[ScanPurpose]) -> bool {
    matches!(&event.body, Body::Scan(scan) if purposes.contains(&scan.purpose))
}

fn is_purchase(event: &Event<'_>, kind: PurchaseKind) -> bool {
    matches!(&event.body, Body::Purchase(purchase) if purchase.kind == kind)
}

fn is_visit(event: &Event<'_>) -> bool {
    is_scan(event) && event.via.as_ref().is_some_and(|via| via.sharer_id != event.customer_id)
}

/// scans, verifies, draws, joins, visits, shares, orders, refunds, paid, refunded.
fn sums<'a>(events: &[&'a Event<'a>]) -> [Value; 10] {
    [
        count(events, is_scan),
        count(events, |event| is_scan_for(event, &[ScanPurpose::Verify])),
        count(events, |event| is_scan_for(event, &[ScanPurpose::Draw])),
        count(events, |event| is_scan_for(event, &[ScanPurpose::Points, ScanPurpose::Follow])),
        count(events, is_visit),
        count(events, is_share),
        count(events, |event| is_purchase(event, PurchaseKind::Payment)),
        count(events, |event| is_purchase(event, PurchaseKind::Refund)),
        money(events, PurchaseKind::Payment),
        money(events, PurchaseKind::Refund),
    ]
}

fn rank<'a>(event: &'a Event<'_>) -> (i64, &'a [u8], u8) {
    let kind = match event.body {
        Body::Scan(_) => 0,
        Body::Purchase(_) => 1,
        Body::Share(_) => 2,
    };
    (event.time_ms, event.event_id.as_bytes(), kind)
}

fn first<'a>(events: &[&'a Event<'a>]) -> &'a Event<'a> {
    events.iter().min_by_key(|event| rank(event)).expect("a customer with an event")
}

fn last_time<'a>(events: &[&'a Event<'a>], is_counted: impl Fn(&Event<'_>) -> bool) -> Value {
    number(events.iter().filter(|event| is_counted(event)).map(|event| event.time_ms).max().unwrap_or(0))
}

/// campaign, sku, channel, region.
fn dimensions<'a>(event: &'a Event<'_>) -> (&'a str, &'a str, &'a str, u32) {
    match &event.body {
        Body::Scan(scan) => (&scan.campaign, &scan.sku, &scan.channel, scan.region),
        Body::Purchase(purchase) => (&purchase.campaign, "", &purchase.channel, purchase.region),
        Body::Share(share) => (&share.campaign, &share.sku, &share.channel, share.region),
    }
}

impl World {
    fn day(&self, event: &Event<'_>) -> i64 {
        (event.time_ms + (self.offset_minutes)(&event.brand) * 60_000).div_euclid(86_400_000)
    }

    fn minute_key(&self, event: &Event<'_>) -> (Table, Vec<Value>) {
        let (campaign, _, channel, region) = dimensions(event);
        let seconds = event.time_ms.div_euclid(60_000) * 60;
        let province = region - region % 10_000;
        (
            Table::ActivityMinute,
            vec![text(&event.brand), number(seconds), text(campaign), text(channel), number(province), self.task_of(event)],
        )
    }

    fn day_key(&self, event: &Event<'_>) -> (Table, Vec<Value>) {
        let (campaign, sku, channel, region) = dimensions(event);
        let day = number(self.day(event));
        (Table::ActivityDay, vec![text(&event.brand), day, text(campaign), text(sku), text(channel), number(region), self.task_of(event)])
    }

    fn task_of(&self, event: &Event<'_>) -> Value {
        Value::Text((self.task)(&event.customer_id))
    }

    /// All serving rows of a set of events, each of which is given at least once.
    pub fn tables(&self, events: &[Event<'static>]) -> Tables {
        let mut distinct = BTreeMap::new();
        for event in events {
            if matches!(&event.body, Body::Scan(scan) if scan.role != Role::Consumer) {
                continue;
            }
            distinct.entry((event.brand.clone(), event.customer_id.clone(), rank(event).2, event.event_id.clone())).or_insert(event);
        }
        let own: Vec<&Event<'static>> = distinct.into_values().collect();
        let mut tables = Tables::new();
        let customers: BTreeSet<(&str, &str)> = own.iter().map(|event| (&*event.brand, &*event.customer_id)).collect();
        let graph = Graph::new(self, &own);
        let mut first_events = Vec::new();
        for (brand, customer_id) in customers {
            let theirs: Vec<_> = own.iter().copied().filter(|event| event.brand == brand && event.customer_id == customer_id).collect();
            first_events.push(first(&theirs));
            self.add_customer(&theirs, &mut tables);
        }
        self.add_cells(&own, &first_events, &graph, &mut tables);
        self.add_active_days(&own, &mut tables);
        graph.add_tables(&mut tables);
        without_zeros(tables)
    }

    fn add_customer<'a>(&self, events: &[&'a Event<'a>], tables: &mut Tables) {
        let first_event = first(events);
        let days: BTreeSet<i64> = events.iter().map(|event| self.day(event)).collect();
        let key = vec![text(&first_event.brand), text(&first_event.customer_id)];
        let mut row = vec![
            number(first_event.time_ms),
            text(&first_event.event_id),
            last_time(events, |_| true),
            last_time(events, is_scan),
            last_time(events, |event| is_purchase(event, PurchaseKind::Payment)),
            last_time(events, is_share),
            text(""),
            text(""),
        ];
        row.extend(sums(events));
        row.push(Value::Number(days.len() as i128));
        row.extend(vec![number(0); 8]);
        tables.insert((Table::Customers, key.clone()), row);
        for day in days {
            let theirs: Vec<_> = events.iter().copied().filter(|event| self.day(event) == day).collect();
            let [scans, _, rest @ ..] = sums(&theirs);
            let row = [scans].into_iter().chain(rest).collect();
            tables.insert((Table::CustomerDays, [key.as_slice(), &[number(day)]].concat()), row);
        }
    }

    fn add_cells<'a>(&self, own: &[&'a Event<'a>], first_events: &[&'a Event<'a>], graph: &Graph<'a>, tables: &mut Tables) {
        for key_of in [World::minute_key, World::day_key] {
            let keys: BTreeSet<_> = own.iter().map(|event| key_of(self, event)).collect();
            for key in keys {
                let here: Vec<_> = own.iter().copied().filter(|event| key_of(self, event) == key).collect();
                let new: Vec<_> = first_events.iter().filter(|event| key_of(self, event) == key).collect();
                let referred = new.iter().filter(|event| graph.referrers.contains_key(&who(event))).count();
                let [scans, verifies, draws, _, rest @ ..] = sums(&here);
                let mut row: Vec<Value> = [scans, verifies, draws].into_iter().chain(rest).collect();
                row.extend([Value::Number(new.len() as i128), Value::Number(referred as i128)]);
                tables.insert(key, row);
            }
        }
    }

    fn add_active_days<'a>(&self, own: &[&'a Event<'a>], tables: &mut Tables) {
        let days: BTreeSet<(&str, i64, Value)> = own.iter().map(|event| (&*event.brand, self.day(event), self.task_of(event))).collect();
        for (brand, day, task) in days {
            let is_here = |event: &Event<'_>| event.brand == brand && self.day(event) == day && self.task_of(event) == task;
            let here: Vec<_> = own.iter().copied().filter(|event| is_here(event)).collect();
            let customers = |is_counted: &dyn Fn(&Event<'_>) -> bool| {
                let distinct: BTreeSet<&str> = here.iter().filter(|event| is_counted(event)).map(|event| &*event.customer_id).collect();
                Value::Number(distinct.len() as i128)
            };
            let row = vec![
                customers(&|_| true),
                customers(&|event| is_purchase(event, PurchaseKind::Payment)),
                customers(&is_scan),
                customers(&is_share),
            ];
            tables.insert((Table::ActiveCustomersDay, vec![text(brand), number(day), task]), row);
        }
    }

    /// First day of the month of an event, counted from 1970-01-01, by walking there.
    fn month(&self, event: &Event<'_>) -> i64 {
        let (day, mut month_begin, mut year, mut month) = (self.day(event), 0, 1970, 0);
        loop {
            let is_leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
            let lengths = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            if day < month_begin + lengths[month] {
                return month_begin;
            }
            month_begin += lengths[month];
            (year, month) = if month == 11 { (year + 1, 0) } else { (year, month + 1) };
        }
    }
}

// ---- who brings whom ----

/// Brand and customer.
type Who<'a> = (&'a str, &'a str);
/// Brand, sharer and share.
type Link<'a> = (&'a str, &'a str, &'a str);

fn who<'a>(event: &'a Event<'_>) -> Who<'a> {
    (&event.brand, &event.customer_id)
}

/// The share through which an event came, unless it is the customer's own.
fn through<'a>(event: &'a Event<'_>) -> Option<Link<'a>> {
    let via = event.via.as_ref().filter(|via| via.sharer_id != event.customer_id)?;
    Some((&event.brand, &via.sharer_id, &via.share_id))
}

/// The share that an event makes.
fn made<'a>(event: &'a Event<'_>) -> Option<Link<'a>> {
    match &event.body {
        Body::Share(share) => Some((&event.brand, &event.customer_id, &share.share_id)),
        _ => None,
    }
}

pub struct Graph<'a> {
    world: World,
    events: BTreeMap<Who<'a>, Vec<&'a Event<'a>>>,
    referrers: BTreeMap<Who<'a>, Link<'a>>,
    children: BTreeMap<Who<'a>, Vec<Who<'a>>>,
    /// Everybody who did something or was named.
    everybody: BTreeSet<Who<'a>>,
    visits: BTreeMap<Link<'a>, Vec<&'a Event<'a>>>,
    /// The share's own event.
    shares: BTreeMap<Link<'a>, &'a Event<'a>>,
    passed_on: BTreeMap<Link<'a>, Vec<Link<'a>>>,
}

impl<'a> Graph<'a> {
    pub fn new(world: &World, own: &[&'a Event<'a>]) -> Self {
        let mut graph = Graph {
            world: *world,
            events: BTreeMap::new(),
            referrers: BTreeMap::new(),
            children: BTreeMap::new(),
            everybody: BTreeSet::new(),
            visits: BTreeMap::new(),
            shares: BTreeMap::new(),
            passed_on: BTreeMap::new(),
        };
        for event in own.iter().copied() {
            graph.events.entry(who(event)).or_default().push(event);
            graph.everybody.insert(who(event));
            if let Some(link @ (brand, sharer, _)) = through(event) {
                graph.visits.entry(link).or_default().push(event);
                graph.everybody.insert((brand, sharer));
            }
            if let Some(link) = made(event) {
                let known = graph.shares.entry(link).or_insert(event);
                if rank(event) < rank(known) {
                    *known = event;
                }
            }
        }
        for (customer, events) in &graph.events {
            let first_event = first(events);
            let is_named_by_then = own.iter().any(|event| {
                through(event).is_some_and(|(brand, sharer, _)| (brand, sharer) == *customer) && event.time_ms <= first_event.time_ms
            });
            if let Some(link @ (brand, sharer, _)) = through(first_event).filter(|_| !is_named_by_then) {
                graph.referrers.insert(*customer, link);
                graph.children.entry((brand, sharer)).or_default().push(*customer);
            }
        }
        for (link, event) in &graph.shares {
            let Some(parent) = through(event) else { continue };
            if graph.shares.get(&parent).is_some_and(|older| rank(older) < rank(event)) {
                graph.passed_on.entry(parent).or_default().push(*link);
            }
        }
        graph
    }

    /// Customers by level, the first being those who were brought directly.
    fn generations(&self, customer: Who<'a>) -> Vec<Vec<Who<'a>>> {
        let below = |layer: &Vec<Who<'a>>| layer.iter().flat_map(|one| self.children.get(one).cloned().unwrap_or_default()).collect();
        std::iter::successors(Some(below(&vec![customer])), |layer: &Vec<_>| Some(below(layer))).take(self.world.levels).collect()
    }

    /// Shares by level, the first being the share itself.
    fn cascade(&self, link: Link<'a>) -> Vec<Vec<Link<'a>>> {
        let below = |layer: &Vec<Link<'a>>| layer.iter().flat_map(|one| self.passed_on.get(one).cloned().unwrap_or_default()).collect();
        std::iter::successors(Some(vec![link]), |layer: &Vec<_>| Some(below(layer))).take(self.world.levels + 1).collect()
    }

    /// Visits, visitors, new customers, orders, paid, refunded, re-shares of a share.
    fn brought(&self, link: Link<'a>) -> [i128; 7] {
        let events = self.visits.get(&link).cloned().unwrap_or_default();
        let visitors: BTreeSet<Who<'a>> = events.iter().map(|event| who(event)).collect();
        let sum = |kind| events.iter().map(|event| purchase_amount(event, kind)).sum();
        [
            events.iter().filter(|event| is_scan(event)).count() as i128,
            visitors.len() as i128,
            self.referrers.values().filter(|referrer| **referrer == link).count() as i128,
            events.iter().filter(|event| is_purchase(event, PurchaseKind::Payment)).count() as i128,
            sum(PurchaseKind::Payment),
            sum(PurchaseKind::Refund),
            events.iter().filter(|event| is_share(event)).count() as i128,
        ]
    }

    fn add_tables(&self, tables: &mut Tables) {
        for customer in &self.everybody {
            self.add_customer_columns(*customer, tables);
            self.add_subtree(*customer, tables);
        }
        for ((brand, child), events) in &self.events {
            let parent = self.referrers.get(&(*brand, *child));
            let row = match parent {
                Some((_, sharer, share)) => vec![text(sharer), text(share), number(first(events).time_ms)],
                None => vec![text(""), text(""), number(0)],
            };
            tables.insert((Table::Referrals, vec![text(brand), text(child)]), row);
        }
        let links: BTreeSet<Link<'a>> = self.visits.keys().chain(self.shares.keys()).copied().collect();
        for link in links {
            self.add_share(link, tables);
            self.add_cascade(link, tables);
        }
    }

    fn add_customer_columns(&self, customer @ (brand, id): Who<'a>, tables: &mut Tables) {
        let nothing = || {
            let mut row = vec![number(0), text(""), number(0), number(0), number(0), number(0), text(""), text("")];
            row.extend(vec![number(0); 19]);
            row
        };
        let row = tables.entry((Table::Customers, vec![text(brand), text(id)])).or_insert_with(nothing);
        if let Some((_, sharer, share)) = self.referrers.get(&customer) {
            (row[6], row[7]) = (text(sharer), text(share));
        }
        let generations = self.generations(customer);
        let mut sums = [0; 7];
        let links: BTreeSet<Link<'a>> = self.visits.keys().copied().filter(|(brand, sharer, _)| (*brand, *sharer) == customer).collect();
        for link in links {
            for (sum, amount) in sums.iter_mut().zip(self.brought(link)) {
                *sum += amount;
            }
        }
        let [visits, visitors, _, orders, paid, refunded, reshares] = sums;
        let direct = generations.first().map_or(0, Vec::len) as i128;
        let total = generations.iter().map(Vec::len).sum::<usize>() as i128;
        let columns = [direct, total, visits, visitors, orders, at_most(paid), at_most(refunded), reshares];
        for (column, value) in row[19..].iter_mut().zip(columns) {
            *column = Value::Number(value);
        }
    }

    fn add_subtree(&self, customer @ (brand, id): Who<'a>, tables: &mut Tables) {
        for (level, layer) in (1_i64..).zip(self.generations(customer)) {
            let mut by_month: BTreeMap<i64, [i128; 4]> = BTreeMap::new();
            for below in layer {
                let events = &self.events[&below];
                by_month.entry(self.world.month(first(events))).or_default()[0] += 1;
                for event in events {
                    let month = by_month.entry(self.world.month(event)).or_default();
                    month[1] += i128::from(is_purchase(event, PurchaseKind::Payment));
                    month[2] += purchase_amount(event, PurchaseKind::Payment);
                    month[3] += purchase_amount(event, PurchaseKind::Refund);
                }
            }
            for (month, [customers, orders, paid, refunded]) in by_month {
                let row = [customers, orders, at_most(paid), at_most(refunded)].map(Value::Number).to_vec();
                tables.insert((Table::CustomerSubtrees, vec![text(brand), text(id), number(level), number(month)]), row);
            }
        }
    }

    fn add_share(&self, link @ (brand, sharer, share): Link<'a>, tables: &mut Tables) {
        let own = self.shares.get(&link);
        let (_, parent_sharer, parent_share) = own.and_then(|event| through(event)).unwrap_or_default();
        let (campaign, sku, channel, region) = own.map(|event| dimensions(event)).unwrap_or_default();
        let rewarded = own.is_some_and(|event| matches!(&event.body, Body::Share(made) if made.rewarded));
        let mut row = vec![text(parent_share), text(parent_sharer), number(own.map_or(0, |event| event.time_ms))];
        row.extend([text(campaign), text(sku), text(channel), number(region), number(rewarded)]);
        let [visits, visitors, new_customers, orders, paid, refunded, reshares] = self.brought(link);
        row.extend([visits, visitors, new_customers, orders, at_most(paid), at_most(refunded), reshares].map(Value::Number));
        tables.insert((Table::Shares, vec![text(brand), text(sharer), text(share)]), row);
    }

    fn add_cascade(&self, link @ (brand, sharer, share): Link<'a>, tables: &mut Tables) {
        for (level, layer) in (0_i64..).zip(self.cascade(link)) {
            let mut sums = [0; 6];
            for below in layer {
                let [visits, _, new_customers, orders, paid, refunded, _] = self.brought(below);
                let own = i128::from(self.shares.contains_key(&below));
                for (sum, amount) in sums.iter_mut().zip([own, visits, new_customers, orders, paid, refunded]) {
                    *sum += amount;
                }
            }
            let [shares, visits, new_customers, orders, paid, refunded] = sums;
            let row = [shares, visits, new_customers, orders, at_most(paid), at_most(refunded)].map(Value::Number).to_vec();
            tables.insert((Table::ShareCascades, vec![text(brand), text(sharer), text(share), number(level)]), row);
        }
    }
}

fn at_most(money: i128) -> i128 {
    money.min(i64::MAX.into())
}
