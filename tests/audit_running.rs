//! Goal: an audit that cannot be fooled. While the pipeline runs, dies and starts again, neither the audit by the logs nor that of samples
//! tells a difference; and each kind of fault that is put in is told by table and key: a row that was altered, an event that never reached
//! the archive, an event that left it, an archived event that nobody sent.
//! Method: real servers, the real binary; faults are made with SQL, a lost event by moving the stored position over it.

mod common;

use anyhow::{Context as _, Result, ensure};
use common::load::{Load, options};
use common::pipeline::Finished;
use common::{DEADLINE, World, events, wait_until};
use onecode::task::Positions;
use serde_json::Value;

const SAMPLE_OF_ALL: &str = "100000";

fn json(finished: &Finished) -> Result<Value> {
    serde_json::from_str(&finished.stdout).with_context(|| format!("no report: {finished}"))
}

/// The audit by the logs, with the exit code that it must have.
fn by_log(world: &World<'_>, more: &[&str], code: i32) -> Result<Value> {
    let finished = world.onecode(&[&["audit", "--source", "log", "--json"], more].concat())?;
    ensure!(finished.code == code, "{finished}");
    json(&finished)
}

/// One round over everybody, with the exit code that it must have.
fn by_sample(world: &World<'_>, more: &[&str], code: i32) -> Result<Value> {
    let finished = world.onecode(&[&["audit", "--sample", SAMPLE_OF_ALL, "--json"], more].concat())?;
    ensure!(finished.code == code, "{finished}");
    json(&finished)
}

/// Table, kind of difference and key of everything that is listed.
fn told(report: &Value) -> Vec<(String, String, Value)> {
    let tables = report["tables"].as_array().cloned().unwrap_or_default();
    let of_table = |table: &Value| {
        let name = table["table"].as_str().unwrap_or_default().to_owned();
        let listed = table["listed"].as_array().cloned().unwrap_or_default();
        listed.into_iter().map(move |one| (name.clone(), one["difference"].as_str().unwrap_or_default().to_owned(), one["key"].clone()))
    };
    tables.iter().flat_map(of_table).collect()
}

#[test]
fn nothing_is_told_of_a_pipeline_that_runs_dies_and_starts_again() -> Result<()> {
    let world = World::new("running")?;
    world.migrate(3)?;
    let mut pipeline = world.start()?;
    let load = Load::start(&world, options(30_000, 3), 2_500)?;
    wait_until("a checkpoint with events", DEADLINE, || Ok(world.number("SELECT count() FROM task_state WHERE kind IN (1, 21)")? > 0))?;
    let (mut audits, mut counted) = (0, 0);
    while !load.is_over() || audits == 0 {
        let report = by_log(&world, &[], 0)?;
        counted = report["counted_events"].as_u64().unwrap_or_default();
        let round = by_sample(&world, &["--seed", "1"], 0)?;
        ensure!(round["customers"].as_u64() > Some(0), "{round}");
        audits += 1;
        // What it has served since its last checkpoint is newer than that, and was spoken by a generation before.
        pipeline.kill()?;
        pipeline = world.spawn(0, &[])?;
        by_log(&world, &[], 0)?;
    }
    ensure!(counted > 0, "the audits counted nothing");
    load.finish()?;
    pipeline.wait_ready()?;
    world.wait_caught_up()?;
    let report = by_log(&world, &["--passes", "3"], 0)?;
    ensure!(report["counted_events"].as_u64() > Some(20_000) && report["later_events"] == 0 && report["newer_rows"] == 0, "{report}");
    println!("{audits} audits of a running pipeline, then {} rows at rest", report["rows"]);
    Ok(())
}

/// Three customers with a scan and a payment each.
fn small_world() -> Result<World<'static>> {
    let world = World::new("faulty")?;
    world.migrate(1)?;
    send(&world, "first", &["ann", "bob", "cid"])?;
    Ok(world)
}

