//! Serving rows as they are stored, with their versions.

use std::collections::BTreeMap;

use clickhouse::Row;
use serde::Deserialize;

use super::facts::Part;
use super::snapshot::{CellKey, Sums, Who};
use crate::config::Config;
use crate::store::{Admin, AdminError};

/// Rows so close to the end of their retention are not compared: they may pass it meanwhile.
const EXPIRY_MARGIN_HOURS: u32 = 6;

/// A row of `customers` without what others did.
#[derive(Debug, Row, Deserialize)]
pub(super) struct CustomerRow {
    pub brand: String,
    pub customer_id: String,
    pub first_ms: i64,
    pub first_event_id: String,
    pub last_ms: i64,
    pub last_scan_ms: i64,
    pub last_purchase_ms: i64,
    pub last_share_ms: i64,
    pub sums: Vec<i64>,
    pub version: u64,
}

#[derive(Debug, Row, Deserialize)]
struct DayRow {
    brand: String,
    customer_id: String,
    day: u32,
    sums: Vec<i64>,
    version: u64,
}

#[derive(Debug, Row, Deserialize)]
struct CellRow {
    key: Vec<String>,
    sums: Vec<i64>,
}

/// The serving rows of customers.
#[derive(Debug, Default)]
pub(super) struct Serving {
    pub customers: BTreeMap<Who, CustomerRow>,
    /// By day: sums (those that the table has) and version.
    pub days: BTreeMap<(Who, u32), (Sums, u64)>,
}

/// The serving rows of cells, summed over tasks.
#[derive(Debug, Default)]
pub(super) struct Cells {
    pub sums: BTreeMap<CellKey, Sums>,
    /// Minutes before this are on their way out, Unix seconds.
    pub first_minute: u32,
}

/// The sums of `snapshot::SUMS` as an array; what a table does not have is 0.
fn sums(has: &[&str], renamed: &[(&str, &str)]) -> String {
    let columns = super::snapshot::SUMS.map(|name| {
        let renamed = renamed.iter().find(|(sum, _)| *sum == name).map(|(_, column)| *column);
        match renamed.or_else(|| has.contains(&name).then_some(name)) {
            Some(column) => format!("toInt64(t.{column})"),
            None => "toInt64(0)".to_owned(),
        }
    });
    format!("[{}]", columns.join(", "))
}

/// What every table of a customer has.
pub(super) const DAY_SUMS: [&str; 9] = ["scans", "draws", "joins", "visits", "shares", "orders", "refunds", "paid", "refunded"];
/// What cells have, but for `referred_customers`, which depends on others' events.
pub(super) const CELL_SUMS: [&str; 10] =
    ["scans", "verifies", "draws", "visits", "shares", "orders", "refunds", "paid", "refunded", "new_customers"];

fn fixed(sums: &[i64]) -> Sums {
    let mut fixed = Sums::default();
    fixed.iter_mut().zip(sums).for_each(|(fixed, sum)| *fixed = *sum);
    fixed
}

impl Serving {
    pub async fn read(admin: &Admin, part: Part) -> Result<Serving, AdminError> {
        let has = [DAY_SUMS.as_slice(), &["verifies"]].concat();
        let ms = |column: &str, name: &str| format!("toUnixTimestamp64Milli({column}) AS {name}");
        let customers: Vec<CustomerRow> = admin
            .rows(&format!(
                "SELECT toString(t.brand) AS brand, customer_id, {}, first_event_id, {}, {}, {}, {}, {} AS sums, version \
                 FROM customers AS t FINAL WHERE {}",
                ms("first_event_time", "first_ms"),
                ms("last_event_time", "last_ms"),
                ms("last_scan_time", "last_scan_ms"),
                ms("last_purchase_time", "last_purchase_ms"),
                ms("last_share_time", "last_share_ms"),
                sums(&has, &[("active", "active_days")]),
                part.condition()
            ))
            .await?;
        let days: Vec<DayRow> = admin
            .rows(&format!(
                "SELECT toString(t.brand) AS brand, customer_id, toUInt32(toUInt16(t.day)) AS day, {} AS sums, version \
                 FROM customer_days AS t FINAL WHERE {}",
                sums(&DAY_SUMS, &[]),
                part.condition()
            ))
            .await?;
        Ok(Serving {
            customers: customers.into_iter().map(|row| ((row.brand.clone(), row.customer_id.clone()), row)).collect(),
            days: days.into_iter().map(|row| (((row.brand, row.customer_id), row.day), (fixed(&row.sums), row.version))).collect(),
        })
    }
}

impl Cells {
    pub async fn read(admin: &Admin, config: &Config) -> Result<Cells, AdminError> {
        let hours = (config.clickhouse.minute_retention_days * 24).saturating_sub(EXPIRY_MARGIN_HOURS);
        let first_minute: u32 = admin.row(&format!("SELECT toUnixTimestamp(toStartOfMinute(now() - toIntervalHour({hours})))")).await?;
        let mut cells = Cells { first_minute, ..Cells::default() };
        let text = |columns: &[&str]| columns.iter().map(|column| format!("toString({column})")).collect::<Vec<_>>().join(", ");
        let minute = text(&["t.brand", "toUnixTimestamp(t.minute)", "t.campaign", "t.channel", "t.region"]);
        let day = text(&["t.brand", "toUInt16(t.day)", "t.campaign", "t.sku", "t.channel", "t.region"]);
        let active = text(&["t.brand", "toUInt16(t.day)"]);
        let of_days = [("scans", "scanners"), ("shares", "sharers"), ("orders", "buyers"), ("active", "active")];
        for (table, key, sums, condition) in [
            ("activity_minute", minute, sums(&CELL_SUMS, &[]), format!("t.minute >= toDateTime({first_minute}, 'UTC')")),
            ("activity_day", day, sums(&CELL_SUMS, &[]), "1".to_owned()),
            ("active_customers_day", active, sums(&[], &of_days), "1".to_owned()),
        ] {
            let query = format!("SELECT [{key}] AS key, sumForEach({sums}) AS sums FROM {table} AS t FINAL WHERE {condition} GROUP BY key");
            let rows: Vec<CellRow> = admin.rows(&query).await?;
            cells.sums.extend(rows.into_iter().map(|row| ((table, row.key), fixed(&row.sums))));
        }
        Ok(cells)
    }
}

/// Events before this have left the archive, or are about to: Unix milliseconds; 0 = it is kept for ever.
pub(super) async fn archive_begins_ms(admin: &Admin, config: &Config) -> Result<i64, AdminError> {
    let Some(days) = config.clickhouse.archive_retention_days else { return Ok(0) };
    let hours = (days * 24).saturating_sub(EXPIRY_MARGIN_HOURS);
    admin.row(&format!("SELECT toInt64(toUnixTimestamp(now() - toIntervalHour({hours}))) * 1000")).await
}
