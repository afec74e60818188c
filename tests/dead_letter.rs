//! `onecode dead-letter` against a real broker: what it lists, shows and sends again is what was rejected.

mod common;

use anyhow::{Context as _, Result, ensure};
use common::events::{now_ms, scan, scan_record};
use common::{Record, World};
use onecode::model::{Reason, Reject, Stage, TopicPartition};
use onecode::task::{DeadLetter, NoHeaders, Origin, dead_letter_headers};
use serde_json::Value;

/// The dead letter of a record, as a worker writes it.
fn letter(topic: &str, offset: i64, reason: Reason, record: Record) -> Record {
    let origin = Origin { log: TopicPartition { topic: topic.into(), partition: 1 }, offset };
    let reject = Reject { reason, stage: Stage::Validate, message: format!("message of {offset}") };
    let key = record.key.clone();
    let letter = DeadLetter { origin: &origin, reject: &reject, key: key.as_deref(), value: record.value.as_deref(), headers: &NoHeaders };
    let headers = dead_letter_headers(&letter);
    headers.iter().fold(record.clone(), |record, (name, value)| record.with_header(name, value.as_bytes()))
}

/// A world with input topics and five dead letters, one of them twice, and a record that is none.
fn world_with_letters(name: &str) -> Result<World<'static>> {
    let world = World::new(name)?;
    for topic in ["scans", "purchases", "shares"] {
        world.create_topic(&world.topic(topic), 3, &[])?;
    }
    let dead_letters = world.topic("dead_letter");
    world.create_topic(&dead_letters, 2, &[])?;
    let (scans, shares) = (world.topic("scans"), world.topic("shares"));
    let json = Record::new("ann", r#"{"event_id":"e1"}"#).with_header("content-type", b"application/json").with_header("trace", b"t1");
    let tombstone = Record { key: Some(b"bob".to_vec()), ..Record::default() };
    let no_key = Record { value: Some(b"\n\x02e2".to_vec()), ..Record::default() };
    world.produce(
        &dead_letters,
        [
            letter(&scans, 10, Reason::MissingField, json.clone()).in_partition(0),
            letter(&scans, 10, Reason::MissingField, json).in_partition(1),
            letter(&scans, 11, Reason::Undecodable, tombstone).in_partition(0),
            letter(&shares, 12, Reason::MissingField, no_key.clone()).in_partition(1),
            letter("somebody.elses", 13, Reason::BadRegion, Record::new("x", "y")).in_partition(0),
            letter(&shares, 14, Reason::BadRegion, Record::new("cat", "\u{1b}[2J\u{0}")).in_partition(0),
            Record::new("stray", "no headers").in_partition(0),
        ],
    )?;
    Ok(world)
}

