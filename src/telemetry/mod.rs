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
mod inserts;
pub mod logs;
pub mod names;
mod recorder;
mod said;
pub mod server;
mod status;
mod worker;

pub use histogram::RecordTimes;
pub use inserts::Request;
pub use names::Outcome;
pub use recorder::{Recorder, TelemetryError};
pub use said::{LogStatus, TaskPhase, TaskStatus, WorkerStatus};
pub use server::Server;
pub use status::{Status, WorkerHandle};
pub use worker::WorkerMetrics;
