//! Events as the log audit counts them: from records and from the archive in one form.

use clickhouse::Row;
use serde::Deserialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::model::{Body, Event};
use crate::store::{Admin, AdminError};

/// One event. Order: brand, customer, kind, event id, then the content.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Row, Deserialize)]
pub(super) struct Fact {
    pub brand: String,
    pub customer_id: String,
    /// 0 scan, 1 purchase, 2 share.
    pub rank: u8,
    pub event_id: String,
    pub time_ms: i64,
    /// Code, order or share.
    pub subject: String,
    /// Through which share, as sent.
    pub share_id: String,
    pub sharer_id: String,
    /// Purpose of a scan, kind of a purchase.
    pub kind: String,
    /// Of a scan; empty for others.
    pub role: String,
    pub amount: i64,
    pub campaign: String,
    pub sku: String,
    pub region: u32,
    pub channel: String,
    pub rewarded: u8,
}

impl Fact {
    pub fn of(event: &Event<'_>) -> Fact {
        let (share_id, sharer_id) = event.via.as_ref().map_or(("", ""), |via| (&*via.share_id, &*via.sharer_id));
        let mut fact = Fact {
            brand: event.brand.to_string(),
            customer_id: event.customer_id.to_string(),
            rank: event.kind() as u8,
            event_id: event.event_id.to_string(),
            time_ms: event.time_ms,
            subject: String::new(),
            share_id: share_id.to_owned(),
            sharer_id: sharer_id.to_owned(),
            kind: String::new(),
            role: String::new(),
            amount: 0,
            campaign: String::new(),
            sku: String::new(),
            region: 0,
            channel: String::new(),
            rewarded: 0,
        };
        match &event.body {
            Body::Scan(scan) => {
                (fact.subject, fact.kind, fact.role) = (scan.code.to_string(), scan.purpose.name().to_owned(), scan.role.name().to_owned());
                (fact.campaign, fact.sku, fact.channel) = (scan.campaign.to_string(), scan.sku.to_string(), scan.channel.to_string());
                fact.region = scan.region;
            }
            Body::Purchase(purchase) => {
                (fact.subject, fact.kind) = (purchase.order_id.to_string(), purchase.kind.name().to_owned());
                (fact.amount, fact.region) = (purchase.amount, purchase.region);
                (fact.campaign, fact.channel) = (purchase.campaign.to_string(), purchase.channel.to_string());
            }
            Body::Share(share) => {
                (fact.subject, fact.rewarded) = (share.share_id.to_string(), u8::from(share.rewarded));
                (fact.campaign, fact.sku, fact.channel) = (share.campaign.to_string(), share.sku.to_string(), share.channel.to_string());
                fact.region = share.region;
            }
        }
        fact
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
    pub fn is_same_event(&self, other: &Fact) -> bool {
        let identity =
            |fact: &'_ Fact| (fact.rank, fact.is_own(), fact.is_own() || (fact.time_ms == self.time_ms && fact.subject == self.subject));
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// How many rows the archive has, about: repeats that were not merged yet count too.
pub(super) async fn archived(admin: &Admin) -> Result<u64, AdminError> {
    let counts = ["scans", "purchases", "share_events"].map(|table| format!("SELECT count() FROM {table}"));
    let rows: Vec<u64> = admin.rows(&counts.join(" UNION ALL ")).await?;
    Ok(rows.iter().sum())
}

/// Every archived event of a part.
pub(super) async fn read_archive(admin: &Admin, part: Part) -> Result<Vec<(Fact, Seen)>, AdminError> {
    let common = "toString(a.brand) AS brand, customer_id";
    let place = "toString(a.campaign) AS campaign";
    let time = "event_id, toUnixTimestamp64Milli(event_time) AS time_ms";
    let condition = part.condition();
    let mut events = Vec::new();
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
        let rows: Vec<Fact> = admin.rows(&query).await?;
        events.extend(rows.into_iter().map(|fact| (fact, Seen::Archived)));
    }
    Ok(events)
}
