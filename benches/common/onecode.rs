//! The pipeline itself as a child process, from its start until everything is in ClickHouse, checkpointed, and it has ended.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use onecode::engine::StateKind;
use onecode_local::ports::Port;

use super::servers::Servers;
use super::usage::{ServersCpu, cpu_s, forget_peak, has_ended, peak_rss_bytes};

const BINARY: &str = env!("CARGO_BIN_EXE_onecode");
const LONGEST_RUN: Duration = Duration::from_secs(3_600);
const ARCHIVE: [&str; 3] = ["scans", "purchases", "share_events"];

/// A pipeline of its own database, group and internal topics, over input topics that are there.
pub struct Pipeline {
    pub name: String,
    pub topics: [String; 3],
    pub workers: u32,
    /// Whether ClickHouse keeps the archive's rows. They are sent all the same: the configuration has no such switch.
    pub keeps_archive: bool,
    config: PathBuf,
    port: Port,
}

/// What one run took.
#[derive(Clone, Debug)]
pub struct Run {
    pub elapsed: Duration,
    pub process_cpu_s: f64,
    /// Merges included.
    pub servers: ServersCpu,
    pub peak_rss_bytes: u64,
    pub clickhouse_peak_rss_bytes: u64,
    /// As `/metrics` says it.
    pub state_bytes: u64,
    pub customers: u64,
    pub state_keys: u64,
    /// Keys of each kind for each customer.
    pub state_keys_by_kind: Vec<(&'static str, f64)>,
}

impl Pipeline {
    /// Writes the configuration and creates what is missing: the database, and topics with so many partitions.
    pub fn prepare(servers: &Servers, name: &str, topics: [String; 3], partitions: u32, workers: u32) -> Result<Self> {
        let config = servers.dir.join(format!("{name}.toml"));
        let port = Port::reserve(0)?;
        let [scans, purchases, shares] = &topics;
        let text = format!(
            "[kafka]\nbrokers = \"{brokers}\"\ngroup = \"{name}\"\n\
             [topics]\nscans = {{ name = \"{scans}\" }}\npurchases = {{ name = \"{purchases}\" }}\nshares = {{ name = \"{shares}\" }}\n\
             exchange = {{ name = \"{name}.exchange\" }}\ndead_letter = {{ name = \"{name}.dead-letter\" }}\n\
             [clickhouse]\nurl = \"{url}\"\ndatabase = \"{name}\"\n[http]\nlisten = \"127.0.0.1:{port}\"\n[pipeline]\nworkers = {workers}\n",
            brokers = servers.kafka.bootstrap(),
            url = servers.clickhouse.url(),
            port = port.number(),
        );
        std::fs::write(&config, text)?;
        let pipeline = Pipeline { name: name.to_owned(), topics, workers, keeps_archive: true, config, port };
        pipeline.command(&["migrate", "--create-input-topics", &partitions.to_string()])?;
        Ok(pipeline)
    }

    fn command(&self, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new(BINARY);
        let status = command.args(arguments).arg("--config").arg(&self.config).stdout(Stdio::null()).status()?;
        ensure!(status.success(), "onecode {} failed", arguments.join(" "));
        Ok(())
    }

    /// `onecode run`.
    pub fn start(&self) -> Result<Child> {
        let mut command = Command::new(BINARY);
        command.arg("run").arg("--config").arg(&self.config).env("ONECODE_LOG", std::env::var("ONECODE_LOG").unwrap_or("warn".to_owned()));
        command.spawn().context("onecode run cannot be started")
    }

