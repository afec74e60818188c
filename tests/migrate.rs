//! `onecode migrate` and `onecode check` against a real Kafka and a real ClickHouse.

use std::path::Path;
use std::sync::LazyLock;

use onecode::commands::check::CheckArgs;
use onecode::commands::migrate::MigrateArgs;
use onecode::commands::{Verdict, check, migrate};
use onecode::config::Config;
use onecode::migrate::schema::{Column, tables};
use onecode_local::{ClickHouse, ClickHouseOptions, Kafka, KafkaOptions};

struct Stack {
    kafka: Kafka,
    clickhouse: ClickHouse,
    _dir: tempfile::TempDir,
}

/// One of each for the tests of this file; each test has its own database and topics.
static STACK: LazyLock<Stack> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory");
    let kafka = Kafka::start(KafkaOptions::in_dir(dir.path().join("kafka"))).expect("Kafka");
    let clickhouse = ClickHouse::start(ClickHouseOptions::in_dir(dir.path().join("clickhouse"))).expect("ClickHouse");
    Stack { kafka, clickhouse, _dir: dir }
});

/// A configuration of its own for the test called `name`, with `more` keys under `[clickhouse]`.
fn config(name: &str, more: &str) -> Config {
    let text = format!(
        r#"
        [kafka]
        brokers = "{brokers}"
        replication_factor = 1
        [topics]
        scans = {{ name = "{name}-scans" }}
        purchases = {{ name = "{name}-purchases" }}
        shares = {{ name = "{name}-shares" }}
        exchange = {{ name = "{name}-exchange" }}
        dead_letter = {{ name = "{name}-dead-letter" }}
        [clickhouse]
        url = "{url}"
        database = "{name}"
        {more}
        "#,
        brokers = STACK.kafka.bootstrap(),
        url = STACK.clickhouse.url(),
    );
    Config::from_text(&text, Path::new("onecode.toml"), []).expect("a configuration")
}

async fn migrated(config: &Config, args: &MigrateArgs) -> Result<String, String> {
    let mut out = Vec::new();
    let result = migrate::run(config, args, &mut out).await;
    let text = String::from_utf8(out).expect("text");
    result.map(|_| text).map_err(|error| format!("{error:#}"))
}

async fn checked(config: &Config) -> (usize, String) {
    let mut out = Vec::new();
    let verdict = check::run(config, &CheckArgs::default(), &mut out).await.expect("a report");
    let report = String::from_utf8(out).expect("text");
    let faults = report.lines().filter(|line| line.starts_with("wrong: ")).count();
    assert_eq!(verdict, if faults == 0 { Verdict::Fine } else { Verdict::FoundSomething }, "{report}");
    (faults, report)
}

fn with_inputs(partitions: usize) -> MigrateArgs {
    MigrateArgs { create_input_topics: Some(partitions), ..MigrateArgs::default() }
}

fn query(config: &Config, sql: &str) -> String {
    STACK.clickhouse.query(&sql.replace("{db}", &config.clickhouse.database)).expect(sql)
}

#[tokio::test]
async fn a_migration_without_input_topics_says_what_to_run_and_a_later_one_goes_on() {
    let config = config("later", "");
    let error = migrated(&config, &MigrateArgs::default()).await.expect_err("no input topics");
    for part in ["`later-scans`, `later-purchases`, `later-shares`", "--create-input-topics N"] {
        assert!(error.contains(part), "{error}");
    }
    let report = migrated(&config, &with_inputs(3)).await.expect("a migration");
    assert!(report.contains("create topic `later-exchange` with 3 partitions"), "{report}");
    assert!(!report.contains("create table"), "the tables were made by the first one: {report}");
    assert_eq!(checked(&config).await.0, 0, "{}", checked(&config).await.1);
}

#[tokio::test]
async fn a_second_migration_has_nothing_to_do_and_a_dry_run_changes_nothing() {
    let config = config("twice", "");
    let dry = MigrateArgs { dry_run: true, ..with_inputs(2) };
    let planned = migrated(&config, &dry).await.expect("a plan");
    assert!(planned.contains("would create database `twice`") && planned.contains("would create view `v_codes`"), "{planned}");
    assert_eq!(query(&config, "SELECT count() FROM system.databases WHERE name = '{db}'").trim(), "0");
    let done = migrated(&config, &with_inputs(2)).await.expect("a migration");
    let steps = |report: &str| report.lines().filter(|line| line.contains("create") || line.contains("set")).count();
    assert_eq!(steps(&planned), steps(&done), "a dry run shows the same steps:\n{planned}\n{done}");
    for args in [MigrateArgs::default(), dry] {
        assert_eq!(migrated(&config, &args).await.expect("again"), "nothing to do: everything is up to date\n");
    }
}

