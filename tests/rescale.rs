//! Goal: another number of tasks changes nothing that the tables say, whenever the pipeline was stopped for it and wherever the
//! move was interrupted.
//! Method: one real broker and one real ClickHouse, topics and a database a test; the real binary.

mod common;

use anyhow::{Context as _, Result, ensure};
use common::load::{Load, must_be_exact, options};
use common::{Pipeline, World, wait_until};
use onecode::config::Config;
use onecode::generate::Options;
use onecode::kafka::Cluster;
use onecode::rescale::{Marker, Mover, decide, make_exchange};

const PARTITIONS: u32 = 3;

/// Dynamic members leave the group at once, so that a test need not wait for a session timeout.
fn start(world: &World<'_>) -> Result<Pipeline> {
    let pipeline = world.spawn(0, &["--dynamic"])?;
    pipeline.wait_ready()?;
    Ok(pipeline)
}

fn stop(pipeline: &Pipeline) -> Result<()> {
    ensure!(pipeline.terminate()? == 0, "the drain failed: {}", pipeline.log_text());
    Ok(())
}

fn rescale(world: &mut World<'_>, tasks: u32) -> Result<String> {
    let printed = world.must(&["rescale", "--tasks", &tasks.to_string()])?;
    let name = printed.split("exchange = { name = \"").nth(1).and_then(|rest| rest.split('"').next()).context("no topic named")?;
    world.set_text("topics.exchange.name", name);
    Ok(printed)
}

/// Distinct tasks with a live cell.
fn counting_tasks(world: &World<'_>) -> Result<Vec<String>> {
    let rows = world.rows("SELECT DISTINCT task FROM activity_day FINAL WHERE scans + orders + shares > 0 ORDER BY task")?;
    Ok(rows.concat())
}

#[test]
fn the_number_of_tasks_grows_and_shrinks_in_the_middle_of_a_load_and_the_tables_stay_exact() -> Result<()> {
    let mut world = World::new("rescale")?;
    world.migrate(PARTITIONS as i32)?;
    let load = Load::start(&world, options(40_000, PARTITIONS), 3_000)?;
    let pipeline = start(&world)?;
    wait_until("some events", common::DEADLINE, || Ok(world.number("SELECT count() FROM v_customers")? > 300))?;
    stop(&pipeline)?;
    rescale(&mut world, 5)?;
    let pipeline = start(&world)?;
    wait_until("the new tasks", common::DEADLINE, || Ok(counting_tasks(&world)?.len() == 5))?;
    // What it has served since its last checkpoint is counted again by other tasks.
    pipeline.kill()?;
    let printed = rescale(&mut world, 2)?;
    ensure!(!printed.contains(" 0 cells changed hands"), "{printed}");
    ensure!(counting_tasks(&world)? == ["0", "1"], "cells of tasks that ended: {:?}", counting_tasks(&world)?);
    let pipeline = start(&world)?;
    load.finish()?;
    world.wait_caught_up()?;
    must_be_exact(&world)?;
    stop(&pipeline)?;
    // Where it began, with topics that share the tasks again, and late events that move first events across tasks.
    rescale(&mut world, PARTITIONS)?;
    let pipeline = start(&world)?;
    Load::start(&world, Options { seed: 8, late: 0.5, ..options(10_000, PARTITIONS) }, 20_000)?.finish()?;
    world.wait_caught_up()?;
    must_be_exact(&world)?;
    stop(&pipeline)
}

#[test]
fn an_interrupted_move_lets_nothing_run_and_ends_when_it_is_repeated() -> Result<()> {
    let mut world = World::new("interrupted")?;
    world.migrate(PARTITIONS as i32)?;
    let pipeline = start(&world)?;
    Load::start(&world, options(6_000, PARTITIONS), 20_000)?.finish()?;
    world.wait_caught_up()?;
    stop(&pipeline)?;
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(move_without_an_end(&world, 2))?;
    let refused = world.onecode(&["run", "--dynamic"])?;
    ensure!(refused.code == 1 && refused.stderr.contains("onecode rescale --tasks 2"), "{refused}");
    let other = world.onecode(&["rescale", "--tasks", "4"])?;
    ensure!(other.code == 1 && other.stderr.contains("has to be ended first"), "{other}");
    rescale(&mut world, 2)?;
    let pipeline = start(&world)?;
    Load::start(&world, Options { seed: 9, ..options(6_000, PARTITIONS) }, 20_000)?.finish()?;
    world.wait_caught_up()?;
    must_be_exact(&world)?;
    stop(&pipeline)
}

/// What a process leaves that is killed after the last row and before the end.
async fn move_without_an_end(world: &World<'_>, tasks: u32) -> Result<()> {
    let path = world.dir().join("moving.toml");
    std::fs::write(&path, world.config_toml(0)?)?;
    let config = Config::load(&path)?;
    let exchange = format!("{}.{tasks}", config.topics.exchange);
    let old = Cluster::ask(&config)?;
    let new = make_exchange(&config, &exchange, tasks, |_| ()).await?;
    let mover = Mover::new(&config.clickhouse);
    let (sources, newest) = mover.sources(old.tasks).await?;
    let plan = decide(&sources, &old, &new, &config, &exchange, common::events::now_ms())?;
    mover.begin(&Marker { from: old.tasks, to: tasks, exchange }).await?;
    mover.write(&sources, &plan, newest + 1, |_, _| {}).await?;
    Ok(())
}

#[test]
fn what_cannot_be_moved_is_refused_with_what_to_do() -> Result<()> {
    let world = World::new("refused")?;
    world.migrate(PARTITIONS as i32)?;
    let refuse = |arguments: &[&str], part: &str| {
        let ended = world.onecode(&[&["rescale"], arguments].concat())?;
        ensure!(ended.code == 1 && ended.stderr.contains(part), "{part:?} is missing: {ended}");
        Ok(())
    };
    refuse(&["--tasks", "2"], "onecode migrate --tasks N")?;
    refuse(&["--tasks", "3"], "there are 3 tasks already")?;
    refuse(&["--tasks", "2", "--exchange", &world.topic("exchange")], "a new one is needed")?;
    let pipeline = start(&world)?;
    refuse(&["--tasks", "2", "--wait", "1"], "stop every instance")?;
    world.wait_caught_up()?;
    stop(&pipeline)?;
    let shown = world.must(&["rescale", "--tasks", "2", "--dry-run"])?;
    ensure!(shown.contains("would move the state of 3 tasks to 2 tasks"), "{shown}");
    let other = world.topic("other");
    world.create_topic(&other, 3, &[])?;
    refuse(&["--tasks", "2", "--exchange", &other], "exists with 3 partitions")?;
    let used = world.topic("used");
    world.create_topic(&used, 2, &[])?;
    world.produce(&used, [common::events::scan_record(&common::events::scan("s", "c", 1))])?;
    refuse(&["--tasks", "2", "--exchange", &used], "has messages already")
}
