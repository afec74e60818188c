//! Goal: whose client sent an event, in which format and to which partition, changes no row.
//! Method: the same generated events, once as our own library encodes and sends them, and then by Kafka's console producer as JSON
//! and by a Python client as protobuf, plain and in Confluent framing, with two partitioners. Every view of every such world has to
//! say the same.

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use common::load::options;
use common::{Record, World};
use onecode::generate::{GeneratedRecord, Generator, Options, WireFormat};
use onecode::model::EventKind;
use onecode::pb::{self, Via};
use onecode_local::install;
use prost::Message as _;
use serde_json::{Value, json};

const PARTITIONS: i32 = 4;
const EVENTS: u64 = 3_000;
const VIEWS: [&str; 9] = [
    "v_customers",
    "v_customer_days",
    "v_activity_minute",
    "v_activity_day",
    "v_active_customers_day",
    "v_scans",
    "v_purchases",
    "v_share_events",
    "v_codes",
];

/// One set of events for all worlds: with repeats and late ones, without malformed ones.
fn events() -> Result<Vec<GeneratedRecord>> {
    let options = Options { format: WireFormat::Protobuf, malformed: 0.0, misrouted: 0.0, ..options(EVENTS, PARTITIONS.unsigned_abs()) };
    Ok(Generator::new(options)?.collect())
}

/// Every view by its name, as text.
type Rows = BTreeMap<&'static str, String>;

/// Runs the pipeline over what was sent, and reads every view. Also returns how many events were relayed to their owners.
fn rows(world: &World<'_>) -> Result<(Rows, f64)> {
    let pipeline = world.start()?;
    world.wait_caught_up()?;
    let relayed = pipeline.metric("onecode_applied_events_total", &["outcome=\"relayed\""])?;
    ensure!(pipeline.terminate()? == 0, "the drain failed: {}", pipeline.log_text());
    ensure!(world.read_topic(&world.topic("dead_letter"))?.is_empty(), "some events were refused");
    let read = |view: &'static str| Ok((view, world.query(&format!("SELECT * FROM {view} ORDER BY ALL FORMAT JSONCompactEachRow"))?));
    Ok((VIEWS.into_iter().map(read).collect::<Result<_>>()?, relayed))
}

fn must_be_the_same(ours: &Rows, theirs: &Rows) -> Result<()> {
    for (view, our_rows) in ours {
        let their_rows = theirs.get(view).context("no such view")?;
        ensure!(our_rows.lines().count() > 1, "{view} has no rows to compare");
        let differs = our_rows.lines().zip(their_rows.lines()).find(|(our_row, their_row)| our_row != their_row);
        ensure!(differs.is_none(), "{view} differs: {differs:?}");
        assert_eq!(our_rows.lines().count(), their_rows.lines().count(), "{view}");
    }
    Ok(())
}

/// The world of our own library.
fn our_rows(events: &[GeneratedRecord]) -> Result<Rows> {
    let world = World::new("ours")?;
    world.migrate(PARTITIONS)?;
    for kind in EventKind::ALL {
        let of_kind = events.iter().filter(|event| event.kind == kind);
        let records = of_kind.map(|event| Record { key: event.key.clone(), value: event.value.clone(), ..Record::default() });
        world.produce(&topic(&world, kind), records)?;
    }
    Ok(rows(&world)?.0)
}

fn topic(world: &World<'_>, kind: EventKind) -> String {
    world.topic(&format!("{}s", kind.name()))
}

fn via_json(via: Option<&Via>) -> Value {
    via.map_or(Value::Null, |via| json!({"share_id": via.share_id, "sharer_id": via.sharer_id}))
}

fn scan_json(scan: &pb::Scan) -> Value {
    json!({
        "event_id": scan.event_id, "brand": scan.brand, "customer_id": scan.customer_id, "event_time_ms": scan.event_time_ms.to_string(),
        "via": via_json(scan.via.as_ref()), "code": scan.code, "sku": scan.sku, "batch": scan.batch, "campaign": scan.campaign,
        "region": scan.region, "channel": scan.channel, "device": scan.device, "purpose": scan.purpose().as_str_name(),
        "role": scan.role().as_str_name(),
    })
}

fn purchase_json(purchase: &pb::Purchase) -> Value {
    let line = |line: &pb::OrderLine| json!({"sku": line.sku, "quantity": line.quantity, "amount": line.amount.to_string()});
    json!({
        "event_id": purchase.event_id, "brand": purchase.brand, "customer_id": purchase.customer_id,
        "event_time_ms": purchase.event_time_ms, "via": via_json(purchase.via.as_ref()), "order_id": purchase.order_id,
        "kind": purchase.kind().as_str_name(), "amount": purchase.amount, "currency": purchase.currency,
        "lines": purchase.lines.iter().map(line).collect::<Vec<_>>(), "campaign": purchase.campaign, "region": purchase.region,
        "channel": purchase.channel, "store": purchase.store,
    })
}