#[tokio::test]
async fn the_server_has_the_columns_that_the_files_say() {
    let config = config("columns", "");
    migrated(&config, &with_inputs(1)).await.expect("a migration");
    for table in tables().values() {
        let rows = query(
            &config,
            &format!(
                "SELECT name, type FROM system.columns WHERE database = '{{db}}' AND table = '{}' ORDER BY position FORMAT TSVRaw",
                table.name
            ),
        );
        let found: Vec<Column> = rows
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .map(|(name, kind)| Column { name: name.to_owned(), kind: kind.to_owned() })
            .collect();
        assert_eq!(found, table.columns, "{}", table.name);
    }
    let uncommented = "SELECT concat(table, '.', name) FROM system.columns WHERE database = '{db}' AND comment = '' \
        AND table IN (SELECT name FROM system.tables WHERE database = '{db}' AND engine LIKE '%MergeTree') FORMAT TSVRaw";
    assert_eq!(query(&config, uncommented), "", "every column says what it is");
}

#[tokio::test]
async fn check_names_every_table_and_column_that_is_not_as_it_must_be() {
    let config = config("broken", "");
    migrated(&config, &with_inputs(1)).await.expect("a migration");
    query(&config, "DROP TABLE {db}.purchases SYNC");
    query(&config, "DROP VIEW {db}.v_codes SYNC");
    query(&config, "ALTER TABLE {db}.customer_days DROP COLUMN refunded");
    query(&config, "ALTER TABLE {db}.customers MODIFY COLUMN paid String");
    query(
        &config,
        "CREATE MATERIALIZED VIEW {db}.sums ENGINE = SummingMergeTree ORDER BY brand AS SELECT brand, count() AS scans FROM {db}.scans GROUP BY brand",
    );
    query(
        &config,
        "CREATE MATERIALIZED VIEW {db}.hourly REFRESH EVERY 1 HOUR (brand String, scans UInt64) ENGINE = MergeTree ORDER BY brand AS SELECT brand, count() AS scans FROM {db}.share_events GROUP BY brand",
    );
    let (faults, report) = checked(&config).await;
    for part in [
        "table `purchases` does not exist; run `onecode migrate`",
        "view `v_codes` does not exist; run `onecode migrate`",
        "table `customer_days` has no column `refunded` Int64",
        "column `paid` of table `customers` is String and must be Int64",
        "materialized view `broken.sums` runs on every insert into `scans`",
    ] {
        assert!(report.lines().any(|line| line.starts_with("wrong: ") && line.contains(part)), "{part}\n{report}");
    }
    assert_eq!(faults, 5, "{report}");
    let error = migrated(&config, &MigrateArgs::default()).await.expect_err("a table that migrate does not alter");
    assert!(
        error.contains("column `paid`") && error.contains("no column `refunded`") && !error.contains("`purchases` does not exist"),
        "{error}"
    );
}

#[tokio::test]
async fn an_edited_migration_and_a_newer_database_are_refused() {
    let config = config("edited", "");
    migrated(&config, &with_inputs(1)).await.expect("a migration");
    query(&config, "INSERT INTO {db}.schema_migrations SELECT 3, '0003_customer_days', 'edited', now64(3) + 1");
    let error = migrated(&config, &MigrateArgs::default()).await.expect_err("an edited migration");
    assert!(error.contains("0003_customer_days") && error.contains("never edited"), "{error}");
    query(&config, "TRUNCATE TABLE {db}.schema_migrations");
    query(&config, "INSERT INTO {db}.schema_migrations SELECT 9999, '9999_later', 'x', now64(3)");
    let error = migrated(&config, &MigrateArgs::default()).await.expect_err("a newer database");
    assert!(error.contains("newer release") && error.contains("9999_later"), "{error}");
}

