//! Goal: what producers do right and wrong ends up where the contract says.
//! Method: one real broker and one real ClickHouse for all tests here, each with topics and a database of its own; the real binary.

mod common;

use anyhow::{Context as _, Result, bail, ensure};
use common::events::{BRAND, now_ms, payment, purchase_record, refund, scan, scan_record, share, share_record, via};
use common::load::{Load, must_be_exact, options, source_position};
use common::topics::StoredRecord;
use common::{DEADLINE, Record, World, wait_until};
use onecode::generate::{CLASS_HEADER, Options, REASON_HEADER};
use onecode::model::{Reason, owner};
use std::collections::{BTreeMap, BTreeSet};

const PARTITIONS: u32 = 3;

fn world(test: &str) -> Result<World<'static>> {
    let world = World::new(test)?;
    world.migrate(PARTITIONS as i32)?;
    Ok(world)
}

/// Runs the pipeline until everything sent is checkpointed, then ends it.
fn run_through(world: &World<'_>) -> Result<()> {
    let pipeline = world.start()?;
    world.wait_caught_up()?;
    ensure!(pipeline.terminate()? == 0, "the drain failed: {}", pipeline.log_text());
    Ok(())
}

fn letters(world: &World<'_>) -> Result<Vec<StoredRecord>> {
    world.read_topic(&world.topic("dead_letter"))
}

fn stage(letter: &StoredRecord) -> Option<String> {
    letter.header("__connect.errors.stage")
}

fn reason(letter: &StoredRecord) -> Option<String> {
    letter.header("onecode.reason")
}

/// A partition that does not own the customer.
fn wrong_partition(customer: &str) -> i32 {
    ((owner(customer, PARTITIONS) + 1) % PARTITIONS) as i32
}

#[test]
fn a_customers_facts_reach_the_views() -> Result<()> {
    let world = world("facts")?;
    let now = now_ms();
    world.produce(&world.topic("scans"), [scan_record(&scan("s1", "ann", now - 2_000)), scan_record(&scan("s1", "ann", now - 2_000))])?;
    world.produce(
        &world.topic("purchases"),
        [purchase_record(&payment("p1", "ann", now - 1_000, 4_990)), purchase_record(&refund("p2", "ann", now, "p1", 990))],
    )?;
    world.produce(&world.topic("shares"), [share_record(&share("h1", "ann", now - 500))])?;
    let mut visit = scan("s2", "bob", now);
    visit.via = via("h1", "ann");
    world.produce(&world.topic("scans"), [scan_record(&visit)])?;
    run_through(&world)?;
    let rows = world.rows(&format!(
        "SELECT customer_id, scans, verifies, visits, shares, orders, refunds, paid, refunded, first_event_id FROM v_customers WHERE brand = '{BRAND}' AND scans + orders > 0 ORDER BY customer_id"
    ))?;
    let expected = [["ann", "1", "1", "0", "1", "1", "1", "4990", "990", "s1"], ["bob", "1", "1", "1", "0", "0", "0", "0", "0", "s2"]];
    ensure!(rows == expected, "{rows:?}");
    must_be_exact(&world)
}

#[test]
fn every_reason_a_producer_can_cause_makes_a_dead_letter_with_the_original_bytes() -> Result<()> {
    let world = world("reasons")?;
    // Every reason equally often; so few that also the first 1,000 records, which may be of one topic, stay under the default limit of 5 %.
    let load = Load::start(&world, Options { malformed: 0.01, ..options(6_000, PARTITIONS) }, 20_000)?;
    load.finish()?;
    run_through(&world)?;
    let mut sources: BTreeMap<(String, i32, i64), StoredRecord> = BTreeMap::new();
    for key in ["scans", "purchases", "shares"] {
        let topic = world.topic(key);
        for record in world.read_topic(&topic)? {
            sources.insert((topic.clone(), record.partition, record.offset), record);
        }
    }
    let mut reasons = BTreeSet::new();
    for letter in letters(&world)? {
        let position = source_position(&letter)?;
        let source = sources.get(&position).with_context(|| format!("no record at {position:?}"))?;
        ensure!(letter.key == source.key && letter.value == source.value, "key and value must be the original ones: {position:?}");
        ensure!(letter.headers.starts_with(&source.headers), "the original headers come first: {position:?}");
        ensure!(source.header(CLASS_HEADER).as_deref() == Some("malformed"), "a good record was rejected: {letter:?}");
        ensure!(reason(&letter) == source.header(REASON_HEADER), "{:?} instead of {:?}", reason(&letter), source.header(REASON_HEADER));
        ensure!(letter.header("__connect.errors.exception.message").is_some_and(|message| !message.is_empty()), "no message: {letter:?}");
        let expected_stage = match reason(&letter).as_deref() {
            Some("undecodable") => &["decode"][..],
            Some("too_long") => &["decode", "validate"],
            _ => &["validate"],
        };
        ensure!(
            stage(&letter).is_some_and(|stage| expected_stage.contains(&stage.as_str())),
            "stage {:?} of {:?}",
            stage(&letter),
            reason(&letter)
        );
        reasons.extend(reason(&letter));
    }
    let all: BTreeSet<String> =
        Reason::ALL.iter().filter(|reason| **reason != Reason::Conflict).map(|reason| reason.code().to_owned()).collect();
    ensure!(reasons == all, "reasons seen: {reasons:?}");
    must_be_exact(&world)
}

