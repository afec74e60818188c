//! One Prometheus server that scrapes what it is told to, and the questions that a test asks it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::install::{self, PrometheusPrograms};
use crate::ports::Port;
use crate::server::{Launch, Server, scratch};
use crate::supervise::Program;

const TIMEOUT: Duration = Duration::from_secs(10);

/// How to run a server.
#[derive(Clone, Debug)]
pub struct PrometheusOptions {
    /// Configuration, data and logs go here.
    pub dir: PathBuf,
    /// The HTTP port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Addresses (`host:port`) whose `/metrics` are scraped, as job `onecode`.
    pub targets: Vec<String>,
    /// Time between two scrapes, and between two evaluations of rules.
    pub interval: Duration,
    /// Files with alerting or recording rules.
    pub rule_files: Vec<PathBuf>,
    /// Keeps the data when the handle is dropped or the process ends. Logs are always kept.
    pub keep_data: bool,
}

impl PrometheusOptions {
    /// A server in `dir` on a free port that scrapes `targets` each second and whose data is removed at the end.
    #[must_use]
    pub fn in_dir(dir: impl Into<PathBuf>, targets: Vec<String>) -> Self {
        let (dir, interval) = (dir.into(), Duration::from_secs(1));
        Self { dir, port: 0, targets, interval, rule_files: Vec::new(), keep_data: false }
    }
}

/// One series of an answer with its newest value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Its labels, `__name__` included when the expression keeps it.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// A server on this machine. Dropping it kills the process.
#[derive(Debug)]
pub struct Prometheus {
    server: Server<PrometheusLaunch>,
}

impl Prometheus {
    /// Installs Prometheus if need be, starts a server, and returns when it is ready.
    ///
    /// # Errors
    /// When it cannot be installed or is not ready within two minutes; the message names its log.
    pub fn start(options: PrometheusOptions) -> Result<Self> {
        let programs = install::prometheus(&install::to_stderr)?;
        let dir = options.dir.clone();
        let scratch = scratch(&dir.join("data"), options.keep_data);
        let port = Port::reserve(options.port)?;
        Ok(Self { server: Server::start(PrometheusLaunch { programs, options }, dir, port, scratch)? })
    }

    /// The address of the server.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port())
    }

    /// Evaluates a PromQL expression now.
    ///
    /// # Errors
    /// When the server does not answer, refuses the expression, or its result is no vector.
    pub fn query(&self, expression: &str) -> Result<Vec<Sample>> {
        let request = agent().get(format!("{}/api/v1/query", self.url())).query("query", expression);
        let text = request.call().context("Prometheus does not answer")?.body_mut().read_to_string()?;
        let answer: serde_json::Value = serde_json::from_str(&text).context("Prometheus answered something else than JSON")?;
        if answer["status"] != "success" {
            bail!("Prometheus refused {expression:?}: {}", answer["error"]);
        }
        let series = answer["data"]["result"].as_array().with_context(|| format!("no result for {expression:?}"))?;
        series.iter().map(sample).collect::<Option<_>>().with_context(|| format!("the result of {expression:?} is no vector"))
    }

    /// Ends the server in order with SIGTERM.
    ///
    /// # Errors
    /// When it still runs after a minute.
    pub fn stop(&self) -> Result<()> {
        self.server.stop()
    }
}

fn sample(series: &serde_json::Value) -> Option<Sample> {
    let labels = series.get("metric")?.as_object()?;
    let labels = labels.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect::<Option<_>>()?;
    let value = series.get("value")?.get(1)?.as_str()?.parse().ok()?;
    Some(Sample { labels, value })
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().timeout_global(Some(TIMEOUT)).http_status_as_error(false).build().new_agent()
}

#[derive(Debug)]
struct PrometheusLaunch {
    programs: PrometheusPrograms,
    options: PrometheusOptions,
}

impl PrometheusLaunch {
    fn config(&self) -> Result<String> {
        let interval = self.options.interval.as_millis();
        let mut text =
            format!("global:\n  scrape_interval: {interval}ms\n  evaluation_interval: {interval}ms\n  scrape_timeout: {interval}ms\n");
        if !self.options.rule_files.is_empty() {
            text.push_str("rule_files:\n");
        }
        for file in &self.options.rule_files {
            let file = std::path::absolute(file).context("cannot tell a rule file's path")?;
            writeln!(text, "  - {}", serde_json::to_string(&file)?)?;
        }
        let targets = serde_json::to_string(&self.options.targets)?;
        write!(text, "scrape_configs:\n  - job_name: onecode\n    static_configs:\n      - targets: {targets}\n")?;
        Ok(text)
    }
}

impl Launch for PrometheusLaunch {
    const NAME: &'static str = "Prometheus";

    fn program(&self, port: u16, log: &Path) -> Result<Program> {
        let dir = &self.options.dir;
        let config = dir.join("prometheus.yml");
        std::fs::write(&config, self.config()?).context("cannot write the configuration of Prometheus")?;
        let arguments = [
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", dir.join("data").display()),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        Ok(Program {
            name: Self::NAME.to_owned(),
            executable: self.programs.server.clone(),
            arguments: arguments.into_iter().map(OsString::from).collect(),
            environment: Vec::new(),
            log: log.to_owned(),
            scratch: None,
        })
    }

    fn answers(&self, port: u16, _log: &Path) -> bool {
        agent().get(format!("http://127.0.0.1:{port}/-/ready")).call().is_ok_and(|answer| answer.status().is_success())
    }
}
