//! A producer for commands: idempotent, and no delivery error goes unnoticed.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};

const ASK_TIMEOUT: Duration = Duration::from_secs(15);
const FLUSH_TIMEOUT: Duration = Duration::from_secs(120);
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(1);
/// Errors are asked for once in so many records.
const STRIDE: u64 = 1_024;

/// Sends records, and in the end knows that every one was acknowledged.
pub struct Sender {
    producer: ThreadedProducer<Deliveries>,
    sent: u64,
}

/// Counts what was acknowledged and keeps the first error.
#[derive(Default)]
struct Deliveries {
    acknowledged: AtomicU64,
    failed: AtomicU64,
    first_error: Mutex<Option<String>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let Err((error, _)) = result else {
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
            return;
        };
        if let Ok(mut first_error) = self.first_error.lock() {
            first_error.get_or_insert_with(|| error.to_string());
        }
        self.failed.fetch_add(1, Ordering::Release);
    }
}

impl Sender {
    /// A producer with options of librdkafka; acknowledgement by all replicas and idempotence are set above them.
    ///
    /// # Errors
    /// When an option makes no sense.
    pub fn new(options: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let mut client = ClientConfig::new();
        client
            .set("client.id", "onecode")
            .set("linger.ms", "10")
            .set("compression.type", "lz4")
            .set("queue.buffering.max.messages", "500000")
            .set("queue.buffering.max.kbytes", "262144")
            .set("partitioner", "murmur2_random")
            .set("allow.auto.create.topics", "false");
        client.extend(options.clone());
        client.set("enable.idempotence", "true").set("acks", "all");
        let producer = client.create_with_context(Deliveries::default()).context("cannot make a producer; check `kafka.client`")?;
        Ok(Sender { producer, sent: 0 })
    }

    /// How many partitions a topic has.
    ///
    /// # Errors
    /// When Kafka does not answer, or has no such topic.
    pub fn partitions_of(&self, topic: &str) -> anyhow::Result<u32> {
        let metadata = self
            .producer
            .client()
            .fetch_metadata(Some(topic), ASK_TIMEOUT)
            .with_context(|| format!("kafka does not answer for topic `{topic}`; check the brokers"))?;
        let found = metadata.topics().iter().find(|known| known.name() == topic && known.error().is_none());
        match found.map_or(0, |known| known.partitions().len()) {
            0 => bail!("topic `{topic}` does not exist; create it, or let `onecode migrate --create-input-topics N` do so"),
            partitions => Ok(partitions as u32),
        }
    }

    /// Sends a record; waits while the queue is full.
    ///
    /// # Errors
    /// When this record cannot be sent, or an earlier one was not taken.
    pub fn send(&mut self, mut record: BaseRecord<'_, [u8], [u8]>) -> anyhow::Result<()> {
        self.sent += 1;
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                    record = refused;
                    thread::sleep(FULL_QUEUE_PAUSE);
                    self.fail_on_error()?;
                }
                Err((error, refused)) => return Err(error).with_context(|| format!("cannot send to `{}`", refused.topic)),
            }
        }
        if self.sent.is_multiple_of(STRIDE) { self.fail_on_error() } else { Ok(()) }
    }

    /// Waits until every record is acknowledged.
    ///
    /// # Errors
    /// When one was not.
    pub fn finish(&self) -> anyhow::Result<()> {
        let flushed = self.producer.flush(FLUSH_TIMEOUT);
        self.fail_on_error()?;
        flushed.context("kafka did not acknowledge every record in time")?;
        let acknowledged = self.producer.context().acknowledged.load(Ordering::Relaxed);
        if acknowledged != self.sent {
            bail!("kafka acknowledged {acknowledged} of {} records", self.sent);
        }
        Ok(())
    }

    fn fail_on_error(&self) -> anyhow::Result<()> {
        let deliveries = self.producer.context();
        let failed = deliveries.failed.load(Ordering::Acquire);
        if failed == 0 {
            return Ok(());
        }
        let first_error = deliveries.first_error.lock().ok().and_then(|error| error.clone()).unwrap_or_default();
        bail!("kafka did not take {failed} of {} records: {first_error}", self.sent)
    }
}
