//! What has to be done on the ClickHouse side: database, tables, views, retention.

use std::collections::{BTreeMap, BTreeSet};

use clickhouse::Row;
use serde::Deserialize;

use super::MigrateError;
use super::comments;
use super::compare::server_tables;
use super::schema::{self, BOOKKEEPING, MIGRATIONS, SOURCE_LOGIN, TableSchema, VIEW_ENGINES, VIEWS, ViewValues};
use crate::config::{ClickHouse, Config};
use crate::rows::Table;
use crate::store::{Admin, identifier, literal};

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// As `migrate` prints it, in the imperative: "create table `customers`".
    pub what: String,
    /// Statements in their order; each may be repeated.
    statements: Vec<String>,
    needs_database: bool,
}

/// What the server has now.
#[derive(Debug, Default)]
struct Found {
    has_database: bool,
    tables: BTreeMap<String, TableSchema>,
    views: BTreeSet<String>,
    /// Dictionaries that the server could not load.
    failed_dictionaries: BTreeSet<String>,
    /// Those of [`TABLE_SETTINGS`] that this version of the server has.
    table_settings: BTreeSet<String>,
    /// Checksums of what was applied, by number and name.
    applied: BTreeMap<(u32, String), String>,
}

#[derive(Row, Deserialize)]
struct Applied {
    number: u32,
    name: String,
    checksum: String,
}

/// What has to be done, in order; nothing when the server is up to date.
///
/// # Errors
/// When the server cannot be asked, when an applied migration was edited, or when a newer release migrated the database.
pub async fn plan(config: &Config) -> Result<Vec<Step>, MigrateError> {
    let views = ViewValues::new(config);
    let config = &config.clickhouse;
    let found = look(config).await?;
    refuse_foreign_history(&found.applied)?;
    let mut steps = Vec::new();
    if !found.has_database {
        let sql = format!("CREATE DATABASE IF NOT EXISTS {}", identifier(&config.database));
        steps.push(Step { what: format!("create database `{}`", config.database), statements: vec![sql], needs_database: false });
    }
    if !found.tables.contains_key("schema_migrations") {
        steps.push(step("create table `schema_migrations`", vec![BOOKKEEPING.to_owned()]));
    }
    steps.extend(pending_migrations(&found));
    steps.extend(pending_regions(&found));
    steps.extend(pending_views(&found, config, &views));
    steps.extend(pending_retention(&found, config));
    steps.extend(pending_table_settings(&found));
    Ok(steps)
}

/// Does one step.
///
/// # Errors
/// As the server says; the step can be done again.
pub async fn apply(config: &ClickHouse, step: &Step) -> Result<(), MigrateError> {
    let admin = if step.needs_database { Admin::new(config) } else { Admin::without_database(config) };
    for statement in &step.statements {
        admin.execute(statement).await?;
    }
    Ok(())
}

async fn look(config: &ClickHouse) -> Result<Found, MigrateError> {
    let outside = Admin::without_database(config);
    let known = format!(
        "SELECT name FROM system.merge_tree_settings WHERE name IN ({})",
        TABLE_SETTINGS.map(|setting| literal(setting.name)).join(", ")
    );
    let table_settings: BTreeSet<String> = outside.rows::<String>(&known).await?.into_iter().collect();
    let databases: u64 = outside.row(&format!("SELECT count() FROM system.databases WHERE name = {}", literal(&config.database))).await?;
    if databases == 0 {
        return Ok(Found { table_settings, ..Found::default() });
    }
    let admin = Admin::new(config);
    let tables = server_tables(&admin).await?;
    let views = format!("SELECT name FROM system.tables WHERE database = currentDatabase() AND engine IN {VIEW_ENGINES}");
    let views: Vec<String> = admin.rows(&views).await?;
    let failed: Vec<String> =
        admin.rows("SELECT name FROM system.dictionaries WHERE database = currentDatabase() AND last_exception != ''").await?;
    let applied: Vec<Applied> = if tables.contains_key("schema_migrations") {
        admin.rows("SELECT number, name, checksum FROM schema_migrations FINAL").await?
    } else {
        Vec::new()
    };
    Ok(Found {
        has_database: true,
        tables,
        table_settings,
        views: views.into_iter().collect(),
        failed_dictionaries: failed.into_iter().collect(),
        applied: applied.into_iter().map(|row| ((row.number, row.name), row.checksum)).collect(),
    })
}

/// Applied migrations have to be a part of ours, unchanged.
fn refuse_foreign_history(applied: &BTreeMap<(u32, String), String>) -> Result<(), MigrateError> {
    for ((number, name), checksum) in applied.iter().filter(|((number, _), _)| *number > 0) {
        let Some(ours) = MIGRATIONS.iter().find(|migration| migration.number == *number && migration.name == name) else {
            return Err(MigrateError::NewerDatabase { name: name.clone() });
        };
        if ours.checksum() != *checksum {
            return Err(MigrateError::Edited { name: name.clone() });
        }
    }
    Ok(())
}

