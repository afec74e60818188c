//! The first figure of speed: `onecode run` beside a plain librdkafka consumer that only decodes, on the same topics, one after
//! the other in one run.
//!
//! `cargo bench --profile dist --bench throughput -- --events 3000000` starts a Kafka and a ClickHouse of its own, fills the topics,
//! reads them both ways and prints events a second and CPU-seconds per million events. Machines are shared and noisy: the ratio is
//! the figure to quote. `onecode run` does everything here: decode, relay, state, archive, serving, checkpoints.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Parser;
use onecode::decode::{Format, RawRecord, Rules, decode};
use onecode::generate::{Generator, Options};
use onecode::model::EventKind;
use onecode_local::{ClickHouse, ClickHouseOptions, Kafka, KafkaOptions};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Message as _, Timestamp};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

const TOPICS: [&str; 3] = ["scans", "purchases", "shares"];
const CLOCK_TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, Parser)]
struct Arguments {
    /// Events to generate
    #[arg(long, default_value_t = 2_000_000)]
    events: u64,
    /// Customers among them
    #[arg(long, default_value_t = 400_000)]
    customers: u32,
    /// Partitions of each topic
    #[arg(long, default_value_t = 6)]
    partitions: u32,
    /// Workers of `onecode run`
    #[arg(long, default_value_t = 2)]
    workers: u32,
    /// Given by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// One way to read the topics.
struct Figure {
    system: &'static str,
    elapsed: Duration,
    process_cpu_s: f64,
    clickhouse_cpu_s: f64,
    broker_cpu_s: f64,
    peak_rss_bytes: u64,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let dir = tempfile::tempdir()?;
    eprintln!("starting Kafka and ClickHouse in {}", dir.path().display());
    let kafka = Kafka::start(KafkaOptions::in_dir(dir.path().join("kafka")))?;
    let clickhouse = ClickHouse::start(ClickHouseOptions::in_dir(dir.path().join("clickhouse")))?;
    let config = dir.path().join("onecode.toml");
    let text = format!(
        "[kafka]\nbrokers = \"{}\"\n[clickhouse]\nurl = \"{}\"\n[http]\nlisten = \"127.0.0.1:0\"\n[pipeline]\nworkers = {}\n[dead_letter]\nmax_share = 1.0\n",
        kafka.bootstrap(),
        clickhouse.url(),
        arguments.workers
    );
    std::fs::write(&config, text)?;
    onecode(&config, &["migrate", "--create-input-topics", &arguments.partitions.to_string()])?;
    eprintln!("generating {} events", arguments.events);
    let records = fill(&kafka.bootstrap(), &arguments)?;
    let baseline = read_and_decode(&kafka, &clickhouse, records)?;
    let full = run_onecode(&kafka, &clickhouse, &config, records)?;
    print(&[baseline, full], records);
    Ok(())
}

fn onecode(config: &Path, arguments: &[&str]) -> Result<()> {
    let status = Command::new(env!("CARGO_BIN_EXE_onecode")).args(arguments).arg("--config").arg(config).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "onecode {} failed", arguments.join(" "));
    Ok(())
}

/// Fills the topics, and returns how many records each has.
fn fill(brokers: &str, arguments: &Arguments) -> Result<[u64; 3]> {
    let producer: ThreadedProducer<DefaultProducerContext> =
        ClientConfig::new().set("bootstrap.servers", brokers).set("linger.ms", "20").set("compression.type", "lz4").create()?;
    let now_ms = i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis())?;
    let options = Options {
        count: arguments.events,
        customers: arguments.customers,
        start_ms: now_ms - 3_600_000,
        partitions: [arguments.partitions; 3],
        ..Options::default()
    };
    let mut sent = [0; 3];
    for record in Generator::new(options)? {
        let kind = record.kind as usize;
        let topic = TOPICS.get(kind).context("no such kind")?;
        let mut message = BaseRecord::<[u8], [u8]>::to(topic).partition(i32::try_from(record.partition)?);
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        while let Err((error, back)) = producer.send(message) {
            ensure!(error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), "cannot send: {error}");
            std::thread::sleep(Duration::from_millis(10));
            message = back;
        }
        if let Some(sent) = sent.get_mut(kind) {
            *sent += 1;
        }
    }
    producer.flush(Duration::from_secs(120))?;
    Ok(sent)
}

/// A plain consumer of the client library that decodes every record and does nothing else.
fn read_and_decode(kafka: &Kafka, clickhouse: &ClickHouse, records: [u64; 3]) -> Result<Figure> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap())
        .set("group.id", "baseline")
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "5")
        .create()?;
    let mut assignment = TopicPartitionList::new();
    for topic in TOPICS {
        let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
        for partition in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
            assignment.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
        }
    }
    let total: u64 = records.iter().sum();
    let rules = Rules::default();
    let before = Usage::of(kafka, clickhouse, std::process::id())?;
    let began = Instant::now();
    consumer.assign(&assignment)?;
    let (mut read, mut accepted) = (0, 0_u64);
    while read < total {
        let Some(message) = consumer.poll(Duration::from_secs(30)) else { bail!("the topics ended after {read} of {total} records") };
        let message = message?;
        let kind =
            EventKind::ALL.into_iter().find(|kind| TOPICS.get(*kind as usize) == Some(&message.topic())).context("a foreign topic")?;
        let timestamp_ms = match message.timestamp() {
            Timestamp::LogAppendTime(at) | Timestamp::CreateTime(at) => at,
            Timestamp::NotAvailable => 0,
        };
        let raw = RawRecord { value: message.payload(), content_type: None, timestamp_ms };
        accepted += u64::from(decode(kind, Format::Protobuf, raw, &rules).is_ok());
        read += 1;
    }
    let elapsed = began.elapsed();
    ensure!(accepted > total * 9 / 10, "only {accepted} of {total} records were accepted");
    let used = Usage::of(kafka, clickhouse, std::process::id())?.since(&before);
    Ok(used.figure("librdkafka, decode only", elapsed))
}

