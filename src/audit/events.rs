//! The customers' own events out of the three archives, as one relation.

use std::collections::BTreeSet;

use super::part::in_part;
use super::{Conflict, Scope};
use crate::store::literal;

/// Kinds of events by rank: the order between events of equal time and id.
pub(super) const KINDS: [&str; 3] = ["scan", "purchase", "share"];
/// Where they are archived, by rank.
const ARCHIVES: [&str; 3] = ["scans", "purchases", "share_events"];

/// Customers with conflicting events, by brand and id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conflicts(BTreeSet<(String, String)>);

impl Conflicts {
    pub fn of(conflicts: &[Conflict]) -> Self {
        Conflicts(conflicts.iter().map(|conflict| (conflict.brand.clone(), conflict.customer_id.clone())).collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many customers.
    pub fn customers(&self) -> usize {
        self.0.len()
    }

    /// Whether the customer of a row is one of them, as SQL.
    fn contain_sql(&self) -> String {
        if self.0.is_empty() {
            return "0".to_owned();
        }
        let customers: Vec<String> =
            self.0.iter().map(|(brand, customer)| format!("({}, {})", literal(brand), literal(customer))).collect();
        format!("(archive.brand, archive.customer_id) IN ({})", customers.join(", "))
    }
}

/// A query for the customers' own events (scans by consumers, payments, refunds, shares), each once, with these columns:
///
/// | column | is |
/// |---|---|
/// | `brand`, `customer_id`, `event_id`, `event_time`, `campaign`, `channel`, `region` | as archived |
/// | `rank` | 0 scan, 1 purchase, 2 share |
/// | `day`, `minute`, `province` | bucket of the time in the brand's calendar; start of the minute; region with four zeros |
/// | `sku` | '' for purchases |
/// | `scans`, `verifies`, `draws`, `joins`, `visits`, `shares`, `orders`, `refunds` | 1 if the event counts there, else 0 |
/// | `paid`, `refunded` | its money, or 0 |
/// | `month` | first day of the day's month |
/// | `is_first`, `is_of_brought` | 1 if it is its customer's first event; 1 if somebody brought its customer: by tables that have been found right, and with [`own_events_of_buckets`] alone |
/// | `via_sharer`, `via_share` | through whom and what it came; '' if through nothing, or the customer's own |
/// | `left_out` | 1 if its customer has conflicting events |
pub(super) fn own_events(columns: &[&str], scope: &Scope) -> String {
    of_all_kinds(columns, scope, "")
}

/// Those of them whose customers are of this pass.
pub(super) fn own_events_of_part(columns: &[&str], scope: &Scope) -> String {
    of_all_kinds(columns, scope, &format!(" AND {}", in_part(scope, "archive.brand", "archive.customer_id")))
}

/// Those of them whose minutes or days are of this pass.
pub(super) fn own_events_of_buckets(columns: &[&str], bucket: Bucket, scope: &Scope) -> String {
    let scope = Scope { bucket: Some(bucket), ..scope.clone() };
    of_all_kinds(columns, &scope, &format!(" AND {}", in_buckets_of_part("archive.brand", "archive.event_time", &scope)))
}

/// What a cell has of its events' times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bucket {
    Minute,
    Day,
}

impl Bucket {
    /// Its number in a row of cells.
    pub fn of_row(self, row: &str) -> String {
        match self {
            Bucket::Minute => format!("toUInt32({row}.minute)"),
            Bucket::Day => format!("toUInt16({row}.day)"),
        }
    }

