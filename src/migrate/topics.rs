//! Topics: what Kafka has, what `migrate` creates, what `check` objects to.
//!
//! Deciding is pure ([`plan`], [`faults`]); [`Cluster`] only asks and creates. Existing topics are never altered: their settings belong
//! to whoever runs the cluster, and a changed number of partitions would move customers.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;

use crate::config::{Config, Kafka};
use crate::kafka::{EXCHANGE_RETENTION, max_message_bytes};

/// What a relay or a dead letter may add to the record that it carries: headers with its source and the reason.
pub const HEADER_ALLOWANCE_BYTES: usize = 64 * 1024;
/// Kafka's own default of a topic's `max.message.bytes`.
const BROKER_DEFAULT_MESSAGE_BYTES: usize = 1_048_588;
const TIMEOUT: Duration = Duration::from_secs(30);
/// To reach a broker at all: one that answers does so at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at a topic that was just created.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Kafka, for asking about and creating topics.
pub struct Cluster {
    client: AdminClient<DefaultClientContext>,
    brokers: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("brokers", &self.brokers).finish_non_exhaustive()
    }
}

/// Why Kafka could not be asked, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// The client refuses its options.
    #[error("Kafka's client cannot be made: {0}; check the options under `kafka.client`")]
    Client(rdkafka::error::KafkaError),
    /// No answer.
    #[error("cannot reach Kafka at {brokers}: {reason}; check `kafka.brokers`, `kafka.client` and whether the brokers run")]
    Unreachable {
        /// As configured.
        brokers: String,
        /// The client's words.
        reason: String,
    },
    /// A topic's settings cannot be read.
    #[error("cannot read the settings of topic `{topic}`: {reason}; the user needs DescribeConfigs on it")]
    Describe {
        /// Name.
        topic: String,
        /// The broker's words.
        reason: String,
    },
    /// A topic was not created.
    #[error("cannot create topic `{topic}`: {reason}")]
    Create {
        /// Name.
        topic: String,
        /// The broker's words.
        reason: String,
    },
    /// Input topics that should exist do not.
    #[error(
        "input topic {} does not exist; create it (with message.timestamp.type=LogAppendTime), \
         or run `onecode migrate` again with `--create-input-topics N` (N = number of partitions)",
        .0.iter().map(|topic| format!("`{topic}`")).collect::<Vec<_>>().join(", ")
    )]
    MissingInputs(Vec<String>),
}

/// What Kafka says of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicFacts {
    /// Number of partitions.
    pub partitions: usize,
    /// Settings of the topic, defaults included.
    pub settings: BTreeMap<String, String>,
}

impl TopicFacts {
    fn number(&self, setting: &str) -> Option<i64> {
        self.settings.get(setting).and_then(|text| text.parse().ok())
    }

    fn is_compacted(&self) -> bool {
        self.settings.get("cleanup.policy").is_some_and(|policy| policy.contains("compact"))
    }

    fn is_log_append_time(&self) -> bool {
        self.settings.get("message.timestamp.type").is_some_and(|kind| kind == "LogAppendTime")
    }
}

/// A topic to create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicPlan {
    /// Name.
    pub name: String,
    /// Number of partitions.
    pub partitions: usize,
    /// Copies; none = the broker's default.
    pub replication_factor: Option<i32>,
    /// Settings that are not the broker's defaults, in order.
    pub settings: Vec<(&'static str, String)>,
}

impl From<&TopicPlan> for TopicFacts {
    /// The topic once it is created, as far as the plan says.
    fn from(plan: &TopicPlan) -> Self {
        let settings = plan.settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        TopicFacts { partitions: plan.partitions, settings }
    }
}

impl std::fmt::Display for TopicPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "create topic `{}` with {} partitions", self.name, self.partitions)?;
        if let Some(copies) = self.replication_factor {
            write!(f, ", replication factor {copies}")?;
        }
        let settings: Vec<String> = self.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        write!(f, ", {}", settings.join(", "))
    }
}

/// What the caller of `migrate` asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicWishes {
    /// Create missing input topics with so many partitions.
    pub create_inputs: Option<usize>,
    /// Partitions of the exchange, which is the number of tasks; none = as many as the largest topic of scans has.
    pub tasks: Option<usize>,
}

/// Every topic that the configuration names, inputs first, each once.
pub fn names(config: &Config) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    let internal = [config.topics.exchange.as_str(), config.topics.dead_letter.as_str()];
    for name in config.topics.inputs().map(|(_, name, _)| name).chain(internal) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The largest message that the exchange, the dead-letter topic and the producer have to take: the largest record of any input, and headers.
