//! Goal: events in millions, a process that is killed every few seconds, and not one wrong number.
//! Method: generated events with repeats, late, misrouted and malformed ones flow at a steady rate; the process is killed with
//! SIGKILL at intervals drawn from a fixed seed; at rest the audit recomputes every table, and the dead letters are compared with
//! the malformed records as sets of source positions.
//!
//! The small form runs with the other tests. The full one:
//!
//! ```sh
//! ONECODE_SOAK_EVENTS=5000000 cargo test --release --workspace --test soak -- --nocapture
//! ```

mod common;

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use common::load::{Load, letters_must_be_the_malformed_records, options};
use common::{Pipeline, Stack, World};
use onecode::generate::Options;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const PARTITIONS: u32 = 6;
const SMALL_EVENTS: u64 = 300_000;
const SEED: u64 = 20_261_122;
/// For everything that takes long when there are millions of events.
const LONG_DEADLINE: Duration = Duration::from_secs(1_800);

/// How much, how fast, and how often a kill.
#[derive(Debug)]
struct Form {
    events: u64,
    per_second: u32,
    kill_after_ms: Range<u64>,
    /// A process is not killed before it has read so many records: on a slow machine the small form would kill too often to end.
    least_progress: f64,
}

impl Form {
    fn chosen() -> Result<Form> {
        let events = match std::env::var("ONECODE_SOAK_EVENTS") {
            Ok(text) => text.parse().context("ONECODE_SOAK_EVENTS must be a number")?,
            Err(_) => SMALL_EVENTS,
        };
        if events <= SMALL_EVENTS {
            return Ok(Form { events, per_second: 10_000, kill_after_ms: 3_000..5_000, least_progress: 3_000.0 });
        }
        Ok(Form { events, per_second: 15_000, kill_after_ms: 5_000..15_000, least_progress: 0.0 })
    }

    /// When the process dies that follows so many kills.
    fn kill_after(&self, kills: u64) -> Duration {
        let Range { start, end } = self.kill_after_ms;
        Duration::from_millis(start + xxh3_64_with_seed(&kills.to_le_bytes(), SEED) % (end - start))
    }
}

/// Waits for the moment of the next kill, or the end of the load.
fn wait_for_kill(form: &Form, kills: u64, pipeline: &Pipeline, load: &Load) -> Result<()> {
    let (started, kill_after) = (Instant::now(), form.kill_after(kills));
    onecode_local::wait_for("the next kill", LONG_DEADLINE, || {
        let code = pipeline.exit_code()?;
        ensure!(code.is_none(), "the process ended by itself with {code:?}:\n{}", pipeline.log_text());
        // No answer is no progress yet.
        let has_progressed =
            || form.least_progress == 0.0 || pipeline.metric("onecode_consumed_records_total", &[]).unwrap_or(0.0) >= form.least_progress;
        Ok((load.is_over() || started.elapsed() >= kill_after && has_progressed()).then_some(()))
    })
}

#[test]
fn events_flow_while_the_process_is_killed_every_few_seconds() -> Result<()> {
    let form = Form::chosen()?;
    let stack = Stack::own("soak")?;
    let world = World::on(&stack, "soak")?;
    world.migrate(PARTITIONS as i32)?;
    let mix = Options { late_max_ms: 7 * 86_400_000, ..options(form.events, PARTITIONS) };
    println!("soak: {form:?}, {} duplicates, {} late, {} misrouted, {} malformed", mix.duplicates, mix.late, mix.misrouted, mix.malformed);
    let began = Instant::now();
    let load = Load::start(&world, mix, form.per_second)?;
    let mut pipeline = world.spawn(0, &[])?;
    let mut kills = 0;
    loop {
        wait_for_kill(&form, kills, &pipeline, &load)?;
        if load.is_over() {
            break;
        }
        pipeline.kill()?;
        kills += 1;
        pipeline = world.spawn(0, &[])?;
    }
    load.finish()?;
    let sent_after = began.elapsed();
    let mut waiting = 0;
    for key in ["scans", "purchases", "shares"] {
        waiting += world.lag(&world.topic(key))?;
    }
    println!("soak: {waiting} of {} events were not checkpointed yet when all were sent", form.events);
    world.wait_caught_up_within(LONG_DEADLINE)?;
    let settled_after = began.elapsed();
    ensure!(pipeline.terminate()? == 0, "the drain failed: {}", pipeline.log_text());

    let audit = world.onecode_within(LONG_DEADLINE, &["audit"])?;
    let audited_after = began.elapsed();
    let verdict = audit.stdout.lines().last().unwrap_or_default();
    println!(
        "soak: {} events sent in {:.0} s, settled after {:.0} s, audited after {:.0} s; {kills} kills; {verdict}",
        form.events,
        sent_after.as_secs_f64(),
        settled_after.as_secs_f64(),
        audited_after.as_secs_f64()
    );
    ensure!(audit.code == 0 && verdict.starts_with("audit: 0 differences"), "{audit}");
    let letters = letters_must_be_the_malformed_records(&world)?;
    println!("soak: {letters} malformed records, each among the dead letters, and nothing else");
    let expected = form.events as f64 / 1_000.0;
    ensure!((letters as f64 - expected).abs() < expected / 2.0, "{letters} malformed records instead of about {expected}");
    ensure!(kills >= 4, "only {kills} kills: the load was over too soon");
    Ok(())
}
