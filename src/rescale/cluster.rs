//! What Kafka has to say before the state may move: who is still in the group, and what was not read yet.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::plan::Source;
use crate::config::Config;
use crate::kafka::{ClusterError, asking_consumer};
use crate::model::Offset;

const TIMEOUT: Duration = Duration::from_secs(15);

/// Asks Kafka about the members of the pipeline's group.
pub struct Members {
    asking: BaseConsumer,
    group: String,
    brokers: String,
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Members").field("group", &self.group).finish_non_exhaustive()
    }
}

impl Members {
    /// For the configured group.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn new(config: &Config) -> Result<Members, ClusterError> {
        Ok(Members { asking: asking_consumer(config)?, group: config.kafka.group.clone(), brokers: config.kafka.brokers.clone() })
    }

    /// How many members the group has: running instances, and static members that left less than a session timeout ago.
    ///
    /// # Errors
    /// [`ClusterError`].
    pub fn count(&self) -> Result<usize, ClusterError> {
        let list = self.asking.fetch_group_list(Some(&self.group), TIMEOUT);
        let list = list.map_err(|error| ClusterError::Unreachable { brokers: self.brokers.clone(), reason: error.to_string() })?;
        Ok(list.groups().iter().filter(|group| group.name() == self.group).map(|group| group.members().len()).sum())
    }
}

/// Messages on the exchange that their tasks have not read, by task; only tasks that have some.
///
/// # Errors
/// [`ClusterError`].
pub fn unread(config: &Config, sources: &[Source]) -> Result<Vec<(String, i64)>, ClusterError> {
    let asking = asking_consumer(config)?;
    let topic = &config.topics.exchange;
    let mut unread = Vec::new();
    for source in sources {
        for (tp, position) in source.positions.logs.iter().filter(|(tp, _)| *tp.topic == **topic) {
            let range = asking.fetch_watermarks(topic, tp.partition, TIMEOUT);
            let (_, end) =
                range.map_err(|error| ClusterError::Unreachable { brokers: config.kafka.brokers.clone(), reason: error.to_string() })?;
            if end > position.next {
                unread.push((source.task.to_string(), end - position.next));
            }
        }
    }
    Ok(unread)
}

/// A topic that should be new has messages.
#[derive(Debug, thiserror::Error)]
#[error("topic `{topic}` has messages already: the exchange of another number of tasks has to be empty; give another name with --exchange")]
pub struct NotEmpty {
    topic: String,
}

/// Where the partitions of a new topic begin.
///
/// # Errors
/// [`ClusterError`], or [`NotEmpty`].
pub fn empty_starts(config: &Config, topic: &str, partitions: u32) -> anyhow::Result<Vec<Offset>> {
    let asking = asking_consumer(config)?;
    let mut starts = Vec::new();
    for partition in 0..i32::try_from(partitions)? {
        let range = asking.fetch_watermarks(topic, partition, TIMEOUT);
        let (start, end) =
            range.map_err(|error| ClusterError::Unreachable { brokers: config.kafka.brokers.clone(), reason: error.to_string() })?;
        if end > start {
            return Err(NotEmpty { topic: topic.to_owned() }.into());
        }
        starts.push(start);
    }
    Ok(starts)
}
