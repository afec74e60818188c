//! What each serving table has to say, as SQL over the customers' own events: the rules, written down a second time.

use super::Scope;
use super::events::{Bucket, among, own_events, own_events_of_buckets, own_events_of_part};
use super::graph;
use super::part::in_part;

/// A table that is recomputed.
#[derive(Clone, Copy, Debug)]
pub(super) struct AuditedTable {
    /// Name; readers see it as `v_<name>`.
    pub name: &'static str,
    /// Columns that name a row.
    pub keys: &'static [&'static str],
    /// Columns that are compared.
    pub columns: &'static [&'static str],
    /// A query with the keys, the columns, and `left_out`.
    pub expected: fn(&Scope) -> String,
    /// Which of the rows that readers see are compared, as a condition; empty = all.
    pub seen: fn(&Scope) -> String,
}

impl AuditedTable {
    /// The condition that a row is recomputed in this pass: by the customer whose row it is, or, of cells, by their minute or day.
    pub fn in_part(&self, scope: &Scope) -> String {
        let owner = self.keys.iter().find(|key| ["customer_id", "child_id", "sharer_id"].contains(key));
        let bucket = if self.keys.contains(&"minute") { Bucket::Minute } else { Bucket::Day };
        in_part(scope, "row.brand", &owner.map_or_else(|| bucket.of_row("row"), |owner| format!("row.{owner}")))
    }

    /// Whether its rows can be recomputed in parts: what leads to anybody has to be known as right already.
    pub fn goes_in_parts(&self, scope: &Scope) -> bool {
        scope.conflicts.is_empty()
            && match self.name {
                super::REFERRALS | "customer_days" | "active_customers_day" => true,
                super::CUSTOMERS => scope.subtrees_are_right,
                "activity_minute" | "activity_day" => scope.referrals_are_right && scope.customers_are_right,
                _ => scope.referrals_are_right,
            }
    }

    /// Whether its rows are recomputed from its own rows of the level below.
    pub fn goes_by_levels(&self, scope: &Scope) -> bool {
        self.keys.contains(&"level") && graph::by_levels(scope)
    }
}

/// All of them.
pub(super) const ALL: &[AuditedTable] = &[
    AuditedTable {
        name: "customers",
        keys: &["brand", "customer_id"],
        columns: &[
            "first_event_time",
            "first_event_id",
            "last_event_time",
            "last_scan_time",
            "last_purchase_time",
            "last_share_time",
            "scans",
            "verifies",
            "draws",
            "joins",
            "visits",
            "shares",
            "orders",
            "refunds",
            "paid",
            "refunded",
            "active_days",
            "referrer_id",
            "referral_share_id",
            "referred_direct",
            "referred_total",
            "share_visits",
            "share_visitors",
            "share_orders",
            "share_paid",
            "share_refunded",
            "reshares",
        ],
        expected: customers,
        seen: everything,
    },
    AuditedTable {
        name: "customer_days",
        keys: &["brand", "customer_id", "day"],
        columns: &["scans", "draws", "joins", "visits", "shares", "orders", "refunds", "paid", "refunded"],
        expected: customer_days,
        seen: everything,
    },
    AuditedTable {
        name: "activity_minute",
        keys: &["brand", "minute", "campaign", "channel", "region"],
        columns: CELL_COLUMNS,
        expected: activity_minute,
        seen: |scope| format!("minute >= {}", first_minute(scope)),
    },
    AuditedTable {
        name: "activity_day",
        keys: &["brand", "day", "campaign", "sku", "channel", "region"],
        columns: CELL_COLUMNS,
        expected: activity_day,
        seen: everything,
    },
    AuditedTable {
        name: "active_customers_day",
        keys: &["brand", "day"],
        columns: &["active", "buyers", "scanners", "sharers"],
        expected: active_customers_day,
        seen: everything,
    },
    AuditedTable {
        name: "referrals",
        keys: &["brand", "child_id"],
        columns: &["parent_id", "share_id", "time"],
        expected: graph::referrals,
        seen: everything,
    },
    AuditedTable {
        name: "customer_subtrees",
        keys: &["brand", "customer_id", "level", "month"],
        columns: &["customers", "orders", "paid", "refunded"],
        expected: graph::customer_subtrees,
        seen: |_| graph::is_not_zero("customers, orders, paid, refunded"),
    },
    AuditedTable {
        name: "shares",
        keys: &["brand", "sharer_id", "share_id"],
        columns: &[
            "parent_share_id",
            "parent_sharer_id",
            "time",
            "campaign",
            "sku",
            "channel",
            "region",
            "rewarded",
            "visits",
            "visitors",
            "new_customers",
            "orders",
            "paid",
            "refunded",
            "reshares",
        ],
        expected: graph::shares,
        seen: everything,
    },
    AuditedTable {
        name: "share_cascades",
        keys: &["brand", "sharer_id", "share_id", "level"],
        columns: &["shares", "visits", "new_customers", "orders", "paid", "refunded"],
        expected: graph::share_cascades,
        seen: |_| graph::is_not_zero("shares, visits, new_customers, orders, paid, refunded"),
    },
];

