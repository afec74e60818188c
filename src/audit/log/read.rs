//! Reads the dead letters' origins and the input logs. Joins no group and commits nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};

use super::LogAuditError;
use super::facts::{Events, Fact, Part, Seen};
use super::snapshot::{Snapshot, Standing};
use crate::config::Config;
use crate::decode::{CONTENT_TYPE_HEADER, Format, RawRecord, Rules, decode};
use crate::kafka::{ClusterError, Membership, asking_consumer, consumer_options};
use crate::model::{Event, EventKind, TopicPartition};
use crate::task::DEAD_LETTER_HEADERS;

const ASK_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest silence of the brokers before giving up.
const MOST_SILENCE: Duration = Duration::from_secs(60);

/// Where a record is: topic, partition, offset.
pub(super) type Place = (String, i32, i64);

/// The first record of a log that no longer has its first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Begins {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
}

/// The logs of a pipeline.
pub(in crate::audit) struct Logs {
    asking: BaseConsumer,
    brokers: String,
    /// N: partitions of the exchange.
    pub tasks: u32,
}

/// How to read the records of a topic.
struct Input<'a> {
    kind: EventKind,
    format: Format,
    rules: &'a Rules,
}

impl Logs {
    pub fn ask(config: &Config) -> Result<Logs, LogAuditError> {
        let asking = asking_consumer(config)?;
        let mut logs = Logs { asking, brokers: config.kafka.brokers.clone(), tasks: 0 };
        logs.tasks = u32::try_from(logs.partitions(&config.topics.exchange)?.len()).unwrap_or(u32::MAX);
        Ok(logs)
    }

    fn partitions(&self, topic: &str) -> Result<Vec<i32>, LogAuditError> {
        let unreachable = |error: KafkaError| ClusterError::Unreachable { brokers: self.brokers.clone(), reason: error.to_string() };
        let metadata = self.asking.fetch_metadata(Some(topic), ASK_TIMEOUT).map_err(unreachable)?;
        let known = metadata.topics().iter().find(|known| known.name() == topic && known.error().is_none());
        let partitions: Vec<i32> =
            known.map(|known| known.partitions().iter().map(|partition| partition.id()).collect()).unwrap_or_default();
        if partitions.is_empty() {
            return Err(LogAuditError::Read { topic: topic.to_owned(), reason: "the topic does not exist".to_owned() });
        }
        Ok(partitions)
    }

    /// Of each partition of a topic: its number, first offset and the offset after the last.
    fn bounds(&self, topic: &str) -> Result<Vec<(i32, i64, i64)>, LogAuditError> {
        let bounds = self.partitions(topic)?.into_iter().map(|partition| {
            let range = self.asking.fetch_watermarks(topic, partition, ASK_TIMEOUT);
            range.map(|(low, high)| (partition, low, high)).map_err(|error| read_error(topic, &error))
        });
        bounds.collect()
    }

    /// Where the input logs end now.
    pub fn ends(&self, config: &Config) -> Result<BTreeMap<TopicPartition, i64>, LogAuditError> {
        let mut ends = BTreeMap::new();
        for (_, topic, _) in config.topics.inputs() {
            for (partition, _, high) in self.bounds(topic)? {
                ends.insert(TopicPartition { topic: topic.into(), partition }, high);
            }
        }
        Ok(ends)
    }

    /// How many records the input logs have, about: offsets without a record count too.
    pub(super) fn records(&self, config: &Config) -> Result<u64, LogAuditError> {
        let mut records = 0;
        for (_, topic, _) in config.topics.inputs() {
            for (_, low, high) in self.bounds(topic)? {
                records += u64::try_from(high - low).unwrap_or_default();
            }
        }
        Ok(records)
    }

    /// Where the records with dead letters first arrived.
    pub(super) fn letters(&self, config: &Config) -> Result<BTreeSet<Place>, LogAuditError> {
        let mut letters = BTreeSet::new();
        let topic = &config.topics.dead_letter;
        let bounds = self.bounds(topic)?.into_iter().map(|(partition, low, high)| (topic.as_str(), partition, low, high)).collect();
        each_record(config, bounds, |message| {
            letters.extend(origin(message));
            Ok(())
        })?;
        Ok(letters)
    }

    /// Adds the events of the input logs, from their first records to their ends of now. Says where a log begins whose first records
    /// are gone.
    pub(super) fn read(
        &self,
        config: &Config,
        snapshot: &Snapshot,
        letters: &BTreeSet<Place>,
        part: Part,
        events: &mut Events,
    ) -> Result<Option<Begins>, LogAuditError> {
        let rules = config.rules();
        let mut begins = None;
        let mut bounds = Vec::new();
        let mut inputs = BTreeMap::new();
        for (kind, topic, format) in config.topics.inputs() {
            inputs.insert(topic, Input { kind, format, rules: &rules });
            for (partition, low, high) in self.bounds(topic)? {
                if low > 0 {
                    begins.get_or_insert(Begins { topic: topic.to_owned(), partition, offset: low });
                }
                bounds.push((topic, partition, low, high));
            }
        }
        let mut logs: BTreeMap<(&str, i32), TopicPartition> = BTreeMap::new();
        for (topic, partition, _, _) in &bounds {
            logs.insert((topic, *partition), TopicPartition { topic: (*topic).into(), partition: *partition });
        }
        each_record(config, bounds, |message| {
            let Some(input) = inputs.get(message.topic()) else { return Ok(()) };
            let Some(log) = logs.get(&(message.topic(), message.partition())) else { return Ok(()) };
            let Some(event) = input.event(message).filter(|event| part.has(&event.customer_id)) else { return Ok(()) };
            let fact = Fact::of(&event);
            let has_letter = letters.contains(&(message.topic().to_owned(), message.partition(), message.offset()));
            let seen = match snapshot.standing(log, message.offset(), fact.customer_id) {
                _ if has_letter => Seen::Letter,
                _ if !fact.is_own() => {
                    if snapshot.is_read(log, message.offset()) {
                        Seen::Counted
                    } else {
                        Seen::Later
                    }
                }
                Standing::In => Seen::Counted,
                Standing::After => Seen::Later,
                Standing::Unknown => Seen::OnItsWay,
            };
            events.push(&fact, seen)
        })?;
        Ok(begins)
    }
}

