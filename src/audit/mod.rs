//! The audit: every serving table recomputed from the archive, in ClickHouse's own SQL, and compared row by row with what readers see.
//!
//! Shares no code with the engine, so that one mistake cannot hide in both: the rules are written down a second time, in `tables`. Promises
//! bounded memory (several passes, each over a part of the customers, minutes or days, `part.rs`; aggregations spill to the server's disk) and that it only reads (its verdict is left behind by [`verdicts`]). It is meant for a pipeline at rest: what is on its
//! way from Kafka to a table shows as a difference. [`sample`] and [`log`] look at a pipeline that runs: at single customers by the archive, and at
//! everything that is a customer's own by the input topics.
//!
//! ```text
//!  archive FINAL ─► own events (events.rs) ─► expected rows (tables.rs, graph.rs) ─┐
//!                                                                                  ├─► one row a key (compare.rs) ─► report.rs
//!  v_ views ───────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Conflicting twins (two archived events of one identity, which a crash can let in) are listed; their customers, the cells that
//! their events reach, and whom and what these name or may hang below in the graph, are left out of the comparison and counted.

mod compare;
mod events;
mod graph;
pub mod log;
mod part;
mod report;
pub mod sample;
mod tables;
pub mod verdicts;

use std::time::Duration;

use clickhouse::Row;
use serde::Deserialize;

pub use report::{ColumnDifference, Conflict, Report, RowDifference, TableReport};

use crate::config::Config;
use crate::migrate::{self, Difference};
use crate::model::Calendar;
use crate::store::{Admin, AdminError};
use events::{Bucket, Conflicts};
use part::Part;
use tables::AuditedTable;

/// More customers than this with conflicting events mean that something other than a crash went wrong.
const MOST_CONFLICTING_CUSTOMERS: usize = 10_000;
/// For one query over a large archive; whoever waits may interrupt it, and the server stops then too.
const PATIENCE: Duration = Duration::from_secs(12 * 3_600);
/// A query that climbs the forest adds up and joins in a dozen places at once, in each by several threads: each may take so small a part of the memory
/// before it goes to the server's disk. With a quarter, 29 million events of 5.8 million customers did not fit into 4 GiB.
const SHARES: u64 = 32;
/// Minutes so close to the end of their retention are not compared: they may pass it while the audit runs.
const EXPIRY_MARGIN_HOURS: u32 = 6;

/// How to audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditOptions {
    /// Tables to audit, of [`table_names`]; empty = all.
    pub tables: Vec<String>,
    /// Differences listed a table; all are counted.
    pub listed_differences: usize,
    /// Only this brand; none = all.
    pub brand: Option<String>,
    /// Only days from the first to before the second, days since 1970-01-01: of tables that have days or minutes (these by UTC).
    pub days: Option<(u16, u16)>,
    /// Memory that one query of the audit may take on the server, in bytes; what needs more goes to its disk.
    pub memory_bytes: u64,
    /// How often the archive is read, each time for another part of the customers; none = as often as that memory needs.
    pub passes: Option<u64>,
}

impl Default for AuditOptions {
    fn default() -> Self {
        AuditOptions { tables: Vec::new(), listed_differences: 20, brand: None, days: None, memory_bytes: 4 << 30, passes: None }
    }
}

/// Who brings whom.
const REFERRALS: &str = "referrals";
/// Who is a customer.
const CUSTOMERS: &str = "customers";
/// Who is below whom.
const SUBTREES: &str = "customer_subtrees";

/// The tables that are audited, in their order.
pub fn table_names() -> impl Iterator<Item = &'static str> {
    tables::ALL.iter().map(|table| table.name)
}

