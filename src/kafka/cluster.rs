//! What is asked of the cluster before a start: which topics there are, with how many partitions, and their ids.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;

use super::native::Consumer;
use super::options::{Membership, consumer_options};
use crate::config::Config;
use crate::task::LogRole;
use crate::worker::TopicSpec;

/// How long the exchange keeps its messages: a checkpoint older than that cannot go on.
pub const EXCHANGE_RETENTION: Duration = Duration::from_secs(30 * 86_400);

const ASK_TIMEOUT: Duration = Duration::from_secs(15);

/// What a pipeline has to know of its cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Kafka's id of the cluster.
    pub id: String,
    /// Topics that workers subscribe to: inputs and the exchange.
    pub topics: Vec<TopicSpec>,
    /// Kafka's ids of the topics, by name.
    pub topic_ids: BTreeMap<String, String>,
    /// N: partitions of the exchange.
    pub tasks: u32,
}

/// A cluster that the pipeline cannot run on.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No answer.
    #[error("kafka at `{brokers}` does not answer: {reason}; check `kafka.brokers` and `kafka.client`")]
    Unreachable {
        /// As configured.
        brokers: String,
        /// What the client says.
        reason: String,
    },
    /// A topic cannot be read at present, or not by us.
    #[error("topic `{topic}`: {reason}; is it without a leader, or may this user not describe it?")]
    Topic {
        /// Topic.
        topic: String,
        /// What a broker says.
        reason: String,
    },
    /// A topic is missing.
    #[error("topic `{topic}` ({key}) does not exist; {remedy}")]
    MissingTopic {
        /// Topic.
        topic: String,
        /// Its key of the configuration.
        key: String,
        /// What to run.
        remedy: &'static str,
    },
}

/// A consumer that asks and never joins the group.
///
/// # Errors
/// [`ClusterError::Unreachable`] when the client refuses its options.
pub fn asking_consumer(config: &Config) -> Result<BaseConsumer, ClusterError> {
    let mut client = ClientConfig::new();
    client.extend(consumer_options(config, &Membership::Dynamic));
    client.create().map_err(|error| ClusterError::Unreachable { brokers: config.kafka.brokers.clone(), reason: error.to_string() })
}

impl Cluster {
    /// Asks the cluster.
    pub fn ask(config: &Config) -> Result<Self, ClusterError> {
        let unreachable = |reason: String| ClusterError::Unreachable { brokers: config.kafka.brokers.clone(), reason };
        let options = consumer_options(config, &Membership::Dynamic);
        let asking = asking_consumer(config)?;
        let metadata = asking.fetch_metadata(None, ASK_TIMEOUT).map_err(|error| unreachable(error.to_string()))?;
        // None: it does not exist. What else a broker says of a topic is for a person to mend.
        let partitions_of = |topic: &str| -> Result<Option<u32>, ClusterError> {
            let Some(known) = metadata.topics().iter().find(|known| known.name() == topic) else { return Ok(None) };
            match known.error().map(RDKafkaErrorCode::from) {
                None => Ok(Some(u32::try_from(known.partitions().len()).unwrap_or(u32::MAX)).filter(|count| *count > 0)),
                Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
                Some(code) => Err(ClusterError::Topic { topic: topic.to_owned(), reason: code.to_string() }),
            }
        };
        let mut topics = Vec::new();
        for (kind, topic, format) in config.topics.inputs() {
            let partitions = partitions_of(topic)?.ok_or_else(|| ClusterError::MissingTopic {
                topic: topic.to_owned(),
                key: format!("topics.{}s", kind.name()),
                remedy: "create it, or let `onecode migrate --create-input-topics N` do so",
            })?;
            topics.push(TopicSpec { name: topic.to_owned(), role: LogRole::Input { kind, format }, partitions });
        }
        let internal = |topic: &str, key: &str| {
            partitions_of(topic)?.ok_or_else(|| ClusterError::MissingTopic {
                topic: topic.to_owned(),
                key: key.to_owned(),
                remedy: "run `onecode migrate`",
            })
        };
        let tasks = internal(&config.topics.exchange, "topics.exchange")?;
        internal(&config.topics.dead_letter, "topics.dead_letter")?;
        topics.push(TopicSpec { name: config.topics.exchange.clone(), role: LogRole::Exchange, partitions: tasks });
        let names: Vec<String> = topics.iter().map(|topic| topic.name.clone()).collect();
        let mut native = Consumer::new(&options).map_err(|error| unreachable(error.to_string()))?;
        let timeout_ms = i32::try_from(ASK_TIMEOUT.as_millis()).unwrap_or(i32::MAX);
        let id = native.cluster_id(timeout_ms).ok_or_else(|| unreachable("no cluster id".to_owned()))?;
        let topic_ids = native.topic_ids(&names, timeout_ms).map_err(|error| unreachable(error.to_string()))?;
        Ok(Cluster { id, topics, topic_ids, tasks })
    }
}
