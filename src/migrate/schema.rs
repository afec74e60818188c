//! The schema as it is shipped: migrations and views, embedded, and the tables that they add up to.
//!
//! The SQL files are the only truth: what `onecode check` expects of a table is read out of the same text that creates it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use xxhash_rust::xxh3::xxh3_64;

use crate::config::Config;
use crate::model::Calendar;
use crate::store::literal;

/// One numbered step: one statement that creates or alters one table. Once released it is never edited.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Position in the order; numbers are never reused.
    pub number: u32,
    /// File name without the extension.
    pub name: &'static str,
    /// The statement.
    pub sql: &'static str,
}

/// A view, a refreshable materialized view or a dictionary. It holds nothing of its own, so that it is replaced whenever its definition
/// changes.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Name in ClickHouse.
    pub name: &'static str,
    template: &'static str,
}

/// What the texts of views need of the configuration.
#[derive(Clone, Debug)]
pub struct ViewValues {
    minute_retention_days: u32,
    calendar: Calendar,
}

impl ViewValues {
    /// As configured.
    pub fn new(config: &Config) -> Self {
        ViewValues { minute_retention_days: config.clickhouse.minute_retention_days, calendar: config.calendar() }
    }

    /// An expression over a column `brand`: how many minutes east of UTC its calendar is.
    fn utc_offset_minutes(&self) -> String {
        let default = self.calendar.default_zone().offset_minutes();
        let own: Vec<(String, String)> =
            self.calendar.brands().map(|(brand, zone)| (literal(brand), zone.offset_minutes().to_string())).collect();
        if own.is_empty() {
            return default.to_string();
        }
        let (brands, offsets): (Vec<String>, Vec<String>) = own.into_iter().unzip();
        format!("transform(CAST(brand, 'String'), [{}], [{}], {default})", brands.join(", "), offsets.join(", "))
    }
}

/// A table as the migrations leave it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableSchema {
    /// Name in ClickHouse.
    pub name: String,
    /// In their order.
    pub columns: Vec<Column>,
    /// With its parameters, as `system.tables.engine_full` begins.
    pub engine: String,
    /// Expression, empty without partitions.
    pub partition_key: String,
    /// Comma-separated expressions.
    pub sorting_key: String,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: String,
    /// Type in ClickHouse's own spelling.
    pub kind: String,
}

macro_rules! migrations {
    ($($number:literal $name:literal),* $(,)?) => {
        &[$(Migration { number: $number, name: $name, sql: include_str!(concat!("../../deploy/clickhouse/", $name, ".sql")) }),*]
    };
}

macro_rules! views {
    ($($name:literal),* $(,)?) => {
        &[$(View { name: $name, template: include_str!(concat!("../../deploy/clickhouse/views/", $name, ".sql")) }),*]
    };
}

/// The bookkeeping of migrations: created before any of them, and not one of them.
pub const BOOKKEEPING: &str = include_str!("../../deploy/clickhouse/0001_schema_migrations.sql");

/// The division codes of China that fill `regions`: tab-separated, lines of `#` name the source.
pub const REGIONS: &str = include_str!("../../deploy/regions/regions.tsv");

/// Date of that list as YYYYMMDD.
pub const REGIONS_EDITION: u32 = 20_251_231;

/// All migrations in their order.
pub const MIGRATIONS: &[Migration] = migrations![
    2 "0002_customers",
    3 "0003_customer_days",
    4 "0004_activity_minute",
    5 "0005_activity_day",
    6 "0006_active_customers_day",
    7 "0007_scans",
    8 "0008_purchases",
    9 "0009_share_events",
    10 "0010_parameters",
    11 "0011_task_state",
    12 "0012_audits",
    13 "0013_referrals",
    14 "0014_customer_subtrees",
    15 "0015_shares",
    16 "0016_share_cascades",
    17 "0017_manual_picks",
    18 "0018_segment_states",
    30 "0030_regions",
    31 "0031_device_sweeps",
    32 "0032_recent_device_sweeps",
    33 "0033_risky_codes",
    34 "0034_recent_device_sweeps_comment",
    35 "0035_task_state_codec",
    36 "0036_newest_device_sweeps",
];

/// All views, each after those that it reads.
pub const VIEWS: &[View] = views![
    "v_customers",
    "v_customer_days",
    "v_activity_minute",
    "v_activity_day",
    "v_active_customers_day",
    "v_scans",
    "v_purchases",
    "v_share_events",
    "v_parameters",
    "v_parameter_defaults",
    "v_regions",
    "region",
    "v_risk_knobs",
    "v_device_sweeps_of_days",
    "v_device_sweeps",
    "v_risky_devices",
    "v_codes",
    "v_risky_codes",
    "refresh_device_sweeps",
    "refresh_recent_device_sweeps",
    "refresh_newest_device_sweeps",
    "refresh_risky_codes",
    "v_referrals",
    "v_referral_tree",
    "v_customer_subtrees",
    "v_shares",
    "v_share_cascades",
    "v_brand_parameters",
    "v_segment_parameters",
    "v_segments_at",
    "customer_segments",
    "refresh_segment_states",
    "segment_transitions",
    "v_segment_transitions",
    "v_segment_high_word_of_mouth",
    "v_segment_high_value_at_risk",
    "v_segment_dormant",
    "v_segment_lost",
    "v_segment_new_not_returned",
    "v_segment_diamond",
    "v_segment_near_next_tier",
    "v_segment_potential_sharers",
    "v_hunters_at",
    "lottery_hunters",
    "v_segment_lottery_hunters",
    "v_growth",
    "v_trees",
    "v_channels",
    "v_channel_accounts",
    "v_channel_concentration",
    "v_region_activity",
    "v_funnel",
    "v_pareto",
    "v_cohorts",
    "v_one_touch",
    "v_member_contribution",
];

