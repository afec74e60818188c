//! Goal: a process whose state is several times as large as `limits.state_bytes` keeps the limit and says nothing wrong.
//! Method: generated events of many customers flow into a process with the least memory that the configuration allows; it is killed
//! once, so that the whole checkpoint is taken back within the same limit; at rest the audit recomputes every table.
//!
//! The small form runs with the other tests. In a larger one a process with room reads nearly all events and is killed; the one after it has to take back
//! and go on with four times as much state as its whole memory, `limits.memory_bytes`:
//!
//! ```sh
//! ONECODE_COLD_MEMORY_MIB=1024 cargo test --release --workspace --test cold_state -- --nocapture
//! ```
//!
//! `ONECODE_COLD_EVENTS` changes how many events either sends.

mod common;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use common::load::{Load, options};
use common::{Pipeline, Stack, World};
use onecode::generate::Options;

const PARTITIONS: u32 = 6;
const SMALL_EVENTS: u64 = 150_000;
/// So little memory makes a slow process, and the machine may be busy.
const LONG_DEADLINE: Duration = Duration::from_secs(3_600);
const MIB: u64 = 1 << 20;
const STATE_BYTES: u64 = 16 * MIB;
/// Of the larger form, for each MiB of memory, most of them by somebody new: four times as much state, and some to spare.
const EVENTS_PER_MIB: u64 = 22_000;
/// Of these as many are left to the limited process: most touch somebody who is away.
const LAST_EVENTS: u64 = 200_000;
/// Limits of a process that has room for all state.
const ROOM: [(&str, u64); 2] = [("ONECODE_LIMITS__MEMORY_BYTES", 64 << 30), ("ONECODE_LIMITS__STATE_BYTES", 16 << 30)];
/// What the state of these events would take in memory is about four times the limit; so little is below what six tasks keep hot (their newest cells, the index
/// of what is away) and take back at once (pieces of 20,000 rows): three times the limit is where it must stay.
const MOST_BYTES: u64 = 3 * STATE_BYTES;
/// Keys of the state for each key that is in memory.
const TIMES: f64 = 4.0;

/// What was seen of a process while it ran.
#[derive(Debug, Default)]
struct Seen {
    most_state_bytes: f64,
    keys: f64,
    cold_keys: f64,
    cold_bytes: f64,
    loads: f64,
}

impl Seen {
    /// A process that does not answer is not there yet.
    fn look(&mut self, pipeline: &Pipeline) {
        let Ok(state_bytes) = pipeline.metric("onecode_state_bytes", &[]) else { return };
        self.most_state_bytes = self.most_state_bytes.max(state_bytes);
        for (name, value) in [
            ("onecode_state_keys", &mut self.keys),
            ("onecode_cold_keys", &mut self.cold_keys),
            ("onecode_cold_bytes", &mut self.cold_bytes),
            ("onecode_cold_loads_total", &mut self.loads),
        ] {
            *value = pipeline.metric(name, &[]).unwrap_or(*value);
        }
    }
}

/// Resident memory of a process, bytes.
fn resident_bytes(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kibibytes * 1024)
}

/// What the processes are allowed, and what they are given to do.
struct Form {
    events: u64,
    /// So many of them come before the first process is killed.
    first_events: u64,
    per_second: u32,
    /// `limits.memory_bytes` of the larger form.
    memory_bytes: Option<u64>,
    environment: Vec<(&'static str, String)>,
}

impl Form {
    fn from_environment() -> Result<Form> {
        let number = |name: &str| -> Result<Option<u64>> {
            let Ok(text) = std::env::var(name) else { return Ok(None) };
            text.parse().map(Some).with_context(|| format!("{name} must be a number"))
        };
        let memory_mib = number("ONECODE_COLD_MEMORY_MIB")?;
        let events = number("ONECODE_COLD_EVENTS")?.unwrap_or(memory_mib.map_or(SMALL_EVENTS, |mib| mib * EVENTS_PER_MIB));
        let mut limits = vec![("ONECODE_PIPELINE__CHECKPOINT_INTERVAL_MS", 2_000)];
        match memory_mib {
            // So few rows wait that a task's state comes back in several pieces.
            None => limits.extend([("ONECODE_LIMITS__STATE_BYTES", STATE_BYTES), ("ONECODE_LIMITS__BUFFERED_BYTES", STATE_BYTES)]),
            Some(mib) => limits.extend([
                ("ONECODE_LIMITS__MEMORY_BYTES", mib * MIB),
                ("ONECODE_LIMITS__BUFFERED_BYTES", mib * MIB / 16),
                ("ONECODE_LIMITS__DIRTY_KEYS_PER_CHECKPOINT", 20_000),
                ("ONECODE_LIMITS__FETCH_QUEUE_BYTES", 4 * MIB),
                ("ONECODE_LIMITS__PRODUCE_QUEUE_BYTES", 4 * MIB),
            ]),
        }
        let memory_bytes = memory_mib.map(|mib| mib * MIB);
        let first_events = if memory_bytes.is_some() { events.saturating_sub(LAST_EVENTS) } else { events };
        let per_second = if memory_bytes.is_some() { 60_000 } else { 20_000 };
        Ok(Form { events, first_events, per_second, memory_bytes, environment: as_texts(limits) })
    }

