//! Everything that `onecode check` looks at beyond the configuration's own text.

use clickhouse::Row;
use serde::Deserialize;

use super::clickhouse::retention_differences;
use super::compare::{compare, server_tables};
use super::schema::{VIEW_ENGINES, VIEWS};
use super::topics::{self, Cluster};
use super::{MigrateError, schema};
use crate::config::Config;
use crate::store::{Admin, AdminError};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inspection {
    /// What is in order, for a person.
    pub facts: Vec<String>,
    /// What is served, but could be better.
    pub advice: Vec<String>,
    /// What is wrong, each with its remedy, although the pipeline runs.
    pub risks: Vec<String>,
    /// What the pipeline does not start with, each with its remedy.
    pub faults: Vec<String>,
}

/// Looks at ClickHouse and Kafka. What cannot be reached is a fault like any other, so that all faults show at once.
pub async fn inspect(config: &Config) -> Inspection {
    let mut inspection = Inspection::default();
    if let Err(error) = inspect_clickhouse(config, &mut inspection).await {
        inspection.faults.push(error.to_string());
    }
    if let Err(error) = inspect_kafka(config, &mut inspection).await {
        inspection.faults.push(error.to_string());
    }
    inspection
}

async fn inspect_clickhouse(config: &Config, inspection: &mut Inspection) -> Result<(), AdminError> {
    let version: String = Admin::without_database(&config.clickhouse).row("SELECT version()").await?;
    inspection.facts.push(format!("ClickHouse {version} answers at {}", config.clickhouse.url));
    let admin = Admin::new(&config.clickhouse);
    let differences = compare(&admin).await?;
    if differences.is_empty() {
        inspection.facts.push(format!(
            "{} tables of database `{}` are as this release needs them",
            schema::tables().len(),
            admin.database()
        ));
    }
    inspection.faults.extend(differences.iter().map(ToString::to_string));
    inspection.faults.extend(missing_views(&admin).await?);
    for difference in retention_differences(&server_tables(&admin).await?, &config.clickhouse) {
        // A missing table is a fault of its own.
        if !differences.iter().any(|known| matches!(known, super::Difference::MissingTable { table } if table == difference.table)) {
            let found = difference.found.as_deref().unwrap_or("none");
            let expected = difference.expected.as_deref().unwrap_or("none");
            inspection.risks.push(format!(
                "the TTL of table `{}` is {found} and the configuration says {expected}; run `onecode migrate`",
                difference.table
            ));
        }
    }
    inspection.risks.extend(hanging_views(&admin).await?);
    Ok(())
}

async fn missing_views(admin: &Admin) -> Result<Vec<String>, AdminError> {
    let query = format!("SELECT name FROM system.tables WHERE database = currentDatabase() AND engine IN {VIEW_ENGINES}");
    let found: Vec<String> = admin.rows(&query).await?;
    let missing = VIEWS.iter().filter(|view| !found.iter().any(|name| name == view.name));
    Ok(missing.map(|view| format!("{} `{}` does not exist; run `onecode migrate`", view.kind(), view.name)).collect())
}

#[derive(Row, Deserialize)]
struct HangingView {
    table: String,
    view: String,
}

/// Materialized views that run on every insert into one of our tables. Refreshable ones only read, on their own schedule.
async fn hanging_views(admin: &Admin) -> Result<Vec<String>, AdminError> {
    let query = "SELECT source.name AS table, concat(view.database, '.', view.name) AS view \
        FROM (SELECT name, arrayJoin(arrayZip(dependencies_database, dependencies_table)) AS dependency \
              FROM system.tables WHERE database = currentDatabase()) AS source \
        INNER JOIN system.tables AS view ON view.database = source.dependency.1 AND view.name = source.dependency.2 \
        WHERE view.engine = 'MaterializedView' AND view.create_table_query NOT LIKE '%) REFRESH %' AND view.create_table_query NOT LIKE '% REFRESH EVERY %' \
          AND view.create_table_query NOT LIKE '% REFRESH AFTER %' AND view.create_table_query NOT LIKE '% REFRESH DEPENDS ON %' \
        ORDER BY table, view";
    let views: Vec<HangingView> = admin.rows(query).await?;
    let ours = views.into_iter().filter(|view| schema::tables().contains_key(&view.table));
    Ok(ours
        .map(|HangingView { table, view }| {
            format!("materialized view `{view}` runs on every insert into `{table}`: it would count rewritten rows again, and slows inserts; make it a view over `v_{table}`, or a refreshable one")
        })
        .collect())
}

async fn inspect_kafka(config: &Config, inspection: &mut Inspection) -> Result<(), MigrateError> {
    let cluster = Cluster::new(&config.kafka)?;
    let brokers = cluster.brokers()?;
    inspection.facts.push(format!("Kafka answers at {} ({brokers} brokers)", config.kafka.brokers));
    let facts = cluster.facts(&topics::names(config)).await?;
    let (faults, risks) = (topics::faults(config, &facts), topics::risks(config, &facts));
    if faults.is_empty() && risks.is_empty() {
        inspection.facts.push(format!("{} topics are as they should be", facts.len()));
    }
    inspection.faults.extend(faults);
    inspection.risks.extend(risks);
    inspection.advice.extend(topics::advice(config, &facts));
    Ok(())
}
