//! Events as the log audit counts them: from records and from the archive in one form.
//!
//! Owns the events of a pass, packed. Promises that they come back by brand and customer, and in one order whatever the order they came in.

use clickhouse::Row;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::LogAuditError;
use super::packed::{Packed, Place};
use crate::model::{Body, Event};
use crate::store::{Admin, AdminError};

/// Brand and customer.
pub(super) type Who<'a> = (&'a str, &'a str);

/// One event. Order: brand, customer, kind, event id, then the content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Row, Serialize, Deserialize)]
pub(super) struct Fact<'a> {
    pub brand: &'a str,
    pub customer_id: &'a str,
    /// 0 scan, 1 purchase, 2 share.
    pub rank: u8,
    pub event_id: &'a str,
    pub time_ms: i64,
    /// Code, order or share.
    pub subject: &'a str,
    /// Through which share, as sent.
    pub share_id: &'a str,
    pub sharer_id: &'a str,
    /// Purpose of a scan, kind of a purchase.
    pub kind: &'a str,
    /// Of a scan; empty for others.
    pub role: &'a str,
    pub amount: i64,
    pub campaign: &'a str,
    pub sku: &'a str,
    pub region: u32,
    pub channel: &'a str,
    pub rewarded: u8,
}

impl<'a> Fact<'a> {
    pub fn of(event: &'a Event<'_>) -> Fact<'a> {
        let (share_id, sharer_id) = event.via.as_ref().map_or(("", ""), |via| (&*via.share_id, &*via.sharer_id));
        let mut fact = Fact {
            brand: &event.brand,
            customer_id: &event.customer_id,
            rank: event.kind() as u8,
            event_id: &event.event_id,
            time_ms: event.time_ms,
            subject: "",
            share_id,
            sharer_id,
            kind: "",
            role: "",
            amount: 0,
            campaign: "",
            sku: "",
            region: 0,
            channel: "",
            rewarded: 0,
        };
        match &event.body {
            Body::Scan(scan) => {
                (fact.subject, fact.kind, fact.role) = (&scan.code, scan.purpose.name(), scan.role.name());
                (fact.campaign, fact.sku, fact.channel) = (&scan.campaign, &scan.sku, &scan.channel);
                fact.region = scan.region;
            }
            Body::Purchase(purchase) => {
                (fact.subject, fact.kind) = (&purchase.order_id, purchase.kind.name());
                (fact.amount, fact.region) = (purchase.amount, purchase.region);
                (fact.campaign, fact.channel) = (&purchase.campaign, &purchase.channel);
            }
            Body::Share(share) => {
                (fact.subject, fact.rewarded) = (&share.share_id, u8::from(share.rewarded));
                (fact.campaign, fact.sku, fact.channel) = (&share.campaign, &share.sku, &share.channel);
                fact.region = share.region;
            }
        }
        fact
    }

    pub fn who(&self) -> Who<'a> {
        (self.brand, self.customer_id)
    }

    /// Whether it counts for its customer: everything but scans by others than consumers.
    pub fn is_own(&self) -> bool {
        self.rank != 0 || self.role == "consumer"
    }

    /// The archive table that it belongs to.
    pub fn table(&self) -> &'static str {
        match self.rank {
            0 => "scans",
            1 => "purchases",
            _ => "share_events",
        }
    }

    /// Whether both are one event. Scans by others than consumers are told apart by everything that the archive tells apart.
    pub fn is_same_event(&self, other: &Fact<'_>) -> bool {
        let identity = |fact: &'_ Fact<'_>| {
            (fact.rank, fact.is_own(), fact.is_own() || (fact.time_ms == self.time_ms && fact.subject == self.subject))
        };
        self.event_id == other.event_id && identity(self) == identity(other)
    }
}

/// Which customers a pass looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub pass: u64,
    pub passes: u64,
}

impl Part {
    pub fn has(self, customer_id: &str) -> bool {
        xxh3_64(customer_id.as_bytes()) % self.passes == self.pass
    }

    /// The same as SQL.
    pub fn condition(self) -> String {
        format!("xxh3(customer_id) % {} = {}", self.passes, self.pass)
    }
}

/// What is known of where an event was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Seen {
    /// In a record that the state has to contain.
    Counted,
    /// In a record after the checkpoint.
    Later,
    /// In a record of which the checkpoints do not say whether its owner has it.
    OnItsWay,
    /// In a record that has a dead letter.
    Letter,
    /// In the archive.
    Archived,
}

/// The events of a pass.
#[derive(Debug, Default)]
pub(super) struct Events {
    packed: Packed,
    places: Vec<Place>,
}

