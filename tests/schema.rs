//! What the schema promises to the pipeline and to readers, on a real ClickHouse.

use std::path::Path;
use std::sync::LazyLock;

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

/// The settings of one insert that has to be one block.
const ONE_BLOCK: &str = "async_insert = 0, insert_deduplicate = 0, deduplicate_insert = 'disable', optimize_on_insert = 0, max_insert_block_size = 1000000000, \
    min_insert_block_size_rows = 1000000000, min_insert_block_size_bytes = 100000000000, max_insert_threads = 1, max_threads = 1";

/// A migrated database of its own.
struct Database(&'static str);

impl Database {
    async fn new(name: &'static str) -> Database {
        let text = format!("[clickhouse]\nurl = \"{}\"\ndatabase = \"{name}\"\n", SERVER.clickhouse.url());
        let config = Config::from_text(&text, Path::new("onecode.toml"), []).expect("a configuration");
        for step in migrate::plan(&config).await.expect("a plan") {
            migrate::apply(&config.clickhouse, &step).await.expect("a step");
        }
        Database(name)
    }

    /// Runs a statement in which `{db}` stands for the database.
    fn query(&self, sql: &str) -> String {
        SERVER.clickhouse.query(&sql.replace("{db}", self.0)).expect(sql).trim_end().to_owned()
    }

    fn insert_state(&self, task: &str, generation: u64, rows: u64, sequence: u64) {
        self.query(&format!(
            "INSERT INTO {{db}}.task_state SETTINGS {ONE_BLOCK} \
             SELECT '{task}', {generation}, 1, toString(number), {sequence}, '{task}/{generation}/{sequence}', 0 FROM numbers({rows})"
        ));
    }
}

#[tokio::test]
async fn equal_keys_of_two_tasks_and_of_two_generations_read_apart() {
    let db = Database::new("apart").await;
    db.query("SYSTEM STOP MERGES {db}.task_state");
    for (task, generation) in [("7", 3), ("7", 4), ("8", 3)] {
        for sequence in [2, 1] {
            db.insert_state(task, generation, 1000, sequence);
        }
    }
    let read = "SELECT task, generation, count(), countIf(payload = concat(task, '/', toString(generation), '/2')) FROM {db}.task_state FINAL GROUP BY ALL ORDER BY ALL FORMAT CSV";
    let expected = "\"7\",3,1000,1000\n\"7\",4,1000,1000\n\"8\",3,1000,1000";
    assert_eq!(db.query(read), expected);
    assert_eq!(db.query("SELECT count() FROM {db}.task_state FINAL WHERE task = '7' AND generation = 4"), "1000");
    db.query("SYSTEM START MERGES {db}.task_state");
    db.query("OPTIMIZE TABLE {db}.task_state FINAL");
    assert_eq!(db.query(read), expected, "after merges too");
}

#[tokio::test]
async fn a_tombstone_hides_its_key_until_a_higher_sequence() {
    let db = Database::new("tombstones").await;
    let write = |sequence: u64, deleted: u8| {
        db.query(&format!("INSERT INTO {{db}}.task_state SETTINGS {ONE_BLOCK} SELECT '1', 1, 1, 'key', {sequence}, 'value', {deleted}"));
        db.query("SELECT count() FROM {db}.task_state FINAL")
    };
    assert_eq!(write(5, 0), "1");
    assert_eq!(write(6, 1), "0");
    assert_eq!(write(4, 0), "0", "a late insert of an older value stays hidden");
    db.query("OPTIMIZE TABLE {db}.task_state FINAL");
    assert_eq!(write(3, 0), "0", "the tombstone outlives merges");
    assert_eq!(write(7, 0), "1");
}

#[tokio::test]
async fn one_insert_of_a_million_rows_is_one_part() {
    let db = Database::new("onepart").await;
    db.query("SYSTEM STOP MERGES {db}.task_state");
    db.insert_state("7", 3, 1_000_000, 1);
    let parts = "SELECT count(), sum(rows) FROM system.parts WHERE database = '{db}' AND table = 'task_state' AND active FORMAT CSV";
    assert_eq!(db.query(parts), "1,1000000");
}

#[tokio::test]
async fn a_generation_is_copied_and_dropped_by_its_value() {
    let db = Database::new("generations").await;
    db.insert_state("topic:0", 3, 1000, 1);
    db.insert_state("topic:0", 3, 500, 2);
    db.insert_state("topic:1", 3, 10, 1);
    db.query(&format!(
        "INSERT INTO {{db}}.task_state SETTINGS {ONE_BLOCK} SELECT task, 4, kind, key, sequence, payload, is_deleted FROM {{db}}.task_state FINAL WHERE task = 'topic:0' AND generation = 3"
    ));
    db.query("ALTER TABLE {db}.task_state DROP PARTITION ('topic:0', 3)");
    db.query("ALTER TABLE {db}.task_state DROP PARTITION ('topic:0', 2)");
    let read = "SELECT task, generation, count(), sum(sequence) FROM {db}.task_state FINAL GROUP BY ALL ORDER BY ALL FORMAT CSV";
    assert_eq!(db.query(read), "\"topic:0\",4,1000,1500\n\"topic:1\",3,10,10");
}

#[tokio::test]
async fn a_lower_version_never_replaces_a_higher_one_however_they_arrive() {
    let db = Database::new("versions").await;
    let write = |version: u64, orders: u32| {
        db.query(&format!(
            "INSERT INTO {{db}}.customer_days (brand, customer_id, day, orders, version) SETTINGS async_insert = 0, optimize_on_insert = 0 \
             VALUES ('acme', 'c', '2026-11-20', {orders}, {version}), ('acme', 'c', '2026-11-20', {}, {})",
            orders + 1,
            version + 1
        ));
        db.query("SELECT orders FROM {db}.v_customer_days")
    };
    assert_eq!(write(10, 5), "6", "two versions in one insert");
    assert_eq!(write(3, 1), "6");
    assert_eq!(write(20, 7), "8");
}

#[tokio::test]
async fn cells_are_summed_over_tasks_and_old_minutes_are_hidden() {
    let db = Database::new("cells").await;
    db.query("SYSTEM STOP MERGES {db}.activity_minute");
    for (task, version, scans) in [("0", 1, 5), ("0", 2, 7), ("1", 1, 10)] {
        db.query(&format!(
            "INSERT INTO {{db}}.activity_minute (brand, minute, task, scans, version) SETTINGS async_insert = 0 \
             SELECT 'acme', toStartOfMinute(now() - toIntervalDay(arrayJoin([1, 44, 46]))), '{task}', {scans}, {version}"
        ));
    }
    assert_eq!(db.query("SELECT scans, count() FROM {db}.v_activity_minute GROUP BY scans FORMAT CSV"), "17,2");
}

/// (code, seconds, customer, event, role, region, device, sku)
const SCANS: &str = "('x', 20, 'carol', 'e3', 'consumer', 310101, 'd1', 'late'), ('x', 10, 'bob', 'e2', 'retailer', 310102, 'd2', 'first'), \
    ('x', 10, 'dan', 'e1', 'consumer', 0, '', 'second'), ('x', 30, 'carol', 'e4', 'consumer', 440300, 'd1', ''), ('y', 5, 'shop', 'e1', 'dealer', 1, 'd', 'only')";

#[tokio::test]
async fn the_record_of_a_code_counts_roles_as_the_rules_say() {
    let db = Database::new("codes").await;
    for _ in 0..2 {
        db.query(&format!(
            "INSERT INTO {{db}}.scans (brand, code, event_time, event_id, customer_id, role, region, device, sku) SETTINGS async_insert = 0 \
             SELECT 'acme', t.1, toDateTime64(t.2, 3, 'UTC'), t.4, t.3, t.5, t.6, t.7, t.8 FROM (SELECT arrayJoin([{SCANS}]) AS t)"
        ));
    }
    let read = |code: &str| {
        db.query(&format!(
            "SELECT sku, toUnixTimestamp(first_scan), first_customer, toUnixTimestamp(last_scan), scans, customers, regions, devices \
             FROM {{db}}.v_codes WHERE brand = 'acme' AND code = '{code}' FORMAT CSV"
        ))
    };
    assert_eq!(read("x"), "\"first\",10,\"dan\",30,4,2,2,1");
    assert_eq!(read("y"), "\"only\",5,\"\",5,1,0,0,0", "no consumer has scanned it");
}

#[tokio::test]
async fn a_customer_and_a_referrer_are_found_without_reading_the_table() {
    let db = Database::new("indexes").await;
    db.query(
        "INSERT INTO {db}.scans (brand, code, event_time, event_id, customer_id) SETTINGS async_insert = 0 \
         SELECT 'acme', hex(sipHash64(number)), now64(3), toString(number), concat('c', toString(number % 50000)) FROM numbers(200000)",
    );
    db.query(
        "INSERT INTO {db}.customers (brand, customer_id, referrer_id) SETTINGS async_insert = 0 \
         SELECT 'acme', concat('c', toString(number)), concat('r', toString(number)) FROM numbers(200000)",
    );
    db.query("OPTIMIZE TABLE {db}.scans FINAL");
    db.query("OPTIMIZE TABLE {db}.customers FINAL");
    for (query, most_granules) in [
        ("SELECT * FROM {db}.v_customers WHERE brand = 'acme' AND customer_id = 'c77'", 1),
        ("SELECT * FROM {db}.v_customers WHERE brand = 'acme' AND referrer_id = 'r77'", 3),
        ("SELECT * FROM {db}.v_scans WHERE brand = 'acme' AND customer_id = 'c77'", 10),
    ] {
        let plan = db.query(&format!("EXPLAIN indexes = 1 {query} FORMAT TSVRaw"));
        let granules = |line: &str| line.trim().strip_prefix("Granules: ").and_then(|rest| rest.split('/').next()?.parse::<u32>().ok());
        let read = plan.lines().filter_map(granules).next_back().expect("granules in the plan");
        assert!(read <= most_granules, "{query} reads {read} granules:\n{plan}");
    }
}
