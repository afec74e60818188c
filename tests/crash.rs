//! Goal: whatever is killed, frozen or rebalanced while events flow, the tables end up exact.
//! Method: a real broker, a real ClickHouse and the real binary; generated events with duplicates, late, misrouted and malformed
//! ones; kills in the middle, each after some progress; then the audit, and the dead letters against the malformed records.

mod common;

use anyhow::{Result, ensure};
use common::load::{Load, must_be_exact, options};
use common::{DEADLINE, Pipeline, Stack, World, wait_until};

const PARTITIONS: u32 = 6;

/// Waits until a process has consumed this many records since its start, or the load is over.
fn wait_for_progress(pipeline: &Pipeline, load: &Load, records: f64) -> Result<()> {
    wait_until("progress", DEADLINE, || Ok(load.is_over() || pipeline.metric("onecode_consumed_records_total", &[])? >= records))
}

fn settle(world: &World<'_>, load: Load) -> Result<()> {
    load.finish()?;
    world.wait_caught_up()
}

#[test]
fn killing_the_process_again_and_again_loses_and_repeats_nothing() -> Result<()> {
    let stack = Stack::own("kill")?;
    let world = World::on(&stack, "kill")?;
    world.migrate(PARTITIONS as i32)?;
    let load = Load::start(&world, options(150_000, PARTITIONS), 4_000)?;
    let mut pipeline = world.start()?;
    let mut kills = 0;
    while !load.is_over() && kills < 8 {
        wait_for_progress(&pipeline, &load, 5_000.0)?;
        pipeline.kill()?;
        kills += 1;
        pipeline = world.start()?;
    }
    ensure!(kills >= 3, "only {kills} kills: the load was over too soon");
    settle(&world, load)?;
    ensure!(pipeline.terminate()? == 0, "the drain failed: {}", pipeline.log_text());
    must_be_exact(&world)
}

#[test]
fn killing_the_broker_and_clickhouse_delays_and_changes_nothing() -> Result<()> {
    let stack = Stack::own("servers")?;
    let world = World::on(&stack, "servers")?;
    world.migrate(PARTITIONS as i32)?;
    let load = Load::start(&world, options(120_000, PARTITIONS), 6_000)?;
    let pipeline = world.start()?;
    for round in 1..=3 {
        wait_for_progress(&pipeline, &load, f64::from(round) * 20_000.0)?;
        stack.clickhouse.kill()?;
        wait_for_progress(&pipeline, &load, f64::from(round) * 20_000.0 + 6_000.0)?;
        stack.clickhouse.start_again()?;
        stack.kafka.kill()?;
        stack.kafka.start_again()?;
        let exit_code = pipeline.exit_code()?;
        ensure!(exit_code.is_none(), "the outage ended the process with {exit_code:?}: {}", pipeline.log_text());
    }
    settle(&world, load)?;
    ensure!(pipeline.terminate()? == 0, "the drain failed: {}", pipeline.log_text());
    must_be_exact(&world)
}

#[test]
fn two_instances_share_the_tasks_and_a_dynamic_one_comes_and_goes() -> Result<()> {
    let stack = Stack::own("rebalance")?;
    let world = World::on(&stack, "rebalance")?;
    world.migrate(PARTITIONS as i32)?;
    let load = Load::start(&world, options(120_000, PARTITIONS), 8_000)?;
    let first = world.spawn(0, &["--dynamic"])?;
    first.wait_ready()?;
    wait_for_progress(&first, &load, 10_000.0)?;
    let second = world.spawn(1, &["--dynamic"])?;
    second.wait_ready()?;
    wait_for_progress(&second, &load, 10_000.0)?;
    ensure!(second.metric("onecode_tasks", &[])? > 0.0, "the second instance has no task");
    second.kill()?;
    wait_for_progress(&first, &load, 40_000.0)?;
    let third = world.spawn(2, &["--dynamic"])?;
    third.wait_ready()?;
    wait_for_progress(&third, &load, 5_000.0)?;
    ensure!(third.terminate()? == 0, "the drain failed: {}", third.log_text());
    settle(&world, load)?;
    ensure!(first.terminate()? == 0, "the drain failed: {}", first.log_text());
    must_be_exact(&world)
}

