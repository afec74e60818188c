//! What the process says about itself: metrics, logs, health, and the status of every task.
//!
//! Owns all metric names, the recorder, the log format, and the HTTP listener. Promises that a metric exists from the start, with
//! zeros, that label values are bounded, and that counting costs the hot path a plain integer: workers flush once a batch. Health
//! never depends on Kafka or ClickHouse being up. Never decides anything: the pipeline runs the same without it.
//!
//! ```text
//!  workers ── WorkerMetrics::flush, once a batch ──► recorder ─┐
//!  shells  ── events::…, once an insert ───────────►           ├─► server.rs: /metrics
//!  workers ── Status: tick, publish ──► status.rs ── gauges ───┘              /livez /readyz /status
//! ```

#![expect(clippy::disallowed_macros, reason = "the one place that speaks to the recorder")]

pub mod events;
mod histogram;
pub mod logs;
pub mod names;
mod recorder;
pub mod server;
mod status;
mod worker;

pub use histogram::RecordTimes;
pub use names::Outcome;
pub use recorder::{Recorder, TelemetryError};
pub use server::Server;
pub use status::{LogStatus, Status, TaskPhase, TaskStatus, WorkerHandle, WorkerStatus};
pub use worker::WorkerMetrics;