#[tokio::test]
async fn retention_follows_the_configuration() {
    let before = config("retention", "");
    migrated(&before, &with_inputs(1)).await.expect("a migration");
    let engine = |table: &str| {
        query(&before, &format!("SELECT engine_full FROM system.tables WHERE database = '{{db}}' AND name = '{table}' FORMAT TSVRaw"))
    };
    assert!(engine("activity_minute").contains(" TTL minute + toIntervalDay(45) "), "{}", engine("activity_minute"));
    assert!(!engine("scans").contains(" TTL "), "{}", engine("scans"));

    let after = config("retention", "minute_retention_days = 60\narchive_retention_days = 400");
    let (faults, report) = checked(&after).await;
    assert_eq!(faults, 4, "{report}");
    let report = migrated(&after, &MigrateArgs::default()).await.expect("a migration");
    assert!(report.contains("replace view `v_activity_minute`"), "{report}");
    assert!(engine("activity_minute").contains(" TTL minute + toIntervalDay(60) "), "{}", engine("activity_minute"));
    assert!(engine("share_events").contains(" TTL toDateTime(event_time) + toIntervalDay(400) "), "{}", engine("share_events"));
    assert_eq!(checked(&after).await.0, 0, "{}", checked(&after).await.1);
    assert_eq!(migrated(&after, &MigrateArgs::default()).await.expect("again"), "nothing to do: everything is up to date\n");

    migrated(&before, &MigrateArgs::default()).await.expect("and back");
    assert!(!engine("scans").contains(" TTL "), "{}", engine("scans"));
}

#[tokio::test]
async fn topics_are_made_to_last_and_check_finds_those_that_are_not() {
    let config = config("topics", "");
    STACK.kafka.create_topic("topics-scans", 4, &["message.timestamp.type=LogAppendTime", "max.message.bytes=3000000"]).expect("scans");
    STACK
        .kafka
        .create_topic("topics-purchases", 2, &["message.timestamp.type=LogAppendTime", "max.message.bytes=1000000"])
        .expect("purchases");
    STACK.kafka.create_topic("topics-shares", 4, &["max.message.bytes=1000000"]).expect("shares");
    let report = migrated(&config, &MigrateArgs::default()).await.expect("a migration");
    assert!(report.contains("create topic `topics-exchange` with 4 partitions, replication factor 1"), "{report}");
    assert!(report.contains("retention.ms=2592000000") && report.contains("max.message.bytes=3065536"), "{report}");
    let (faults, report) = checked(&config).await;
    assert_eq!(faults, 0, "{report}");
    assert!(report.contains("note: input topic `topics-shares` takes its timestamps from producers"), "{report}");
    assert!(report.contains("note: input topic `topics-purchases` has 2 partitions and the exchange 4"), "{report}");

    let alter = |topic: &str, setting: &str| {
        let arguments = ["--alter", "--entity-type", "topics", "--entity-name", topic, "--add-config", setting];
        STACK.kafka.tool("kafka.admin.ConfigCommand", &arguments, "").expect(setting);
    };
    alter("topics-shares", "message.timestamp.type=LogAppendTime");
    alter(
        "topics-exchange",
        "cleanup.policy=compact,retention.ms=86400000,retention.bytes=1000000,max.message.bytes=1000,message.timestamp.type=CreateTime,unclean.leader.election.enable=true",
    );
    alter("topics-dead-letter", "max.message.bytes=1000");
    let (faults, report) = checked(&config).await;
    for part in [
        "`topics-exchange` is compacted",
        "`topics-exchange` keeps its messages for 1.0 days",
        "`topics-exchange` drops messages over 1000000 bytes",
        "`topics-exchange` takes messages up to 1000 bytes, but the largest input record and its headers may have 3065536",
        "`topics-exchange` takes its timestamps from producers",
        "`topics-exchange` may elect a leader that lacks acknowledged messages",
        "`topics-dead-letter` takes messages up to 1000 bytes",
    ] {
        assert!(report.contains(part), "{part}\n{report}");
    }
    assert_eq!(faults, 7, "{report}");
}

#[tokio::test]
async fn servers_that_cannot_be_reached_are_named_all_at_once_and_without_secrets() {
    let text = "[kafka]\nbrokers = \"127.0.0.1:9\"\n[clickhouse]\nurl = \"http://127.0.0.1:9\"\npassword = \"hunter2\"\n";
    let config = Config::from_text(text, Path::new("onecode.toml"), []).expect("a configuration");
    let (faults, report) = checked(&config).await;
    assert_eq!(faults, 2, "{report}");
    assert!(
        report.contains("cannot reach ClickHouse at http://127.0.0.1:9") && report.contains("cannot reach Kafka at 127.0.0.1:9"),
        "{report}"
    );
    assert!(!report.contains("hunter2"), "{report}");
    let wrong_password =
        format!("[kafka]\nbrokers = \"127.0.0.1:9\"\n[clickhouse]\nurl = \"{}\"\npassword = \"hunter2\"\n", STACK.clickhouse.url());
    let config = Config::from_text(&wrong_password, Path::new("onecode.toml"), []).expect("a configuration");
    let report = checked(&config).await.1;
    assert!(report.contains("refuses the user or the password") && !report.contains("hunter2"), "{report}");
}