impl Events {
    /// Keeps an event.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn push(&mut self, fact: &Fact<'_>, seen: Seen) -> Result<(), LogAuditError> {
        self.places.push(self.packed.put(&(fact, seen))?);
        Ok(())
    }

    /// Puts the events of a customer side by side.
    pub fn sort(&mut self) {
        let packed = &self.packed;
        // What cannot be read is told by `each_customer`.
        let who = |place: Place| packed.get::<Who<'_>>(place).unwrap_or_default();
        self.places.sort_unstable_by(|one, other| who(*one).cmp(&who(*other)));
    }

    /// Calls `visit` with all events of one customer after the other, each customer's in order. They must be sorted.
    ///
    /// # Errors
    /// When an event cannot be read.
    pub fn each_customer<'a>(&'a self, mut visit: impl FnMut(&[(Fact<'a>, Seen)])) -> Result<(), LogAuditError> {
        let mut theirs: Vec<(Fact<'a>, Seen)> = Vec::new();
        for place in &self.places {
            let event: (Fact<'a>, Seen) = self.packed.get(*place)?;
            if theirs.first().is_some_and(|(first, _)| first.who() != event.0.who()) {
                theirs.sort_unstable();
                visit(&theirs);
                theirs.clear();
            }
            theirs.push(event);
        }
        theirs.sort_unstable();
        if !theirs.is_empty() {
            visit(&theirs);
        }
        Ok(())
    }
}

/// How many rows the archive has, about: repeats that were not merged yet count too.
pub(super) async fn archived(admin: &Admin) -> Result<u64, AdminError> {
    let counts = ["scans", "purchases", "share_events"].map(|table| format!("SELECT count() FROM {table}"));
    let rows: Vec<u64> = admin.rows(&counts.join(" UNION ALL ")).await?;
    Ok(rows.iter().sum())
}

/// Every archived event of a part.
pub(super) async fn read_archive(admin: &Admin, part: Part, events: &mut Events) -> Result<(), LogAuditError> {
    let common = "toString(a.brand) AS brand, customer_id";
    let place = "toString(a.campaign) AS campaign";
    let time = "event_id, toUnixTimestamp64Milli(event_time) AS time_ms";
    let condition = part.condition();
    for query in [
        format!(
            "SELECT {common}, toUInt8(0) AS rank, {time}, code AS subject, share_id, sharer_id, toString(a.purpose) AS kind, toString(a.role) AS role, \
             toInt64(0) AS amount, {place}, toString(a.sku) AS sku, region, toString(a.channel) AS channel, toUInt8(0) AS rewarded \
             FROM scans AS a FINAL WHERE {condition}"
        ),
        format!(
            "SELECT {common}, toUInt8(1) AS rank, {time}, order_id AS subject, share_id, sharer_id, toString(a.kind) AS kind, '' AS role, \
             amount, {place}, '' AS sku, region, toString(a.channel) AS channel, toUInt8(0) AS rewarded FROM purchases AS a FINAL WHERE {condition}"
        ),
        format!(
            "SELECT {common}, toUInt8(2) AS rank, {time}, a.share_id AS subject, parent_share_id AS share_id, parent_sharer_id AS sharer_id, '' AS kind, \
             '' AS role, toInt64(0) AS amount, {place}, toString(a.sku) AS sku, region, toString(a.channel) AS channel, toUInt8(a.rewarded) AS rewarded \
             FROM share_events AS a FINAL WHERE {condition}"
        ),
    ] {
        admin.each::<Fact<'_>, LogAuditError>(&query, |fact| events.push(&fact, Seen::Archived)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact_of((brand, customer_id): Who<'_>) -> Fact<'_> {
        Fact {
            brand,
            customer_id,
            rank: 1,
            event_id: "",
            time_ms: -1,
            subject: "",
            share_id: "",
            sharer_id: "",
            kind: "payment",
            role: "",
            amount: i64::MAX,
            campaign: "",
            sku: "",
            region: 0,
            channel: "\u{1f}",
            rewarded: 0,
        }
    }

    #[test]
    fn events_come_back_by_customer_and_in_one_order_whatever_the_order_they_came_in() -> Result<(), LogAuditError> {
        let event = |brand, customer_id, event_id| Fact { event_id, ..fact_of((brand, customer_id)) };
        // "a" + "bc" and "ab" + "c" are two customers.
        let all = [event("a", "bc", "2"), event("ab", "c", "1"), event("a", "bc", "1"), event("a", "bd", "1"), event("a", "bc", "2")];
        for order in [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0]] {
            let mut events = Events::default();
            for at in order {
                events.push(&all[at], if at == 4 { Seen::Archived } else { Seen::Counted })?;
            }
            events.sort();
            let mut came = Vec::new();
            events.each_customer(|theirs| {
                let ids = theirs.iter().map(|(fact, seen)| format!("{} {seen:?}", fact.event_id));
                came.push((theirs[0].0.who(), ids.collect::<Vec<_>>().join(", ")));
                assert!(theirs.iter().all(|(fact, _)| *fact == Fact { event_id: fact.event_id, ..fact_of(fact.who()) }));
            })?;
            let expected = [(("a", "bc"), "1 Counted, 2 Counted, 2 Archived"), (("a", "bd"), "1 Counted"), (("ab", "c"), "1 Counted")];
            assert_eq!(came, expected.map(|(who, ids)| (who, ids.to_owned())));
        }
        Ok(())
    }
}
