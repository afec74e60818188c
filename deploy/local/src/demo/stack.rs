//! What the demo runs: a broker, a ClickHouse, and `onecode` as its own process, on the default ports where they are free.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use super::interrupt::Interrupt;
use crate::ports::Port;
use crate::server::last_lines;
use crate::supervise::{Program, Supervised};
use crate::wait::wait_for;
use crate::{ClickHouse, ClickHouseOptions, Kafka, KafkaOptions};

const KAFKA_PORT: u16 = 9092;
const CLICKHOUSE_PORT: u16 = 8123;
const HTTP_PORT: u16 = 9464;
const READY_DEADLINE: Duration = Duration::from_secs(120);
const DRAIN_DEADLINE: Duration = Duration::from_secs(60);
const COMMAND_LOOK: Duration = Duration::from_millis(50);

/// The database of the demo.
pub(super) const DATABASE: &str = "onecode";
/// The input topics of the demo.
pub(super) const INPUT_TOPICS: [&str; 3] = ["scans", "purchases", "shares"];
/// Partitions of each of them, and of the exchange: the number of tasks.
pub(super) const PARTITIONS: u64 = 6;
/// The calendar of the demo, as the configuration has it, and in hours for SQL.
pub(super) const TIME_ZONE: (&str, i32) = ("+08:00", 8);

/// Servers, configuration and the pipeline. Dropping it ends all of them.
pub(super) struct Stack {
    pub kafka: Kafka,
    pub clickhouse: ClickHouse,
    /// The configuration file that everything here uses.
    pub config: PathBuf,
    dir: PathBuf,
    onecode: PathBuf,
    http: Port,
    pipeline: Option<Supervised>,
    starts: u32,
}

impl Stack {
    /// Starts both servers in `dir` and writes the configuration.
    pub fn start(dir: &Path, onecode: &Path, keep_data: bool) -> Result<Stack> {
        let kafka_options = KafkaOptions { keep_data, ..KafkaOptions::in_dir(dir.join("kafka")) };
        let clickhouse_options = ClickHouseOptions { keep_data, ..ClickHouseOptions::in_dir(dir.join("clickhouse")) };
        let (kafka_port, clickhouse_port) = (Port::reserve_usual(KAFKA_PORT)?, Port::reserve_usual(CLICKHOUSE_PORT)?);
        // Both take some seconds: they start at once.
        let (kafka, clickhouse) = std::thread::scope(|scope| {
            let kafka = scope.spawn(|| Kafka::start_on(kafka_port, kafka_options));
            let clickhouse = ClickHouse::start_on(clickhouse_port, clickhouse_options);
            (kafka.join(), clickhouse)
        });
        let kafka = kafka.map_err(|_| anyhow::anyhow!("starting Kafka panicked"))??;
        let clickhouse = clickhouse?;
        let http = Port::reserve_usual(HTTP_PORT)?;
        let config = dir.join("onecode.toml");
        std::fs::write(&config, configuration(&kafka, &clickhouse, &http)).with_context(|| format!("cannot write {}", config.display()))?;
        let (dir, onecode) = (dir.to_owned(), onecode.to_owned());
        Ok(Stack { kafka, clickhouse, config, dir, onecode, http, pipeline: None, starts: 0 })
    }

    /// Where the pipeline answers HTTP.
    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http.number())
    }

    /// Runs `onecode ARGUMENTS --config FILE` to its end with its output on this process's, and returns whether its exit code was 0.
    pub fn run(&self, arguments: &[&str], interrupt: &Interrupt) -> Result<bool> {
        let mut command = Command::new(&self.onecode);
        let mut child = command
            .args(arguments)
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {}", self.onecode.display()))?;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status.success());
            }
            if let Err(interrupted) = interrupt.wait(COMMAND_LOOK) {
                child.kill()?;
                child.wait()?;
                return Err(interrupted.into());
            }
        }
    }

    /// Starts `onecode ARGUMENTS --config FILE` with its output in `NAME.log`.
    pub fn spawn(&self, name: &str, arguments: &[&str]) -> Result<Supervised> {
        let mut all: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        all.extend(["--config".into(), self.config.clone().into_os_string()]);
        Supervised::spawn(&Program {
            name: format!("onecode {}", arguments.first().copied().unwrap_or_default()),
            executable: self.onecode.clone(),
            arguments: all,
            environment: Vec::new(),
            log: self.dir.join(format!("{name}.log")),
            scratch: None,
        })
    }

    /// Starts the pipeline, for the first time or after a kill.
    pub fn start_pipeline(&mut self) -> Result<()> {
        self.starts += 1;
        self.pipeline = Some(self.spawn(&format!("onecode-run-{}", self.starts), &["run"])?);
        Ok(())
    }

    /// The ports of Kafka and ClickHouse, as `onecode-local up` takes them.
    pub fn ports(&self) -> String {
        let port = |address: &str| address.rsplit(':').next().unwrap_or_default().to_owned();
        format!("--kafka-port {} --clickhouse-port {}", port(&self.kafka.bootstrap()), port(&self.clickhouse.url()))
    }

    /// Waits until the pipeline is ready.
    pub fn wait_ready(&mut self, interrupt: &Interrupt) -> Result<()> {
        let url = format!("{}/readyz", self.http_url());
        wait_for("readiness of the pipeline", READY_DEADLINE, || {
            interrupt.check()?;
            self.check_pipeline()?;
            Ok(super::figures::get(&url).ok().map(drop))
        })
    }

    /// Fails when the pipeline has ended by itself.
    pub fn check_pipeline(&mut self) -> Result<()> {
        let pipeline = self.pipeline.as_mut().context("the pipeline was not started")?;
        if let Some(code) = pipeline.exit_code()? {
            bail!("the pipeline ended with exit code {code}:\n{}", last_lines(pipeline.log()));
        }
        Ok(())
    }

    /// Ends the pipeline with SIGKILL, as a crash would, and starts it again.
    pub fn kill_pipeline(&mut self) -> Result<()> {
        self.pipeline.as_mut().context("the pipeline was not started")?.kill()?;
        self.start_pipeline()
    }

    /// Ends everything in order: the pipeline serves and commits what it has, then the servers.
    pub fn stop(mut self) -> Result<()> {
        if let Some(pipeline) = self.pipeline.as_mut() {
            let code = pipeline.terminate(DRAIN_DEADLINE)?;
            ensure!(code == 0, "the pipeline drained with exit code {code}:\n{}", last_lines(pipeline.log()));
        }
        self.clickhouse.stop()?;
        self.kafka.stop()
    }
}

fn configuration(kafka: &Kafka, clickhouse: &ClickHouse, http: &Port) -> String {
    let (brokers, url, listen, time_zone) = (kafka.bootstrap(), clickhouse.url(), http.number(), TIME_ZONE.0);
    format!(
        "# Written by the demo; deploy/onecode.example.toml shows every key.\n\
         kafka.brokers = \"{brokers}\"\n\
         clickhouse.url = \"{url}\"\n\
         clickhouse.database = \"{DATABASE}\"\n\
         http.listen = \"127.0.0.1:{listen}\"\n\
         pipeline.workers = 2\n\
         pipeline.time_zone = \"{time_zone}\"\n\
         # Shorter than the defaults: a minute's demo shall see some checkpoints.\n\
         pipeline.archive_interval_ms = 1000\n\
         pipeline.checkpoint_interval_ms = 5000\n"
    )
}
