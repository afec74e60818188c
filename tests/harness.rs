//! The harness that the tests with real servers stand on: what it says it sent, stored and read is what happened.

mod common;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use common::events::{now_ms, payment, purchase_record, refund, scan, scan_record, share, share_record, via};
use common::{DEADLINE, Record, Stack, World, wait_until};
use onecode::config::Config;
use onecode::decode::{Format, RawRecord, Rules, decode};
use onecode::model::EventKind;
use onecode::pb::Scan;
use prost::Message as _;

#[test]
fn records_come_back_with_key_value_headers_and_broker_time() -> Result<()> {
    let world = World::new("records")?;
    let topic = world.topic("scans");
    world.create_topic(&topic, 3, &[("message.timestamp.type", "LogAppendTime")])?;
    let before_ms = now_ms();
    let full = Record { timestamp_ms: Some(5), ..Record::new("ann", "one") }.with_header("content-type", b"text/plain").in_partition(2);
    let tombstone = Record { key: Some(b"ann".to_vec()), ..Record::default() }.in_partition(2);
    world.produce(&topic, [full, tombstone, Record { value: Some(b"no key".to_vec()), ..Record::default() }.in_partition(0)])?;

    let stored = world.read_topic(&topic)?;
    let seen: Vec<_> = stored.iter().map(|record| (record.partition, record.offset, record.value.as_deref())).collect();
    assert_eq!(seen, [(0, 0, Some(b"no key".as_slice())), (2, 0, Some(b"one".as_slice())), (2, 1, None)]);
    let full = stored.get(1).context("no second record")?;
    assert_eq!((full.key.as_deref(), full.header("content-type").as_deref()), (Some(b"ann".as_slice()), Some("text/plain")));
    assert!(full.timestamp_ms >= before_ms, "the broker's time, not the producer's");
    assert_eq!(world.lag(&topic)?, 3, "nothing is committed yet");
    Ok(())
}

#[test]
fn keys_go_to_the_partition_that_owns_the_customer() -> Result<()> {
    let world = World::new("owners")?;
    let topic = world.topic("scans");
    world.create_topic(&topic, 12, &[])?;
    let customers: Vec<String> = (0..200).map(|number| format!("customer-{number}")).collect();
    world.produce(&topic, customers.iter().map(|customer| scan_record(&scan("s-1", customer, now_ms()))))?;
    let stored = world.read_topic(&topic)?;
    assert_eq!(stored.len(), customers.len());
    for record in stored {
        let event = Scan::decode(record.value.as_deref().context("no value")?)?;
        let owner = onecode::model::owner(&event.customer_id, 12);
        assert_eq!(i64::from(record.partition), i64::from(owner), "{}", event.customer_id);
    }
    Ok(())
}

#[test]
fn worlds_on_one_stack_have_their_own_databases_and_valid_configurations() -> Result<()> {
    let mut first = World::new("twins")?;
    let second = World::new("twins")?;
    for world in [&first, &second] {
        world.stack.clickhouse.query(&format!("CREATE DATABASE {}", world.database()))?;
        world.query("CREATE TABLE facts (name String, n Int64) ENGINE = MergeTree ORDER BY name")?;
    }
    first.query("INSERT INTO facts VALUES ('a', 1), ('b', -2)")?;
    assert_eq!(first.rows("SELECT name, n FROM facts ORDER BY name")?, [["a", "1"], ["b", "-2"]]);
    assert_eq!(second.number("SELECT count() FROM facts")?, 0);
    assert!(first.query("SELECT nonsense").is_err());

    first.set("pipeline.workers", 3).set(r#"kafka.client."session.timeout.ms""#, "\"6000\"");
    let parse = |world: &World<'_>, instance| -> Result<Config> {
        Ok(Config::from_text(&world.config_toml(instance)?, Path::new("world.toml"), [])?)
    };
    assert_eq!(parse(&first, 0)?.pipeline.workers, 3);
    assert_ne!(first.address(0)?, first.address(1)?);
    assert_ne!(parse(&first, 0)?.http.listen, parse(&first, 1)?.http.listen);
    parse(&second, 0)?;
    Ok(())
}