    /// Of the first process.
    fn first_environment(&self) -> Vec<(&'static str, String)> {
        if self.memory_bytes.is_some() { as_texts(ROOM) } else { self.environment.clone() }
    }

    /// Whether there is enough state to kill the first process.
    fn is_filled(&self, world: &World<'_>, seen: &Seen) -> Result<bool> {
        if self.memory_bytes.is_some() { world.is_caught_up() } else { Ok(seen.cold_keys > 0.0) }
    }
}

fn as_texts(limits: impl IntoIterator<Item = (&'static str, u64)>) -> Vec<(&'static str, String)> {
    limits.into_iter().map(|(key, value)| (key, value.to_string())).collect()
}

fn spawn(world: &World<'_>, environment: &[(&'static str, String)]) -> Result<Pipeline> {
    let environment: Vec<(&str, &str)> = environment.iter().map(|(key, value)| (*key, value.as_str())).collect();
    world.spawn_with(0, &[], &environment)
}

/// What the same state takes in a process that has room for all of it, bytes.
fn bytes_with_room(world: &World<'_>) -> Result<f64> {
    let third = spawn(world, &as_texts(ROOM))?;
    onecode_local::wait_for("all state in memory", LONG_DEADLINE, || {
        let code = third.exit_code()?;
        ensure!(code.is_none(), "the process ended by itself with {code:?}:\n{}", third.log_text());
        Ok(third.metric("onecode_ready", &[]).is_ok_and(|ready| ready > 0.0).then_some(()))
    })?;
    let (bytes, cold_keys) = (third.metric("onecode_state_bytes", &[])?, third.metric("onecode_cold_keys", &[])?);
    ensure!(cold_keys == 0.0, "{cold_keys} keys had no room");
    ensure!(third.terminate()? == 0, "the drain failed: {}", third.log_text());
    Ok(bytes)
}

#[test]
fn state_that_is_larger_than_its_memory_leaves_for_the_disk_and_stays_exact() -> Result<()> {
    let form = Form::from_environment()?;
    let events = form.events;
    let stack = Stack::own("cold")?;
    let world = World::on(&stack, "cold")?;
    world.migrate(PARTITIONS as i32)?;
    if form.memory_bytes.is_some() {
        world.put_off_the_lists()?;
    }
    let customers = if form.memory_bytes.is_some() { events } else { events / 2 };
    let mix = Options { customers: u32::try_from(customers).unwrap_or(u32::MAX), ..options(events, PARTITIONS) };
    let load = Load::start_part(&world, mix.clone(), 0..form.first_events, form.per_second)?;
    let mut seen = Seen::default();

    let first = spawn(&world, &form.first_environment())?;
    onecode_local::wait_for("enough state", LONG_DEADLINE, || {
        let code = first.exit_code()?;
        ensure!(code.is_none(), "the process ended by itself with {code:?}:\n{}", first.log_text());
        seen.look(&first);
        Ok((load.is_over() && form.is_filled(&world, &seen)?).then_some(()))
    })?;
    first.kill()?;
    load.finish()?;
    println!("cold: the first process was killed with {} keys, {} of them not in memory", seen.keys, seen.cold_keys);

    let second = spawn(&world, &form.environment)?;
    Load::start_part(&world, mix, form.first_events..events, form.per_second)?.finish()?;
    onecode_local::wait_for("the end of the logs", LONG_DEADLINE, || {
        let code = second.exit_code()?;
        ensure!(code.is_none(), "the process ended by itself with {code:?}:\n{}", second.log_text());
        seen.look(&second);
        Ok((second.metric("onecode_ready", &[]).is_ok_and(|ready| ready > 0.0) && world.is_caught_up()?).then_some(()))
    })?;
    seen.look(&second);
    let resident = resident_bytes(second.pid())?;
    ensure!(second.terminate()? == 0, "the drain failed: {}", second.log_text());
    // Nearly every event is of a customer of its own: a pass takes more memory than for other archives as large.
    let in_passes: &[&str] = if form.memory_bytes.is_some() { &["audit", "--passes", "4"] } else { &["audit"] };
    let audit = world.onecode_within(LONG_DEADLINE, in_passes)?;
    ensure!(audit.code == 0, "{audit}");
    println!("cold: {}", audit.stdout.lines().last().unwrap_or_default());

    println!("cold: {events} events, limit {STATE_BYTES} bytes, resident {resident} bytes, {seen:?}");
    let in_memory = seen.keys - seen.cold_keys;
    ensure!(seen.loads > 0.0, "nothing ever came back");
    let Some(memory_bytes) = form.memory_bytes else {
        ensure!(seen.keys >= TIMES * in_memory, "only {} of {} keys are not in memory", seen.cold_keys, seen.keys);
        ensure!(seen.most_state_bytes <= MOST_BYTES as f64, "{} bytes of state in memory", seen.most_state_bytes);
        return Ok(());
    };
    let all_bytes = bytes_with_room(&world)?;
    println!("cold: the same state takes {all_bytes} bytes where it has room, in a process of {memory_bytes} bytes");
    ensure!(resident <= memory_bytes, "the process took {resident} bytes, more than limits.memory_bytes = {memory_bytes}");
    ensure!(all_bytes >= TIMES * memory_bytes as f64, "only {all_bytes} bytes of state");
    Ok(())
}