/// Those not applied yet, and all of a table that was dropped since.
fn pending_migrations(found: &Found) -> impl Iterator<Item = Step> {
    MIGRATIONS.iter().filter_map(|migration| {
        let table = migration.table();
        let is_applied = found.applied.contains_key(&(migration.number, migration.name.to_owned()));
        if is_applied && found.tables.contains_key(table) {
            return None;
        }
        let verb = if migration.sql.contains("CREATE TABLE ") { "create" } else { "alter" };
        let statements = vec![migration.sql.to_owned(), record(migration.number, migration.name, &migration.checksum())];
        Some(step(format!("{verb} table `{table}` ({})", migration.name), statements))
    })
}

fn pending_views(found: &Found, config: &ClickHouse, values: &ViewValues) -> impl Iterator<Item = Step> {
    VIEWS.iter().filter_map(move |view| {
        let sql = view.sql(values);
        let comments = comments::statement(view);
        let checksum = schema::checksum(&[sql.as_str(), comments.as_deref().unwrap_or_default()].concat());
        let exists = found.views.contains(view.name);
        let is_broken = found.failed_dictionaries.contains(view.name);
        if exists && !is_broken && found.applied.get(&(0, view.name.to_owned())) == Some(&checksum) {
            return None;
        }
        let verb = if exists { "replace" } else { "create" };
        let sql = sql.replace(SOURCE_LOGIN, &source_login(config));
        let statements = std::iter::once(sql).chain(comments).chain([record(0, view.name, &checksum)]);
        Some(step(format!("{verb} {} `{}`", view.kind(), view.name), statements.collect()))
    })
}

/// The division codes, when the list or its table is new. Merged at once, since a dictionary reads without FINAL.
fn pending_regions(found: &Found) -> Option<Step> {
    let (name, sql) = schema::regions_insert();
    let checksum = schema::checksum(&sql);
    if found.tables.contains_key("regions") && found.applied.get(&(0, name.to_owned())) == Some(&checksum) {
        return None;
    }
    let statements = vec![sql, "OPTIMIZE TABLE regions FINAL".to_owned(), record(0, name, &checksum)];
    Some(step(format!("fill table `regions` with the division codes of {}", schema::REGIONS_EDITION), statements))
}

/// A dictionary reads its table by a login of its own; without one the server takes `default` without a password.
fn source_login(config: &ClickHouse) -> String {
    let password = config.password.expose();
    if config.user == "default" && password.is_empty() {
        return String::new();
    }
    format!(" USER {} PASSWORD {}", literal(&config.user), literal(password))
}

/// A setting of tables that the pipeline writes, where the server's version has it.
struct TableSetting {
    name: &'static str,
    value: &'static str,
    /// Of tables of sums too, not of events and state alone.
    is_for_sums: bool,
}

/// Statistics of every column are made anew by each merge, a tenth of what merging costs; readers' queries go by keys. Merges of ten parts instead of
/// five merge half as many rows for the same inserts, but queries over whole tables of sums, which dashboards ask all the time, take up to 1.8
/// times as long by the parts that are left meanwhile (benches/HISTORY.md).
const TABLE_SETTINGS: [TableSetting; 2] = [
    TableSetting { name: "auto_statistics_types", value: "''", is_for_sums: true },
    TableSetting { name: "merge_selector_base", value: "10", is_for_sums: false },
];

fn pending_table_settings(found: &Found) -> Vec<Step> {
    let mut steps = Vec::new();
    for TableSetting { name, value, is_for_sums } in TABLE_SETTINGS {
        let is_set = |table: &str| found.tables.get(table).is_some_and(|schema| has_setting(&schema.engine, name));
        let meant = Table::ALL.iter().filter(|table| is_for_sums || table.is_archive()).map(|table| table.name());
        let tables = meant.chain(["task_state"]).filter(|table| !is_set(table));
        let statements: Vec<String> = tables.map(|table| format!("ALTER TABLE {table} MODIFY SETTING {name} = {value}")).collect();
        if found.table_settings.contains(name) && !statements.is_empty() {
            steps.push(step(format!("set {name} of {} tables to {value}", statements.len()), statements));
        }
    }
    steps
}

/// Whether `system.tables.engine_full` has a setting, with whatever value: an operator's own is left alone.
fn has_setting(engine_full: &str, name: &str) -> bool {
    let settings = engine_full.rsplit_once(" SETTINGS ").map_or("", |(_, settings)| settings);
    settings.split(", ").any(|setting| setting.split(" = ").next() == Some(name))
}

/// Where the retention on the server is not the configured one.
fn pending_retention(found: &Found, config: &ClickHouse) -> Vec<Step> {
    retention_differences(&found.tables, config)
        .into_iter()
        .map(|difference| {
            let table = difference.table;
            match difference.expected {
                Some(ttl) => {
                    step(format!("set the TTL of table `{table}` to {ttl}"), vec![format!("ALTER TABLE {table} MODIFY TTL {ttl}")])
                }
                None => step(format!("remove the TTL of table `{table}`"), vec![format!("ALTER TABLE {table} REMOVE TTL")]),
            }
        })
        .collect()
}

