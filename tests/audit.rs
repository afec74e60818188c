//! `onecode audit` on a real ClickHouse with rows made by hand: the right ones pass, and every single wrong one is found.

use std::path::Path;
use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use onecode::audit::{self, AuditError, AuditOptions, Report, RowDifference};
use onecode::config::Config;
use onecode::migrate;
use onecode_local::{ClickHouse, ClickHouseOptions};

struct Server {
    clickhouse: ClickHouse,
    _dir: tempfile::TempDir,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory");
    let clickhouse = ClickHouse::start(ClickHouseOptions::in_dir(dir.path())).expect("ClickHouse");
    Server { clickhouse, _dir: dir }
});

/// A UTC day some days ago, so that its minutes are within their retention.
static DAY: LazyLock<u64> = LazyLock::new(|| SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs() / 86_400 - 3);

/// Compared rows of the hand-made tables.
const ROWS: u64 = 39;

/// Brand, code, hours after the day's start, event, customer, share, sharer, sku, campaign, region, channel, purpose, role.
const SCANS: &str = "
    ('acme', 'x', 15, 'e1', 'alice', '', '', 's1', 'c1', 310101, 'weibo', 'verify', 'consumer'),
    ('acme', 'x', 17, 'e2', 'alice', 'sh1', 'bob', 's1', 'c1', 310101, 'weibo', 'draw', 'consumer'),
    ('acme', 'x', 1, 'e1', 'shop', 'sh1', 'bob', 's1', 'c1', 310101, 'weibo', 'trace', 'retailer'),
    ('acme', 'y', 16, 'a', 'bob', '', '', 's2', 'c2', 440301, 'wechat', 'follow', 'consumer'),
    ('acme', 'y', 19, 'd1', 'dave', 'sh1', 'bob', '', '', 0, '', 'unspecified', 'consumer'),
    ('acme', 'y', -1440, 'e9', 'carol', '', '', '', '', 0, '', 'unspecified', 'consumer'),
    ('zulu', 'x', 23, 'e8', 'alice', 'sh2', 'alice', '', '', 0, '', 'points', 'consumer')";
/// Brand, customer, hours, event, kind, amount, share, sharer.
const PURCHASES: &str = "
    ('acme', 'alice', 17, 'e3', 'payment', 500, 'sh9', 'alice'),
    ('acme', 'alice', 18, 'e4', 'refund', 200, '', '')";

/// A database with an archive and the tables that belong to it.
struct Database {
    name: &'static str,
    config: Config,
}

impl Database {
    async fn new(name: &'static str) -> Database {
        let text = format!(
            "[clickhouse]\nurl = \"{}\"\ndatabase = \"{name}\"\n[brands.zulu]\ntime_zone = \"Z\"\n[brands.unused]\ntime_zone = \"-03:30\"\n",
            SERVER.clickhouse.url()
        );
        let config = Config::from_text(&text, Path::new("onecode.toml"), []).expect("a configuration");
        for step in migrate::plan(&config).await.expect("a plan") {
            migrate::apply(&config.clickhouse, &step).await.expect("a step");
        }
        let database = Database { name, config };
        database.fill_archive();
        database.fill_tables();
        database
    }

    /// Runs a statement in which `{db}` stands for the database, `{day}` for the day's number and `{h}` for a time made from hours.
    fn query(&self, sql: &str) -> String {
        let sql = sql.replace("{db}", self.name).replace("{day}", &DAY.to_string());
        SERVER.clickhouse.query(&sql).expect(&sql).trim_end().to_owned()
    }

    fn fill_archive(&self) {
        self.scan(SCANS);
        self.query(&format!(
            "INSERT INTO {{db}}.purchases (brand, customer_id, event_time, event_id, kind, amount, share_id, sharer_id, channel) \
             SELECT t.1, t.2, toDateTime64({{day}} * 86400 + t.3 * 3600, 3, 'UTC'), t.4, t.5, t.6, t.7, t.8, 'store' FROM (SELECT arrayJoin([{PURCHASES}]) AS t)"
        ));
        // The same moment and id as bob's scan, which is his first event, because scans come before shares.
        self.query(
            "INSERT INTO {db}.share_events (brand, customer_id, event_time, event_id, share_id, campaign, sku, region, channel) \
             SELECT 'acme', 'bob', toDateTime64({day} * 86400 + 16 * 3600, 3, 'UTC'), 'a', 'sh1', 'c1', 's1', 440300, 'moments'",
        );
    }

