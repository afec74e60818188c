//! Expected rows against those that readers see.

use clickhouse::Row;
use serde::Deserialize;

use super::part::Part;
use super::report::{ColumnDifference, RowDifference, TableReport};
use super::tables::AuditedTable;
use super::{AuditError, Scope};
use crate::migrate::schema;
use crate::store::{Admin, AdminError, literal};

#[derive(Row, Deserialize)]
struct Totals {
    rows: u64,
    rows_left_out: u64,
    differences: u64,
}

#[derive(Row, Deserialize)]
struct Pair {
    key: Vec<String>,
    expected_rows: u64,
    seen_rows: u64,
    expected: Vec<String>,
    seen: Vec<String>,
}

/// Compares one table in as many passes as it is asked for and can be recomputed in. What its own levels find wrong is climbed anew: a wrong level makes the
/// next one expect what is wrong too.
pub(super) async fn compare_in_passes(
    admin: &Admin,
    table: &AuditedTable,
    scope: &Scope,
    listed: usize,
    passes: u64,
) -> Result<TableReport, AuditError> {
    let parts = if table.goes_in_parts(scope) { passes } else { 1 };
    let mut report = TableReport { table: table.name, rows: 0, left_out: 0, differences: 0, listed: Vec::new() };
    for number in 0..parts {
        let part = (parts > 1).then_some(Part { number, of: parts });
        let found = compare(admin, table, &Scope { part, ..scope.clone() }, listed).await?;
        report.rows += found.rows;
        report.left_out += found.left_out;
        report.differences += found.differences;
        report.listed.extend(found.listed);
    }
    if report.differences > 0 && table.goes_by_levels(scope) {
        match compare(admin, table, &Scope { climbs: true, ..scope.clone() }, listed).await {
            // Too large to be climbed whole: what its own levels say is a verdict, if not the exact values.
            Err(AuditError::ClickHouse(AdminError::Memory { .. })) => {}
            climbed => return climbed,
        }
    }
    if parts > 1 {
        report.listed.sort_by(|one, other| one.key().cmp(other.key()));
        report.listed.truncate(listed);
    }
    Ok(report)
}

/// Compares one table. What the server refuses for want of memory is asked once more of a single thread: each has its own hash tables and buffers of the
/// disk, and together they may be most of what a query takes.
pub(super) async fn compare(admin: &Admin, table: &AuditedTable, scope: &Scope, listed: usize) -> Result<TableReport, AuditError> {
    match compare_by(admin, table, scope, listed).await {
        Err(AuditError::ClickHouse(AdminError::Memory { .. })) => {
            compare_by(&admin.clone().with_setting("max_threads", 1), table, scope, listed).await
        }
        outcome => outcome,
    }
}

/// First by hashes, then, if something differs, the values of the first differences by key.
async fn compare_by(admin: &Admin, table: &AuditedTable, scope: &Scope, listed: usize) -> Result<TableReport, AuditError> {
    let keys = table.keys.join(", ");
    let paired = pairs(table, scope, "sipHash64", "");
    let totals: Totals =
        admin
            .row(&format!(
                "SELECT countIf(left_out = 0) AS rows, countIf(left_out = 1) AS rows_left_out, countIf(differs AND left_out = 0) AS differences FROM ({paired})"
            ))
            .await?;
    let mut report = TableReport {
        table: table.name,
        rows: totals.rows,
        left_out: totals.rows_left_out,
        differences: totals.differences,
        listed: Vec::new(),
    };
    if totals.differences > 0 && listed > 0 {
        let first = format!("SELECT {keys} FROM ({paired}) WHERE left_out = 0 AND differs ORDER BY {keys} LIMIT {listed}");
        let texts: Vec<String> = table.keys.iter().map(|key| format!("toString({key})")).collect();
        let query = format!(
            "SELECT [{}] AS key, expected_rows, seen_rows, expected, seen FROM ({}) ORDER BY {keys}",
            texts.join(", "),
            pairs(table, scope, "array", &format!(" WHERE ({keys}) IN ({first})"))
        );
        let found: Vec<Pair> = admin.rows(&query).await?;
        report.listed = found.into_iter().map(|pair| difference(table, pair)).collect();
    }
    Ok(report)
}