#[test]
fn a_frozen_owner_that_wakes_up_after_a_takeover_changes_nothing() -> Result<()> {
    let stack = Stack::own("zombie")?;
    let mut world = World::on(&stack, "zombie")?;
    world.set("kafka.session_timeout_ms", 6_000);
    world.migrate(PARTITIONS as i32)?;
    let load = Load::start(&world, options(120_000, PARTITIONS), 5_000)?;
    let first = world.start()?;
    wait_for_progress(&first, &load, 10_000.0)?;
    first.pause()?;
    let second = world.spawn(1, &[])?;
    // The second instance gets the frozen one's tasks when its session is over.
    wait_until("the takeover", DEADLINE, || {
        Ok(second.metric("onecode_tasks", &[])? >= f64::from(PARTITIONS) && second.get("/readyz").is_ok())
    })?;
    wait_for_progress(&second, &load, 10_000.0)?;
    first.resume()?;
    settle(&world, load)?;
    for pipeline in [&first, &second] {
        if pipeline.exit_code()?.is_none() {
            ensure!(pipeline.terminate()? == 0, "the drain failed: {}", pipeline.log_text());
        }
    }
    must_be_exact(&world)
}

/// Under which generation each task's state is stored, and how many rows say of whom it is, in order.
fn stored(world: &World<'_>) -> Result<String> {
    world.query("SELECT task, generation, countIf(kind = 255 AND key != '') FROM (SELECT * FROM task_state FINAL) GROUP BY task, generation ORDER BY task, generation FORMAT TSV")
}

#[test]
fn what_has_drained_is_gone_on_from_in_place_and_what_was_killed_is_copied() -> Result<()> {
    const EVENTS: u64 = 30_000;
    let stack = Stack::own("in-place")?;
    let world = World::on(&stack, "in_place")?;
    world.migrate(PARTITIONS as i32)?;
    let mix = options(4 * EVENTS, PARTITIONS);
    let part = |number: u64| Load::start_part(&world, mix.clone(), number * EVENTS..(number + 1) * EVENTS, 10_000);
    let generations =
        |owners: u64, generation: u64| -> String { (0..PARTITIONS).map(|task| format!("{task}\t{generation}\t{owners}\n")).collect() };

    let first = world.start()?;
    settle(&world, part(0)?)?;
    ensure!(first.terminate()? == 0, "the drain failed: {}", first.log_text());
    ensure!(stored(&world)? == generations(1, 1), "after a drain: {}", stored(&world)?);
    for restarts in 1..=2 {
        let next = world.start()?;
        settle(&world, part(restarts)?)?;
        ensure!(next.terminate()? == 0, "the drain failed: {}", next.log_text());
        ensure!(stored(&world)? == generations(1 + restarts, 1), "after restart {restarts}: {}", stored(&world)?);
    }
    // It speaks under generations of its own all the same: else what the first one said would win.
    let spoken = world.number("SELECT bitShiftRight(max(version), 40) FROM customers")?;
    ensure!(spoken == 3, "generation {spoken} spoke last");

    let killed = world.start()?;
    settle(&world, part(3)?)?;
    killed.kill()?;
    let last = world.start()?;
    last.wait_ready()?;
    wait_until("the older generations to go", DEADLINE, || Ok(stored(&world)? == generations(0, 5)))?;
    world.wait_caught_up()?;
    ensure!(last.terminate()? == 0, "the drain failed: {}", last.log_text());
    must_be_exact(&world)
}

#[test]
fn a_large_state_comes_back_by_two_queries_and_stays_exact() -> Result<()> {
    const EVENTS: u64 = 60_000;
    let stack = Stack::own("two-queries")?;
    let mut world = World::on(&stack, "two_queries")?;
    // So many events change keys in one checkpoint after the other.
    world.set("limits.dirty_keys_per_checkpoint", 5_000);
    world.migrate(1)?;
    let mix = options(3 * EVENTS, 1);
    let part = |number: u64| Load::start_part(&world, mix.clone(), number * EVENTS..(number + 1) * EVENTS, 20_000);
    let restarted = || -> Result<Pipeline> {
        let next = world.spawn_with(0, &[], &[("ONECODE_LOG", "info,onecode::store=debug")])?;
        next.wait_ready()?;
        let log = next.log_text();
        for half in ["Some(Customers)", "Some(Graph)"] {
            ensure!(log.contains(half), "no load of half {half}: {log}");
        }
        Ok(next)
    };
    let first = world.start()?;
    settle(&world, part(0)?)?;
    ensure!(first.terminate()? == 0, "the drain failed: {}", first.log_text());
    let (rows, graph) = (world.number("SELECT count() FROM task_state")?, world.number("SELECT countIf(kind >= 26) FROM task_state")?);
    ensure!(rows >= 500 && graph > 100, "{rows} rows of state, {graph} packs of the graph");

    let second = restarted()?;
    let load = part(1)?;
    wait_for_progress(&second, &load, EVENTS as f64 / 2.0)?;
    second.kill()?;
    let third = restarted()?;
    settle(&world, load)?;
    settle(&world, part(2)?)?;
    ensure!(third.terminate()? == 0, "the drain failed: {}", third.log_text());
    must_be_exact(&world)
}
