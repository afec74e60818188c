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

/// The calendar and the task, as the oracle needs them.
pub struct World {
    pub task: &'static str,
    /// Minutes east of UTC of a brand.
    pub offset_minutes: fn(&str) -> i64,
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
        (Table::ActivityMinute, vec![text(&event.brand), number(seconds), text(campaign), text(channel), number(province), text(self.task)])
    }

    fn day_key(&self, event: &Event<'_>) -> (Table, Vec<Value>) {
        let (campaign, sku, channel, region) = dimensions(event);
        let day = number(self.day(event));
        (Table::ActivityDay, vec![text(&event.brand), day, text(campaign), text(sku), text(channel), number(region), text(self.task)])
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
        let mut first_events = Vec::new();
        for (brand, customer_id) in customers {
            let theirs: Vec<_> = own.iter().copied().filter(|event| event.brand == brand && event.customer_id == customer_id).collect();
            first_events.push(first(&theirs));
            self.add_customer(&theirs, &mut tables);
        }
        self.add_cells(&own, &first_events, &mut tables);
        self.add_active_days(&own, &mut tables);
        tables
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

    fn add_cells<'a>(&self, own: &[&'a Event<'a>], first_events: &[&'a Event<'a>], tables: &mut Tables) {
        for key_of in [World::minute_key, World::day_key] {
            let keys: BTreeSet<_> = own.iter().map(|event| key_of(self, event)).collect();
            for key in keys {
                let here: Vec<_> = own.iter().copied().filter(|event| key_of(self, event) == key).collect();
                let new_customers = first_events.iter().filter(|event| key_of(self, event) == key).count();
                let [scans, verifies, draws, _, rest @ ..] = sums(&here);
                let mut row: Vec<Value> = [scans, verifies, draws].into_iter().chain(rest).collect();
                row.extend([Value::Number(new_customers as i128), number(0)]);
                tables.insert(key, row);
            }
        }
    }

    fn add_active_days<'a>(&self, own: &[&'a Event<'a>], tables: &mut Tables) {
        let days: BTreeSet<(&str, i64)> = own.iter().map(|event| (&*event.brand, self.day(event))).collect();
        for (brand, day) in days {
            let here: Vec<_> = own.iter().copied().filter(|event| event.brand == brand && self.day(event) == day).collect();
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
            tables.insert((Table::ActiveCustomersDay, vec![text(brand), number(day), text(self.task)]), row);
        }
    }
}
