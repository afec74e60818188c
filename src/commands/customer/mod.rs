//! `onecode customer`: everything that the tables say of one customer.

mod show;

use std::io::Write;

use anyhow::{Context as _, bail};
use clickhouse::Row;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Verdict;
use super::table::plain;
use crate::config::Config;
use crate::store::{Admin, AdminError, literal};

/// Shown under `--help`.
pub const EXAMPLES: &str = "\
Examples:
  onecode customer oXy7 --config onecode.toml
  onecode customer oXy7 --config onecode.toml --brand acme --days 7 --events 50
  onecode customer oXy7 --config onecode.toml --json | jq '.[0].facts.paid'

Times are UTC, money is in minor units, days are business days of the brand. Measures are those of the last refresh of customer_segments;
`onecode tree` shows the whole tree. Exit code 1 when no brand knows the customer.";

/// Whom to show, and how much of it.
#[derive(Clone, Debug, clap::Args)]
pub struct CustomerArgs {
    /// The customer's id, as producers send it
    id: String,
    /// Only this brand [default: every brand that knows the id]
    #[arg(long)]
    brand: Option<String>,
    /// How many of the newest active days to show
    #[arg(long, value_name = "N", default_value_t = 30)]
    days: u32,
    /// How many of the newest events to show
    #[arg(long, value_name = "N", default_value_t = 20)]
    events: u32,
    /// How many of the most visited shares to show, and how many of the best customers brought
    #[arg(long, value_name = "N", default_value_t = 10)]
    shares: u32,
    /// Print JSON: an array with one object a brand
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Customer {
    facts: Facts,
    /// `customer_segments`; none before its first refresh, and for somebody who was only named as a sharer.
    measures: Option<Map<String, Value>>,
    tree: Vec<LevelFacts>,
    brought: Vec<BroughtFacts>,
    shares: Vec<ShareFacts>,
    days: Vec<DayFacts>,
    events: Vec<ArchivedEvent>,
}

/// `v_customers`; times are RFC 3339 text, none for never.
#[derive(Debug, Row, Serialize, Deserialize)]
struct Facts {
    brand: String,
    customer_id: String,
    first_event_time: Option<String>,
    first_event_id: String,
    last_event_time: Option<String>,
    last_scan_time: Option<String>,
    last_purchase_time: Option<String>,
    last_share_time: Option<String>,
    referrer_id: String,
    referral_share_id: String,
    scans: u64,
    verifies: u64,
    draws: u64,
    joins: u64,
    visits: u64,
    shares: u64,
    orders: u64,
    refunds: u64,
    paid: i64,
    refunded: i64,
    active_days: u32,
    referred_direct: u64,
    referred_total: u64,
    share_visits: u64,
    share_visitors: u64,
    share_orders: u64,
    share_paid: i64,
    share_refunded: i64,
    reshares: u64,
}

/// `v_customer_subtrees` of one level, over all months.
#[derive(Debug, Row, Serialize, Deserialize)]
struct LevelFacts {
    level: u8,
    customers: u64,
    orders: u64,
    paid: i64,
    refunded: i64,
}

/// One customer whom this one brought.
#[derive(Debug, Row, Serialize, Deserialize)]
struct BroughtFacts {
    customer_id: String,
    first_event_time: String,
    share_id: String,
    orders: u64,
    paid: i64,
    refunded: i64,
    referred_total: u64,
}

/// `v_shares`; the time is none when the share was visited, but its own event was never seen.
#[derive(Debug, Row, Serialize, Deserialize)]
struct ShareFacts {
    share_id: String,
    time: Option<String>,
    campaign: String,
    channel: String,
    visits: u64,
    visitors: u64,
    new_customers: u64,
    orders: u64,
    paid: i64,
    refunded: i64,
    reshares: u64,
}

/// `v_customer_days`.
#[derive(Debug, Row, Serialize, Deserialize)]
struct DayFacts {
    day: String,
    scans: u32,
    draws: u32,
    joins: u32,
    visits: u32,
    shares: u32,
    orders: u32,
    refunds: u32,
    paid: i64,
    refunded: i64,
}

/// One row of `v_scans`, `v_purchases` or `v_share_events`.
#[derive(Debug, Row, Serialize, Deserialize)]
struct ArchivedEvent {
    event_time: String,
    /// scan, payment, refund or share.
    kind: String,
    event_id: String,
    /// The code, the order or the share.
    subject: String,
    /// Purpose and role of a scan, currency of a purchase.
    detail: String,
    amount: i64,
    campaign: String,
    region: u32,
    channel: String,
    /// The share through which the customer came in.
    via_share_id: String,
    via_sharer_id: String,
}

/// Runs the command; what it finds goes to `out`.
///
/// # Errors
/// When ClickHouse cannot be asked, or does not know the customer.
pub async fn run(config: &Config, args: &CustomerArgs, out: &mut impl Write) -> anyhow::Result<Verdict> {
    let store = Admin::new(&config.clickhouse);
    let mut customers = Vec::new();
    for facts in facts(&store, args).await? {
        let measures = measures(&store, &facts.brand, args).await?;
        let tree = tree(&store, &facts.brand, args).await?;
        let brought = brought(&store, &facts.brand, args).await?;
        let shares = shares(&store, &facts.brand, args).await?;
        let days = days(&store, &facts.brand, args).await?;
        let events = events(&store, &facts.brand, args).await?;
        customers.push(Customer { facts, measures, tree, brought, shares, days, events });
    }
    if customers.is_empty() {
        let place = args.brand.as_ref().map_or_else(|| "any brand".to_owned(), |brand| format!("brand `{}`", plain(brand)));
        bail!("no customer `{}` in {place} of database `{}`: ids are compared byte by byte", plain(&args.id), store.database());
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&customers)?)?;
        return Ok(Verdict::Fine);
    }
    customers.iter().try_for_each(|customer| show::write_customer(out, customer))?;
    Ok(Verdict::Fine)
}