/// A table whose TTL is not the configured one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RetentionDifference {
    pub table: &'static str,
    /// As configured; none = rows are kept for ever.
    pub expected: Option<String>,
    /// As the server has it.
    pub found: Option<String>,
}

pub(super) fn retention_differences(tables: &BTreeMap<String, TableSchema>, config: &ClickHouse) -> Vec<RetentionDifference> {
    let archive = config.archive_retention_days.map(|days| format!("toDateTime(event_time) + toIntervalDay({days})"));
    let minutes = Some(format!("minute + toIntervalDay({})", config.minute_retention_days));
    [("activity_minute", minutes), ("scans", archive.clone()), ("purchases", archive.clone()), ("share_events", archive)]
        .into_iter()
        .filter_map(|(table, expected)| {
            let found = tables.get(table).and_then(|schema| ttl(&schema.engine));
            (found != expected).then_some(RetentionDifference { table, expected, found })
        })
        .collect()
}

/// The TTL expression in `system.tables.engine_full`.
fn ttl(engine_full: &str) -> Option<String> {
    let (_, rest) = engine_full.split_once(" TTL ")?;
    Some(rest.split(" SETTINGS ").next().unwrap_or(rest).to_owned())
}

fn step(what: impl Into<String>, statements: Vec<String>) -> Step {
    Step { what: what.into(), statements, needs_database: true }
}

fn record(number: u32, name: &str, checksum: &str) -> String {
    format!("INSERT INTO schema_migrations SETTINGS async_insert = 0 SELECT {number}, {}, {}, now64(3)", literal(name), literal(checksum))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(number: u32, name: &str, checksum: &str) -> BTreeMap<(u32, String), String> {
        BTreeMap::from([((number, name.to_owned()), checksum.to_owned())])
    }

    #[test]
    fn an_edited_migration_is_refused_by_name() {
        let error = refuse_foreign_history(&applied(2, "0002_customers", "0123456789abcdef")).expect_err("edited");
        assert!(error.to_string().contains("0002_customers") && error.to_string().contains("never edited"), "{error}");
        refuse_foreign_history(&applied(2, "0002_customers", &MIGRATIONS[0].checksum())).expect("unchanged");
    }

    #[test]
    fn a_database_of_a_newer_release_is_refused() {
        let error = refuse_foreign_history(&applied(9_999, "9999_of_the_future", "0123456789abcdef")).expect_err("newer");
        assert!(error.to_string().contains("9999_of_the_future") && error.to_string().contains("newer"), "{error}");
    }

    #[test]
    fn a_dropped_table_is_created_again() {
        let mut found = Found { has_database: true, ..Found::default() };
        for migration in MIGRATIONS {
            found.applied.insert((migration.number, migration.name.to_owned()), migration.checksum());
            found.tables.insert(migration.table().to_owned(), TableSchema::default());
        }
        assert_eq!(pending_migrations(&found).count(), 0);
        found.tables.remove("scans");
        let steps: Vec<String> = pending_migrations(&found).map(|step| step.what).collect();
        assert_eq!(steps, ["create table `scans` (0007_scans)"]);
    }

    #[test]
    fn a_setting_is_made_once_and_only_where_the_server_has_it() {
        let mut found = Found { has_database: true, ..Found::default() };
        assert_eq!(pending_table_settings(&found), []);
        found.table_settings.insert("auto_statistics_types".to_owned());
        let statements = |found: &Found| pending_table_settings(found).into_iter().flat_map(|step| step.statements).collect::<Vec<_>>();
        assert_eq!(statements(&found).len(), Table::ALL.len() + 1);
        for table in Table::ALL.iter().map(|table| table.name()).filter(|table| *table != "scans") {
            let engine = "MergeTree ORDER BY a SETTINGS b = 1, auto_statistics_types = ''".to_owned();
            found.tables.insert(table.to_owned(), TableSchema { engine, ..TableSchema::default() });
        }
        let expected = ["scans", "task_state"].map(|table| format!("ALTER TABLE {table} MODIFY SETTING auto_statistics_types = ''"));
        assert_eq!(statements(&found), expected);
        found.table_settings = ["merge_selector_base".to_owned()].into();
        let expected = ["scans", "purchases", "share_events", "task_state"];
        assert_eq!(statements(&found), expected.map(|table| format!("ALTER TABLE {table} MODIFY SETTING merge_selector_base = 10")));
    }

    #[test]
    fn the_ttl_is_read_out_of_the_engine() {
        let engine =
            "ReplacingMergeTree(version) PARTITION BY toYYYYMM(minute) ORDER BY (brand) TTL minute + toIntervalDay(45) SETTINGS a = 1";
        assert_eq!(ttl(engine).as_deref(), Some("minute + toIntervalDay(45)"));
        assert_eq!(ttl("MergeTree ORDER BY a SETTINGS b = 1"), None);
    }
}