    fn scan(&self, rows: &str) {
        self.query(&format!(
            "INSERT INTO {{db}}.scans (brand, code, event_time, event_id, customer_id, share_id, sharer_id, sku, campaign, region, channel, purpose, role) \
             SELECT t.1, t.2, toDateTime64({{day}} * 86400 + t.3 * 3600, 3, 'UTC'), t.4, t.5, t.6, t.7, t.8, t.9, t.10, t.11, t.12, t.13 \
             FROM (SELECT arrayJoin([{rows}]) AS t)"
        ));
    }

    fn fill_tables(&self) {
        self.fill_customers();
        self.fill_cells();
        self.fill_graph();
    }

    /// Bob brought dave; alice came back through bob's share.
    fn fill_graph(&self) {
        for (brand, child) in [("acme", "alice"), ("acme", "bob"), ("acme", "carol"), ("zulu", "alice")] {
            self.query(&format!("INSERT INTO {{db}}.referrals (brand, child_id, version) SELECT '{brand}', '{child}', 1"));
        }
        self.query("INSERT INTO {db}.referrals SELECT 'acme', 'dave', 'bob', 'sh1', toDateTime64({day} * 86400 + 19 * 3600, 3, 'UTC'), 1");
        self.query("INSERT INTO {db}.customer_subtrees SELECT 'acme', 'bob', 1, toStartOfMonth(toDate({day} + 1)), 1, 0, 0, 0, 1");
        self.query(
            "INSERT INTO {db}.shares SELECT 'acme', 'bob', 'sh1', '', '', toDateTime64({day} * 86400 + 16 * 3600, 3, 'UTC'), 'c1', 's1', 'moments', \
             440300, false, 2, 2, 1, 0, 0, 0, 0, 1",
        );
        self.query("INSERT INTO {db}.share_cascades SELECT 'acme', 'bob', 'sh1', 0, 1, 2, 1, 0, 0, 0, 1");
    }

    fn fill_customers(&self) {
        // First event, then hours of the last event, scan, payment and share (none: 'n').
        let at = |hours: &str| {
            if hours == "n" {
                "toDateTime64(0, 3, 'UTC')".to_owned()
            } else {
                format!("toDateTime64({{day}} * 86400 + {hours} * 3600, 3, 'UTC')")
            }
        };
        for (key, first, times, sums) in [
            ("'acme', 'alice'", ("15", "e1"), ["18", "17", "17", "n"], "2, 1, 1, 0, 1, 0, 1, 1, 500, 200, 2"),
            ("'acme', 'bob'", ("16", "a"), ["16", "16", "n", "16"], "1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1"),
            ("'acme', 'carol'", ("-1440", "e9"), ["-1440", "-1440", "n", "n"], "1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1"),
            ("'acme', 'dave'", ("19", "d1"), ["19", "19", "n", "n"], "1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1"),
            ("'zulu', 'alice'", ("23", "e8"), ["23", "23", "n", "n"], "1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1"),
        ] {
            let times: Vec<String> = times.iter().map(|hours| at(hours)).collect();
            let graph = match key {
                "'acme', 'bob'" => "'', '', 1, 1, 2, 2",
                "'acme', 'dave'" => "'bob', 'sh1', 0, 0, 0, 0",
                _ => "'', '', 0, 0, 0, 0",
            };
            self.query(&format!(
                "INSERT INTO {{db}}.customers (brand, customer_id, first_event_time, first_event_id, last_event_time, last_scan_time, last_purchase_time, \
                 last_share_time, scans, verifies, draws, joins, visits, shares, orders, refunds, paid, refunded, active_days, \
                 referrer_id, referral_share_id, referred_direct, referred_total, share_visits, share_visitors, version) \
                 SELECT {key}, {}, '{}', {}, {sums}, {graph}, 1",
                at(first.0),
                first.1,
                times.join(", ")
            ));
        }
        // The brand's day begins at 16:00 UTC of the day before; zulu's at midnight UTC.
        for (key, day, sums) in [
            ("'acme', 'alice'", 0, "1, 0, 0, 0, 0, 0, 0, 0, 0"),
            ("'acme', 'alice'", 1, "1, 1, 0, 1, 0, 1, 1, 500, 200"),
            ("'acme', 'bob'", 1, "1, 0, 1, 0, 1, 0, 0, 0, 0"),
            ("'acme', 'carol'", -60, "1, 0, 0, 0, 0, 0, 0, 0, 0"),
            ("'acme', 'dave'", 1, "1, 0, 0, 1, 0, 0, 0, 0, 0"),
            ("'zulu', 'alice'", 0, "1, 0, 1, 0, 0, 0, 0, 0, 0"),
        ] {
            self.query(&format!("INSERT INTO {{db}}.customer_days SELECT {key}, toDate({{day}} + {day}), {sums}, 1"));
        }
    }