async fn facts(store: &Admin, args: &CustomerArgs) -> Result<Vec<Facts>, AdminError> {
    let brand = args.brand.as_ref().map_or_else(String::new, |brand| format!("c.brand = {} AND ", literal(brand)));
    let query = format!(
        "SELECT toString(c.brand) AS brand, customer_id, {}, first_event_id, {}, {}, {}, {}, referrer_id, referral_share_id,
            scans, verifies, draws, joins, visits, shares, orders, refunds, paid, refunded, active_days, referred_direct, referred_total,
            share_visits, share_visitors, share_orders, share_paid, share_refunded, reshares
         FROM v_customers AS c WHERE {brand}customer_id = {} ORDER BY brand",
        time_or_never("first_event_time"),
        time_or_never("last_event_time"),
        time_or_never("last_scan_time"),
        time_or_never("last_purchase_time"),
        time_or_never("last_share_time"),
        literal(&args.id),
    );
    store.rows(&query).await
}

/// As the table has them, whatever its columns: names and values of one row.
async fn measures(store: &Admin, brand: &str, args: &CustomerArgs) -> anyhow::Result<Option<Map<String, Value>>> {
    let query = format!(
        "SELECT formatRowNoNewline('JSONEachRow', *) AS measures FROM customer_segments WHERE brand = {} AND customer_id = {}
         SETTINGS output_format_json_quote_64bit_integers = 0",
        literal(brand),
        literal(&args.id),
    );
    let rows: Vec<String> = store.rows(&query).await?;
    let parsed = rows.first().map(|row| serde_json::from_str(row)).transpose();
    parsed.with_context(|| format!("cannot read the measures of customer `{}`", plain(&args.id)))
}

async fn tree(store: &Admin, brand: &str, args: &CustomerArgs) -> Result<Vec<LevelFacts>, AdminError> {
    let query = format!(
        "SELECT level, sum(t.customers) AS customers, sum(t.orders) AS orders, sum(t.paid) AS paid, sum(t.refunded) AS refunded
         FROM v_customer_subtrees AS t WHERE brand = {} AND customer_id = {} GROUP BY level
         HAVING customers != 0 OR orders != 0 OR paid != 0 OR refunded != 0 ORDER BY level",
        literal(brand),
        literal(&args.id),
    );
    store.rows(&query).await
}