/// What depends on a single customer's events alone, to be recounted for a few of them.
pub(super) const OF_ONE_CUSTOMER: &[AuditedTable] = &[
    AuditedTable {
        name: "customers",
        keys: &["brand", "customer_id"],
        columns: &[
            "first_event_time",
            "first_event_id",
            "last_event_time",
            "last_scan_time",
            "last_purchase_time",
            "last_share_time",
            "scans",
            "verifies",
            "draws",
            "joins",
            "visits",
            "shares",
            "orders",
            "refunds",
            "paid",
            "refunded",
            "active_days",
        ],
        expected: own_customers,
        seen: |scope| format!("first_event_time > toDateTime64(0, 3, 'UTC'){}", among(scope, "v_customers")),
    },
    AuditedTable {
        name: "customer_days",
        keys: &["brand", "customer_id", "day"],
        columns: &["scans", "draws", "joins", "visits", "shares", "orders", "refunds", "paid", "refunded"],
        expected: customer_days,
        seen: |scope| format!("1{}", among(scope, "v_customer_days")),
    },
];

const CELL_COLUMNS: &[&str] =
    &["scans", "verifies", "draws", "visits", "shares", "orders", "refunds", "paid", "refunded", "new_customers", "referred_customers"];
/// Counted in cells as they are in the events.
const CELL_SUMS: [&str; 9] = ["scans", "verifies", "draws", "visits", "shares", "orders", "refunds", "paid", "refunded"];
/// Which of a customer's events is the first.
pub(super) const ORDER_OF_EVENTS: &str = "(event.event_time, event.event_id, event.rank)";

fn everything(_: &Scope) -> String {
    String::new()
}

fn first_minute(scope: &Scope) -> String {
    format!("toDateTime({}, 'UTC')", scope.first_minute)
}

fn sums(columns: &[&str]) -> String {
    columns.iter().map(|column| format!("sum(event.{column}) AS {column}")).collect::<Vec<_>>().join(", ")
}

/// The graph's columns for everybody, and the own events of those who have any.
fn customers(scope: &Scope) -> String {
    format!(
        "SELECT own.* EXCEPT (brand, customer_id, left_out), graph.* FROM ({}) AS graph \
         LEFT JOIN ({}) AS own ON own.brand = graph.brand AND own.customer_id = graph.customer_id",
        graph::customer_columns(scope),
        own_customers(scope)
    )
}

/// What customers' own events say of them.
fn own_customers(scope: &Scope) -> String {
    let counted = ["scans", "verifies", "draws", "joins", "visits", "shares", "orders", "refunds", "paid", "refunded"];
    let mut columns = vec!["brand", "customer_id", "event_id", "event_time", "rank", "day", "left_out"];
    columns.extend(counted);
    format!(
        "SELECT event.brand AS brand, event.customer_id AS customer_id, min(event.event_time) AS first_event_time, \
         argMin(event.event_id, {ORDER_OF_EVENTS}) AS first_event_id, max(event.event_time) AS last_event_time, \
         maxIf(event.event_time, event.scans = 1) AS last_scan_time, maxIf(event.event_time, event.orders = 1) AS last_purchase_time, \
         maxIf(event.event_time, event.shares = 1) AS last_share_time, {}, uniqExact(event.day) AS active_days, max(event.left_out) AS left_out \
         FROM ({}) AS event GROUP BY event.brand, event.customer_id",
        sums(&counted),
        own_events_of_part(&columns, scope)
    )
}

fn customer_days(scope: &Scope) -> String {
    let counted = ["scans", "draws", "joins", "visits", "shares", "orders", "refunds", "paid", "refunded"];
    let mut columns = vec!["brand", "customer_id", "day", "left_out"];
    columns.extend(counted);
    format!(
        "SELECT event.brand AS brand, event.customer_id AS customer_id, event.day AS day, {}, max(event.left_out) AS left_out \
         FROM ({}) AS event GROUP BY event.brand, event.customer_id, event.day",
        sums(&counted),
        own_events_of_part(&columns, scope)
    )
}

fn activity_minute(scope: &Scope) -> String {
    let dimensions = [("minute", "minute"), ("campaign", "campaign"), ("channel", "channel"), ("province", "region")];
    cells(scope, Bucket::Minute, &dimensions, &format!("WHERE minute >= {}", first_minute(scope)))
}

