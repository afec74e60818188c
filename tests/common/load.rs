//! Generated events under way while a test kills things, and what must be true afterwards.

use std::collections::BTreeSet;
use std::ops::Range;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onecode::generate::{CLASS_HEADER, Class, GeneratedRecord, Generator, Options};
use onecode::model::EventKind;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

use super::events::now_ms;
use super::topics::{self, StoredRecord};
use super::world::World;

/// A producer in a thread of its own. It waits out a broker that is away.
#[derive(Debug)]
pub struct Load {
    thread: JoinHandle<Result<()>>,
}

/// What a load sends: the mix that the issue asks for, over the last hour.
#[must_use]
pub fn options(count: u64, partitions: u32) -> Options {
    Options {
        seed: 7,
        count,
        start_ms: now_ms() - 3_600_000,
        span_ms: 3_600_000,
        customers: u32::try_from(count / 5).unwrap_or(u32::MAX),
        format: onecode::generate::WireFormat::Mixed,
        partitions: [partitions; 3],
        ..Options::default()
    }
}

impl Load {
    /// Begins to send `options.count` records at about `per_second`.
    ///
    /// # Errors
    /// When the options make no sense.
    pub fn start(world: &World<'_>, options: Options, per_second: u32) -> Result<Load> {
        Load::start_part(world, options, 0..u64::MAX, per_second)
    }

    /// The same with some of these records only, by their numbers: the rest is for another load.
    ///
    /// # Errors
    /// As [`Load::start`].
    pub fn start_part(world: &World<'_>, options: Options, part: Range<u64>, per_second: u32) -> Result<Load> {
        let topics = [EventKind::Scan, EventKind::Purchase, EventKind::Share].map(|kind| world.topic(&format!("{}s", kind.name())));
        let brokers = world.stack.kafka.bootstrap();
        let generator = Generator::new(options)?;
        let (before, count) = (usize::try_from(part.start)?, usize::try_from(part.end - part.start)?);
        let records = generator.skip(before).take(count);
        let thread = std::thread::spawn(move || send(&brokers, &topics, records, per_second));
        Ok(Load { thread })
    }

    /// Whether everything is sent and acknowledged.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When a record could not be sent.
    pub fn finish(self) -> Result<()> {
        self.thread.join().map_err(|_| anyhow::anyhow!("the load panicked"))?
    }
}

fn send(brokers: &str, topics: &[String; 3], records: impl Iterator<Item = GeneratedRecord>, per_second: u32) -> Result<()> {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("enable.idempotence", "true")
        .set("message.timeout.ms", "0")
        .set("linger.ms", "5")
        .create()?;
    let began = Instant::now();
    for (sent, record) in records.enumerate() {
        let due = Duration::from_secs_f64(sent as f64 / f64::from(per_second));
        if sent % 100 == 0 {
            std::thread::sleep(due.saturating_sub(began.elapsed()));
        }
        let mut headers = OwnedHeaders::new();
        for (name, value) in &record.headers {
            headers = headers.insert(Header { key: name, value: Some(*value) });
        }
        let topic = topics.get(record.kind as usize).context("no such kind")?;
        let mut message = BaseRecord::<[u8], [u8]>::to(topic).partition(i32::try_from(record.partition)?).headers(headers);
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        while let Err((error, back)) = producer.send(message) {
            ensure!(error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), "cannot send: {error}");
            std::thread::sleep(Duration::from_millis(50));
            message = back;
        }
    }
    producer.flush(super::DEADLINE)?;
    Ok(())
}

/// What must be true at rest, whatever happened: the audit finds no difference, and the dead letters are the malformed records.
///
/// # Errors
/// With the audit's findings, or the positions that differ.
pub fn must_be_exact(world: &World<'_>) -> Result<()> {
    // In passes, so that these are tried on what generators and faults make of the tables; other tests audit in one.
    world.must(&["audit", "--passes", "3"])?;
    letters_must_be_the_malformed_records(world).map(drop)
}

/// The dead letters are the malformed records, as a set of source positions; returns how many positions.
///
/// # Errors
/// With positions that differ.
pub fn letters_must_be_the_malformed_records(world: &World<'_>) -> Result<usize> {
    let malformed = malformed_positions(world)?;
    let letters = dead_letter_positions(world)?;
    let missing: Vec<_> = malformed.difference(&letters).take(5).collect();
    let extra: Vec<_> = letters.difference(&malformed).take(5).collect();
    ensure!(
        missing.is_empty() && extra.is_empty(),
        "malformed without a dead letter: {missing:?}; dead letters of good records: {extra:?}"
    );
    Ok(letters.len())
}

/// Topic, partition and offset.
pub type Position = (String, i32, i64);

/// Positions of the malformed records in the input topics.
///
/// # Errors
/// When a topic cannot be read.
pub fn malformed_positions(world: &World<'_>) -> Result<BTreeSet<Position>> {
    let mut positions = BTreeSet::new();
    for key in ["scans", "purchases", "shares"] {
        let topic = world.topic(key);
        topics::for_each(&world.stack.kafka.bootstrap(), &topic, |record| {
            if record.header(CLASS_HEADER).as_deref() == Some(Class::Malformed(onecode::model::Reason::Undecodable).name()) {
                positions.insert((topic.clone(), record.partition, record.offset));
            }
        })?;
    }
    Ok(positions)
}

/// Source positions of the dead letters.
///
/// # Errors
/// When the topic cannot be read, or a letter lacks a header.
pub fn dead_letter_positions(world: &World<'_>) -> Result<BTreeSet<Position>> {
    world.read_topic(&world.topic("dead_letter"))?.iter().map(source_position).collect()
}

/// Where a dead letter's record first arrived.
///
/// # Errors
/// When a header is missing.
pub fn source_position(letter: &StoredRecord) -> Result<Position> {
    let header = |name: &str| letter.header(&format!("__connect.errors.{name}")).with_context(|| format!("no header {name} in {letter:?}"));
    Ok((header("topic")?, header("partition")?.parse()?, header("offset")?.parse()?))
}