async fn brought(store: &Admin, brand: &str, args: &CustomerArgs) -> Result<Vec<BroughtFacts>, AdminError> {
    let query = format!(
        "SELECT customer_id, {} AS first_event_time, referral_share_id AS share_id, orders, paid, refunded, referred_total
         FROM v_customers AS c WHERE brand = {} AND referrer_id = {} ORDER BY c.paid - c.refunded DESC, customer_id LIMIT {}",
        time("c.first_event_time"),
        literal(brand),
        literal(&args.id),
        args.shares,
    );
    store.rows(&query).await
}

async fn shares(store: &Admin, brand: &str, args: &CustomerArgs) -> Result<Vec<ShareFacts>, AdminError> {
    let query = format!(
        "SELECT share_id, if(toUnixTimestamp64Milli(s.time) = 0, NULL, {}) AS time, toString(s.campaign) AS campaign,
            toString(s.channel) AS channel, visits, visitors, new_customers, orders, paid, refunded, reshares
         FROM v_shares AS s WHERE brand = {} AND sharer_id = {} ORDER BY visits DESC, share_id LIMIT {}",
        time("s.time"),
        literal(brand),
        literal(&args.id),
        args.shares,
    );
    store.rows(&query).await
}

async fn days(store: &Admin, brand: &str, args: &CustomerArgs) -> Result<Vec<DayFacts>, AdminError> {
    let query = format!(
        "SELECT toString(d.day) AS day, scans, draws, joins, visits, shares, orders, refunds, paid, refunded
         FROM v_customer_days AS d WHERE brand = {} AND customer_id = {} ORDER BY d.day DESC LIMIT {}",
        literal(brand),
        literal(&args.id),
        args.days,
    );
    store.rows(&query).await
}

async fn events(store: &Admin, brand: &str, args: &CustomerArgs) -> Result<Vec<ArchivedEvent>, AdminError> {
    let common = "toString(e.campaign) AS campaign, region, toString(e.channel) AS channel";
    let whose = format!("brand = {} AND customer_id = {}", literal(brand), literal(&args.id));
    let newest = format!("ORDER BY time DESC, event_id DESC LIMIT {}", args.events);
    let scans = format!(
        "SELECT event_time AS time, 'scan' AS kind, event_id, code AS subject, concat(purpose, ' by ', role) AS detail, toInt64(0) AS amount,
            {common}, share_id AS via_share_id, sharer_id AS via_sharer_id FROM v_scans AS e WHERE {whose} {newest}"
    );
    let purchases = format!(
        "SELECT event_time AS time, toString(e.kind) AS kind, event_id, order_id AS subject, toString(currency) AS detail, amount,
            {common}, share_id AS via_share_id, sharer_id AS via_sharer_id FROM v_purchases AS e WHERE {whose} {newest}"
    );
    let shares = format!(
        "SELECT event_time AS time, 'share' AS kind, event_id, share_id AS subject, toString(sku) AS detail, toInt64(0) AS amount,
            {common}, parent_share_id AS via_share_id, parent_sharer_id AS via_sharer_id FROM v_share_events AS e WHERE {whose} {newest}"
    );
    let query = format!(
        "SELECT {} AS event_time, kind, event_id, subject, detail, amount, campaign, region, channel, via_share_id, via_sharer_id
         FROM (SELECT * FROM ({scans}) UNION ALL SELECT * FROM ({purchases}) UNION ALL SELECT * FROM ({shares})) {newest}",
        time("time"),
    );
    store.rows(&query).await
}

fn time(column: &str) -> String {
    format!("concat(replaceOne(toString({column}), ' ', 'T'), 'Z')")
}

/// A time of `v_customers AS c` as RFC 3339 text under its own name; NULL for never.
pub(super) fn time_or_never(column: &str) -> String {
    format!("if(toUnixTimestamp64Milli(c.{column}) = 0, NULL, {}) AS {column}", time(&format!("c.{column}")))
}