impl Migration {
    /// Hash of the text as hexadecimal: tells an edited migration from the applied one. Stored: never change it.
    pub fn checksum(&self) -> String {
        checksum(self.sql)
    }

    /// The table that the statement creates or alters.
    pub fn table(&self) -> &'static str {
        table_of(self.sql)
    }
}

impl View {
    /// The statement, with what it needs of the configuration filled in. Where it has [`SOURCE_LOGIN`], a login has to take its place.
    pub fn sql(&self, values: &ViewValues) -> String {
        self.template
            .replace("{minute_retention_days}", &values.minute_retention_days.to_string())
            .replace("{utc_offset_minutes}", &values.utc_offset_minutes())
    }

    /// The statement before anything is filled in.
    pub(super) fn text(&self) -> &'static str {
        self.template
    }

    /// Whether a reader calls it with values: `v(as_of = ...)`.
    pub fn takes_parameters(&self) -> bool {
        let mut placeholders = self.template.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
        placeholders.any(|(placeholder, _)| placeholder.contains(':'))
    }

    /// What the statement creates: "view", "refreshable view" or "dictionary".
    pub fn kind(&self) -> &'static str {
        let creates = |what: &str| self.template.lines().any(|line| line.starts_with(&format!("CREATE OR REPLACE {what} ")));
        if creates("DICTIONARY") {
            "dictionary"
        } else if creates("MATERIALIZED VIEW") {
            "refreshable view"
        } else {
            "view"
        }
    }
}

/// Stands for the login of a dictionary's source: not filled in here, so that no password reaches a checksum.
pub const SOURCE_LOGIN: &str = "{source_login}";

/// Engines of `system.tables` that [`VIEWS`] may have, as a list of SQL literals.
pub const VIEW_ENGINES: &str = "('View', 'MaterializedView', 'Dictionary')";

/// The statement that fills `regions`, and its name in the bookkeeping.
pub fn regions_insert() -> (&'static str, String) {
    let mut sql = "INSERT INTO regions SETTINGS async_insert = 0 FORMAT TabSeparated\n".to_owned();
    for line in REGIONS.lines().filter(|line| !line.starts_with('#')) {
        sql.push_str(line);
        sql.push_str(&format!("\t{REGIONS_EDITION}\n"));
    }
    ("regions.tsv", sql)
}

/// Hash of a statement as 16 hexadecimal digits.
pub fn checksum(sql: &str) -> String {
    format!("{:016x}", xxh3_64(sql.as_bytes()))
}

/// Every table that the migrations create, by name.
pub fn tables() -> &'static BTreeMap<String, TableSchema> {
    static TABLES: LazyLock<BTreeMap<String, TableSchema>> = LazyLock::new(|| {
        let mut tables = BTreeMap::new();
        for migration in MIGRATIONS {
            apply(&mut tables, migration.sql);
        }
        tables
    });
    &TABLES
}

/// Adds what a statement says. Our own files are plain: a column is a line, and `ALTER TABLE` only adds columns, or changes a comment or a codec.
fn apply(tables: &mut BTreeMap<String, TableSchema>, sql: &str) {
    let name = table_of(sql);
    let table = tables.entry(name.to_owned()).or_insert_with(|| TableSchema { name: name.to_owned(), ..TableSchema::default() });
    for line in sql.lines() {
        if let Some(engine) = line.strip_prefix("ENGINE = ") {
            table.engine = engine.to_owned();
        } else if let Some(key) = line.strip_prefix("PARTITION BY ") {
            table.partition_key = key.to_owned();
        } else if let Some(key) = line.strip_prefix("ORDER BY ") {
            table.sorting_key = key.trim_start_matches('(').trim_end_matches(')').to_owned();
        } else if let Some(column) = line.strip_prefix("    ADD COLUMN IF NOT EXISTS ").or_else(|| line.strip_prefix("    ")) {
            table.columns.extend(column_of(column.trim()));
        }
    }
}

/// `name Type [DEFAULT ...] COMMENT ...`; an index is no column.
fn column_of(line: &str) -> Option<Column> {
    let (name, rest) = line.split_once(' ')?;
    if name == "INDEX" {
        return None;
    }
    let end = [" DEFAULT ", " COMMENT "].iter().filter_map(|word| rest.find(word)).min().unwrap_or(rest.len());
    let kind = rest.get(..end).unwrap_or(rest).trim().trim_end_matches(',');
    Some(Column { name: name.trim_matches('`').to_owned(), kind: kind.to_owned() })
}