pub fn required_message_bytes(config: &Config, facts: &BTreeMap<String, TopicFacts>) -> usize {
    let of_topic = |topic: &str| {
        let setting = facts.get(topic).and_then(|topic| topic.number("max.message.bytes"));
        setting.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(BROKER_DEFAULT_MESSAGE_BYTES)
    };
    let largest_record = config.topics.inputs().map(|(_, topic, _)| of_topic(topic)).max().unwrap_or_default();
    largest_record.max(config.limits.event_bytes) + HEADER_ALLOWANCE_BYTES
}

/// What has to be created, given what exists.
///
/// # Errors
/// [`TopicError::MissingInputs`]: then nothing is to be created, since the number of tasks follows from the inputs and cannot be changed later.
pub fn plan(config: &Config, facts: &BTreeMap<String, TopicFacts>, wishes: TopicWishes) -> Result<Vec<TopicPlan>, TopicError> {
    let missing: Vec<&str> = names(config).into_iter().filter(|name| !facts.contains_key(*name)).collect();
    let (missing_inputs, missing_internal): (Vec<&str>, Vec<&str>) =
        missing.into_iter().partition(|name| config.topics.kind_of(name).is_some());
    let mut plans = Vec::new();
    match wishes.create_inputs {
        None if !missing_inputs.is_empty() => {
            return Err(TopicError::MissingInputs(missing_inputs.into_iter().map(str::to_owned).collect()));
        }
        None => {}
        Some(partitions) => plans.extend(missing_inputs.iter().map(|name| input_plan(config, name, partitions))),
    }
    let mut facts_then = facts.clone();
    facts_then.extend(plans.iter().map(|plan| (plan.name.clone(), TopicFacts::from(plan))));
    let of_scans = |name: &String| facts_then.get(name).map(|topic| topic.partitions);
    let tasks = wishes.tasks.or_else(|| config.topics.scans.names.iter().filter_map(of_scans).max()).unwrap_or(1);
    let bytes = required_message_bytes(config, &facts_then);
    plans.extend(missing_internal.into_iter().map(|name| internal_plan(config, name, tasks, bytes)));
    Ok(plans)
}

fn input_plan(config: &Config, name: &str, partitions: usize) -> TopicPlan {
    // The size is set even where it is Kafka's default: the broker may have another one, and the internal topics must take as much.
    let bytes = BROKER_DEFAULT_MESSAGE_BYTES.max(config.limits.event_bytes + HEADER_ALLOWANCE_BYTES);
    let settings = vec![("message.timestamp.type", "LogAppendTime".to_owned()), ("max.message.bytes", bytes.to_string())];
    with_replication(&config.kafka, name, partitions, settings)
}

fn internal_plan(config: &Config, name: &str, partitions: usize, message_bytes: usize) -> TopicPlan {
    let settings = vec![
        ("cleanup.policy", "delete".to_owned()),
        ("retention.ms", EXCHANGE_RETENTION.as_millis().to_string()),
        ("retention.bytes", "-1".to_owned()),
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        ("max.message.bytes", message_bytes.to_string()),
        ("unclean.leader.election.enable", "false".to_owned()),
    ];
    with_replication(&config.kafka, name, partitions, settings)
}