/// With the names in camelCase, which proto3 JSON prefers.
fn share_json(share: &pb::Share) -> Value {
    let via = share.via.as_ref().map_or(Value::Null, |via| json!({"shareId": via.share_id, "sharerId": via.sharer_id}));
    json!({
        "eventId": share.event_id, "brand": share.brand, "customerId": share.customer_id, "eventTimeMs": share.event_time_ms, "via": via,
        "shareId": share.share_id, "campaign": share.campaign, "sku": share.sku, "region": share.region, "channel": share.channel,
        "rewarded": share.rewarded,
    })
}

/// The customer and the event as a line of JSON.
fn json_line(event: &GeneratedRecord) -> Result<(String, String)> {
    let bytes = event.value.as_deref().context("an event without a value")?;
    let (customer, value) = match event.kind {
        EventKind::Scan => pb::Scan::decode(bytes).map(|scan| (scan.customer_id.clone(), scan_json(&scan)))?,
        EventKind::Purchase => pb::Purchase::decode(bytes).map(|purchase| (purchase.customer_id.clone(), purchase_json(&purchase)))?,
        EventKind::Share => pb::Share::decode(bytes).map(|share| (share.customer_id.clone(), share_json(&share)))?,
    };
    Ok((customer, value.to_string()))
}

#[test]
fn json_of_kafkas_own_console_producer_gives_the_same_rows() -> Result<()> {
    let events = events()?;
    let world = World::new("console")?;
    world.migrate(PARTITIONS)?;
    for kind in EventKind::ALL {
        let of_kind = events.iter().filter(|event| event.kind == kind);
        let lines =
            of_kind.map(|event| json_line(event).map(|(customer, json)| format!("{customer}|{json}"))).collect::<Result<Vec<_>>>()?;
        let keyed = ["parse.key=true", "key.separator=|"];
        world.stack.kafka.console_producer(&topic(&world, kind), &keyed, lines.iter().map(String::as_str))?;
    }
    let (theirs, relayed) = rows(&world)?;
    assert_eq!(relayed, 0.0, "keyed by customer with murmur2");
    must_be_the_same(&our_rows(&events)?, &theirs)
}

/// Compiles the contract with Google's protoc into `dir`.
fn protoc(python: &Path, dir: &Path) -> Result<()> {
    let proto = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let mut command = Command::new(python);
    command.args(["-m", "grpc_tools.protoc", "-I"]).arg(&proto).arg(format!("--python_out={}", dir.display()));
    run(command.arg(proto.join("onecode/v1/events.proto"))).map(drop)
}

fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().context("cannot start Python")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?} failed ({}):\n{said}", output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Sends all events with the Python client into a world of their own.
fn python_rows(events: &[GeneratedRecord], python: &Path, generated: &Path, framing: &str, partitioner: &str) -> Result<(Rows, f64)> {
    let world = World::new(&format!("python_{}_{}", framing.to_lowercase(), partitioner.to_lowercase()))?;
    world.migrate(PARTITIONS)?;
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/producer.py"));
    command.arg(world.stack.kafka.bootstrap()).arg(generated).args([framing, partitioner]);
    for (kind, message) in EventKind::ALL.into_iter().zip(["Scan", "Purchase", "Share"]) {
        let of_kind = events.iter().filter(|event| event.kind == kind);
        let lines = of_kind.map(|event| json_line(event).map(|(_, json)| json + "\n")).collect::<Result<String>>()?;
        let path: PathBuf = world.dir().join(format!("{message}.jsonl"));
        std::fs::write(&path, lines)?;
        command.arg(format!("{message}={}={}", topic(&world, kind), path.display()));
    }
    assert_eq!(run(&mut command)?.trim(), events.len().to_string());
    rows(&world)
}

#[test]
fn protobuf_of_a_python_client_gives_the_same_rows_in_each_framing_and_with_each_partitioner() -> Result<()> {
    let python = install::python(&install::to_stderr)?;
    let generated = common::stack::fresh_dir("protoc")?;
    protoc(&python, &generated)?;
    let events = events()?;
    let ours = our_rows(&events)?;
    for (framing, partitioner, is_murmur2) in [("PLAIN", "DEFAULT", true), ("CONFLUENT", "CRC32", false)] {
        let (theirs, relayed) = python_rows(&events, &python, &generated, framing, partitioner)?;
        assert_eq!(relayed == 0.0, is_murmur2, "{relayed} relayed with the partitioner {partitioner}");
        must_be_the_same(&ours, &theirs).with_context(|| format!("{framing}, {partitioner}"))?;
    }
    Ok(())
}
