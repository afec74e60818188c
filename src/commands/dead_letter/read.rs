//! Reads the dead-letter topic from its beginning to its end of now. Joins no group and commits nothing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::letter::{Header, Letter, Position};
use crate::config::Config;
use crate::kafka::{Membership, consumer_options};

const ASK_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest silence of the brokers before giving up.
const MOST_SILENCE: Duration = Duration::from_secs(60);

/// Calls `visit` with every dead letter: by partition in order of offsets, the partitions interleaved. Says how many records of
/// the topic are none.
pub(super) fn each_letter(config: &Config, mut visit: impl FnMut(Letter) -> anyhow::Result<()>) -> anyhow::Result<u64> {
    let topic = &config.topics.dead_letter;
    let mut client = ClientConfig::new();
    client.extend(consumer_options(config, &Membership::Dynamic));
    let consumer: BaseConsumer = client.create().context("cannot make a consumer; check `kafka.client`")?;
    // By partition: the offset after the last record of now. What comes behind it may be of our own replay.
    let mut unread = BTreeMap::new();
    let mut assignment = TopicPartitionList::new();
    for (partition, low, high) in bounds(&consumer, topic)? {
        if low < high {
            unread.insert(partition, high);
            assignment.add_partition_offset(topic, partition, Offset::Offset(low))?;
        }
    }
    consumer.assign(&assignment).context("cannot read the dead-letter topic")?;
    let mut foreign = 0;
    let mut heard = Instant::now();
    while !unread.is_empty() {
        let message = match consumer.poll(Duration::from_millis(200)) {
            None if heard.elapsed() > MOST_SILENCE => bail!("kafka was silent for {MOST_SILENCE:?} while reading `{topic}`"),
            None => continue,
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unread.remove(&partition);
                continue;
            }
            Some(Err(error)) => return Err(error).with_context(|| format!("cannot read `{topic}`")),
            Some(Ok(message)) => message,
        };
        heard = Instant::now();
        let Some(end) = unread.get(&message.partition()).copied() else { continue };
        if message.offset() + 1 >= end {
            unread.remove(&message.partition());
        }
        if message.offset() >= end {
            continue;
        }
        match letter(&message) {
            Some(letter) => visit(letter)?,
            None => foreign += 1,
        }
    }
    Ok(foreign)
}

/// Of each partition: its number, first offset and the offset after the last.
fn bounds(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<Vec<(i32, i64, i64)>> {
    let metadata =
        consumer.fetch_metadata(Some(topic), ASK_TIMEOUT).context("kafka does not answer; check `kafka.brokers` and `kafka.client`")?;
    let known = metadata.topics().iter().find(|known| known.name() == topic && known.error().is_none());
    let Some(known) = known.filter(|known| !known.partitions().is_empty()) else {
        bail!("topic `{topic}` (topics.dead_letter) does not exist; run `onecode migrate`");
    };
    let mut bounds = Vec::new();
    for partition in known.partitions() {
        let (low, high) = consumer
            .fetch_watermarks(topic, partition.id(), ASK_TIMEOUT)
            .with_context(|| format!("kafka does not say where `{topic}` ends"))?;
        bounds.push((partition.id(), low, high));
    }
    Ok(bounds)
}

fn letter(message: &BorrowedMessage<'_>) -> Option<Letter> {
    let at = Position { topic: message.topic().to_owned(), partition: message.partition(), offset: message.offset() };
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| -> Header { (header.key.to_owned(), header.value.map(<[u8]>::to_vec)) }).collect()
    });
    let time_ms = message.timestamp().to_millis().unwrap_or_default();
    Letter::read(at, time_ms, message.key().map(<[u8]>::to_vec), message.payload().map(<[u8]>::to_vec), headers)
}
