//! Goal: `onecode run` refuses to start where it could only do harm, and says what to run.
//! Method: one real broker and one real ClickHouse; something is broken on purpose, then the binary is started.

mod common;

use anyhow::{Result, ensure};
use common::World;
use common::events::{now_ms, scan, scan_record};
use onecode::model::owner;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::{Offset, TopicPartitionList};

const PARTITIONS: i32 = 2;

fn migrated(test: &str) -> Result<World<'static>> {
    let world = World::new(test)?;
    world.migrate(PARTITIONS)?;
    Ok(world)
}

/// Runs once, so that there is a state with positions.
fn with_state(test: &str) -> Result<World<'static>> {
    let world = migrated(test)?;
    let records = (0..20).map(|number| scan_record(&scan(&format!("e{number}"), &format!("c{number}"), now_ms())));
    world.produce(&world.topic("scans"), records)?;
    let pipeline = world.start()?;
    world.wait_caught_up()?;
    ensure!(pipeline.terminate()? == 0, "the drain failed");
    Ok(world)
}

/// Starts it, and expects exit code 1 and all of these words.
fn must_refuse(world: &World<'_>, words: &[&str]) -> Result<()> {
    let pipeline = world.spawn(0, &[])?;
    let code = pipeline.wait_for_exit()?;
    let log = pipeline.log_text();
    ensure!(code == 1, "exit code {code}: {log}");
    for word in words {
        ensure!(log.contains(word), "`{word}` is missing in: {log}");
    }
    Ok(())
}

fn admin(world: &World<'_>) -> Result<AdminClient<DefaultClientContext>> {
    Ok(ClientConfig::new().set("bootstrap.servers", world.stack.kafka.bootstrap()).create()?)
}

fn block_on<T>(work: impl Future<Output = T>) -> Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work))
}

#[test]
fn without_topics_it_says_to_migrate() -> Result<()> {
    let world = World::new("notopics")?;
    must_refuse(&world, &["onecode migrate"])
}

#[test]
fn without_a_table_or_with_a_wrong_column_it_names_them() -> Result<()> {
    let world = migrated("tables")?;
    world.query("DROP TABLE customer_days")?;
    must_refuse(&world, &["customer_days", "onecode migrate"])?;
    world.must(&["migrate"])?;
    world.query("ALTER TABLE customers DROP COLUMN reshares")?;
    must_refuse(&world, &["customers", "reshares"])
}

#[test]
fn a_grown_exchange_names_rescale() -> Result<()> {
    let world = with_state("grown")?;
    let topics = ["scans", "purchases", "shares", "exchange"].map(|key| world.topic(key));
    let wanted: Vec<NewPartitions<'_>> = topics.iter().map(|topic| NewPartitions::new(topic, 4)).collect();
    let client = admin(&world)?;
    for result in block_on(client.create_partitions(&wanted, &AdminOptions::new()))?? {
        result.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    must_refuse(&world, &["onecode rescale --tasks 4"])
}

#[test]
fn a_grown_input_topic_names_rescale() -> Result<()> {
    let world = with_state("grown_input")?;
    let topic = world.topic("scans");
    let client = admin(&world)?;
    for result in block_on(client.create_partitions(&[NewPartitions::new(&topic, 3)], &AdminOptions::new()))?? {
        result.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    must_refuse(&world, &["onecode rescale", &topic])
}

#[test]
fn a_position_below_the_start_of_the_log_is_lost_input() -> Result<()> {
    let world = with_state("below")?;
    let topic = world.topic("scans");
    let more = (0..40).map(|number| scan_record(&scan(&format!("later{number}"), &format!("c{number}"), now_ms())));
    world.produce(&topic, more)?;
    let mut below = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        below.add_partition_offset(&topic, partition, Offset::End)?;
    }
    let client = admin(&world)?;
    for result in block_on(client.delete_records(&below, &AdminOptions::new()))??.elements() {
        result.error()?;
    }
    must_refuse(&world, &["removed by retention", &topic, "onecode migrate"])
}

#[test]
fn a_recreated_topic_is_noticed() -> Result<()> {
    let world = with_state("recreated")?;
    let topic = world.topic("scans");
    let client = admin(&world)?;
    for result in block_on(client.delete_topics(&[&topic], &AdminOptions::new()))?? {
        result.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    // Deletion goes on after its acknowledgement.
    common::wait_until("the topic made again", common::DEADLINE, || {
        world.create_topic(&topic, PARTITIONS, &[("message.timestamp.type", "LogAppendTime")])?;
        Ok(true)
    })?;
    must_refuse(&world, &["deleted and made again", &topic])
}

#[test]
fn a_lost_state_row_is_never_a_start_from_less() -> Result<()> {
    let world = with_state("lost")?;
    let task = owner("c1", PARTITIONS as u32);
    world.query(&format!("DELETE FROM task_state WHERE task = '{task}' AND kind IN (1, 21)"))?;
    must_refuse(&world, &["task_state", "hash"])
}

#[test]
fn an_emptied_table_of_state_is_never_a_first_start() -> Result<()> {
    let world = with_state("emptied")?;
    world.query("TRUNCATE TABLE task_state")?;
    must_refuse(&world, &["`task_state` has no complete generation", "clickhouse.database", "kafka.group", "onecode migrate"])
}

#[test]
fn a_changed_setting_that_changes_results_is_named_with_both_values() -> Result<()> {
    let mut world = with_state("fingerprint")?;
    world.set_text("pipeline.time_zone", "+01:00");
    must_refuse(&world, &["pipeline.time_zone", "+08:00", "+01:00"])
}