fn lines(text: &str) -> Result<Vec<Value>> {
    text.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

#[test]
fn letters_are_listed_by_filter() -> Result<()> {
    let world = world_with_letters("list")?;
    let offsets = |arguments: &[&str]| -> Result<Vec<i64>> {
        let told = world.must(&[&["dead-letter", "list", "--json"], arguments].concat())?;
        let mut offsets: Vec<i64> = lines(&told)?.iter().filter_map(|line| line["origin"]["offset"].as_i64()).collect();
        offsets.sort_unstable();
        Ok(offsets)
    };
    assert_eq!(offsets(&[])?, [10, 10, 11, 12, 13, 14]);
    assert_eq!(offsets(&["--reason", "missing_field"])?, [10, 10, 12]);
    assert_eq!(offsets(&["--reason", "undecodable", "--reason", "bad_region"])?, [11, 13, 14]);
    assert_eq!(offsets(&["--topic", &world.topic("shares")])?, [12, 14]);
    assert_eq!(offsets(&["--until", "2020-01-01T00:00:00Z"])?, [0_i64; 0]);
    assert_eq!(offsets(&["--since", "2020-01-01T00:00:00Z", "--limit", "2"])?.len(), 2);

    let told = world.must(&["dead-letter", "list"])?;
    assert!(told.contains("6 dead letters in ") && told.contains("6 shown"), "{told}");
    assert!(told.contains("  3 missing_field\n") && told.contains("  2 bad_region\n"), "{told}");
    assert!(told.contains("1 other records there have no headers"), "{told}");
    let unknown = world.onecode(&["dead-letter", "list", "--reason", "odd"])?;
    assert_eq!(unknown.code, 2, "{unknown}");
    Ok(())
}

#[test]
fn a_letter_is_shown_by_either_position() -> Result<()> {
    let world = world_with_letters("show")?;
    let origin = format!("{}:1:10", world.topic("scans"));
    let shown = world.must(&["dead-letter", "show", &origin])?;
    assert_eq!(shown.matches("\"event_id\": \"e1\"").count(), 2, "both letters of the record: {shown}");
    for expected in ["message of 10", "missing_field", "trace = t1", "key          ann", "7b 22 65 76"] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let shown = world.must(&["dead-letter", "show", &format!("{}:1:12", world.topic("shares"))])?;
    assert!(shown.contains("as protobuf:\nShare {\n    event_id: \"e2\""), "{shown}");
    let shown = world.must(&["dead-letter", "show", &format!("{}:0:1", world.topic("dead_letter"))])?;
    assert!(shown.contains("none (a tombstone)"), "{shown}");
    let hostile = world.must(&["dead-letter", "show", &format!("{}:1:14", world.topic("shares"))])?;
    assert!(!hostile.contains('\u{1b}'), "{hostile}");
    let as_json = lines(&world.must(&["dead-letter", "show", &origin, "--json"])?)?;
    assert_eq!((as_json.len(), as_json[0]["value_hex"].as_str()), (2, Some("7b226576656e745f6964223a226531227d")));
    let nowhere = world.onecode(&["dead-letter", "show", "scans:0:99"])?;
    assert_eq!(nowhere.code, 1, "{nowhere}");
    Ok(())
}

#[test]
fn records_go_back_where_they_came_from_as_they_were() -> Result<()> {
    let world = world_with_letters("replay")?;
    let (scans, shares) = (world.topic("scans"), world.topic("shares"));
    let dry = world.must(&["dead-letter", "replay", "--dry-run"])?;
    assert!(dry.contains("would send 4 records"), "{dry}");
    assert!(world.read_topic(&scans)?.is_empty() && world.read_topic(&shares)?.is_empty());

    let told = world.must(&["dead-letter", "replay", "--reason", "missing_field"])?;
    assert!(told.contains("sent 2 records, every one acknowledged"), "{told}");
    let [record] = <[_; 1]>::try_from(world.read_topic(&scans)?).ok().context("one record, though it has two letters")?;
    let headers = [("content-type".to_owned(), b"application/json".to_vec()), ("trace".to_owned(), b"t1".to_vec())];
    assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(&b"ann"[..]), Some(&br#"{"event_id":"e1"}"#[..])));
    assert_eq!(record.headers, headers);
    assert_eq!(record.partition as u32, onecode::model::owner("ann", 3), "by its key to its owner");
    let [record] = <[_; 1]>::try_from(world.read_topic(&shares)?).ok().context("one record")?;
    assert_eq!((record.key, record.value.as_deref(), record.headers.len()), (None, Some(&b"\n\x02e2"[..]), 0));

    let told = world.must(&["dead-letter", "replay", "--at", &format!("{scans}:1:11")])?;
    assert!(told.contains("sent 1 records"), "{told}");
    let tombstone = world.read_topic(&scans)?.into_iter().find(|record| record.key.as_deref() == Some(b"bob")).context("no tombstone")?;
    assert_eq!(tombstone.value, None);
    Ok(())
}

#[test]
fn nothing_is_sent_to_a_topic_that_is_no_input() -> Result<()> {
    let world = world_with_letters("strangers")?;
    let told = world.must(&["dead-letter", "replay", "--reason", "bad_region"])?;
    assert!(told.contains("sent 1 records") && told.contains("came from `somebody.elses`"), "{told}");
    let missing = world.onecode(&["dead-letter", "replay", "--at", &format!("{}:1:99", world.topic("scans"))])?;
    assert_eq!(missing.code, 1, "{missing}");
    let wrong = world.onecode(&["dead-letter", "replay", "--at", "somebody.elses:1:13"])?;
    assert_eq!(wrong.code, 2, "{wrong}");
    Ok(())
}

#[test]
fn records_refused_by_a_wrong_configuration_count_once_after_a_replay() -> Result<()> {
    let mut world = World::new("mended")?;
    world.migrate(2)?;
    world.set_text("brands.other.currency", "CNY").set("pipeline.brands_closed", true);
    world.produce(
        &world.topic("scans"),
        (0..40).map(|number| scan_record(&scan(&format!("e{number}"), &format!("c{}", number % 4), now_ms()))),
    )?;
    let run_through = |world: &World<'_>| -> Result<()> {
        let pipeline = world.start()?;
        world.wait_caught_up()?;
        ensure!(pipeline.terminate()? == 0, "the drain failed: {}", pipeline.log_text());
        Ok(())
    };
    run_through(&world)?;
    let listed = world.must(&["dead-letter", "list", "--limit", "5"])?;
    ensure!(listed.contains("40 dead letters in ") && listed.contains("5 shown") && listed.contains("  40 bad_brand\n"), "{listed}");
    ensure!(world.number("SELECT count() FROM v_customers")? == 0, "nothing was accepted");

    world.set("pipeline.brands_closed", false);
    for _ in 0..2 {
        let told = world.must(&["dead-letter", "replay", "--reason", "bad_brand"])?;
        ensure!(told.contains("sent 40 records, every one acknowledged"), "{told}");
        run_through(&world)?;
        ensure!(world.rows("SELECT count(), sum(scans) FROM v_customers")? == [["4", "40"]], "each event counts once");
    }
    ensure!(world.read_topic(&world.topic("dead_letter"))?.len() == 40, "nothing was rejected again");
    Ok(())
}
