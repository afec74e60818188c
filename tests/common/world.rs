//! One test's own topics, database, group, HTTP port and configuration, so that tests on one stack do not meet.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onecode_local::ports::Port;

use super::pipeline::{self, Finished, Pipeline};
use super::stack::{Stack, fresh_dir};
use super::topics::{self, Record, StoredRecord};

/// The topics of the configuration, by their default names.
pub const TOPICS: [(&str, &str); 5] = [
    ("scans", "scans"),
    ("purchases", "purchases"),
    ("shares", "shares"),
    ("exchange", "onecode.exchange"),
    ("dead_letter", "onecode.dead-letter"),
];

/// A test's world on a stack.
#[derive(Debug)]
pub struct World<'stack> {
    /// The servers.
    pub stack: &'stack Stack,
    name: String,
    dir: PathBuf,
    settings: BTreeMap<String, String>,
    /// One HTTP port a process: the first belongs to `start`, others to `start_instance`.
    ports: std::cell::RefCell<Vec<Port>>,
}

impl<'stack> World<'stack> {
    /// A world on the shared stack; `test` is a short word for names and directories.
    ///
    /// # Errors
    /// When the stack does not start.
    pub fn new(test: &str) -> Result<World<'static>> {
        World::on(Stack::shared()?, test)
    }

    /// A world on the given stack.
    ///
    /// # Errors
    /// When its directory cannot be created.
    pub fn on(stack: &'stack Stack, test: &str) -> Result<World<'stack>> {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("{test}_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut world = World { stack, dir: fresh_dir(test)?, name, settings: BTreeMap::new(), ports: std::cell::RefCell::default() };
        world.set_text("kafka.brokers", &stack.kafka.bootstrap());
        world.set_text("kafka.group", &world.name.clone());
        for (key, _) in TOPICS {
            world.set_text(&format!("topics.{key}.name"), &world.topic(key));
        }
        for key in ["scans", "purchases", "shares"] {
            world.set_text(&format!("topics.{key}.format"), "auto");
        }
        world.set_text("clickhouse.url", &stack.clickhouse.url());
        world.set_text("clickhouse.database", &world.database());
        // Tests want to see results at once.
        world.set("pipeline.serve_interval_ms", 200);
        world.set("pipeline.checkpoint_interval_ms", 1000);
        Ok(world)
    }

    /// Sets a key of the configuration to a number or flag, e.g. `world.set("pipeline.workers", 1)`. Keys with dots are quoted:
    /// `kafka.client."session.timeout.ms"`.
    pub fn set(&mut self, key: &str, value: impl ToString) -> &mut Self {
        self.settings.insert(key.to_owned(), value.to_string());
        self
    }

    /// Sets a key of the configuration to a text.
    pub fn set_text(&mut self, key: &str, value: &str) -> &mut Self {
        self.set(key, serde_json::Value::from(value))
    }

    /// The real name of one of [`TOPICS`], by its key in the configuration.
    #[must_use]
    pub fn topic(&self, key: &str) -> String {
        if let Some(name) = self.settings.get(&format!("topics.{key}.name")) {
            return name.trim_matches('"').to_owned();
        }
        let default = TOPICS.iter().find(|(known, _)| *known == key).map_or(key, |(_, default)| default);
        format!("{}.{default}", self.name)
    }

    /// The name of this world's database.
    #[must_use]
    pub fn database(&self) -> String {
        self.name.clone()
    }

    /// The name of this world's consumer group.
    #[must_use]
    pub fn group(&self) -> String {
        self.name.clone()
    }

    /// Where this world's files are.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The configuration of instance `instance` (0 is the one that [`World::start`] runs).
    ///
    /// # Errors
    /// When no port is free.
    pub fn config_toml(&self, instance: usize) -> Result<String> {
        let listen = self.address(instance)?;
        let mut settings = self.settings.clone();
        settings.entry("http.listen".to_owned()).or_insert(format!("\"{listen}\""));
        Ok(settings.iter().map(|(key, value)| format!("{key} = {value}\n")).collect())
    }

    /// The HTTP address of an instance.
    ///
    /// # Errors
    /// When no port is free.
    pub fn address(&self, instance: usize) -> Result<String> {
        let mut ports = self.ports.borrow_mut();
        while ports.len() <= instance {
            ports.push(Port::reserve(0)?);
        }
        let port = ports.get(instance).context("no such port")?;
        Ok(format!("127.0.0.1:{}", port.number()))
    }

    fn write_config(&self, instance: usize) -> Result<PathBuf> {
        let path = self.dir.join(format!("onecode-{instance}.toml"));
        // Whole or not at all: a process that was just started may be reading it.
        let draft = path.with_extension("draft");
        std::fs::write(&draft, self.config_toml(instance)?).with_context(|| format!("cannot write {}", draft.display()))?;
        std::fs::rename(&draft, &path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Runs `onecode ARGUMENTS --config FILE` to its end, whatever its exit code.
    ///
    /// # Errors
    /// When it does not end within the deadline.
    pub fn onecode(&self, arguments: &[&str]) -> Result<Finished> {
        self.onecode_within(super::DEADLINE, arguments)
    }

    /// As [`World::onecode`], for what takes longer.
    ///
    /// # Errors
    /// As [`World::onecode`].
    pub fn onecode_within(&self, deadline: Duration, arguments: &[&str]) -> Result<Finished> {
        let config = self.write_config(0)?;
        let config = config.to_str().context("the path is no text")?;
        pipeline::run_to_end_within(deadline, &[arguments, &["--config", config]].concat())
    }

    /// As [`World::onecode`], and fails unless the exit code is 0. Returns standard output.
    ///
    /// # Errors
    /// With everything that it printed.
    pub fn must(&self, arguments: &[&str]) -> Result<String> {
        let finished = self.onecode(arguments)?;
        ensure!(finished.code == 0, "onecode {} ended with exit code {}:\n{finished}", arguments.join(" "), finished.code);
        Ok(finished.stdout)
    }

    /// Creates the three input topics, then everything else with `onecode migrate`.
    ///
    /// # Errors
    /// When a topic cannot be created or the command fails.
    pub fn migrate(&self, partitions: i32) -> Result<()> {
        for key in ["scans", "purchases", "shares"] {
            self.create_topic(&self.topic(key), partitions, &[("message.timestamp.type", "LogAppendTime")])?;
        }
        self.must(&["migrate"]).map(drop)
    }

    /// Starts `onecode run` and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or is not ready within the deadline.
    pub fn start(&self) -> Result<Pipeline> {
        let pipeline = self.spawn(0, &[])?;
        pipeline.wait_ready()?;
        Ok(pipeline)
    }

    /// Starts `onecode run` as one of several instances, with more arguments, and does not wait.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, instance: usize, arguments: &[&str]) -> Result<Pipeline> {
        self.spawn_with(instance, arguments, &[])
    }

    /// As [`World::spawn`], with environment variables.
    ///
    /// # Errors
    /// As [`World::spawn`].
    pub fn spawn_with(&self, instance: usize, arguments: &[&str], environment: &[(&str, &str)]) -> Result<Pipeline> {
        Pipeline::spawn(&self.dir, instance, &self.write_config(instance)?, &self.address(instance)?, arguments, environment)
    }

    /// Runs SQL in this world's database and returns the answer's text.
    ///
    /// # Errors
    /// When ClickHouse does not answer or refuses.
    pub fn query(&self, sql: &str) -> Result<String> {
        self.stack.clickhouse.query_in(&self.database(), sql)
    }

    /// The rows of a SELECT as texts (tab-separated format: special characters are escaped).
    ///
    /// # Errors
    /// As [`World::query`].
    pub fn rows(&self, sql: &str) -> Result<Vec<Vec<String>>> {
        let text = self.query(sql)?;
        Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
    }

    /// The single number that a SELECT answers.
    ///
    /// # Errors
    /// As [`World::query`], or when the answer is no number.
    pub fn number(&self, sql: &str) -> Result<i64> {
        let text = self.query(sql)?;
        text.trim().parse().with_context(|| format!("{sql} answered {text:?}"))
    }

    /// Puts off the lists that ClickHouse refreshes by itself: with millions of customers they need most of the small server, beside
    /// which the pipeline is looked at.
    ///
    /// # Errors
    /// As the server says.
    pub fn put_off_the_lists(&self) -> Result<()> {
        let scheduled = "SELECT name FROM system.tables WHERE database = currentDatabase() AND create_table_query LIKE '% REFRESH EVERY %'";
        let views = self.rows(scheduled)?;
        ensure!(!views.is_empty(), "no view is refreshed on schedule");
        views.iter().flatten().try_for_each(|view| self.query(&format!("ALTER TABLE {view} MODIFY REFRESH EVERY 1 YEAR")).map(drop))
    }

    /// Creates a topic with settings such as `("message.timestamp.type", "LogAppendTime")`.
    ///
    /// # Errors
    /// When Kafka refuses.
    pub fn create_topic(&self, topic: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<()> {
        topics::create(&self.stack.kafka.bootstrap(), topic, partitions, configs)
    }

    /// Sends records and waits until all are acknowledged.
    ///
    /// # Errors
    /// When one is not.
    pub fn produce(&self, topic: &str, records: impl IntoIterator<Item = Record>) -> Result<()> {
        topics::produce(&self.stack.kafka.bootstrap(), topic, records)
    }

    /// All records of a topic by partition and offset, up to the ends at the time of the call.
    ///
    /// # Errors
    /// When they cannot be read within the deadline.
    pub fn read_topic(&self, topic: &str) -> Result<Vec<StoredRecord>> {
        topics::read_to_end(&self.stack.kafka.bootstrap(), topic)
    }

    /// Records between the group's committed offsets and the ends of a topic; everything where nothing is committed.
    ///
    /// # Errors
    /// When Kafka does not tell.
    pub fn lag(&self, topic: &str) -> Result<i64> {
        topics::lag(&self.stack.kafka.bootstrap(), &self.group(), topic)
    }

    /// Waits until the group has committed the ends of inputs and exchange: everything sent so far is checkpointed.
    ///
    /// # Errors
    /// When that does not happen within the deadline.
    pub fn wait_caught_up(&self) -> Result<()> {
        self.wait_caught_up_within(super::DEADLINE)
    }

    /// As [`World::wait_caught_up`], for what takes longer.
    ///
    /// # Errors
    /// As [`World::wait_caught_up`].
    pub fn wait_caught_up_within(&self, deadline: Duration) -> Result<()> {
        super::wait_until("committed offsets at the ends of all logs", deadline, || self.is_caught_up())
    }

    /// Whether the group has committed up to the ends of all logs.
    ///
    /// # Errors
    /// When Kafka does not answer.
    pub fn is_caught_up(&self) -> Result<bool> {
        for key in ["scans", "purchases", "shares", "exchange"] {
            if self.lag(&self.topic(key))? > 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