#[test]
fn a_conflict_names_where_the_record_first_arrived_also_after_a_relay() -> Result<()> {
    let world = world("conflict")?;
    let now = now_ms();
    let scans = world.topic("scans");
    world.produce(&scans, [scan_record(&scan("same", "ann", now))])?;
    let pipeline = world.start()?;
    world.wait_caught_up()?;
    let other = scan("same", "ann", now - 1);
    let misrouted = wrong_partition("ann");
    world.produce(&scans, [scan_record(&other).in_partition(misrouted).with_header("mine", b"kept")])?;
    wait_until("the dead letter", DEADLINE, || Ok(!letters(&world)?.is_empty()))?;
    world.wait_caught_up()?;
    ensure!(pipeline.terminate()? == 0, "the drain failed");
    let found = letters(&world)?;
    ensure!(found.len() == 1, "{found:?}");
    let letter = found.first().context("no letter")?;
    ensure!(source_position(letter)? == (scans.clone(), misrouted, 0), "{:?}", source_position(letter));
    ensure!(reason(letter).as_deref() == Some("conflict") && stage(letter).as_deref() == Some("apply"), "{letter:?}");
    ensure!(letter.header("mine").as_deref() == Some("kept") && letter.header("onecode.exchange").is_none(), "{letter:?}");
    ensure!(world.number("SELECT sum(scans) FROM v_customers")? == 1, "the first to arrive counts");
    Ok(())
}

#[test]
fn a_topic_whose_producer_used_the_wrong_key_gives_the_same_tables() -> Result<()> {
    let world = world("wrongkey")?;
    let now = now_ms();
    let events = (0..3_000).map(|number| scan(&format!("e{number}"), &format!("c{}", number % 500), now - number));
    let records = events.map(|event| scan_record(&event).in_partition(wrong_partition(&event.customer_id)));
    world.produce(&world.topic("scans"), records)?;
    let pipeline = world.start()?;
    world.wait_caught_up()?;
    wait_until("all relays", DEADLINE, || Ok(world.number("SELECT sum(scans) FROM v_customers")? == 3_000))?;
    let relayed = pipeline.metric("onecode_applied_events_total", &["outcome=\"relayed\""])?;
    ensure!(relayed >= 3_000.0, "{relayed} relayed");
    world.wait_caught_up()?;
    ensure!(pipeline.terminate()? == 0, "the drain failed");
    must_be_exact(&world)
}

#[test]
fn topics_with_other_partition_counts_are_served_by_relay_also_after_a_kill() -> Result<()> {
    let world = World::new("othercounts")?;
    for (key, partitions) in [("scans", PARTITIONS as i32), ("purchases", 2), ("shares", 1)] {
        world.create_topic(&world.topic(key), partitions, &[("message.timestamp.type", "LogAppendTime")])?;
    }
    world.must(&["migrate"])?;
    let load = Load::start(&world, Options { partitions: [PARTITIONS, 2, 1], ..options(40_000, PARTITIONS) }, 6_000)?;
    let first = world.start()?;
    wait_until("progress", DEADLINE, || Ok(first.metric("onecode_consumed_records_total", &[])? >= 15_000.0))?;
    first.kill()?;
    let second = world.start()?;
    let status = second.status()?;
    let names: BTreeSet<&str> = status["tasks"].as_array().into_iter().flatten().filter_map(|task| task["task"].as_str()).collect();
    ensure!(names.contains(format!("{}:1", world.topic("purchases")).as_str()) && names.contains("2"), "{names:?}");
    load.finish()?;
    world.wait_caught_up()?;
    ensure!(second.terminate()? == 0, "the drain failed");
    must_be_exact(&world)
}

