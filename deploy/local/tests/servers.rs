//! The local stack against itself: real servers, real signals.

use std::time::Duration;

use anyhow::{Result, ensure};
use onecode_local::{ClickHouse, ClickHouseOptions, Kafka, KafkaOptions, Prometheus, PrometheusOptions, install, wait_for};

fn scratch_dir() -> Result<tempfile::TempDir> {
    Ok(tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?)
}

fn read_all(kafka: &Kafka, topic: &str, count: usize) -> Result<Vec<String>> {
    let count = count.to_string();
    let arguments = ["--topic", topic, "--from-beginning", "--max-messages", &count, "--timeout-ms", "30000"];
    let printed = kafka.tool("org.apache.kafka.tools.consumer.ConsoleConsumer", &arguments, "")?;
    Ok(printed.lines().map(str::to_owned).collect())
}

#[test]
fn kafka_keeps_records_through_kill_stop_and_pause() -> Result<()> {
    let dir = scratch_dir()?;
    let kafka = Kafka::start(KafkaOptions::in_dir(dir.path().join("kafka")).property("log.segment.bytes", "1048576"))?;
    kafka.create_topic("words", 1, &["message.timestamp.type=LogAppendTime"])?;
    kafka.console_producer("words", &["parse.key=true", "key.separator=|"], ["a|one", "b|two"])?;
    let address = kafka.bootstrap();

    kafka.kill()?;
    assert!(std::net::TcpStream::connect(&address).is_err(), "a killed broker still listens");
    kafka.start_again()?;
    assert_eq!(kafka.bootstrap(), address);
    kafka.console_producer("words", &[], ["three"])?;

    kafka.stop()?;
    kafka.start_again()?;
    kafka.pause()?;
    kafka.resume()?;
    assert_eq!(read_all(&kafka, "words", 3)?, ["one", "two", "three"]);

    let refused = kafka.console_producer("words-that-nobody-created", &["parse.key=true"], ["no key"]);
    assert!(refused.is_err(), "records without their separator were accepted");
    Ok(())
}

#[test]
fn clickhouse_keeps_rows_through_kill_and_stop() -> Result<()> {
    let dir = scratch_dir()?;
    let clickhouse = ClickHouse::start(ClickHouseOptions::in_dir(dir.path().join("clickhouse")))?;
    clickhouse.query("CREATE DATABASE shop")?;
    clickhouse.query(
        "CREATE TABLE shop.numbers (n UInt64, text String) ENGINE = MergeTree ORDER BY n SETTINGS fsync_after_insert = 1, fsync_part_directory = 1",
    )?;
    clickhouse.query("INSERT INTO shop.numbers SELECT number, repeat('x', 100) FROM numbers(1000000)")?;

    clickhouse.kill()?;
    clickhouse.start_again()?;
    assert_eq!(clickhouse.query("SELECT count(), sum(n) FROM shop.numbers")?, "1000000\t499999500000\n");

    clickhouse.query("INSERT INTO shop.numbers SELECT number, '' FROM numbers(10)")?;
    clickhouse.stop()?;
    clickhouse.start_again()?;
    assert_eq!(clickhouse.query("SELECT count() FROM shop.numbers")?, "1000010\n");
    Ok(())
}

#[test]
fn clickhouse_serves_thirty_queries_at_once_and_none_while_paused() -> Result<()> {
    let dir = scratch_dir()?;
    let clickhouse = ClickHouse::start(ClickHouseOptions::in_dir(dir.path().join("clickhouse")))?;
    let answers: Vec<Result<String>> = std::thread::scope(|scope| {
        let queries: Vec<_> = (0..30).map(|_| scope.spawn(|| clickhouse.query("SELECT sleep(1)"))).collect();
        queries.into_iter().map(|query| query.join().unwrap_or_else(|_| Err(anyhow::anyhow!("a query panicked")))).collect()
    });
    for answer in answers {
        assert_eq!(answer?, "0\n");
    }

    clickhouse.pause()?;
    let url = clickhouse.url();
    let agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(1))).build().new_agent();
    assert!(agent.post(&url).send("SELECT 1").is_err(), "a paused server answered");
    clickhouse.resume()?;
    assert_eq!(clickhouse.query("SELECT 1")?, "1\n");
    Ok(())
}

#[test]
fn clickhouse_takes_users_and_row_policies_from_xml() -> Result<()> {
    let dir = scratch_dir()?;
    let mut options = ClickHouseOptions::in_dir(dir.path().join("clickhouse"));
    options.users_xml = "<users><reader><password>secret</password><networks><ip>127.0.0.1</ip></networks><profile>default</profile>\
        <quota>default</quota><databases><shop><orders><filter>brand = 'mine'</filter></orders></shop></databases></reader></users>"
        .to_owned();
    let clickhouse = ClickHouse::start(options)?;
    clickhouse.query("CREATE DATABASE shop")?;
    clickhouse.query("CREATE TABLE shop.orders (brand String) ENGINE = MergeTree ORDER BY brand")?;
    clickhouse.query("INSERT INTO shop.orders VALUES ('mine'), ('theirs')")?;

    let url = format!("{}/?user=reader&password=secret", clickhouse.url());
    let seen = ureq::post(&url).send("SELECT brand FROM shop.orders")?.body_mut().read_to_string()?;
    assert_eq!(seen, "mine\n");
    assert_eq!(clickhouse.query("SELECT count() FROM shop.orders")?, "2\n");
    Ok(())
}

#[test]
fn prometheus_scrapes_and_answers() -> Result<()> {
    let dir = scratch_dir()?;
    let prometheus = Prometheus::start(PrometheusOptions::in_dir(dir.path().join("prometheus"), vec!["127.0.0.1:1".to_owned()]))?;
    let up = wait_for("a first scrape", Duration::from_secs(30), || Ok(prometheus.query("up{job=\"onecode\"}")?.pop()))?;
    assert_eq!(up.value, 0.0, "nothing listens on port 1");
    assert_eq!(up.labels.get("instance").map(String::as_str), Some("127.0.0.1:1"));
    assert!(prometheus.query("up{").is_err());
    prometheus.stop()
}

#[test]
fn a_second_install_finds_everything_and_says_nothing() -> Result<()> {
    install::install(&install::to_stderr)?;
    let said = std::cell::RefCell::new(Vec::new());
    let installed = install::install(&|message| said.borrow_mut().push(message.to_owned()))?;
    ensure!(said.borrow().is_empty(), "installed again: {said:?}");
    assert!(installed.clickhouse_library.is_file());
    assert!(installed.kafka_jars.is_dir());
    assert!(installed.prometheus.promtool.is_file());
    Ok(())
}
