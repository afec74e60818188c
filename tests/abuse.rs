//! Goal: what no reasonable customer does costs time in proportion and nothing else. No stall of the others, no checkpoint that writes
//! everything again, memory within the configured limits, nothing lost.
//! Method: real servers and the real binary; the short forms run with the other tests, the long ones by a factor:
//!
//! ```sh
//! ONECODE_ABUSE_FACTOR=200 cargo test --release --workspace --test abuse -- --nocapture --test-threads=1      # 10 million events of one customer
//! ONECODE_OUTAGE_SECONDS=3600 cargo test --release --workspace --test abuse outage -- --nocapture
//! ONECODE_OUTAGE_SECONDS=480 ONECODE_OUTAGE_PER_SECOND=60000 cargo test --release --workspace --test abuse outage -- --nocapture      # an hour's events
//! ```

mod common;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use common::load::{Load, options};
use common::{Pipeline, Stack, World, events, wait_until};
use onecode::pb::Scan;

/// Of one customer: ten million with the factor 200.
const EVENTS: u64 = 50_000;
/// Of one share: a million with the factor 50.
const VISITORS: u64 = 20_000;
const CAMPAIGNS: u64 = 100_000;
const CHAIN: u64 = 10_000;
/// For everything that takes long.
const LONG_DEADLINE: Duration = Duration::from_secs(7_200);

fn number_in(variable: &str, default: u64) -> Result<u64> {
    match std::env::var(variable) {
        Ok(text) => text.parse().with_context(|| format!("{variable} must be a number")),
        Err(_) => Ok(default),
    }
}

fn factor() -> Result<u64> {
    number_in("ONECODE_ABUSE_FACTOR", 1)
}

fn new_world(name: &str) -> Result<World<'static>> {
    let world = World::new(name)?;
    world.migrate(2)?;
    Ok(world)
}

/// Sends scans; the customer is the key.
fn send(world: &World<'_>, scans: impl Iterator<Item = Scan>) -> Result<()> {
    world.produce(&world.topic("scans"), scans.map(|scan| events::scan_record(&scan)))
}

fn settle(world: &World<'_>) -> Result<()> {
    world.wait_caught_up_within(LONG_DEADLINE)
}

/// Nothing differs, by the archive and by the logs.
fn must_be_exact(world: &World<'_>) -> Result<()> {
    for arguments in [&["audit"][..], &["audit", "--source", "log"]] {
        let began = Instant::now();
        let audit = world.onecode_within(LONG_DEADLINE, arguments)?;
        ensure!(audit.code == 0, "{audit}");
        println!(
            "{} after {:.0} s: {}",
            arguments.join(" "),
            began.elapsed().as_secs_f64(),
            audit.stdout.lines().last().unwrap_or_default()
        );
    }
    Ok(())
}

/// Bytes of the state: of everything, and of what was written after a sequence.
fn state_bytes(world: &World<'_>, after_sequence: i64) -> Result<i64> {
    world.number(&format!("SELECT sum(length(key) + length(payload)) FROM task_state FINAL WHERE sequence > {after_sequence}"))
}

/// What a few more events add to `task_state`, in bytes, against everything that is there.
fn bytes_of_a_small_checkpoint(world: &World<'_>, more: impl Iterator<Item = Scan>) -> Result<(i64, i64)> {
    let all = state_bytes(world, -1)?;
    let before = world.number("SELECT max(sequence) FROM task_state")?;
    send(world, more)?;
    settle(world)?;
    Ok((state_bytes(world, before)?, all))
}

/// Everybody else goes on: a newcomer's scan is counted, however busy the one is.
fn others_are_served(world: &World<'_>) -> Result<()> {
    send(world, std::iter::once(events::scan("other", "somebody-else", events::now_ms() - 1_000)))?;
    wait_until("the scan of somebody else", LONG_DEADLINE, || {
        Ok(world.number("SELECT count() FROM v_customers WHERE customer_id = 'somebody-else'")? == 1)
    })
}

#[test]
fn a_customer_with_very_many_events_writes_a_few_kilobytes_a_checkpoint() -> Result<()> {
    let count = EVENTS * factor()?;
    let world = new_world("busy")?;
    let _pipeline = world.start()?;
    let began = events::now_ms() - 3_600_000;
    let scan = |number: u64| events::scan(&format!("event-{number}"), "busy", began + (number % 3_000_000) as i64);
    send(&world, (0..count).map(scan))?;
    others_are_served(&world)?;
    settle(&world)?;
    // Repeats of the oldest and the newest, and ten new ones.
    let (written, all) = bytes_of_a_small_checkpoint(&world, (0..100).chain(count - 100..count + 10).map(scan))?;
    println!("{count} events of one customer: {all} bytes of state, {written} bytes in a checkpoint after ten more");
    ensure!(all as u64 > 12 * count, "the ids are remembered: {all}");
    ensure!(written < 65_536, "{written} bytes for ten events");
    let scans = world.number("SELECT scans FROM v_customers WHERE customer_id = 'busy'")?;
    ensure!(scans as u64 == count + 10, "{scans} scans of {} distinct ones", count + 10);
    must_be_exact(&world)
}

