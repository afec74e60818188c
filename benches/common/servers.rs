//! A Kafka and a ClickHouse of a benchmark's own, and what is asked of them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use onecode_local::{ClickHouse, ClickHouseOptions, Kafka, KafkaOptions};
use rdkafka::TopicPartitionList;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::metadata::MetadataTopic;

use super::usage::allocated_bytes;

/// The public schema, where ClickHouse's own Kafka engine looks for it.
const SCHEMA: &str = include_str!("../../proto/onecode/v1/events.proto");
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
const NO_COORDINATOR_YET: [RDKafkaErrorCode; 3] =
    [RDKafkaErrorCode::NotCoordinator, RDKafkaErrorCode::CoordinatorNotAvailable, RDKafkaErrorCode::CoordinatorLoadInProgress];

/// One broker and one server.
pub struct Servers {
    pub dir: PathBuf,
    pub kafka: Kafka,
    pub clickhouse: ClickHouse,
}

impl Servers {
    /// Starts both in a directory. `server_xml`: more elements of ClickHouse's configuration.
    pub fn start(dir: &Path, server_xml: &str) -> Result<Self> {
        let kafka = Kafka::start(KafkaOptions::in_dir(dir.join("kafka")))?;
        let schemas = dir.join("schemas");
        std::fs::create_dir_all(&schemas)?;
        std::fs::write(schemas.join("events.proto"), SCHEMA)?;
        let mut options = ClickHouseOptions::in_dir(dir.join("clickhouse"));
        // For ClickHouse's Kafka engine. Its client's default pause of 1 s after a full queue would cost it a factor of four.
        options.server_xml = format!(
            "<format_schema_path>{}/</format_schema_path>\n<kafka><auto_offset_reset>earliest</auto_offset_reset><fetch_queue_backoff_ms>5</fetch_queue_backoff_ms></kafka>\n{server_xml}",
            schemas.display()
        );
        let clickhouse = ClickHouse::start(options)?;
        Ok(Servers { dir: dir.to_owned(), kafka, clickhouse })
    }

    /// A single number.
    pub fn number(&self, sql: &str) -> Result<u64> {
        let answer = self.clickhouse.query(sql)?;
        answer.trim().parse().with_context(|| format!("no number: {answer:?} to {sql}"))
    }

    /// Waits until ClickHouse has merged what it wants to merge: what an insert makes it do later belongs to its cost.
    pub fn wait_for_merges(&self) -> Result<()> {
        let mut quiet = 0;
        onecode_local::wait_for("the end of ClickHouse's merges", Duration::from_secs(300), || {
            quiet = if self.number("SELECT count() FROM system.merges")? == 0 { quiet + 1 } else { 0 };
            Ok((quiet >= 15).then_some(()))
        })
    }

    /// Waits until no refreshable view is being refreshed.
    pub fn wait_for_refreshes(&self) -> Result<()> {
        onecode_local::wait_for("the end of ClickHouse's refreshes", Duration::from_secs(60), || {
            Ok((self.number("SELECT count() FROM system.view_refreshes WHERE status = 'Running'")? == 0).then_some(()))
        })
    }

    /// Bytes of the live parts of a database.
    pub fn database_bytes(&self, database: &str) -> Result<u64> {
        self.number(&format!("SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = '{database}'"))
    }

    /// Bytes that the broker keeps.
    pub fn broker_bytes(&self) -> Result<u64> {
        allocated_bytes(&self.dir.join("kafka/data"))
    }

    /// Records of a group's topics that are committed; 0 as long as the broker has no coordinator for the group yet.
    pub fn committed(&self, group: &str, topics: &[&str]) -> Result<u64> {
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", self.kafka.bootstrap()).set("group.id", group).create()?;
        let list = partitions(&consumer, topics)?;
        let offsets = match consumer.committed_offsets(list, ASK_TIMEOUT) {
            Err(error) if error.rdkafka_error_code().is_some_and(|code| NO_COORDINATOR_YET.contains(&code)) => return Ok(0),
            answer => answer?,
        };
        Ok(offsets.elements().iter().filter_map(|entry| entry.offset().to_raw()).filter_map(|offset| u64::try_from(offset).ok()).sum())
    }
}

/// All partitions of some topics.
pub fn partitions(consumer: &BaseConsumer, topics: &[&str]) -> Result<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for topic in topics {
        let metadata = consumer.fetch_metadata(Some(topic), ASK_TIMEOUT)?;
        for partition in metadata.topics().iter().flat_map(MetadataTopic::partitions) {
            list.add_partition(topic, partition.id());
        }
    }
    if list.count() == 0 {
        bail!("the topics {topics:?} have no partitions");
    }
    Ok(list)
}
