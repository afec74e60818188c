//! Kafka as its outside clients see it: topics, records, committed offsets.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use super::DEADLINE;

const KAFKA_TIMEOUT: Duration = Duration::from_secs(30);

/// A record to send. Without a partition its key decides (murmur2, as Java clients do).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// The key, if it has one.
    pub key: Option<Vec<u8>>,
    /// The value; a tombstone has none.
    pub value: Option<Vec<u8>>,
    /// Names and values, in order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// A partition of the sender's choice.
    pub partition: Option<i32>,
    /// Unix milliseconds; ignored by topics with LogAppendTime.
    pub timestamp_ms: Option<i64>,
}

impl Record {
    /// A record with a key and a value.
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Record {
        Record { key: Some(key.into()), value: Some(value.into()), ..Record::default() }
    }

    /// The same record, sent to a partition whatever its key.
    #[must_use]
    pub fn in_partition(mut self, partition: i32) -> Record {
        self.partition = Some(partition);
        self
    }

    /// The same record with one more header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &[u8]) -> Record {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its partition.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Unix milliseconds, by the topic's kind of timestamp.
    pub timestamp_ms: i64,
    /// The key, if it has one.
    pub key: Option<Vec<u8>>,
    /// The value, if it has one.
    pub value: Option<Vec<u8>>,
    /// Names and values, in order.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl StoredRecord {
    /// The text of the first header of that name.
    pub fn header(&self, name: &str) -> Option<String> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }
}

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

/// Creates a topic and waits until every partition has a leader.
pub fn create(brokers: &str, topic: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(brokers).create()?;
    let mut new_topic = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    for (name, value) in configs {
        new_topic = new_topic.set(name, value);
    }
    let options = AdminOptions::new().operation_timeout(Some(KAFKA_TIMEOUT));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let results = runtime.block_on(admin.create_topics([&new_topic], &options)).context("cannot create a topic")?;
    for result in results {
        result.map_err(|(topic, code)| anyhow::anyhow!("cannot create topic {topic}: {code}"))?;
    }
    super::wait_until(&format!("leaders for topic {topic}"), DEADLINE, || {
        let metadata = admin.inner().fetch_metadata(Some(topic), KAFKA_TIMEOUT)?;
        let found = metadata.topics().first().context("no such topic")?.partitions();
        Ok(found.len() == usize::try_from(partitions)? && found.iter().all(|partition| partition.leader() >= 0))
    })
}

/// Removes what all partitions of a topic hold, as retention does.
pub fn remove_all(brokers: &str, topic: &str) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = client(brokers).create()?;
    let metadata = admin.inner().fetch_metadata(Some(topic), KAFKA_TIMEOUT)?;
    let mut ends = TopicPartitionList::new();
    for partition in metadata.topics().first().context("no such topic")?.partitions() {
        ends.add_partition_offset(topic, partition.id(), Offset::End)?;
    }
    let options = AdminOptions::new().operation_timeout(Some(KAFKA_TIMEOUT));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(admin.delete_records(&ends, &options)).context("cannot remove records")?;
    Ok(())
}

/// Counts what the broker refused.
struct Refusals;

impl ClientContext for Refusals {}

impl ProducerContext for Refusals {
    type DeliveryOpaque = Box<std::sync::mpsc::Sender<KafkaError>>;

    fn delivery(&self, result: &DeliveryResult<'_>, refused: Self::DeliveryOpaque) {
        if let Err((error, _)) = result {
            // The receiver outlives the flush, after which no delivery is left.
            drop(refused.send(error.clone()));
        }
    }
}

/// Sends records in order and waits until all are acknowledged.
pub fn produce(brokers: &str, topic: &str, records: impl IntoIterator<Item = Record>) -> Result<()> {
    let mut config = client(brokers);
    config
        .set("partitioner", "murmur2_random")
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("message.max.bytes", "10485760");
    let producer: ThreadedProducer<Refusals> = config.create_with_context(Refusals)?;
    let (refused, refusals) = std::sync::mpsc::channel();
    for record in records {
        enqueue(&producer, topic, &record, &refused)?;
    }
    producer.flush(DEADLINE).with_context(|| format!("records for {topic} were not acknowledged"))?;
    match refusals.try_recv() {
        Ok(error) => Err(error).with_context(|| format!("a record for {topic} was refused")),
        Err(_) => Ok(()),
    }
}

