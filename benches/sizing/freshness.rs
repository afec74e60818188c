//! From event to visible row at half of the highest sustained rate, and from the start of a process to its first event.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use super::common::load::Load;
use super::common::onecode::{Pipeline, sum_of, terminate};
use super::common::servers::Servers;
use super::run_once;

const SECONDS: u64 = 60;

/// Finds the rate, produces at half of it, and restarts the pipeline over the state that it left.
pub fn measure(servers: &Servers, load: Load, workers: u32) -> Result<()> {
    let fastest = run_once(servers, "fastest", load, workers)?;
    let rate = load.events as f64 / fastest.elapsed.as_secs_f64() / 2.0;
    println!("highest rate: {:.0} events/s from start to drained; half of it for {SECONDS} s", 2.0 * rate);
    let paced = Load { events: (rate * SECONDS as f64) as u64, ..load };
    let topics = ["scans", "purchases", "shares"].map(|topic| format!("paced.{topic}"));
    let pipeline = Pipeline::prepare(servers, "paced", topics.clone(), load.partitions, workers)?;
    let mut child = pipeline.start()?;
    onecode_local::wait_for("the takeover", Duration::from_secs(60), || Ok(ready(&pipeline).then_some(())))?;
    let now_ms = i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis())?;
    let span_ms = i64::try_from(SECONDS * 1_000)?;
    let [scans, purchases, shares] = &topics;
    let options = onecode::generate::Options { start_ms: now_ms, span_ms, ..paced.options()? };
    paced.produce(&servers.kafka.bootstrap(), [scans, purchases, shares], options, Some(Duration::from_secs(SECONDS)))?;
    std::thread::sleep(Duration::from_secs(3));
    let metrics = pipeline.metrics()?;
    for quantile in [0.5, 0.9, 0.99] {
        println!("event to visible row, p{:.0}: at most {} s", 100.0 * quantile, quantile_of(&metrics, quantile)?);
    }
    terminate(child.id())?;
    ensure!(child.wait()?.success(), "onecode run did not end well");
    restart(&pipeline)
}

/// A task with a million customers: how long it takes until it goes on.
pub fn measure_restore(servers: &Servers) -> Result<()> {
    // Little more than half of the generator's customers do something with two events each.
    let load = Load { events: 3_600_000, customers: 1_800_000, partitions: 1, misrouted: 0.0, referred: 0.6 };
    let topics = ["scans", "purchases", "shares"].map(|topic| format!("restored.{topic}"));
    let pipeline = Pipeline::prepare(servers, "restored", topics.clone(), load.partitions, 1)?;
    let [scans, purchases, shares] = &topics;
    load.produce(&servers.kafka.bootstrap(), [scans, purchases, shares], load.options()?, None)?;
    pipeline.run(servers, load.events)?;
    restart(&pipeline)
}

/// Starts a pipeline over the state that it left, and prints how long that took.
fn restart(pipeline: &Pipeline) -> Result<()> {
    let began = Instant::now();
    let mut again = pipeline.start()?;
    onecode_local::wait_for("the takeover", Duration::from_secs(120), || Ok(ready(pipeline).then_some(())))?;
    let elapsed = began.elapsed();
    // The gauges follow twice a second.
    std::thread::sleep(Duration::from_secs(1));
    let metrics = pipeline.metrics()?;
    let (sum, count) = (sum_of(&metrics, "onecode_takeover_seconds_sum", ""), sum_of(&metrics, "onecode_takeover_seconds_count", ""));
    println!(
        "restart over {:.0} customers, {:.0} keys: ready after {:.1} s; a takeover of a task took {:.2} s on average",
        sum_of(&metrics, "onecode_state_keys", "kind=\"customer\""),
        sum_of(&metrics, "onecode_state_keys", ""),
        elapsed.as_secs_f64(),
        sum / count.max(1.0)
    );
    terminate(again.id())?;
    again.wait()?;
    Ok(())
}

fn ready(pipeline: &Pipeline) -> bool {
    pipeline.metrics().is_ok_and(|metrics| sum_of(&metrics, "onecode_ready", "") > 0.0)
}

/// The bound of the bucket in which a quantile of the end-to-end times lies.
fn quantile_of(metrics: &str, quantile: f64) -> Result<f64> {
    let buckets: Vec<(f64, f64)> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("onecode_end_to_end_seconds_bucket{le=\""))
        .filter_map(|rest| rest.split_once("\"} "))
        .filter_map(|(bound, count)| Some((bound.replace("+Inf", "inf").parse().ok()?, count.parse().ok()?)))
        .collect();
    let all = buckets.iter().map(|(_, count)| *count).fold(0.0, f64::max);
    ensure!(all > 0.0, "no event has become a row");
    let reached = buckets.iter().find(|(_, count)| *count >= quantile * all);
    reached.map(|(bound, _)| *bound).context("no bucket holds the quantile")
}