    fn fill_cells(&self) {
        // Two tasks share a cell: it is their sum.
        for (brand, hours, dimensions, task, sums) in [
            ("acme", 15, "'c1', 'weibo', 310000", 0, "1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0"),
            ("acme", 17, "'c1', 'weibo', 310000", 0, "0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0"),
            ("acme", 17, "'c1', 'weibo', 310000", 1, "1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0"),
            ("acme", 17, "'', 'store', 0", 0, "0, 0, 0, 0, 0, 1, 0, 500, 0, 0, 0"),
            ("acme", 18, "'', 'store', 0", 0, "0, 0, 0, 0, 0, 0, 1, 0, 200, 0, 0"),
            ("acme", 16, "'c1', 'moments', 440000", 1, "0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0"),
            ("acme", 16, "'c2', 'wechat', 440000", 1, "1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0"),
            ("acme", 19, "'', '', 0", 0, "1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1"),
            ("zulu", 23, "'', '', 0", 0, "1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0"),
        ] {
            self.query(&format!(
                "INSERT INTO {{db}}.activity_minute SELECT '{brand}', toDateTime({{day}} * 86400 + {hours} * 3600, 'UTC'), {dimensions}, '{task}', {sums}, 1"
            ));
        }
        for (brand, day, dimensions, sums) in [
            ("acme", 0, "'c1', 's1', 'weibo', 310101", "1, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0"),
            ("acme", 1, "'c1', 's1', 'weibo', 310101", "1, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0"),
            ("acme", 1, "'', '', 'store', 0", "0, 0, 0, 0, 0, 1, 1, 500, 200, 0, 0"),
            ("acme", 1, "'c1', 's1', 'moments', 440300", "0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0"),
            ("acme", 1, "'c2', 's2', 'wechat', 440301", "1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0"),
            ("acme", -60, "'', '', '', 0", "1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0"),
            ("acme", 1, "'', '', '', 0", "1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1"),
            ("zulu", 0, "'', '', '', 0", "1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0"),
        ] {
            self.query(&format!("INSERT INTO {{db}}.activity_day SELECT '{brand}', toDate({{day}} + {day}), {dimensions}, '0', {sums}, 1"));
        }
        for (brand, day, task, sums) in [
            ("acme", 0, 0, "1, 0, 1, 0"),
            ("acme", 1, 0, "2, 1, 2, 0"),
            ("acme", 1, 1, "1, 0, 1, 1"),
            ("acme", -60, 0, "1, 0, 1, 0"),
            ("zulu", 0, 0, "1, 0, 1, 0"),
        ] {
            self.query(&format!("INSERT INTO {{db}}.active_customers_day SELECT '{brand}', toDate({{day}} + {day}), '{task}', {sums}, 1"));
        }
    }

    /// The whole audit, in one pass and in three: they have to say the same.
    async fn audit(&self) -> Report {
        let report = audit::audit(&self.config, &AuditOptions::default(), |_| {}).await.expect("a report");
        let options = AuditOptions { passes: Some(3), ..AuditOptions::default() };
        let in_passes = audit::audit(&self.config, &options, |_| {}).await.expect("a report");
        assert_eq!(in_passes.to_json(), report.to_json());
        report
    }