    /// The same number, of a moment.
    fn of_time(self, brand: &str, time: &str, scope: &Scope) -> String {
        match self {
            Bucket::Minute => format!("toUInt32(toStartOfMinute({time}))"),
            Bucket::Day => format!("toUInt16({})", day(scope, brand, time)),
        }
    }
}

/// The condition that a moment is of a minute or day of this pass.
fn in_buckets_of_part(brand: &str, time: &str, scope: &Scope) -> String {
    scope.bucket.map_or_else(|| "1".to_owned(), |bucket| in_part(scope, brand, &bucket.of_time(brand, time, scope)))
}

/// Whether an event is its customer's first, by `v_customers`. An id may be that of a scan and of a purchase at the same moment: the scan is first then.
///
/// Sets are of hashes, and of what is fewer: as texts, or of all scans, they would be most of what a pass takes.
fn is_first(rank: usize, scope: &Scope) -> String {
    let identity = |row: &str, id: &str, time: &str| {
        format!("sipHash64(toString({row}.brand), {row}.customer_id, {row}.{id}, toUnixTimestamp64Milli({row}.{time}))")
    };
    let identities = |kind: usize, row: &str| {
        format!(
            "SELECT {} FROM {} AS {row} FINAL WHERE {} AND {}{}",
            identity(row, "event_id", "event_time"),
            ARCHIVES[kind],
            is_own(kind, row),
            in_buckets_of_part(&format!("{row}.brand"), &format!("{row}.event_time"), scope),
            among(scope, row)
        )
    };
    let own = identity("archive", "event_id", "event_time");
    let mut conditions = vec![format!(
        "{own} IN (SELECT {} FROM v_customers AS customer WHERE customer.first_event_time > toDateTime64(0, 3, 'UTC') AND {}{})",
        identity("customer", "first_event_id", "first_event_time"),
        in_buckets_of_part("customer.brand", "customer.first_event_time", scope),
        among(scope, "customer")
    )];
    for earlier in 0..rank {
        conditions.push(format!(
            "{own} NOT IN ({} AND {} IN ({}))",
            identities(earlier, "earlier"),
            identity("earlier", "event_id", "event_time"),
            identities(rank, "later")
        ));
    }
    format!("toUInt64({})", conditions.join(" AND "))
}

/// Whether somebody brought the customer of an event, by `v_referrals`.
fn is_of_brought(scope: &Scope) -> String {
    format!(
        "toUInt64(sipHash64(toString(archive.brand), archive.customer_id) IN (\
         SELECT sipHash64(toString(referral.brand), referral.child_id) FROM v_referrals AS referral WHERE referral.parent_id != ''{}))",
        among(scope, "referral")
    )
}

fn of_all_kinds(columns: &[&str], scope: &Scope, condition: &str) -> String {
    let kinds: Vec<String> =
        ARCHIVES.iter().enumerate().map(|(rank, table)| format!("{}{condition}", select(rank, table, columns, scope))).collect();
    kinds.join(" UNION ALL ")
}

/// The share events among them, which also have `made_share`, the share's id, and `rewarded`.
pub(super) fn share_events(columns: &[&str], scope: &Scope) -> String {
    select(2, "share_events", columns, scope)
}

fn select(rank: usize, table: &str, columns: &[&str], scope: &Scope) -> String {
    let fields: Vec<String> = columns.iter().map(|column| format!("{} AS {column}", field(column, rank, scope))).collect();
    format!("SELECT {} FROM {table} AS archive FINAL WHERE {}{}", fields.join(", "), is_own(rank, "archive"), among(scope, "archive"))
}

/// The condition that a row of an archive is a customer's own event.
fn is_own(rank: usize, row: &str) -> String {
    if rank == 0 { format!("{row}.role = 'consumer'") } else { "1".to_owned() }
}

/// The condition that a row of `relation` is one of those that are audited; begins with AND, empty for all.
pub(super) fn among(scope: &Scope, relation: &str) -> String {
    let mut condition = String::new();
    if let Some(brand) = &scope.brand {
        condition.push_str(&format!(" AND {relation}.brand = {}", literal(brand)));
    }
    if !scope.customers.is_empty() {
        let pairs: Vec<String> = scope.customers.iter().map(|(brand, id)| format!("({}, {})", literal(brand), literal(id))).collect();
        let ids: Vec<String> = scope.customers.iter().map(|(_, id)| literal(id)).collect();
        // The ids alone as well: an index knows them.
        condition.push_str(&format!(
            " AND {relation}.customer_id IN ({}) AND (toString({relation}.brand), {relation}.customer_id) IN ({})",
            ids.join(", "),
            pairs.join(", ")
        ));
    }
    condition
}

fn field(column: &str, rank: usize, scope: &Scope) -> String {
    let is_scan = rank == 0;
    let is_purchase = rank == 1;
    let flag = |is_kind: bool, condition: &str| if is_kind { format!("toUInt64({condition})") } else { "toUInt64(0)".to_owned() };
    let money = |kind: &str| if is_purchase { format!("if(archive.kind = '{kind}', archive.amount, 0)") } else { "toInt64(0)".to_owned() };
    match column {
        "rank" => format!("toUInt8({rank})"),
        "day" => day(scope, "archive.brand", "archive.event_time"),
        "month" => month(scope, "archive.brand", "archive.event_time"),
        "minute" => "toStartOfMinute(archive.event_time)".to_owned(),
        "province" => "archive.region - archive.region % 10000".to_owned(),
        "sku" if is_purchase => "''".to_owned(),
        "sku" => "toString(archive.sku)".to_owned(),
        "scans" => flag(is_scan, "1"),
        "verifies" => flag(is_scan, "archive.purpose = 'verify'"),
        "draws" => flag(is_scan, "archive.purpose = 'draw'"),
        "joins" => flag(is_scan, "archive.purpose IN ('follow', 'points')"),
        "visits" => flag(is_scan, "archive.share_id != '' AND archive.sharer_id != archive.customer_id"),
        "shares" => flag(rank == 2, "1"),
        "orders" => flag(is_purchase, "archive.kind = 'payment'"),
        "refunds" => flag(is_purchase, "archive.kind = 'refund'"),
        "paid" => money("payment"),
        "refunded" => money("refund"),
        "is_first" => is_first(rank, scope),
        "is_of_brought" => is_of_brought(scope),
        "via_sharer" | "via_share" => {
            let prefix = if rank == 2 { "parent_" } else { "" };
            let name = column.trim_start_matches("via_");
            format!("if(archive.{prefix}sharer_id = archive.customer_id, '', archive.{prefix}{name}_id)")
        }
        "made_share" => "archive.share_id".to_owned(),
        "left_out" => format!("toUInt8({})", scope.conflicts.contain_sql()),
        "campaign" | "channel" | "brand" => format!("toString(archive.{column})"),
        archived => format!("archive.{archived}"),
    }
}

/// First day of the month of a moment in its brand's calendar.
pub(super) fn month(scope: &Scope, brand: &str, time: &str) -> String {
    format!("toStartOfMonth({})", day(scope, brand, time))
}

/// Day of a moment in its brand's calendar.
fn day(scope: &Scope, brand: &str, time: &str) -> String {
    const MS_PER_MINUTE: i64 = 60_000;
    let default_ms = i64::from(scope.calendar.default_zone().offset_minutes()) * MS_PER_MINUTE;
    let mut offset = default_ms.to_string();
    let own: Vec<_> = scope.calendar.brands().collect();
    if !own.is_empty() {
        let brands: Vec<String> = own.iter().map(|(brand, _)| literal(brand)).collect();
        let offsets: Vec<String> =
            own.iter().map(|(_, zone)| format!("toInt64({})", i64::from(zone.offset_minutes()) * MS_PER_MINUTE)).collect();
        offset = format!("transform(toString({brand}), [{}], [{}], toInt64({default_ms}))", brands.join(", "), offsets.join(", "));
    }
    format!("toDate(toUInt16(greatest(0, least(65535, intDiv(toUnixTimestamp64Milli({time}) + {offset}, 86400000)))))")
}
