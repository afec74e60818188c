//! `onecode generate` against a real broker and a real file: what arrives is the stream of its seed, record for record.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use common::pipeline::run_to_end;
use common::{StoredRecord, World};
use onecode::generate::{Class, GeneratedRecord, Generator, Options, WireFormat};
use onecode::model::EventKind;
use onecode::pb;
use prost::Message as _;
use serde_json::Value;

const END: &str = "2026-08-01T00:00:00Z";
const END_MS: i64 = 1_785_542_400_000;
const TOPICS: [&str; 3] = ["scans", "purchases", "shares"];

/// What the command sends with `--end-time END` over the hour before it.
fn stream(options: Options) -> Result<Vec<GeneratedRecord>> {
    let hour_ms = 3_600_000;
    Ok(Generator::new(Options { start_ms: END_MS - hour_ms, span_ms: hour_ms, ..options })?.collect())
}

/// Key, value and headers.
type Content = (Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Vec<u8>)>);

fn stored(record: &StoredRecord) -> Content {
    (record.key.clone(), record.value.clone(), record.headers.clone())
}

fn generated(record: &GeneratedRecord) -> Content {
    let headers = record.headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec()));
    (record.key.clone(), record.value.clone(), headers.collect())
}

#[test]
fn the_stream_of_a_seed_arrives_in_kafka_record_for_record() -> Result<()> {
    let world = World::new("generate")?;
    let partitions = [4, 3, 5];
    for (topic, partitions) in TOPICS.into_iter().zip(partitions) {
        world.create_topic(&world.topic(topic), partitions, &[])?;
    }
    let arguments = "generate --count 5000 --seed 9 --format mixed --malformed 0.03 --conflicts 0.01 --brands acme,bravo --end-time";
    let arguments: Vec<&str> = arguments.split(' ').chain([END]).collect();
    let told = world.must(&arguments)?;
    assert!(told.starts_with("sent 5000 records in ") && told.contains("every one acknowledged"), "{told}");
    assert!(told.contains("undecodable 1") && told.contains("too_old 1"), "{told}");

    let records = stream(Options {
        count: 5_000,
        seed: 9,
        format: WireFormat::Mixed,
        malformed: 0.03,
        conflicts: 0.01,
        brands: vec!["acme".to_owned(), "bravo".to_owned()],
        partitions: partitions.map(|count| count as u32),
        ..Options::default()
    })?;
    for kind in EventKind::ALL {
        let mut expected: BTreeMap<i32, Vec<Content>> = BTreeMap::new();
        for record in records.iter().filter(|record| record.kind == kind) {
            expected.entry(record.partition as i32).or_default().push(generated(record));
        }
        let mut found: BTreeMap<i32, Vec<Content>> = BTreeMap::new();
        for record in world.read_topic(&world.topic(TOPICS[kind as usize]))? {
            found.entry(record.partition).or_default().push(stored(&record));
        }
        assert!(found == expected, "the topic of {kind:?}s holds something else than was generated");
    }
    Ok(())
}

#[test]
fn a_rate_is_kept_and_its_events_are_of_now() -> Result<()> {
    let world = World::new("rate")?;
    for topic in TOPICS {
        world.create_topic(&world.topic(topic), 2, &[("message.timestamp.type", "LogAppendTime")])?;
    }
    let began = Instant::now();
    world.must(&["generate", "--rate", "200", "--seconds", "3", "--late", "0", "--malformed", "0"])?;
    let elapsed = began.elapsed();
    assert!(elapsed >= Duration::from_millis(2_900), "{elapsed:?}");
    let mut records = 0;
    for (topic, kind) in TOPICS.into_iter().zip(EventKind::ALL) {
        for record in world.read_topic(&world.topic(topic))? {
            records += 1;
            let value = record.value.as_deref().context("no value")?;
            let time_ms = match kind {
                EventKind::Scan => pb::Scan::decode(value)?.event_time_ms,
                EventKind::Purchase => pb::Purchase::decode(value)?.event_time_ms,
                EventKind::Share => pb::Share::decode(value)?.event_time_ms,
            };
            // A burst of draws reaches four minutes back.
            let age_ms = record.timestamp_ms - time_ms;
            assert!((-1_000..=260_000 + elapsed.as_millis() as i64).contains(&age_ms), "{age_ms}");
        }
    }
    assert_eq!(records, 600);
    Ok(())
}