/// The whole pipeline, from its start until everything is checkpointed and it has ended.
fn run_onecode(kafka: &Kafka, clickhouse: &ClickHouse, config: &Path, records: [u64; 3]) -> Result<Figure> {
    let before = Usage::of(kafka, clickhouse, std::process::id())?;
    let began = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_onecode"))
        .arg("run")
        .arg("--config")
        .arg(config)
        .env("ONECODE_LOG", "warn")
        .spawn()
        .context("onecode run cannot be started")?;
    let mut last = Usage::of(kafka, clickhouse, child.id())?;
    let caught_up = wait_for_rows(&mut child, kafka, clickhouse, records, &mut last);
    let elapsed = began.elapsed();
    let ended_well = terminate(&mut child)?;
    caught_up?;
    ensure!(ended_well, "onecode run did not end well");
    let used = Usage { process_cpu_s: last.process_cpu_s, ..last.since(&before) };
    Ok(used.figure("onecode run, everything", elapsed))
}

/// Waits until the archive holds every accepted event.
fn wait_for_rows(child: &mut Child, kafka: &Kafka, clickhouse: &ClickHouse, records: [u64; 3], last: &mut Usage) -> Result<()> {
    let consumer: BaseConsumer = ClientConfig::new().set("bootstrap.servers", kafka.bootstrap()).set("group.id", "onecode").create()?;
    let started = Instant::now();
    loop {
        ensure!(child.try_wait()?.is_none(), "onecode run has ended");
        ensure!(started.elapsed() < Duration::from_secs(900), "not caught up within 15 minutes");
        *last = Usage::of(kafka, clickhouse, child.id())?;
        let committed: u64 = TOPICS.iter().map(|topic| committed(&consumer, topic)).sum::<Result<u64>>()?;
        if committed >= records.iter().sum() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

fn committed(consumer: &BaseConsumer, topic: &str) -> Result<u64> {
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10))?;
    let mut list = TopicPartitionList::new();
    for partition in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
        list.add_partition(topic, partition.id());
    }
    let offsets = consumer.committed_offsets(list, Duration::from_secs(10))?;
    Ok(offsets.elements().iter().filter_map(|entry| entry.offset().to_raw()).filter_map(|offset| u64::try_from(offset).ok()).sum())
}

/// SIGTERM by the shell's own `kill`, and whether the process ended with success.
fn terminate(child: &mut Child) -> Result<bool> {
    Command::new("kill").arg("-TERM").arg(child.id().to_string()).status()?;
    Ok(child.wait()?.success())
}

/// Processor time so far, in seconds.
#[derive(Clone, Copy, Debug)]
struct Usage {
    process_cpu_s: f64,
    clickhouse_cpu_s: f64,
    broker_cpu_s: f64,
    peak_rss_bytes: u64,
}

impl Usage {
    fn of(kafka: &Kafka, clickhouse: &ClickHouse, process: u32) -> Result<Self> {
        Ok(Usage {
            process_cpu_s: cpu_s(process)?,
            clickhouse_cpu_s: cpu_s(clickhouse.pid()?)?,
            broker_cpu_s: cpu_s(kafka.pid()?)?,
            peak_rss_bytes: peak_rss_bytes(process)?,
        })
    }

    fn since(&self, before: &Usage) -> Usage {
        Usage {
            process_cpu_s: self.process_cpu_s - before.process_cpu_s,
            clickhouse_cpu_s: self.clickhouse_cpu_s - before.clickhouse_cpu_s,
            broker_cpu_s: self.broker_cpu_s - before.broker_cpu_s,
            peak_rss_bytes: self.peak_rss_bytes,
        }
    }

    fn figure(self, system: &'static str, elapsed: Duration) -> Figure {
        let Usage { process_cpu_s, clickhouse_cpu_s, broker_cpu_s, peak_rss_bytes } = self;
        Figure { system, elapsed, process_cpu_s, clickhouse_cpu_s, broker_cpu_s, peak_rss_bytes }
    }
}

/// User and system time of a process, from `/proc/<id>/stat` (fields 14 and 15, in clock ticks).
fn cpu_s(process: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let (_, after_name) = stat.rsplit_once(')').context("no name in /proc stat")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    let ticks = |field: usize| -> Result<f64> { Ok(fields.get(field).context("short /proc stat")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / CLOCK_TICKS_PER_SECOND)
}

fn peak_rss_bytes(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let lines: BTreeMap<&str, &str> = status.lines().filter_map(|line| line.split_once(':')).collect();
    let kib: u64 = lines.get("VmHWM").context("no VmHWM")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

fn print(figures: &[Figure], records: [u64; 3]) {
    let events = records.iter().sum::<u64>() as f64;
    let millions = events / 1e6;
    println!("{events} events; CPU-seconds per million events");
    println!("{:<26} {:>12} {:>9} {:>11} {:>8} {:>10}", "system", "events/s", "process", "clickhouse", "broker", "peak MiB");
    for figure in figures {
        println!(
            "{:<26} {:>12.0} {:>9.2} {:>11.2} {:>8.2} {:>10.0}",
            figure.system,
            events / figure.elapsed.as_secs_f64(),
            figure.process_cpu_s / millions,
            figure.clickhouse_cpu_s / millions,
            figure.broker_cpu_s / millions,
            figure.peak_rss_bytes as f64 / 1_048_576.0
        );
    }
    if let [baseline, full] = figures {
        println!("onecode's process uses {:.1} times the CPU of consume and decode", full.process_cpu_s / baseline.process_cpu_s);
    }
}