fn send(world: &World<'_>, id: &str, customers: &[&str]) -> Result<()> {
    let now_ms = events::now_ms();
    let scans =
        customers.iter().map(|customer| events::scan_record(&events::scan(&format!("{id}-{customer}-s"), customer, now_ms - 5_000)));
    world.produce(&world.topic("scans"), scans)?;
    let payments = customers
        .iter()
        .map(|customer| events::purchase_record(&events::payment(&format!("{id}-{customer}"), customer, now_ms - 4_000, 500)));
    world.produce(&world.topic("purchases"), payments)
}

#[test]
fn an_altered_row_is_told_by_name_in_the_report_and_the_metric_until_it_is_right_again() -> Result<()> {
    let world = small_world()?;
    let pipeline = world.start()?;
    world.wait_caught_up()?;
    let metric = || pipeline.metric("onecode_audit_differences", &[]);
    by_log(&world, &[], 0)?;
    by_sample(&world, &[], 0)?;
    let alter = |table: &str, column: &str, by: i64| {
        world.query(&format!(
            "INSERT INTO {table} SELECT * REPLACE ({column} + ({by}) AS {column}, version + 1 AS version) FROM {table} FINAL WHERE customer_id = 'bob'"
        ))
    };
    for (table, column) in [("customers", "paid"), ("customer_days", "scans")] {
        alter(table, column, 1)?;
        for report in [by_log(&world, &[], 1)?, by_sample(&world, &["--every", "1", "--rounds", "1"], 1)?] {
            let found = told(&report);
            let [(told_table, difference, key)] = found.as_slice() else { anyhow::bail!("{table}: {report:#}") };
            ensure!((told_table.as_str(), difference.as_str()) == (table, "wrong") && key["customer_id"] == "bob", "{report:#}");
        }
        if table == "customers" {
            wait_until("the difference in the metric", DEADLINE, || Ok(metric()? == 1.0))?;
        }
        alter(table, column, -1)?;
        by_log(&world, &[], 0)?;
        by_sample(&world, &["--every", "1", "--rounds", "1"], 0)?;
    }
    wait_until("no difference in the metric again", DEADLINE, || Ok(metric()? == 0.0))
}

#[test]
fn an_event_that_was_lost_before_the_archive_is_told_by_the_logs_alone() -> Result<()> {
    let world = small_world()?;
    let pipeline = world.start()?;
    world.wait_caught_up()?;
    ensure!(pipeline.terminate()? == 0, "the drain failed: {}", pipeline.log_text());
    send(&world, "second", &["bob"])?;
    // The fault: the stored position moves over a payment that nobody has read.
    let hex = world.query("SELECT hex(payload) FROM task_state FINAL WHERE kind = 0 ORDER BY generation DESC LIMIT 1")?;
    let mut positions = Positions::decode(&unhex(hex.trim())?)?;
    let payments = world.topic("purchases");
    positions.logs.iter_mut().filter(|(log, _)| *log.topic == *payments).for_each(|(_, position)| position.next += 1);
    positions.sequence += 1;
    let payload: String = positions.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    world.query(&format!(
        "INSERT INTO task_state SELECT task, generation, kind, key, sequence + 1, unhex('{payload}'), 0 FROM task_state FINAL \
         WHERE kind = 0 ORDER BY generation DESC LIMIT 1"
    ))?;
    let pipeline = world.start()?;
    world.wait_caught_up()?;
    let at_rest = world.must(&["audit"])?;
    ensure!(at_rest.contains("audit: 0 differences"), "the archive knows nothing of it: {at_rest}");
    let report = by_log(&world, &[], 1)?;
    let found = told(&report);
    let archived = found.iter().find(|(table, ..)| table == "purchases").with_context(|| format!("{report:#}"))?;
    ensure!(archived.1 == "missing" && archived.2["event_id"] == "second-bob" && archived.2["customer_id"] == "bob", "{report:#}");
    for table in ["task_state", "customers", "customer_days", "activity_minute", "activity_day"] {
        ensure!(found.iter().any(|(told, difference, _)| told == table && difference == "wrong"), "{table}: {report:#}");
    }
    drop(pipeline);
    Ok(())
}