fn generate_to(path: &Path, format: &str) -> Result<Vec<GeneratedRecord>> {
    let out = path.to_str().context("the path is no text")?;
    let arguments = ["generate", "--out", out, "--format", format, "--count", "2000", "--malformed", "0.05", "--end-time", END];
    let finished = run_to_end(&arguments)?;
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    let format = if format == "json" { WireFormat::Json } else { WireFormat::Mixed };
    stream(Options { count: 2_000, malformed: 0.05, format, ..Options::default() })
}

#[test]
fn a_file_of_messages_holds_the_same_stream() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("events.pb");
    let records = generate_to(&path, "mixed")?;
    let bytes = std::fs::read(&path)?;
    let mut rest = bytes.as_slice();
    for record in &records {
        let read = pb::Record::decode_length_delimited(&mut rest)?;
        let headers = read.headers.into_iter().map(|header| (header.name, header.value)).collect();
        assert_eq!((read.key, read.value, headers), generated(record));
        let place = (TOPICS[record.kind as usize], record.partition, record.due_ms);
        assert_eq!((read.topic.as_str(), read.partition, read.due_ms), place);
    }
    assert!(rest.is_empty());
    Ok(())
}

#[test]
fn a_file_of_lines_holds_the_same_stream() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("events.jsonl");
    let records = generate_to(&path, "json")?;
    let text = std::fs::read_to_string(&path)?;
    assert_eq!(text.lines().count(), records.len());
    for (line, record) in text.lines().zip(&records) {
        let line: Value = serde_json::from_str(line)?;
        assert_eq!(line["topic"], TOPICS[record.kind as usize]);
        assert_eq!(line["key"].as_str().map(str::as_bytes), record.key.as_deref());
        assert_eq!(line["headers"]["onecode-generate"].as_str().unwrap_or("plain"), record.class.name());
        match (&record.value, line.get("value_hex")) {
            (None, None) => assert!(line["value"].is_null()),
            (Some(value), None) => assert_eq!(line["value"], serde_json::from_slice::<Value>(value)?),
            (value, Some(hex)) => {
                let bytes = value.iter().flatten().map(|byte| format!("{byte:02x}")).collect::<String>();
                assert_eq!(hex.as_str(), Some(bytes.as_str()));
                assert!(matches!(record.class, Class::Malformed(_)));
            }
        }
    }
    Ok(())
}

#[test]
fn stdout_gets_records_and_nothing_else() -> Result<()> {
    let finished = run_to_end(&["generate", "--out", "-", "--format", "json", "--count", "50"])?;
    assert_eq!(finished.code, 0, "{}", finished.stderr);
    assert_eq!(finished.stdout.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count(), 50);
    assert_eq!(finished.stdout.lines().count(), 50);
    assert!(finished.stderr.contains("sent 50 records"), "{}", finished.stderr);
    Ok(())
}

#[test]
fn wrong_usage_and_missing_topics_are_told_apart() -> Result<()> {
    let world = World::new("missing")?;
    let missing = world.onecode(&["generate", "--count", "10"])?;
    assert_eq!(missing.code, 1, "{missing}");
    assert!(missing.stderr.contains(&world.topic("scans")) && missing.stderr.contains("does not exist"), "{missing}");
    for arguments in [
        &["generate"][..],
        &["generate", "--out", "-", "--late", "2"],
        &["generate", "--out", "-", "--span-days", "-1"],
        &["generate", "--out", "-", "--seconds", "3"],
        &["generate", "--out", "-", "--brands", "Acme"],
        &["generate", "--out", "-", "--end-time", "noon"],
    ] {
        let finished = run_to_end(arguments)?;
        assert_eq!((finished.code, finished.stdout.as_str()), (2, ""), "{arguments:?}: {finished}");
    }
    Ok(())
}