impl Input<'_> {
    /// The event in a record, if it is acceptable.
    fn event<'a>(&self, message: &'a BorrowedMessage<'_>) -> Option<Event<'a>> {
        let content_type = message.headers().and_then(|headers| {
            headers.iter().filter(|header| header.key.eq_ignore_ascii_case(CONTENT_TYPE_HEADER)).filter_map(|header| header.value).last()
        });
        let record = RawRecord { value: message.payload(), content_type, timestamp_ms: message.timestamp().to_millis().unwrap_or(-1) };
        decode(self.kind, self.format, record, self.rules).ok()
    }
}

fn read_error(topic: &str, error: &KafkaError) -> LogAuditError {
    LogAuditError::Read { topic: topic.to_owned(), reason: error.to_string() }
}

/// Calls `visit` with every record of these (topic, partition, first offset, end): in order within a partition.
fn each_record(
    config: &Config,
    bounds: Vec<(&str, i32, i64, i64)>,
    mut visit: impl FnMut(&BorrowedMessage<'_>) -> Result<(), LogAuditError>,
) -> Result<(), LogAuditError> {
    let mut client = ClientConfig::new();
    client.extend(consumer_options(config, &Membership::Dynamic));
    let first_topic = bounds.first().map(|(topic, ..)| (*topic).to_owned()).unwrap_or_default();
    let failed = |error: KafkaError| read_error(&first_topic, &error);
    let consumer: BaseConsumer = client.create().map_err(failed)?;
    let mut unread = BTreeMap::new();
    let mut assignment = TopicPartitionList::new();
    for (topic, partition, low, high) in bounds {
        if low < high {
            unread.insert((topic.to_owned(), partition), high);
            assignment.add_partition_offset(topic, partition, Offset::Offset(low)).map_err(failed)?;
        }
    }
    consumer.assign(&assignment).map_err(failed)?;
    let mut heard = Instant::now();
    while !unread.is_empty() {
        let message = match consumer.poll(Duration::from_millis(200)) {
            None if heard.elapsed() > MOST_SILENCE => {
                return Err(LogAuditError::Read { topic: first_topic, reason: format!("kafka was silent for {MOST_SILENCE:?}") });
            }
            None => continue,
            // The client tries again by itself, for as long as silence may last.
            Some(Err(KafkaError::MessageConsumption(code))) if may_pass(code) && heard.elapsed() <= MOST_SILENCE => {
                tracing::warn!("kafka: {code}; the audit waits");
                continue;
            }
            // Ends of later: which partition's is not said, but its records before that were all handed out.
            Some(Err(KafkaError::PartitionEOF(_))) => {
                heard = Instant::now();
                unread.retain(|(topic, partition), high| !is_read_to(&consumer, topic, *partition, *high));
                continue;
            }
            Some(Err(error)) => return Err(failed(error)),
            Some(Ok(message)) => message,
        };
        heard = Instant::now();
        let log = (message.topic().to_owned(), message.partition());
        let Some(end) = unread.get(&log).copied() else { continue };
        if message.offset() < end {
            visit(&message)?;
        }
        if message.offset() + 1 >= end {
            unread.remove(&log);
        }
    }
    Ok(())
}

/// Whether a client's error is one of brokers that are away.
fn may_pass(code: RDKafkaErrorCode) -> bool {
    matches!(
        code,
        RDKafkaErrorCode::BrokerTransportFailure
            | RDKafkaErrorCode::AllBrokersDown
            | RDKafkaErrorCode::Resolve
            | RDKafkaErrorCode::OperationTimedOut
            | RDKafkaErrorCode::NodeUpdate
            | RDKafkaErrorCode::LeaderNotAvailable
            | RDKafkaErrorCode::NotLeaderForPartition
    )
}

/// Whether the consumer stands at or after an offset: the last records before it may be marks of transactions, which nobody sees.
fn is_read_to(consumer: &BaseConsumer, topic: &str, partition: i32, end: i64) -> bool {
    let Ok(position) = consumer.position() else { return false };
    position.find_partition(topic, partition).is_some_and(|found| matches!(found.offset(), Offset::Offset(next) if next >= end))
}

fn origin(message: &BorrowedMessage<'_>) -> Option<Place> {
    let headers = message.headers()?;
    let value = |name: &str| {
        let found = headers.iter().filter(|header| header.key == name).filter_map(|header| header.value).last()?;
        std::str::from_utf8(found).ok()
    };
    let [topic, partition, offset, ..] = DEAD_LETTER_HEADERS;
    Some((value(topic)?.to_owned(), value(partition)?.parse().ok()?, value(offset)?.parse().ok()?))
}