    /// The audit of one table, climbed from the archive alone, and in three passes with what they need to know: they have to say the same.
    async fn audit_table(&self, table: &str) -> Report {
        let options = AuditOptions { tables: vec![table.to_owned()], ..AuditOptions::default() };
        let report = audit::audit(&self.config, &options, |_| {}).await.expect("a report");
        let tables = ["referrals", "customer_subtrees", "customers", table].map(ToOwned::to_owned).to_vec();
        let options = AuditOptions { tables, passes: Some(3), ..AuditOptions::default() };
        let in_passes = audit::audit(&self.config, &options, |_| {}).await.expect("a report").to_json();
        let of_table = in_passes["tables"].as_array().and_then(|tables| tables.iter().find(|found| found["table"] == table));
        assert_eq!(of_table.expect(table), &report.to_json()["tables"][0]);
        report
    }
}

/// The tables, their compared columns, and the condition that picks one row of the hand-made ones.
const COMPARED: [(&str, &str, &str); 9] = [
    (
        "customers",
        "first_event_time first_event_id last_event_time last_scan_time last_purchase_time last_share_time scans verifies draws joins visits shares orders refunds paid refunded active_days \
         referrer_id referral_share_id referred_direct referred_total share_visits share_visitors share_orders share_paid share_refunded reshares",
        "brand = 'acme' AND customer_id = 'bob'",
    ),
    ("customer_days", "scans draws joins visits shares orders refunds paid refunded", "customer_id = 'alice' AND day = toDate({day} + 1)"),
    (
        "activity_minute",
        "scans verifies draws visits shares orders refunds paid refunded new_customers referred_customers",
        "brand = 'acme' AND toHour(minute) = 17 AND campaign = 'c1' AND task = '1'",
    ),
    (
        "activity_day",
        "scans verifies draws visits shares orders refunds paid refunded new_customers referred_customers",
        "day = toDate({day} - 60)",
    ),
    ("active_customers_day", "active buyers scanners sharers", "brand = 'zulu'"),
    ("referrals", "parent_id share_id time", "child_id = 'dave'"),
    ("customer_subtrees", "customers orders paid refunded", "customer_id = 'bob'"),
    (
        "shares",
        "parent_share_id parent_sharer_id time campaign sku channel region rewarded visits visitors new_customers orders paid refunded reshares",
        "sharer_id = 'bob'",
    ),
    ("share_cascades", "shares visits new_customers orders paid refunded", "sharer_id = 'bob'"),
];

#[tokio::test]
async fn the_right_tables_have_no_difference() {
    let database = Database::new("right").await;
    let report = database.audit().await;
    assert_eq!(report.verdict(), format!("audit: 0 differences in {ROWS} rows of 9 tables"), "{:#}", report.to_json());
    assert_eq!((report.left_out_customers, report.conflicts.len()), (0, 0));
}

#[tokio::test]
async fn every_wrong_column_of_every_table_is_found_and_named() {
    let database = Database::new("columns").await;
    for (table, columns, row) in COMPARED {
        let columns: Vec<&str> = columns.split_whitespace().collect();
        let wrong = columns.iter().map(|column| match *column {
            text if text.ends_with("_id") || ["campaign", "sku", "channel"].contains(&text) => format!("concat({text}, 'x') AS {text}"),
            "rewarded" => "NOT rewarded AS rewarded".to_owned(),
            time if time.ends_with("time") => format!("addMilliseconds({time}, 1) AS {time}"),
            number => format!("{number} + 1 AS {number}"),
        });
        let wrong: Vec<String> = wrong.collect();
        let kept = format!("FROM {{db}}.{table} FINAL WHERE {row}");
        database.query(&format!("CREATE TABLE {{db}}.kept_{table} ENGINE = Memory AS SELECT * REPLACE (3 AS version) {kept}"));
        database.query(&format!("INSERT INTO {{db}}.{table} SELECT * REPLACE ({}, 2 AS version) {kept}", wrong.join(", ")));
        let report = database.audit_table(table).await;
        assert_eq!(report.differences(), 1, "{table}: {:#}", report.to_json());
        let found = report.tables.iter().find(|found| found.table == table).expect(table);
        let [RowDifference::Wrong { columns: found, .. }] = found.listed.as_slice() else { panic!("{table}: {:#}", report.to_json()) };
        assert_eq!(found.iter().map(|difference| difference.column.as_str()).collect::<Vec<_>>(), columns, "{table}");
        database.query(&format!("INSERT INTO {{db}}.{table} SELECT * FROM {{db}}.kept_{table}"));
    }
    assert_eq!(database.audit().await.differences(), 0, "everything was put right again");
}