    /// Runs until `records` records are read, everything is durable, and the process has ended; then waits for the merges.
    ///
    /// Lists that ClickHouse refreshes on a schedule stand still meanwhile: they are no part of the pipeline, no other system has them, and how
    /// many refreshes fall into a run would be chance. `benches/segments.rs` measures them.
    pub fn run(&self, servers: &Servers, records: u64) -> Result<Run> {
        servers.clickhouse.query("SYSTEM STOP VIEWS")?;
        servers.wait_for_refreshes()?;
        forget_peak(servers.clickhouse.pid()?)?;
        let before = ServersCpu::now(servers)?;
        let began = Instant::now();
        let mut child = self.start()?;
        let watched = self.watch(servers, child.id(), records);
        let process_cpu_s = terminate(child.id());
        let elapsed = began.elapsed();
        let ended_well = child.wait()?.success();
        let (peak_rss_bytes, metrics) = watched?;
        ensure!(ended_well, "onecode run did not end well");
        servers.wait_for_merges()?;
        let keys_of = |kind: &str| sum_of(&metrics, "onecode_state_keys", &format!("kind=\"{kind}\""));
        let customers = keys_of("customer");
        Ok(Run {
            elapsed,
            process_cpu_s: process_cpu_s?,
            servers: ServersCpu::now(servers)?.since(before),
            peak_rss_bytes,
            clickhouse_peak_rss_bytes: peak_rss(servers)?,
            state_bytes: sum_of(&metrics, "onecode_state_bytes", "") as u64,
            customers: customers as u64,
            state_keys: sum_of(&metrics, "onecode_state_keys", "") as u64,
            state_keys_by_kind: StateKind::ALL.map(|kind| (kind.name(), keys_of(kind.name()) / customers.max(1.0))).to_vec(),
        })
    }

    /// Waits until everything is read, and gives the peak of the memory and the last metrics.
    fn watch(&self, servers: &Servers, process: u32, records: u64) -> Result<(u64, String)> {
        let deadline = Instant::now() + LONGEST_RUN;
        let mut is_as_wished = self.keeps_archive;
        loop {
            ensure!(!has_ended(process)?, "onecode run has ended");
            ensure!(Instant::now() < deadline, "not caught up within {LONGEST_RUN:?}");
            if let Ok(metrics) = self.metrics() {
                if !is_as_wished {
                    is_as_wished = true;
                    self.forget_archive(servers)?;
                }
                let read: f64 = self.topics.iter().map(|topic| sum_of(&metrics, "onecode_consumed_records_total", topic)).sum();
                if read >= records as f64 && sum_of(&metrics, "onecode_lag_records", "") == 0.0 {
                    return Ok((peak_rss_bytes(process)?, metrics));
                }
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// `/metrics`.
    pub fn metrics(&self) -> Result<String> {
        let config = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(5))).build();
        let mut answer = config.new_agent().get(format!("http://127.0.0.1:{}/metrics", self.port.number())).call()?;
        Ok(answer.body_mut().with_config().limit(u64::MAX).read_to_string()?)
    }

    /// From here on ClickHouse reads the archive's rows and keeps none. A pipeline that runs has looked at the tables already.
    fn forget_archive(&self, servers: &Servers) -> Result<()> {
        for table in ARCHIVE {
            let name = &self.name;
            servers.clickhouse.query(&format!("CREATE TABLE {name}.{table}_null AS {name}.{table} ENGINE = Null"))?;
            servers.clickhouse.query(&format!("EXCHANGE TABLES {name}.{table} AND {name}.{table}_null"))?;
        }
        Ok(())
    }

    /// Drops the database.
    pub fn drop_database(&self, servers: &Servers) -> Result<()> {
        servers.clickhouse.query(&format!("DROP DATABASE {} SYNC", self.name)).map(drop)
    }
}

fn peak_rss(servers: &Servers) -> Result<u64> {
    peak_rss_bytes(servers.clickhouse.pid()?)
}

/// SIGTERM by the shell's own `kill`; the processor time that a child had used when it had ended. The caller waits for it.
pub fn terminate(process: u32) -> Result<f64> {
    Command::new("kill").arg("-TERM").arg(process.to_string()).status()?;
    let deadline = Instant::now() + Duration::from_secs(120);
    while !has_ended(process)? {
        if Instant::now() > deadline {
            Command::new("kill").arg("-KILL").arg(process.to_string()).status()?;
            bail!("process {process} did not end");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    cpu_s(process)
}

/// The sum over the series of a metric whose labels contain a text.
pub fn sum_of(metrics: &str, name: &str, label: &str) -> f64 {
    let series = metrics.lines().filter_map(|line| line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' '])));
    let values = series.filter(|rest| rest.contains(label)).filter_map(|rest| rest.rsplit_once(' '));
    values.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
}