/// Why there is no verdict.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// ClickHouse could not be asked.
    #[error(transparent)]
    ClickHouse(#[from] AdminError),
    /// The tables are not there, or not as this release needs them.
    #[error("the tables cannot be audited:{}", .0.iter().map(|difference| format!("\n  {difference}")).collect::<String>())]
    Schema(Vec<Difference>),
    /// The archive does not hold all events.
    #[error(
        "the archive is kept for {days} days only (`clickhouse.archive_retention_days`), and the tables count older events too: \
         they cannot be recomputed from it"
    )]
    ArchiveExpires {
        /// As configured.
        days: u32,
    },
    /// Kafka does not say where logs end, or `task_state` where tasks stand.
    #[error(transparent)]
    Log(#[from] Box<log::LogAuditError>),
    /// Far too many conflicts.
    #[error(
        "more than {MOST_CONFLICTING_CUSTOMERS} customers have events of one identity with different contents; producers reuse event ids"
    )]
    TooManyConflicts,
}

/// What the queries of one audit have in common.
#[derive(Clone, Debug)]
struct Scope {
    calendar: Calendar,
    conflicts: Conflicts,
    /// The first minute that is compared, Unix seconds.
    first_minute: u32,
    /// How deep subtrees and cascades reach.
    levels: u8,
    /// `v_referrals` was found to be what the archive says: whoever climbs along it may read it there.
    referrals_are_right: bool,
    /// `v_customer_subtrees` was found to be what the archive says.
    subtrees_are_right: bool,
    /// `v_customers` was found to be what the archive says.
    customers_are_right: bool,
    /// Levels are climbed from the archive even where what readers see of the level below would do.
    climbs: bool,
    /// Only some of the customers, or of the minutes or days, by a hash with the brand; none = all.
    part: Option<Part>,
    /// What the part is of, if not customers.
    bucket: Option<Bucket>,
    /// Only this brand.
    brand: Option<String>,
    /// Only these days.
    days: Option<(u16, u16)>,
    /// Only these customers, by brand and id; empty = all. Only for tables whose rows depend on one customer's events.
    customers: Vec<(String, String)>,
}

impl Scope {
    /// Everything of a pipeline; without conflicts and minutes yet.
    fn all(config: &Config) -> Scope {
        Scope {
            calendar: config.calendar(),
            conflicts: Conflicts::default(),
            first_minute: 0,
            levels: config.limits.levels,
            referrals_are_right: false,
            subtrees_are_right: false,
            customers_are_right: false,
            climbs: false,
            part: None,
            bucket: None,
            brand: None,
            days: None,
            customers: Vec::new(),
        }
    }
}

/// Audits every table. `progress` hears of each table when it is done.
///
/// # Errors
/// [`AuditError`]; differences are no error, they are in the report.
pub async fn audit(config: &Config, options: &AuditOptions, mut progress: impl FnMut(&TableReport)) -> Result<Report, AuditError> {
    let admin = open(config, options).await?;
    let mut scope = Scope { brand: options.brand.clone(), days: options.days, ..Scope::all(config) };
    let found = find_conflicts(&admin, &scope).await?;
    let retention_hours = config.clickhouse.minute_retention_days * 24;
    scope.first_minute = admin
        .row(&format!(
            "SELECT toUnixTimestamp(toStartOfMinute(now() - toIntervalHour({})))",
            retention_hours.saturating_sub(EXPIRY_MARGIN_HOURS)
        ))
        .await?;
    scope.conflicts = Conflicts::of(&found);
    let is_asked = |table: &&AuditedTable| options.tables.is_empty() || options.tables.iter().any(|name| name == table.name);
    let has_days = |table: &&AuditedTable| options.days.is_none() || table.keys.contains(&"day") || table.keys.contains(&"minute");
    let mut asked: Vec<(usize, &AuditedTable)> = tables::ALL.iter().filter(is_asked).filter(has_days).enumerate().collect();
    // First what others need, once it is found to be right.
    asked.sort_by_key(|(_, table)| (table.name != REFERRALS, table.name != SUBTREES, table.name != CUSTOMERS));
    let passes = part::passes(&admin, options).await?;
    let mut reports = Vec::new();
    for (place, table) in asked {
        let report = compare::compare_in_passes(&admin, table, &scope, options.listed_differences, passes).await?;
        progress(&report);
        let is_right = report.differences + report.left_out == 0;
        scope.referrals_are_right |= table.name == REFERRALS && is_right;
        scope.subtrees_are_right |= table.name == SUBTREES && is_right;
        scope.customers_are_right |= table.name == CUSTOMERS && is_right;
        reports.push((place, report));
    }
    reports.sort_by_key(|(place, _)| *place);
    let reports = reports.into_iter().map(|(_, report)| report).collect();
    Ok(Report { tables: reports, left_out_customers: scope.conflicts.customers(), conflicts: found })
}

