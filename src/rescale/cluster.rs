//! What Kafka has to say before the state may move: who is still in the group, and what was not read yet.

use std::time::Duration;

use anyhow::ensure;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::plan::{Plan, Source, Wanted, plan};
use crate::config::Config;
use crate::kafka::{Cluster, ClusterError, asking_consumer};
use crate::migrate::topics::{self, TopicPlan, TopicWishes};
use crate::model::Offset;
use crate::task::LogRole;

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

/// Creates the new exchange topic, or takes it as it is if an earlier attempt created it. `tell` hears of each topic that is made.
///
/// # Errors
/// When Kafka does not make it, or it has another number of partitions.
pub async fn make_exchange(config: &Config, name: &str, tasks: u32, mut tell: impl FnMut(&TopicPlan)) -> anyhow::Result<Cluster> {
    let mut wanted = config.clone();
    name.clone_into(&mut wanted.topics.exchange);
    let admin = topics::Cluster::new(&config.kafka)?;
    let facts = admin.facts(&topics::names(&wanted)).await?;
    let wishes = TopicWishes { create_inputs: None, tasks: Some(tasks as usize) };
    for topic in topics::plan(&wanted, &facts, wishes)? {
        tell(&topic);
        admin.create(&topic).await?;
    }
    let new = Cluster::ask(&wanted)?;
    ensure!(
        new.tasks == tasks,
        "topic `{name}` exists with {} partitions, {tasks} are needed: give another name with --exchange",
        new.tasks
    );
    Ok(new)
}

/// Decides who reads what from where, with `exchange` as the new exchange topic, which must be empty.
///
/// # Errors
/// [`ClusterError`], [`NotEmpty`], or [`PlanError`](super::PlanError).
pub fn decide(sources: &[Source], old: &Cluster, new: &Cluster, config: &Config, exchange: &str, now_ms: i64) -> anyhow::Result<Plan> {
    let starts = empty_starts(config, exchange, new.tasks)?;
    let inputs = new.topics.iter().filter(|topic| topic.role != LogRole::Exchange);
    let wanted = Wanted {
        tasks: new.tasks,
        old_tasks: old.tasks,
        old_exchange: config.topics.exchange.clone(),
        exchange: (exchange.to_owned(), new.topic_ids.get(exchange).cloned().unwrap_or_default(), starts),
        inputs: inputs.map(|topic| (topic.name.clone(), topic.partitions)).collect(),
    };
    Ok(plan(sources, &wanted, now_ms)?)
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
fn empty_starts(config: &Config, topic: &str, partitions: u32) -> anyhow::Result<Vec<Offset>> {
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