#[test]
fn a_share_with_very_many_visitors_is_counted_and_costs_the_next_visit_little() -> Result<()> {
    let count = VISITORS * factor()?;
    let world = new_world("famous")?;
    let _pipeline = world.start()?;
    let now = events::now_ms();
    world.produce(&world.topic("shares"), [events::share_record(&events::share("s", "star", now - 3_600_000))])?;
    let visit = |number: u64| Scan {
        via: events::via("s", "star"),
        ..events::scan(&format!("visit-{number}"), &format!("visitor-{number}"), now - 60_000)
    };
    send(&world, (0..count).map(visit))?;
    others_are_served(&world)?;
    settle(&world)?;
    let (written, all) = bytes_of_a_small_checkpoint(&world, (count..count + 10).map(visit))?;
    println!("{count} visitors of one share: {all} bytes of state, {written} bytes in checkpoints after ten more");
    ensure!(written < 131_072, "{written} bytes for ten visitors");
    let seen = "SELECT count() FROM v_shares WHERE sharer_id = 'star' AND visits = {n} AND visitors = {n} AND new_customers = {n}";
    wait_until("all visitors", LONG_DEADLINE, || Ok(world.number(&seen.replace("{n}", &(count + 10).to_string()))? == 1))?;
    settle(&world)?;
    must_be_exact(&world)
}

#[test]
fn a_hundred_thousand_campaigns_and_a_long_chain_of_referrals_are_exact() -> Result<()> {
    let world = new_world("odd")?;
    let _pipeline = world.start()?;
    let now = events::now_ms();
    let campaign = |number: u64| Scan {
        campaign: format!("campaign-{number}"),
        ..events::scan(&format!("c-{number}"), &format!("customer-{}", number % 1_000), now - 120_000)
    };
    send(&world, (0..CAMPAIGNS).map(campaign))?;
    // Each was brought by the one before.
    let link = |number: u64| Scan {
        via: events::via("s", &format!("link-{number}")),
        ..events::scan(&format!("l-{number}"), &format!("link-{}", number + 1), now - 100_000 + number as i64)
    };
    send(&world, (0..CHAIN).map(link))?;
    others_are_served(&world)?;
    let campaigns = "SELECT uniqExact(campaign) FROM v_activity_day WHERE campaign LIKE 'campaign-%'";
    wait_until("all campaigns", LONG_DEADLINE, || Ok(world.number(campaigns)? as u64 == CAMPAIGNS))?;
    // A contribution climbs one level at a time; the longest way is as deep as trees are kept.
    wait_until("the top of the chain", LONG_DEADLINE, || {
        Ok(world.number("SELECT referred_total FROM v_customers WHERE customer_id = 'link-0'")? == 16)
    })?;
    settle(&world)?;
    must_be_exact(&world)
}

/// Resident memory of a process, MiB.
fn resident_mib(pipeline: &Pipeline) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", pipeline.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").trim().parse::<u64>()? / 1_024)
}

#[test]
fn a_long_outage_of_clickhouse_at_full_rate_pauses_reading_within_the_limits_and_loses_nothing() -> Result<()> {
    const BUFFERED_BYTES: u64 = 16 << 20;
    let seconds = number_in("ONECODE_OUTAGE_SECONDS", 25)?;
    let per_second = u32::try_from(number_in("ONECODE_OUTAGE_PER_SECOND", 8_000)?).context("ONECODE_OUTAGE_PER_SECOND")?;
    let stack = Stack::own("outage")?;
    let mut world = World::on(&stack, "outage")?;
    world.set("limits.buffered_bytes", BUFFERED_BYTES);
    world.migrate(4)?;
    world.put_off_the_lists()?;
    let pipeline = world.start()?;
    // Sent on until after the outage.
    let load = Load::start(&world, options((seconds + 10) * u64::from(per_second), 4), per_second)?;
    wait_until("rows before the outage", common::DEADLINE, || Ok(world.number("SELECT count() FROM v_customers")? > 100))?;
    stack.clickhouse.kill()?;
    let began = Instant::now();
    wait_until("reading pauses", LONG_DEADLINE, || Ok(pipeline.metric("onecode_workers_paused", &[])? > 0.0))?;
    let paused_after = began.elapsed();
    let (resident, mut most_resident, mut most_buffered) = (resident_mib(&pipeline)?, 0, 0.0_f64);
    let until = Instant::now() + Duration::from_secs(seconds);
    wait_until("the end of the outage", LONG_DEADLINE, || {
        most_resident = most_resident.max(resident_mib(&pipeline)?);
        most_buffered = most_buffered.max(pipeline.metric("onecode_buffered_bytes", &[])?);
        Ok(Instant::now() >= until)
    })?;
    println!(
        "outage: reading paused after {:.1} s, went on for {seconds} s: at most {:.1} MiB of rows waited (limit 16), resident {resident} to {most_resident} MiB",
        paused_after.as_secs_f64(),
        most_buffered / 1_048_576.0
    );
    // What was fetched when the limit was reached still becomes rows; what is fetched is bounded by the consumers' own queues.
    ensure!(most_buffered <= 2.0 * BUFFERED_BYTES as f64, "{most_buffered} bytes of rows waited");
    ensure!(most_resident <= resident + 256, "memory grew from {resident} to {most_resident} MiB while reading was paused");
    stack.clickhouse.start_again()?;
    load.finish()?;
    settle(&world)?;
    must_be_exact(&world)
}