/// One row a key: how often it is expected and seen, and the values of both sides put together by `combine`.
fn pairs(table: &AuditedTable, scope: &Scope, combine: &str, condition: &str) -> String {
    let keys = table.keys.join(", ");
    let side = |number: u8, relation: String| {
        let named_keys: Vec<String> = table.keys.iter().map(|key| format!("{} AS {key}", typed(table, key))).collect();
        let values: Vec<String> = table
            .columns
            .iter()
            .map(|column| if combine == "array" { format!("toString({})", typed(table, column)) } else { typed(table, column) })
            .collect();
        format!(
            "SELECT {}, {combine}({}) AS content, toUInt8({number}) AS side, row.left_out AS left_out FROM ({relation}) AS row{}",
            named_keys.join(", "),
            values.join(", "),
            range(table, scope),
        )
    };
    let filter = (table.seen)(scope);
    let filter = if filter.is_empty() { filter } else { format!(" WHERE {filter}") };
    let expected = side(0, (table.expected)(scope));
    let seen = side(1, format!("SELECT *, toUInt8(0) AS left_out FROM v_{}{filter}", table.name));
    format!(
        "SELECT {keys}, countIf(side = 0) AS expected_rows, countIf(side = 1) AS seen_rows, anyIf(content, side = 0) AS expected, \
         anyIf(content, side = 1) AS seen, max(left_out) AS left_out, expected_rows != 1 OR seen_rows != 1 OR expected != seen AS differs \
         FROM ({expected} UNION ALL {seen}){condition} GROUP BY {keys}"
    )
}

/// Which rows of either side are audited; empty = all.
fn range(table: &AuditedTable, scope: &Scope) -> String {
    let mut conditions: Vec<String> = scope.brand.iter().map(|brand| format!("row.brand = {}", literal(brand))).collect();
    if let Some((from, until)) = scope.days {
        let bucket = if table.keys.contains(&"minute") { "toDate(row.minute)" } else { "row.day" };
        conditions.push(format!("toUInt16({bucket}) >= {from} AND toUInt16({bucket}) < {until}"));
    }
    if scope.part.is_some() {
        conditions.push(table.in_part(scope));
    }
    if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) }
}

/// A column as the type that the table has, so that equal values have equal hashes and texts.
fn typed(table: &AuditedTable, column: &str) -> String {
    let columns = schema::tables().get(table.name).map(|schema| schema.columns.as_slice()).unwrap_or_default();
    let kind = columns.iter().find(|candidate| candidate.name == column).map_or("String", |found| found.kind.as_str());
    let plain = kind.strip_prefix("LowCardinality(").and_then(|inner| inner.strip_suffix(')')).unwrap_or(kind);
    format!("CAST(row.{column}, '{}')", plain.replace('\'', "\\'"))
}

fn difference(table: &AuditedTable, pair: Pair) -> RowDifference {
    let key = table.keys.iter().map(|name| (*name).to_owned()).zip(pair.key).collect();
    let columns = table.columns.iter().zip(pair.expected.into_iter().zip(pair.seen));
    match (pair.expected_rows, pair.seen_rows) {
        (0, _) => RowDifference::Unexpected { key },
        (_, 0) => RowDifference::Missing { key },
        (1, 1) => RowDifference::Wrong {
            key,
            columns: columns
                .filter(|(_, (expected, seen))| expected != seen)
                .map(|(name, (expected, seen))| ColumnDifference { column: (*name).to_owned(), expected, seen })
                .collect(),
        },
        (_, rows) => RowDifference::Repeated { key, rows },
    }
}
