//! A plain consumer of the client library that decodes every record and does nothing else: what any consumer in this language pays.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use onecode::decode::{Format, RawRecord, Rules, decode};
use onecode::model::EventKind;
use rdkafka::Offset;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Message as _, Timestamp};

use super::common::load::TOPICS;
use super::common::servers::{Servers, partitions};
use super::common::usage::{ServersCpu, cpu_s, peak_rss_bytes};
use super::{Figure, System};

/// Runs it in a process of its own.
pub fn run(servers: &Servers, records: u64) -> Result<Figure> {
    let before = ServersCpu::now(servers)?;
    let program = std::env::current_exe()?;
    let mut command = Command::new(program);
    command.args(["--as-baseline", &servers.kafka.bootstrap(), &records.to_string()]).stdin(Stdio::null()).stderr(Stdio::inherit());
    let output = command.output()?;
    ensure!(output.status.success(), "the baseline failed");
    let printed = String::from_utf8(output.stdout)?;
    let mut numbers = printed.split_whitespace();
    let mut next = || -> Result<f64> { Ok(numbers.next().context("the baseline printed too little")?.parse()?) };
    let (elapsed_s, process_cpu_s, peak_rss_bytes) = (next()?, next()?, next()?);
    Ok(Figure {
        system: System::Baseline,
        events: records,
        elapsed: Duration::from_secs_f64(elapsed_s),
        process_cpu_s,
        servers: ServersCpu::now(servers)?.since(before),
        peak_rss_bytes: peak_rss_bytes as u64,
        disk_bytes: 0,
        counted: None,
    })
}

/// Reads all topics to their ends, and prints seconds elapsed, CPU-seconds and peak bytes.
pub fn read_and_decode(brokers: &str, records: u64) -> Result<()> {
    let began = Instant::now();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "baseline")
        .set("enable.auto.commit", "false")
        .set("fetch.queue.backoff.ms", "5")
        .create()?;
    let mut assignment = partitions(&consumer, &TOPICS)?;
    assignment.set_all_offsets(Offset::Beginning)?;
    consumer.assign(&assignment)?;
    let rules = Rules::default();
    let (mut read, mut accepted) = (0, 0_u64);
    while read < records {
        let Some(message) = consumer.poll(Duration::from_secs(30)) else { bail!("the topics ended after {read} of {records} records") };
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
    ensure!(accepted > records * 9 / 10, "only {accepted} of {records} records were accepted");
    let process = std::process::id();
    println!("{} {} {}", began.elapsed().as_secs_f64(), cpu_s(process)?, peak_rss_bytes(process)?);
    Ok(())
}
