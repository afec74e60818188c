//! The recorder behind all metrics: describes them, starts them at zero, renders them.

use std::sync::Arc;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use super::histogram::END_TO_END_SECONDS;
use super::names::{
    ALL, AUDIT_DIFFERENCES, BUILD_INFO, CHECKPOINT, COLD_EVICTIONS, COLD_LOADS, END_TO_END, FENCED, INSERT, INSERT_RETRIES, INSERT_ROWS,
    Kind, LIMIT, TAKEOVER, TAKEOVERS,
};
use super::{Status, WorkerMetrics};
use crate::config::Config;
use crate::rows::Table;

/// The checkpoints' table, which is no serving table and has insert metrics all the same.
const TASK_STATE: &str = "task_state";

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A metric's buckets are wrong.
    #[error("cannot set up metrics: {0}")]
    Build(#[from] BuildError),
    /// Something else recorded first.
    #[error("cannot set up metrics: this process has a recorder already")]
    Installed,
}

/// Renders `/metrics`.
#[derive(Clone, Debug)]
pub struct Recorder {
    handle: PrometheusHandle,
    state_bytes_limit: usize,
}

impl Recorder {
    /// Makes the process's recorder and registers every metric with its known label values.
    ///
    /// # Errors
    /// When this process has a recorder already.
    pub fn install(config: &Config) -> Result<Recorder, TelemetryError> {
        let recorder = build()?;
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::Installed)?;
        register(config);
        Ok(Recorder { handle, state_bytes_limit: config.limits.state_bytes })
    }

    /// All metrics in Prometheus' text format; gauges are taken from `status` at this moment.
    pub fn render(&self, status: &Arc<Status>) -> String {
        status.set_gauges();
        let mut text = self.handle.render();
        text.push_str(&END_TO_END_SECONDS.render());
        text
    }

    /// Condenses what histograms hold since the last scrape; call every few seconds, or memory grows while nobody scrapes.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// The bytes by which the state of all tasks is above `limits.state_bytes`, if it is.
    pub fn state_above_limit(&self, status: &Status) -> Option<u64> {
        status.state_bytes().checked_sub(self.state_bytes_limit as u64).filter(|above| *above > 0)
    }
}

fn build() -> Result<PrometheusRecorder, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in ALL {
        if let Kind::Histogram(buckets) = metric.kind {
            builder = builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets)?;
        }
    }
    Ok(builder.build_recorder())
}

fn register(config: &Config) {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            // It is rendered apart.
            Kind::Histogram(_) if metric.name == END_TO_END.name => {}
            Kind::Histogram(_) => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
    let inputs = config.topics.inputs().map(|(_, name, _)| name.to_owned());
    drop(WorkerMetrics::new(inputs.chain([config.topics.exchange.clone()])));
    for counter in [TAKEOVERS, FENCED, COLD_EVICTIONS, COLD_LOADS] {
        metrics::counter!(counter.name).absolute(0);
    }
    for table in Table::ALL.map(Table::name).into_iter().chain([TASK_STATE]) {
        metrics::counter!(INSERT_ROWS.name, "table" => table).absolute(0);
        metrics::counter!(INSERT_RETRIES.name, "table" => table).absolute(0);
        drop(metrics::histogram!(INSERT.name, "table" => table));
    }
    drop(metrics::histogram!(CHECKPOINT.name));
    drop(metrics::histogram!(TAKEOVER.name));
    metrics::gauge!(AUDIT_DIFFERENCES.name).set(f64::NAN);
    metrics::gauge!(BUILD_INFO.name, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    for setting in config.settings().iter().filter(|setting| is_limit(&setting.key)) {
        if let Ok(limit) = setting.value.parse::<f64>() {
            metrics::gauge!(LIMIT.name, "key" => setting.key.clone()).set(limit);
        }
    }
}

/// Numbers that bound something; the rest of the configuration is on `onecode check`.
fn is_limit(key: &str) -> bool {
    let also = ["pipeline.max_lateness_days", "pipeline.forget_slack_days", "pipeline.future_skew_ms", "pipeline.drain_deadline_ms"];
    let also_too = ["pipeline.checkpoint_interval_ms", "pipeline.relay_gap_limit_ms"];
    key.starts_with("limits.") || key.starts_with("dead_letter.") || also.contains(&key) || also_too.contains(&key)
}