#[tokio::test]
async fn missing_and_unexpected_rows_are_found_in_every_table() {
    let database = Database::new("rows").await;
    for (table, _, row) in COMPARED {
        database.query(&format!("CREATE TABLE {{db}}.kept_{table} ENGINE = Memory AS SELECT * FROM {{db}}.{table}"));
        let of = |report: &Report| report.tables.iter().find(|found| found.table == table).expect(table).listed.clone();

        // Both tasks' rows of a cell: half a cell is a wrong one.
        let row = row.replace(" AND task = '1'", "");
        database.query(&format!("ALTER TABLE {{db}}.{table} DELETE WHERE {row} SETTINGS mutations_sync = 2"));
        let report = database.audit_table(table).await;
        assert_eq!(report.differences(), 1, "{table}: {:#}", report.to_json());
        assert!(matches!(of(&report).as_slice(), [RowDifference::Missing { .. }]), "{table}: {:#}", report.to_json());

        database.query(&format!("TRUNCATE TABLE {{db}}.{table}"));
        database.query(&format!("INSERT INTO {{db}}.{table} SELECT * FROM {{db}}.kept_{table}"));
        database.query(&format!("INSERT INTO {{db}}.{table} SELECT * REPLACE ('nobody' AS brand) FROM {{db}}.{table} LIMIT 1"));
        let report = database.audit_table(table).await;
        assert_eq!(report.differences(), 1, "{table}: {:#}", report.to_json());
        assert!(matches!(of(&report).as_slice(), [RowDifference::Unexpected { .. }]), "{table}: {:#}", report.to_json());

        database.query(&format!("TRUNCATE TABLE {{db}}.{table}"));
        database.query(&format!("INSERT INTO {{db}}.{table} SELECT * FROM {{db}}.kept_{table}"));
    }
    assert_eq!(database.audit().await.differences(), 0);
}

#[tokio::test]
async fn a_lost_and_a_repeated_event_show_in_every_table_that_counts_them() {
    let database = Database::new("lost").await;
    database.query("ALTER TABLE {db}.scans DELETE WHERE event_id = 'e2' SETTINGS mutations_sync = 2");
    let lost = database.audit().await;
    let differing: Vec<(&str, u64)> = lost.tables.iter().map(|table| (table.table, table.differences)).collect();
    assert_eq!(
        differing,
        [
            ("customers", 2),
            ("customer_days", 1),
            ("activity_minute", 1),
            ("activity_day", 1),
            ("active_customers_day", 1),
            ("referrals", 0),
            ("customer_subtrees", 0),
            ("shares", 1),
            ("share_cascades", 1)
        ]
    );

    database.scan(SCANS);
    database.scan(SCANS);
    assert_eq!(database.audit().await.differences(), 0, "the same rows again are the same events");
}