fn with_replication(kafka: &Kafka, name: &str, partitions: usize, mut settings: Vec<(&'static str, String)>) -> TopicPlan {
    if let Some(copies) = kafka.min_insync_replicas {
        settings.push(("min.insync.replicas", copies.to_string()));
    }
    TopicPlan { name: name.to_owned(), partitions, replication_factor: kafka.replication_factor, settings }
}

/// What nothing can run with: topics that are not there, or would lose what the pipeline has to find again.
pub fn faults(config: &Config, facts: &BTreeMap<String, TopicFacts>) -> Vec<String> {
    let inputs = config.topics.inputs().map(|(_, name, _)| name).filter(|name| !facts.contains_key(*name));
    let inputs =
        inputs.map(|name| format!("input topic `{name}` does not exist; create it, or run `onecode migrate --create-input-topics N`"));
    let internal = [&config.topics.exchange, &config.topics.dead_letter];
    let internal = internal.into_iter().filter_map(|name| match facts.get(name) {
        None => Some(format!("topic `{name}` does not exist; run `onecode migrate`")),
        Some(topic) if topic.is_compacted() => {
            Some(format!("topic `{name}` is compacted and would lose messages; set cleanup.policy=delete on it"))
        }
        Some(_) => None,
    });
    inputs.chain(internal).collect()
}

/// What is wrong with the topics that are there: each text names the topic, the risk and the remedy. The pipeline runs all the same.
pub fn risks(config: &Config, facts: &BTreeMap<String, TopicFacts>) -> Vec<String> {
    let mut risks = Vec::new();
    let topics = &config.topics;
    let required_bytes = required_message_bytes(config, facts);
    for name in [&topics.exchange, &topics.dead_letter] {
        if let Some(topic) = facts.get(name) {
            risks.extend(internal_faults(name, topic, required_bytes));
        }
    }
    if let Some(exchange) = facts.get(&topics.exchange) {
        risks.extend(exchange_faults(&topics.exchange, exchange));
    }
    risks.extend(producer_fault(config, required_bytes));
    risks
}

/// What is served, but not as well as it could be.
pub fn advice(config: &Config, facts: &BTreeMap<String, TopicFacts>) -> Vec<String> {
    let by_producers = config.topics.inputs().filter_map(|(_, name, _)| facts.get(name).map(|topic| (name, topic)));
    let by_producers = by_producers.filter(|(_, topic)| !topic.is_log_append_time()).map(|(name, _)| {
        format!(
            "input topic `{name}` takes its timestamps from producers, so that a wrong clock makes events too old or ids forgotten; \
             set message.timestamp.type=LogAppendTime on it"
        )
    });
    by_producers.chain(relayed(config, facts)).collect()
}

/// Input topics whose events all take the way over the exchange.
fn relayed(config: &Config, facts: &BTreeMap<String, TopicFacts>) -> Vec<String> {
    let Some(exchange) = facts.get(&config.topics.exchange) else { return Vec::new() };
    let tasks = exchange.partitions;
    let differs = |name: &&str| facts.get(*name).is_some_and(|topic| topic.partitions != tasks);
    let others = config.topics.inputs().map(|(_, name, _)| name).filter(differs);
    others
        .map(|name| {
            let partitions = facts.get(name).map_or(0, |topic| topic.partitions);
            format!("input topic `{name}` has {partitions} partitions and the exchange {tasks}: all its events are relayed, which costs a second trip through Kafka")
        })
        .collect()
}

fn internal_faults(name: &str, topic: &TopicFacts, required_bytes: usize) -> Vec<String> {
    let mut faults = Vec::new();
    if let Some(bytes) = topic.number("max.message.bytes").filter(|bytes| usize::try_from(*bytes).is_ok_and(|bytes| bytes < required_bytes))
    {
        faults.push(format!(
            "topic `{name}` takes messages up to {bytes} bytes, but the largest input record and its headers may have {required_bytes}; \
             set max.message.bytes={required_bytes} on it"
        ));
    }
    faults
}

fn exchange_faults(name: &str, topic: &TopicFacts) -> Vec<String> {
    let mut faults = Vec::new();
    let wanted_ms = i64::try_from(EXCHANGE_RETENTION.as_millis()).unwrap_or(i64::MAX);
    if let Some(retention_ms) = topic.number("retention.ms").filter(|kept| (0..wanted_ms).contains(kept)) {
        let days = retention_ms as f64 / 86_400_000.0;
        faults.push(format!("topic `{name}` keeps its messages for {days:.1} days: an outage longer than that could not be made up; set retention.ms={wanted_ms} on it"));
    }
    if let Some(bytes) = topic.number("retention.bytes").filter(|bytes| *bytes >= 0) {
        faults.push(format!("topic `{name}` drops messages over {bytes} bytes, whatever their age; set retention.bytes=-1 on it"));
    }
    if !topic.is_log_append_time() {
        faults.push(format!("topic `{name}` takes its timestamps from producers; set message.timestamp.type=LogAppendTime on it"));
    }
    if topic.settings.get("unclean.leader.election.enable").is_some_and(|flag| flag == "true") {
        faults.push(format!(
            "topic `{name}` may elect a leader that lacks acknowledged messages; set unclean.leader.election.enable=false on it"
        ));
    }
    faults
}

/// The producer's own limit: what `kafka.client` says, or what the pipeline sets.
fn producer_fault(config: &Config, required_bytes: usize) -> Option<String> {
    let own = config.kafka.client.get("message.max.bytes").and_then(|text| text.expose().parse::<usize>().ok());
    let limit = own.unwrap_or_else(|| max_message_bytes(config));
    (limit < required_bytes).then(|| {
        format!(
            "the producer takes messages up to {limit} bytes, but the largest input record and its headers may have {required_bytes}; \
             set `kafka.client.\"message.max.bytes\"` to {required_bytes}, or lower max.message.bytes of the input topics"
        )
    })
}

impl Cluster {
    /// A client for the configured brokers. Connects with the first request.
    ///
    /// # Errors
    /// [`TopicError::Client`].
    pub fn new(kafka: &Kafka) -> Result<Cluster, TopicError> {
        let mut options = ClientConfig::new();
        options.set("bootstrap.servers", &kafka.brokers).set("allow.auto.create.topics", "false");
        for (option, value) in &kafka.client {
            options.set(option, value.expose());
        }
        let client = options.create().map_err(TopicError::Client)?;
        Ok(Cluster { client, brokers: kafka.brokers.clone() })
    }

    /// Number of brokers. Blocks for up to ten seconds.
    ///
    /// # Errors
    /// [`TopicError::Unreachable`].
    pub fn brokers(&self) -> Result<usize, TopicError> {
        Ok(self.metadata()?.brokers().len())
    }

    /// Facts of those of the topics that exist.
    ///
    /// # Errors
    /// When Kafka cannot be asked.
    pub async fn facts(&self, names: &[&str]) -> Result<BTreeMap<String, TopicFacts>, TopicError> {
        let metadata = self.metadata()?;
        let mut facts = BTreeMap::new();
        for topic in metadata.topics().iter().filter(|topic| names.contains(&topic.name()) && !topic.partitions().is_empty()) {
            let settings = self.settings(topic.name()).await?;
            facts.insert(topic.name().to_owned(), TopicFacts { partitions: topic.partitions().len(), settings });
        }
        Ok(facts)
    }

    /// Creates one topic and waits until the brokers know it; one that exists by now is left as it is.
    ///
    /// # Errors
    /// [`TopicError::Create`].
    pub async fn create(&self, plan: &TopicPlan) -> Result<(), TopicError> {
        let error = |reason: String| TopicError::Create { topic: plan.name.clone(), reason };
        let partitions = i32::try_from(plan.partitions).map_err(|_| error(format!("{} partitions are too many", plan.partitions)))?;
        let mut topic = NewTopic::new(&plan.name, partitions, TopicReplication::Fixed(plan.replication_factor.unwrap_or(-1)));
        for (name, value) in &plan.settings {
            topic = topic.set(name, value);
        }
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
        let results = self.client.create_topics([&topic], &options).await.map_err(|failure| error(failure.to_string()))?;
        for result in results {
            match result {
                Ok(_) | Err((_, rdkafka::types::RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(error(code.to_string())),
            }
        }
        self.wait_until_known(plan).await
    }

    /// The controller answers before the brokers have heard of the topic.
    async fn wait_until_known(&self, plan: &TopicPlan) -> Result<(), TopicError> {
        let wait = async {
            loop {
                let metadata = self.metadata()?;
                let is_known = |topic: &rdkafka::metadata::MetadataTopic| {
                    topic.name() == plan.name
                        && !topic.partitions().is_empty()
                        && topic.partitions().iter().all(|partition| partition.leader() >= 0)
                };
                if metadata.topics().iter().any(is_known) {
                    return Ok(());
                }
                tokio::time::sleep(POLL_INTERVAL).await;
            }
        };
        tokio::time::timeout(TIMEOUT, wait).await.unwrap_or_else(|_| {
            let reason =
                format!("it was created, but its partitions have no leaders after {} s; look at the brokers' logs", TIMEOUT.as_secs());
            Err(TopicError::Create { topic: plan.name.clone(), reason })
        })
    }

    fn metadata(&self) -> Result<rdkafka::metadata::Metadata, TopicError> {
        // Of all topics: asking for one by name may create it.
        self.client
            .inner()
            .fetch_metadata(None, CONNECT_TIMEOUT)
            .map_err(|error| TopicError::Unreachable { brokers: self.brokers.clone(), reason: error.to_string() })
    }

    async fn settings(&self, name: &str) -> Result<BTreeMap<String, String>, TopicError> {
        let error = |reason: String| TopicError::Describe { topic: name.to_owned(), reason };
        let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
        let resources = self
            .client
            .describe_configs([&ResourceSpecifier::Topic(name)], &options)
            .await
            .map_err(|failure| error(failure.to_string()))?;
        let mut settings = BTreeMap::new();
        for resource in resources {
            let resource = resource.map_err(|code| error(code.to_string()))?;
            settings.extend(resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))));
        }
        Ok(settings)
    }
}