/// ClickHouse for an audit by the archive.
///
/// # Errors
/// [`AuditError`]: when there is no archive of everything, or the tables are others.
async fn open(config: &Config, options: &AuditOptions) -> Result<Admin, AuditError> {
    if let Some(days) = config.clickhouse.archive_retention_days {
        return Err(AuditError::ArchiveExpires { days });
    }
    let admin = bounded(Admin::new(&config.clickhouse), options.memory_bytes);
    let differences = migrate::compare(&admin).await?;
    if !differences.is_empty() {
        return Err(AuditError::Schema(differences));
    }
    Ok(admin)
}

fn bounded(admin: Admin, memory_bytes: u64) -> Admin {
    admin
        .with_patience(PATIENCE)
        .with_setting("cancel_http_readonly_queries_on_client_close", 1)
        .with_setting("max_memory_usage", memory_bytes)
        .with_setting("max_bytes_before_external_group_by", memory_bytes / SHARES)
        .with_setting("max_bytes_before_external_sort", memory_bytes / SHARES)
        .with_setting("join_algorithm", "grace_hash")
        .with_setting("max_bytes_in_join", memory_bytes / SHARES)
        // The list of conflicting customers is written into the queries.
        .with_setting("max_query_size", 64_u64 << 20)
        .with_setting("max_ast_elements", 10_000_000)
        .with_setting("max_expanded_ast_elements", 10_000_000)
}

#[derive(Row, Deserialize)]
struct Twins {
    brand: String,
    customer_id: String,
    rank: u8,
    event_id: String,
    contents: u64,
}

/// Identities that the archive has more than once: FINAL makes equal events one, so their contents differ.
async fn find_conflicts(admin: &Admin, scope: &Scope) -> Result<Vec<Conflict>, AuditError> {
    let own = events::own_events(&["brand", "customer_id", "rank", "event_id"], scope);
    let identity = "sipHash64(brand, customer_id, rank, event_id)";
    // By hash first: a table of all identities as text would not fit.
    let query = format!(
        "SELECT brand, customer_id, rank, event_id, count() AS contents FROM ({own}) \
         WHERE {identity} IN (SELECT {identity} AS identity FROM ({own}) GROUP BY identity HAVING count() > 1 LIMIT {limit}) \
         GROUP BY brand, customer_id, rank, event_id HAVING contents > 1 ORDER BY brand, customer_id, rank, event_id",
        limit = 2 * MOST_CONFLICTING_CUSTOMERS
    );
    let twins: Vec<Twins> = admin.rows(&query).await?;
    let conflicts: Vec<Conflict> = twins.into_iter().map(Conflict::from).collect();
    if Conflicts::of(&conflicts).customers() > MOST_CONFLICTING_CUSTOMERS {
        return Err(AuditError::TooManyConflicts);
    }
    Ok(conflicts)
}

impl From<Twins> for Conflict {
    fn from(twins: Twins) -> Self {
        let kind = events::KINDS.get(usize::from(twins.rank)).copied().unwrap_or_default();
        Conflict { brand: twins.brand, customer_id: twins.customer_id, kind, event_id: twins.event_id, contents: twins.contents }
    }
}