#[tokio::test]
async fn customers_with_conflicting_events_are_listed_and_left_out_with_their_cells() {
    let database = Database::new("conflicts").await;
    database.scan("('acme', 'other', 20, 'a', 'bob', '', '', 's2', 'c3', 440301, 'wechat', 'follow', 'consumer')");
    // Of these, nobody remembers anything.
    database.scan("('acme', 'other', 2, 'e1', 'shop', '', '', '', '', 0, '', 'trace', 'retailer')");
    database.query(
        "INSERT INTO {db}.customers SELECT * REPLACE (scans + 1 AS scans, 9 AS version) FROM {db}.customers WHERE customer_id = 'bob'",
    );
    database.query("INSERT INTO {db}.activity_day SELECT * REPLACE ('c3' AS campaign) FROM {db}.activity_day WHERE campaign = 'c2'");
    let report = database.audit().await;
    assert_eq!(report.differences(), 0, "{:#}", report.to_json());
    assert_eq!(report.left_out_customers, 1);
    let [conflict] = report.conflicts.as_slice() else { panic!("{:#}", report.to_json()) };
    assert_eq!((conflict.kind, conflict.event_id.as_str(), conflict.customer_id.as_str(), conflict.contents), ("scan", "a", "bob", 2));
    assert!(report.rows() < ROWS, "{}", report.rows());

    database.query(
        "INSERT INTO {db}.customers SELECT * REPLACE (scans + 1 AS scans, 9 AS version) FROM {db}.customers WHERE customer_id = 'carol'",
    );
    assert_eq!(database.audit().await.differences(), 1, "others are still compared");
}

#[tokio::test]
async fn minutes_past_their_retention_are_not_compared() {
    let database = Database::new("retention").await;
    database.query("INSERT INTO {db}.activity_minute (brand, minute, task, scans, version) SELECT 'acme', toStartOfMinute(now() - toIntervalDay(50)), '0', 7, 1");
    assert_eq!(database.audit().await.differences(), 0);
    database.query("INSERT INTO {db}.activity_minute (brand, minute, task, scans, version) SELECT 'acme', toStartOfMinute(now() - toIntervalDay(40)), '0', 7, 1");
    assert_eq!(database.audit().await.differences(), 1);
}

#[tokio::test]
async fn a_view_that_shows_a_key_twice_is_found() {
    let database = Database::new("twice").await;
    database.query("SYSTEM STOP MERGES {db}.customers");
    database.query("INSERT INTO {db}.customers SELECT * REPLACE (2 AS version) FROM {db}.customers WHERE customer_id = 'bob'");
    database.query("CREATE OR REPLACE VIEW {db}.v_customers AS SELECT * FROM {db}.customers");
    let report = database.audit().await;
    assert!(matches!(report.tables[0].listed.as_slice(), [RowDifference::Repeated { rows: 2, .. }]), "{:#}", report.to_json());
}

#[tokio::test]
async fn no_verdict_is_given_on_missing_tables_or_an_archive_that_expires() {
    let mut database = Database::new("nothing").await;
    database.query("DROP TABLE {db}.customer_days SYNC");
    let options = AuditOptions::default();
    let error = audit::audit(&database.config, &options, |_| {}).await.expect_err("a missing table");
    assert!(error.to_string().contains("table `customer_days` does not exist; run `onecode migrate`"), "{error}");
    database.config.clickhouse.archive_retention_days = Some(400);
    let error = audit::audit(&database.config, &options, |_| {}).await.expect_err("an archive that expires");
    assert!(matches!(error, AuditError::ArchiveExpires { days: 400 }), "{error}");
}

#[tokio::test]
async fn too_little_memory_is_no_verdict_and_says_what_to_do() {
    let database = Database::new("memory").await;
    let options = AuditOptions { memory_bytes: 1 << 20, ..AuditOptions::default() };
    let error = audit::audit(&database.config, &options, |_| {}).await.expect_err("1 MiB").to_string();
    assert!(error.contains("too little memory") && error.contains("--memory-mib"), "{error}");
}

#[tokio::test]
async fn differences_read_as_text() {
    let database = Database::new("texts").await;
    database.query("INSERT INTO {db}.customers SELECT * REPLACE (paid + 1 AS paid, scans + 2 AS scans, 9 AS version) FROM {db}.customers");
    let options = AuditOptions { listed_differences: 1, ..AuditOptions::default() };
    let report = audit::audit(&database.config, &options, |_| {}).await.expect("a report");
    let text = report.tables[0].to_string();
    let expected = "customers: 5 differences in 5 rows\n  wrong: brand=\"acme\" customer_id=\"alice\": scans is \"4\" and must be \"2\"; paid is \"501\" and must be \"500\";\n  and 4 more\n";
    assert_eq!(text, expected);
    assert_eq!(report.to_json()["tables"][0]["listed"][0]["columns"]["paid"]["expected"], "500");
}