fn table_of(sql: &str) -> &str {
    let statement = sql.lines().find(|line| line.starts_with("CREATE TABLE ") || line.starts_with("ALTER TABLE ")).unwrap_or_default();
    let name = statement.trim_start_matches("CREATE TABLE IF NOT EXISTS ").trim_start_matches("ALTER TABLE ");
    name.split([' ', '(']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Table;

    #[test]
    fn every_file_of_the_directory_is_embedded_under_its_own_number() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/clickhouse");
        let files = |path: &str| -> Vec<String> {
            let entries = std::fs::read_dir(path).expect("the directory of the schema");
            let mut names: Vec<String> = entries
                .map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name"))
                .filter_map(|name| name.strip_suffix(".sql").map(str::to_owned))
                .collect();
            names.sort();
            names
        };
        let mut embedded = vec!["0001_schema_migrations".to_owned()];
        embedded.extend(MIGRATIONS.iter().map(|migration| migration.name.to_owned()));
        assert_eq!(files(directory), embedded);
        for migration in MIGRATIONS {
            assert!(migration.name.starts_with(&format!("{:04}_", migration.number)), "{}", migration.name);
        }
        let mut views: Vec<String> = VIEWS.iter().map(|view| view.name.to_owned()).collect();
        views.sort();
        assert_eq!(files(&format!("{directory}/views")), views);
    }

    #[test]
    fn every_row_that_the_pipeline_encodes_has_exactly_the_columns_of_its_table() {
        for table in Table::ALL {
            let schema = tables().get(table.name()).expect("a migration creates it");
            let names: Vec<&str> = schema.columns.iter().map(|column| column.name.as_str()).collect();
            assert_eq!(names, table.columns(), "{}", table.name());
        }
    }

    #[test]
    fn views_know_the_calendar_of_every_brand() {
        let offsets = |settings: &str| {
            let config = Config::from_text(settings, std::path::Path::new("onecode.toml"), []).expect("a configuration");
            ViewValues::new(&config).utc_offset_minutes()
        };
        assert_eq!(offsets(""), "480");
        let own = "[pipeline]\ntime_zone = \"Z\"\n[brands.acme]\ntime_zone = \"-03:30\"\n[brands.bolt]\ntime_zone = \"+08:00\"\n";
        assert_eq!(offsets(own), "transform(CAST(brand, 'String'), ['acme', 'bolt'], [-210, 480], 0)");
    }

    #[test]
    fn tables_are_read_out_of_their_statements() {
        let state = tables().get("task_state").expect("task_state");
        assert_eq!(state.engine, "ReplacingMergeTree(sequence, is_deleted)");
        assert_eq!(state.partition_key, "(task, generation)");
        assert_eq!(state.sorting_key, "task, generation, kind, key");
        assert_eq!(state.columns.first(), Some(&Column { name: "task".to_owned(), kind: "LowCardinality(String)".to_owned() }));
        let parameters = tables().get("parameters").expect("parameters");
        assert_eq!(parameters.columns.last(), Some(&Column { name: "updated_at".to_owned(), kind: "DateTime64(3, 'UTC')".to_owned() }));
        let purchases = tables().get("purchases").expect("purchases");
        assert!(purchases.columns.contains(&Column { name: "lines.sku".to_owned(), kind: "Array(String)".to_owned() }));
    }

    #[test]
    fn every_region_has_a_parent_in_the_list_and_lies_in_china() {
        let (_, sql) = regions_insert();
        let rows: Vec<Vec<&str>> = sql.lines().skip(1).map(|line| line.split('\t').collect()).collect();
        let codes: std::collections::BTreeSet<&str> = rows.iter().map(|row| row[0]).collect();
        assert_eq!(codes.len(), rows.len(), "each code once");
        for row in &rows {
            assert_eq!(row.len(), 9, "{row:?}");
            assert!(row[1] == "0" || codes.contains(row[1]), "{row:?}: unknown parent");
            let (longitude, latitude): (f64, f64) = (row[4].parse().expect("a number"), row[5].parse().expect("a number"));
            assert!((73.0..136.0).contains(&longitude) && (3.0..54.0).contains(&latitude), "{row:?}");
        }
        let provinces = rows.iter().filter(|row| row[2] == "province").count();
        assert!(provinces == 34 && rows.len() > 3_000, "{provinces} of {}", rows.len());
    }

    #[test]
    fn added_columns_join_their_table() {
        let mut tables = BTreeMap::new();
        apply(&mut tables, "CREATE TABLE IF NOT EXISTS t (\n    a UInt8 COMMENT 'x'\n)\nENGINE = ReplacingMergeTree\nORDER BY (a)\n");
        apply(&mut tables, "ALTER TABLE t\n    ADD COLUMN IF NOT EXISTS b Array(String) DEFAULT [] COMMENT 'y'\n");
        let columns: Vec<(&str, &str)> = tables["t"].columns.iter().map(|column| (column.name.as_str(), column.kind.as_str())).collect();
        assert_eq!(columns, [("a", "UInt8"), ("b", "Array(String)")]);
    }
}