fn unhex(text: &str) -> Result<Vec<u8>> {
    (0..text.len()).step_by(2).map(|at| Ok(u8::from_str_radix(text.get(at..at + 2).context("half a byte")?, 16)?)).collect()
}

#[test]
fn events_that_left_the_archive_or_that_nobody_sent_are_told() -> Result<()> {
    let world = small_world()?;
    let _pipeline = world.start()?;
    world.wait_caught_up()?;
    world.query("DELETE FROM scans WHERE customer_id = 'ann'")?;
    world.query(
        "INSERT INTO purchases (brand, customer_id, event_time, event_id, kind, amount) SELECT 'acme', 'cid', now64(3), 'forged', 'payment', 7",
    )?;
    world.query(
        "INSERT INTO activity_day (brand, day, campaign, sku, channel, region, task, scans, version) SELECT 'acme', today(), 'x', '', '', 0, '0', 1, 1",
    )?;
    let report = by_log(&world, &[], 1)?;
    let mut found: Vec<(String, String, String)> = told(&report)
        .into_iter()
        .map(|(table, difference, key)| {
            (table, difference, key["event_id"].as_str().or(key["campaign"].as_str()).unwrap_or_default().to_owned())
        })
        .collect();
    found.sort();
    let expected = [("activity_day", "wrong", "x"), ("purchases", "unexpected", "forged"), ("scans", "missing", "first-ann-s")]
        .map(|(table, difference, id)| (table.to_owned(), difference.to_owned(), id.to_owned()));
    ensure!(found == expected, "{report:#}");
    // Both show in a sample by the archive as well, as the customers that no longer fit it.
    let round = by_sample(&world, &[], 1)?;
    let customers: Vec<Value> =
        told(&round).into_iter().filter(|(table, ..)| table == "customers").map(|(_, _, key)| key["customer_id"].clone()).collect();
    ensure!(customers == ["ann", "cid"], "{round:#}");
    Ok(())
}

#[test]
fn a_brand_and_a_range_of_days_are_audited_alone() -> Result<()> {
    let world = small_world()?;
    let _pipeline = world.start()?;
    world.wait_caught_up()?;
    world.query("INSERT INTO customers (brand, customer_id, first_event_time, first_event_id, scans, version) VALUES ('other', 'eve', now64(3), 'e', 1, 1)")?;
    world.query("INSERT INTO customer_days (brand, customer_id, day, scans, version) VALUES ('acme', 'eve', '2026-01-05', 1, 1)")?;
    let differences = |arguments: &[&str]| -> Result<(i32, u64)> {
        let finished = world.onecode(&[&["audit", "--json"], arguments].concat())?;
        Ok((finished.code, json(&finished)?["differences"].as_u64().unwrap_or_default()))
    };
    ensure!(differences(&[])? == (1, 2), "both");
    ensure!(differences(&["--brand", "other"])? == (1, 1), "the one of the brand");
    ensure!(differences(&["--brand", "acme"])? == (1, 1), "the one of the other brand");
    ensure!(differences(&["--from", "2026-01-05", "--until", "2026-01-06"])? == (1, 1), "the day");
    ensure!(differences(&["--from", "2026-01-06"])? == (0, 0), "the days after it");
    ensure!(differences(&["--brand", "other", "--until", "2026-01-06"])? == (0, 0), "the day in the other brand");
    let refused = world.onecode(&["audit", "--source", "log", "--brand", "acme"])?;
    ensure!(refused.code == 2 && refused.stderr.contains("leave out"), "{refused}");
    Ok(())
}