#[test]
fn the_largest_record_is_relayed_when_good_and_kept_when_bad() -> Result<()> {
    // Kafka's default limit is 1,048,588 bytes for a batch; key, headers and framing take the rest.
    const LARGEST_VALUE: usize = 1_048_000;
    let mut world = World::new("largest")?;
    world.set("limits.event_bytes", 1_048_588);
    world.migrate(PARTITIONS as i32)?;
    let now = now_ms();
    let mut good = format!(
        r#"{{"event_id":"big","brand":"{BRAND}","customer_id":"ann","event_time_ms":{now},"code":"c","unknown":"{}"}}"#,
        "x".repeat(LARGEST_VALUE)
    );
    let surplus = good.len() - LARGEST_VALUE;
    good = good.replacen(&"x".repeat(surplus), "", 1);
    // What is wrong with the second would be told with all of its text.
    let mut bad = [vec![b'{'; LARGEST_VALUE], [&b"\""[..], &vec![b'x'; LARGEST_VALUE - 200], b"\""].concat()];
    let scans = world.topic("scans");
    for value in [good.into_bytes()].iter().chain(&bad) {
        let record = Record::new("ann", value.clone()).in_partition(wrong_partition("ann"));
        world.produce(&scans, [record.with_header("content-type", b"application/json")])?;
    }
    run_through(&world)?;
    ensure!(world.number("SELECT sum(scans) FROM v_customers")? == 1, "the large event counts");
    let mut kept: Vec<_> = letters(&world)?.into_iter().map(|letter| letter.value.unwrap_or_default()).collect();
    kept.sort_unstable();
    bad.sort_unstable();
    ensure!(kept == bad, "{} letters", kept.len());
    world.must(&["audit"]).map(drop)
}

#[test]
fn a_header_of_the_name_that_relays_use_says_nothing() -> Result<()> {
    let world = world("forged")?;
    let forged = |record: Record| record.in_partition(wrong_partition("ann")).with_header("onecode.exchange", b"forged");
    let good = forged(scan_record(&scan("good", "ann", now_ms())));
    let nobody = scan("", "ann", now_ms());
    world.produce(&world.topic("scans"), [good, forged(scan_record(&nobody)), scan_record(&scan("later", "ann", now_ms()))])?;
    run_through(&world)?;
    ensure!(world.number("SELECT sum(scans) FROM v_customers")? == 2, "both good scans count");
    let found = letters(&world)?;
    let [letter] = found.as_slice() else { bail!("{} letters", found.len()) };
    ensure!(reason(letter).as_deref() == Some("missing_field"), "{letter:?}");
    ensure!(letter.header("onecode.exchange").as_deref() == Some("forged"), "the producer's own header is kept: {letter:?}");
    world.must(&["audit"]).map(drop)
}

#[test]
fn a_bad_deploy_stops_the_worker_and_accept_rejects_goes_on() -> Result<()> {
    let world = world("baddeploy")?;
    let rubbish = (0..150).map(|_| Record::new("k", "rubbish").in_partition(0));
    world.produce(&world.topic("scans"), rubbish)?;
    world.produce(&world.topic("scans"), [scan_record(&scan("good", "ann", now_ms()))])?;
    let stopped = world.spawn(0, &[])?;
    ensure!(stopped.wait_for_exit()? == 1, "it must stop");
    let log = stopped.log_text();
    ensure!(log.contains("in a row") && log.contains("dead_letter.max_consecutive") && log.contains("--accept-rejects"), "{log}");
    let goes_on = world.spawn(0, &["--accept-rejects", "150"])?;
    world.wait_caught_up()?;
    ensure!(goes_on.terminate()? == 0, "the drain failed");
    ensure!(world.number("SELECT sum(scans) FROM v_customers")? == 1, "the good record counts");
    let positions: BTreeSet<_> = letters(&world)?.iter().map(source_position).collect::<Result<_>>()?;
    ensure!(positions.len() == 150, "{} dead letters", positions.len());
    Ok(())
}

#[test]
fn scans_by_others_than_consumers_are_in_the_archive_and_nowhere_else() -> Result<()> {
    let world = world("roles")?;
    let mut event = scan("r1", "shop-7", now_ms());
    event.role = onecode::pb::ActorRole::Retailer.into();
    world.produce(&world.topic("scans"), [scan_record(&event), scan_record(&event).in_partition(wrong_partition("shop-7"))])?;
    run_through(&world)?;
    ensure!(
        world.number("SELECT count() FROM v_customers")? == 0 && world.number("SELECT count() FROM v_activity_day")? == 0,
        "it counts nowhere"
    );
    ensure!(world.number("SELECT count() FROM v_scans WHERE role = 'retailer'")? == 1, "it is archived once");
    ensure!(world.rows("SELECT scans, customers FROM v_codes")? == [["1", "0"]], "{:?}", world.rows("SELECT * FROM v_codes"));
    must_be_exact(&world)
}