#[test]
fn a_stack_of_its_own_can_lose_its_servers_while_others_wait() -> Result<()> {
    let stack = Stack::own("outage")?;
    let world = World::on(&stack, "outage")?;
    let topic = world.topic("purchases");
    world.create_topic(&topic, 1, &[])?;
    let time = now_ms();
    world
        .produce(&topic, [purchase_record(&payment("p-1", "ann", time, 500)), purchase_record(&refund("p-2", "ann", time, "p-1", 200))])?;

    stack.clickhouse.kill()?;
    let refused = wait_until("an answer of a killed server", Duration::from_millis(50), || Ok(world.query("SELECT 1")? == "1\n"));
    let message = format!("{:#}", refused.err().context("a killed server answered")?);
    assert!(message.contains("an answer of a killed server did not happen") && message.contains("does not answer"), "{message}");
    stack.clickhouse.start_again()?;
    stack.kafka.kill()?;
    stack.kafka.start_again()?;
    wait_until("an answer", DEADLINE, || Ok(stack.clickhouse.query("SELECT 1")? == "1\n"))?;
    assert_eq!(world.read_topic(&topic)?.len(), 2);
    Ok(())
}

#[test]
fn event_builders_make_events_that_are_accepted() -> Result<()> {
    let time = now_ms();
    let referred = Scan { via: via("h-1", "ann"), ..scan("s-2", "bob", time) };
    let records = [
        (EventKind::Scan, scan_record(&scan("s-1", "ann", time))),
        (EventKind::Scan, scan_record(&referred)),
        (EventKind::Share, share_record(&share("h-1", "ann", time))),
        (EventKind::Purchase, purchase_record(&payment("p-1", "ann", time, 500))),
        (EventKind::Purchase, purchase_record(&refund("p-2", "ann", time, "p-1", 200))),
    ];
    for (kind, record) in &records {
        let raw = RawRecord { value: record.value.as_deref(), content_type: None, timestamp_ms: time };
        let event = decode(*kind, Format::Auto, raw, &Rules::default()).map_err(|reject| anyhow::anyhow!("{reject:?}"))?;
        assert_eq!(record.key.as_deref(), Some(event.customer_id.as_bytes()), "keyed by customer");
    }
    assert_eq!(referred.via.map(|via| via.share_id), Some(share("h-1", "ann", time).share_id));
    Ok(())
}

#[test]
fn the_binary_runs_and_its_exit_code_and_output_are_seen() -> Result<()> {
    let version = common::pipeline::run_to_end(&["--version"])?;
    assert_eq!(version.code, 0, "{version}");
    assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")), "{version}");
    let wrong = common::pipeline::run_to_end(&["--no-such-option"])?;
    assert_eq!(wrong.code, 2, "{wrong}");
    assert!(wrong.stderr.contains("--no-such-option"), "{wrong}");
    Ok(())
}

#[test]
fn a_pipeline_is_started_asked_killed_frozen_and_ended() -> Result<()> {
    let mut world = World::new("lifecycle")?;
    world.set("pipeline.workers", 1);
    world.migrate(2)?;
    let time = now_ms();
    world.produce(&world.topic("scans"), ["ann", "bob", "eve"].map(|customer| scan_record(&scan("s-1", customer, time))))?;

    let pipeline = world.start()?;
    assert_eq!(pipeline.status()?.get("ready"), Some(&serde_json::Value::Bool(true)));
    let consumed = format!("topic=\"{}\"", world.topic("scans"));
    wait_until("three consumed records", DEADLINE, || Ok(pipeline.metric("onecode_consumed_records_total", &[&consumed])? >= 3.0))?;
    world.wait_caught_up()?;
    assert_eq!(world.rows("SELECT customer_id FROM scans FINAL ORDER BY customer_id")?, [["ann"], ["bob"], ["eve"]]);

    pipeline.pause()?;
    pipeline.resume()?;
    pipeline.kill()?;
    assert_eq!(pipeline.exit_code()?, Some(128 + 9));
    assert!(pipeline.metrics().is_err(), "a killed process answered");

    let again = world.start()?;
    assert_ne!(again.pid(), pipeline.pid());
    assert_eq!(again.terminate()?, 0, "{}", again.log_text());
    assert_eq!(world.number("SELECT count() FROM scans FINAL")?, 3);
    Ok(())
}