fn enqueue(
    producer: &ThreadedProducer<Refusals>,
    topic: &str,
    record: &Record,
    refused: &std::sync::mpsc::Sender<KafkaError>,
) -> Result<()> {
    let started = Instant::now();
    let mut headers = OwnedHeaders::new();
    for (name, value) in &record.headers {
        headers = headers.insert(Header { key: name, value: Some(value) });
    }
    let mut message = BaseRecord::with_opaque_to(topic, Box::new(refused.clone())).headers(headers);
    message.key = record.key.as_deref();
    message.payload = record.value.as_deref();
    message.partition = record.partition;
    message.timestamp = record.timestamp_ms;
    loop {
        match producer.send(message) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), rejected)) if started.elapsed() < DEADLINE => {
                message = rejected;
                // Fails when the queue is not empty yet, which is what is waited for.
                drop(producer.flush(Duration::from_millis(50)));
            }
            Err((error, _)) => return Err(error).with_context(|| format!("cannot send to {topic}")),
        }
    }
}

/// Reads a topic from its beginning to its ends at the time of the call, sorted by partition and offset.
pub fn read_to_end(brokers: &str, topic: &str) -> Result<Vec<StoredRecord>> {
    let mut records = Vec::new();
    for_each(brokers, topic, |record| records.push(record))?;
    records.sort_by_key(|record| (record.partition, record.offset));
    Ok(records)
}

/// As [`read_to_end`], one record after the other: in order within a partition, the partitions interleaved.
pub fn for_each(brokers: &str, topic: &str, mut visit: impl FnMut(StoredRecord)) -> Result<()> {
    let mut config = client(brokers);
    config.set("group.id", "reader-of-a-test").set("enable.auto.commit", "false").set("enable.partition.eof", "true");
    let consumer: BaseConsumer = config.create()?;
    let partitions = partition_numbers(&consumer, topic)?;
    let mut assignment = TopicPartitionList::new();
    for &partition in &partitions {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assignment)?;
    let mut unread: std::collections::BTreeSet<i32> = partitions.into_iter().collect();
    let mut heard = Instant::now();
    while !unread.is_empty() {
        ensure!(heard.elapsed() < DEADLINE, "{topic} was silent for {DEADLINE:?} before its end");
        match consumer.poll(Duration::from_millis(100)) {
            None => continue,
            Some(Ok(message)) => visit(stored(&message)),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unread.remove(&partition);
            }
            Some(Err(error)) => return Err(error).with_context(|| format!("cannot read {topic}")),
        }
        heard = Instant::now();
    }
    Ok(())
}

fn stored(message: &rdkafka::message::BorrowedMessage<'_>) -> StoredRecord {
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    StoredRecord {
        partition: message.partition(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect(),
    }
}

fn partition_numbers(consumer: &BaseConsumer, topic: &str) -> Result<Vec<i32>> {
    let metadata = consumer.fetch_metadata(Some(topic), KAFKA_TIMEOUT)?;
    let found = metadata.topics().first().context("Kafka does not tell the topic's partitions")?;
    if let Some(error) = found.error() {
        bail!("no metadata of {topic}: {:?}", RDKafkaErrorCode::from(error));
    }
    Ok(found.partitions().iter().map(|partition| partition.id()).collect())
}

/// The committed offset and its metadata of each partition of a topic, in order of partitions; -1001 where there is none.
pub fn committed(brokers: &str, group: &str, topic: &str) -> Result<Vec<(i64, String)>> {
    let consumer: BaseConsumer = client(brokers).set("group.id", group).set("enable.auto.commit", "false").create()?;
    let mut wanted = TopicPartitionList::new();
    for partition in partition_numbers(&consumer, topic)? {
        wanted.add_partition(topic, partition);
    }
    let found = consumer.committed_offsets(wanted, KAFKA_TIMEOUT).context("Kafka does not tell the committed offsets")?;
    let offset = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element.offset() {
        Offset::Offset(offset) => offset,
        _ => -1001,
    };
    Ok(found.elements().iter().map(|element| (offset(element), element.metadata().to_owned())).collect())
}

/// Records between the committed offsets and the ends.
pub fn lag(brokers: &str, group: &str, topic: &str) -> Result<i64> {
    let consumer: BaseConsumer = client(brokers).set("group.id", group).create()?;
    let mut lag = 0;
    for (partition, (offset, _)) in partition_numbers(&consumer, topic)?.into_iter().zip(committed(brokers, group, topic)?) {
        let (start, end) = consumer.fetch_watermarks(topic, partition, KAFKA_TIMEOUT)?;
        lag += end - offset.max(start);
    }
    Ok(lag)
}
