//! What each serving table has to say, as SQL over the customers' own events: the rules, written down a second time.

use super::Scope;
use super::events::own_events;

/// A table that is recomputed.
#[derive(Clone, Copy, Debug)]
pub(super) struct AuditedTable {
    /// Name; readers see it as `v_<name>`.
    pub name: &'static str,
    /// Columns that name a row.
    pub keys: &'static [&'static str],
    /// Columns that are compared. The referral graph's are not recomputed yet, nor are the rows of those who were only named as sharers.
    pub columns: &'static [&'static str],
    /// A query with the keys, the columns, and `left_out`.
    pub expected: fn(&Scope) -> String,
    /// Which of the rows that readers see are compared, as a condition; empty = all.
    pub seen: fn(&Scope) -> String,
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
        ],
        expected: customers,
        seen: |_| "first_event_time > toDateTime64(0, 3, 'UTC')".to_owned(),
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
];

const CELL_COLUMNS: &[&str] = &["scans", "verifies", "draws", "visits", "shares", "orders", "refunds", "paid", "refunded", "new_customers"];
/// Counted in cells as they are in the events.
const CELL_SUMS: [&str; 9] = ["scans", "verifies", "draws", "visits", "shares", "orders", "refunds", "paid", "refunded"];
/// Which of a customer's events is the first.
const ORDER_OF_EVENTS: &str = "(event.event_time, event.event_id, event.rank)";

fn everything(_: &Scope) -> String {
    String::new()
}

fn first_minute(scope: &Scope) -> String {
    format!("toDateTime({}, 'UTC')", scope.first_minute)
}

fn sums(columns: &[&str]) -> String {
    columns.iter().map(|column| format!("sum(event.{column}) AS {column}")).collect::<Vec<_>>().join(", ")
}

fn customers(scope: &Scope) -> String {
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
        own_events(&columns, scope)
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
        own_events(&columns, scope)
    )
}

fn activity_minute(scope: &Scope) -> String {
    let dimensions = [("minute", "minute"), ("campaign", "campaign"), ("channel", "channel"), ("province", "region")];
    cells(scope, &dimensions, &format!("WHERE minute >= {}", first_minute(scope)))
}

fn activity_day(scope: &Scope) -> String {
    let dimensions = [("day", "day"), ("campaign", "campaign"), ("sku", "sku"), ("channel", "channel"), ("region", "region")];
    cells(scope, &dimensions, "")
}

/// Cells by dimensions (column of the events, column of the table). Every event counts in its own cell, and every customer as a new one
/// in the cell of the first event.
fn cells(scope: &Scope, dimensions: &[(&str, &str)], condition: &str) -> String {
    let sources: Vec<&str> = dimensions.iter().map(|(source, _)| *source).collect();
    let names: Vec<&str> = dimensions.iter().map(|(_, name)| *name).collect();
    let own_names: Vec<String> = dimensions.iter().map(|(source, name)| format!("event.{source} AS {name}")).collect();
    let firsts: Vec<String> = (1..).zip(&names).map(|(index, name)| format!("customer.first.{index} AS {name}")).collect();
    let cell_of_first: Vec<String> = sources.iter().map(|source| format!("event.{source}")).collect();
    let zeros: Vec<String> = CELL_SUMS.iter().map(|column| format!("0 AS {column}")).collect();
    let counted: Vec<String> = CELL_SUMS.iter().map(|column| format!("event.{column} AS {column}")).collect();
    let own = own_events(&[&["brand", "left_out"], sources.as_slice(), CELL_SUMS.as_slice()].concat(), scope);
    let of_customers =
        own_events(&[&["brand", "customer_id", "event_time", "event_id", "rank", "left_out"], sources.as_slice()].concat(), scope);
    let sums: Vec<String> = CELL_COLUMNS.iter().map(|column| format!("sum(counted.{column}) AS {column}")).collect();
    let keys = [&["brand"], names.as_slice()].concat().join(", ");
    format!(
        "SELECT {keys}, {sums}, max(counted.left_out) AS left_out FROM (\
           SELECT event.brand AS brand, {own_names}, {counted}, 0 AS new_customers, event.left_out AS left_out FROM ({own}) AS event \
           UNION ALL \
           SELECT customer.brand AS brand, {firsts}, {zeros}, 1 AS new_customers, customer.left_out AS left_out FROM (\
             SELECT event.brand AS brand, argMin(({cell_of_first}), {ORDER_OF_EVENTS}) AS first, max(event.left_out) AS left_out \
             FROM ({of_customers}) AS event GROUP BY event.brand, event.customer_id) AS customer\
         ) AS counted {condition} GROUP BY {keys}",
        sums = sums.join(", "),
        own_names = own_names.join(", "),
        counted = counted.join(", "),
        firsts = firsts.join(", "),
        zeros = zeros.join(", "),
        cell_of_first = cell_of_first.join(", "),
    )
}

fn active_customers_day(scope: &Scope) -> String {
    let own = own_events(&["brand", "customer_id", "day", "scans", "shares", "orders", "left_out"], scope);
    format!(
        "SELECT customer.brand AS brand, customer.day AS day, count() AS active, sum(customer.buys) AS buyers, sum(customer.scans) AS scanners, \
         sum(customer.shares) AS sharers, max(customer.left_out) AS left_out FROM (\
           SELECT event.brand AS brand, event.day AS day, max(event.orders) AS buys, max(event.scans) AS scans, max(event.shares) AS shares, \
           max(event.left_out) AS left_out FROM ({own}) AS event GROUP BY event.brand, event.customer_id, event.day) AS customer \
         GROUP BY customer.brand, customer.day"
    )
}
