//! Serving rows as they are stored, with their versions.

use clickhouse::Row;
use serde::Deserialize;

use super::cells::{CellKey, CellTable, Cells, SUMS, Sums};
use super::facts::{Part, Who};
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
    /// Those that the table has.
    pub sums: Sums,
    pub version: u64,
}

/// A row of `customer_days`.
#[derive(Debug, Row, Deserialize)]
pub(super) struct DayRow {
    pub brand: String,
    pub customer_id: String,
    pub day: u32,
    /// Those that the table has.
    pub sums: Sums,
    pub version: u64,
}

impl CustomerRow {
    pub fn who(&self) -> Who<'_> {
        (&self.brand, &self.customer_id)
    }
}

impl DayRow {
    pub fn who(&self) -> Who<'_> {
        (&self.brand, &self.customer_id)
    }
}

#[derive(Row, Deserialize)]
struct CellRow<'a> {
    brand: &'a str,
    bucket: u32,
    campaign: &'a str,
    sku: &'a str,
    channel: &'a str,
    region: u32,
    sums: Sums,
}

/// The serving rows of customers, in no order.
#[derive(Debug, Default)]
pub(super) struct Serving {
    pub customers: Vec<CustomerRow>,
    pub days: Vec<DayRow>,
}

/// The sums of [`SUMS`] as a tuple; what a table does not have is 0. Over all rows of a key if they are added up.
fn sums(has: &[&str], renamed: &[(&str, &str)], are_added: bool) -> String {
    let columns = SUMS.map(|name| {
        let renamed = renamed.iter().find(|(sum, _)| *sum == name).map(|(_, column)| *column);
        match renamed.or_else(|| has.contains(&name).then_some(name)) {
            Some(column) if are_added => format!("sum(toInt64(t.{column}))"),
            Some(column) => format!("toInt64(t.{column})"),
            None => "toInt64(0)".to_owned(),
        }
    });
    format!("tuple({})", columns.join(", "))
}

/// What every table of a customer has.
pub(super) const DAY_SUMS: [&str; 9] = ["scans", "draws", "joins", "visits", "shares", "orders", "refunds", "paid", "refunded"];
/// What cells have, but for `referred_customers`, which depends on others' events.
pub(super) const CELL_SUMS: [&str; 10] =
    ["scans", "verifies", "draws", "visits", "shares", "orders", "refunds", "paid", "refunded", "new_customers"];

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
                sums(&has, &[("active", "active_days")], false),
                part.condition()
            ))
            .await?;
        let days: Vec<DayRow> = admin
            .rows(&format!(
                "SELECT toString(t.brand) AS brand, customer_id, toUInt32(toUInt16(t.day)) AS day, {} AS sums, version \
                 FROM customer_days AS t FINAL WHERE {}",
                sums(&DAY_SUMS, &[], false),
                part.condition()
            ))
            .await?;
        Ok(Serving { customers, days })
    }
}

/// Adds the serving rows of cells, summed over tasks.
pub(super) async fn read_cells(admin: &Admin, config: &Config, cells: &mut Cells) -> Result<(), AdminError> {
    let hours = (config.clickhouse.minute_retention_days * 24).saturating_sub(EXPIRY_MARGIN_HOURS);
    cells.first_minute = admin.row(&format!("SELECT toUnixTimestamp(toStartOfMinute(now() - toIntervalHour({hours})))")).await?;
    let of_days = [("scans", "scanners"), ("shares", "sharers"), ("orders", "buyers"), ("active", "active")];
    let (day, text) = ("toUInt32(toUInt16(t.day))", |column: &str| format!("toString(t.{column})"));
    let (campaign, sku, channel, region) = (text("campaign"), text("sku"), text("channel"), "toUInt32(t.region)");
    let (no_text, no_number) = ("''", "toUInt32(0)");
    let of_minute = ["toUInt32(toUnixTimestamp(t.minute))", &campaign, no_text, &channel, region];
    let of_cell = sums(&CELL_SUMS, &[], true);
    for (table, [bucket, campaign, sku, channel, region], sums, condition) in [
        (CellTable::Minute, of_minute, &of_cell, format!("t.minute >= toDateTime({}, 'UTC')", cells.first_minute)),
        (CellTable::Day, [day, &campaign, &sku, &channel, region], &of_cell, "1".to_owned()),
        (CellTable::ActiveDay, [day, no_text, no_text, no_text, no_number], &sums(&[], &of_days, true), "1".to_owned()),
    ] {
        let query = format!(
            "SELECT toString(t.brand) AS brand, {bucket} AS bucket, {campaign} AS campaign, {sku} AS sku, {channel} AS channel, {region} AS region, \
             {sums} AS sums FROM {} AS t FINAL WHERE {condition} GROUP BY brand, bucket, campaign, sku, channel, region",
            table.name()
        );
        let see = |row: CellRow<'_>| {
            let CellRow { brand, bucket, campaign, sku, channel, region, sums } = row;
            cells.see(&CellKey { table, brand, bucket, campaign, sku, channel, region }, &sums);
            Ok(())
        };
        admin.each::<CellRow<'_>, AdminError>(&query, see).await?;
    }
    Ok(())
}

/// Events before this have left the archive, or are about to: Unix milliseconds; 0 = it is kept for ever.
pub(super) async fn archive_begins_ms(admin: &Admin, config: &Config) -> Result<i64, AdminError> {
    let Some(days) = config.clickhouse.archive_retention_days else { return Ok(0) };
    let hours = (days * 24).saturating_sub(EXPIRY_MARGIN_HOURS);
    admin.row(&format!("SELECT toInt64(toUnixTimestamp(now() - toIntervalHour({hours}))) * 1000")).await
}