fn activity_day(scope: &Scope) -> String {
    let dimensions = [("day", "day"), ("campaign", "campaign"), ("sku", "sku"), ("channel", "channel"), ("region", "region")];
    cells(scope, Bucket::Day, &dimensions, "")
}

/// Cells by dimensions (column of the events, column of the table). Every event counts in its own cell, and every customer as a new one
/// in the cell of the first event, and as a referred one if somebody brought them.
fn cells(scope: &Scope, bucket: Bucket, dimensions: &[(&str, &str)], condition: &str) -> String {
    let names: Vec<&str> = dimensions.iter().map(|(_, name)| *name).collect();
    let sums: Vec<String> = CELL_COLUMNS.iter().map(|column| format!("sum(counted.{column}) AS {column}")).collect();
    let keys = [&["brand"], names.as_slice()].concat().join(", ");
    let counted = if scope.part.is_some() { counted_by_bucket(scope, bucket, dimensions) } else { counted_by_customer(scope, dimensions) };
    format!("SELECT {keys}, {}, max(counted.left_out) AS left_out FROM ({counted}) AS counted {condition} GROUP BY {keys}", sums.join(", "))
}

/// What counts in which cell, out of the archive alone: who is new is found among all events of each customer.
fn counted_by_customer(scope: &Scope, dimensions: &[(&str, &str)]) -> String {
    let sources: Vec<&str> = dimensions.iter().map(|(source, _)| *source).collect();
    let own_names: Vec<String> = dimensions.iter().map(|(source, name)| format!("event.{source} AS {name}")).collect();
    let firsts: Vec<String> = (1..).zip(dimensions).map(|(index, (_, name))| format!("newcomer.first.{index} AS {name}")).collect();
    let zeros: Vec<String> = CELL_SUMS.iter().map(|column| format!("0 AS {column}")).collect();
    let counted: Vec<String> = CELL_SUMS.iter().map(|column| format!("event.{column} AS {column}")).collect();
    let own = own_events(&[&["brand", "left_out"], sources.as_slice(), CELL_SUMS.as_slice()].concat(), scope);
    format!(
        "SELECT event.brand AS brand, {own_names}, {counted}, 0 AS new_customers, 0 AS referred_customers, event.left_out AS left_out \
         FROM ({own}) AS event UNION ALL \
         SELECT newcomer.brand AS brand, {firsts}, {zeros}, 1 AS new_customers, newcomer.is_brought AS referred_customers, \
         newcomer.left_out AS left_out FROM ({newcomers}) AS newcomer",
        own_names = own_names.join(", "),
        counted = counted.join(", "),
        firsts = firsts.join(", "),
        zeros = zeros.join(", "),
        newcomers = graph::newcomers(&sources, scope),
    )
}

/// What counts in which cell of the minutes or days of this pass. A customer's events are in several: who is new, and brought, is read from
/// `v_customers` and `v_referrals`, which have been found right.
fn counted_by_bucket(scope: &Scope, bucket: Bucket, dimensions: &[(&str, &str)]) -> String {
    let sources: Vec<&str> = dimensions.iter().map(|(source, _)| *source).collect();
    let names: Vec<String> = dimensions.iter().map(|(source, name)| format!("event.{source} AS {name}")).collect();
    let counted: Vec<String> = CELL_SUMS.iter().map(|column| format!("event.{column} AS {column}")).collect();
    let columns = [&["brand", "left_out", "is_first", "is_of_brought"], sources.as_slice(), CELL_SUMS.as_slice()].concat();
    format!(
        "SELECT event.brand AS brand, {}, {}, event.is_first AS new_customers, event.is_first * event.is_of_brought AS referred_customers, \
         event.left_out AS left_out FROM ({}) AS event",
        names.join(", "),
        counted.join(", "),
        own_events_of_buckets(&columns, bucket, scope)
    )
}

fn active_customers_day(scope: &Scope) -> String {
    let own = own_events_of_buckets(&["brand", "customer_id", "day", "scans", "shares", "orders", "left_out"], Bucket::Day, scope);
    format!(
        "SELECT customer.brand AS brand, customer.day AS day, count() AS active, sum(customer.buys) AS buyers, sum(customer.scans) AS scanners, \
         sum(customer.shares) AS sharers, max(customer.left_out) AS left_out FROM (\
           SELECT event.brand AS brand, event.day AS day, max(event.orders) AS buys, max(event.scans) AS scans, max(event.shares) AS shares, \
           max(event.left_out) AS left_out FROM ({own}) AS event GROUP BY event.brand, event.customer_id, event.day) AS customer \
         GROUP BY customer.brand, customer.day"
    )
}
