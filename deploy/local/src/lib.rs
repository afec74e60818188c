//! A genuine Kafka, ClickHouse and Prometheus on this machine without containers, for the demo and for the tests.
//!
//! ```no_run
//! use onecode_local::{ClickHouse, ClickHouseOptions, Kafka, KafkaOptions};
//!
//! let kafka = Kafka::start(KafkaOptions::in_dir("/tmp/stack/kafka"))?;
//! let clickhouse = ClickHouse::start(ClickHouseOptions::in_dir("/tmp/stack/clickhouse"))?;
//! kafka.kill()?; // SIGKILL, as a crash would
//! kafka.start_again()?; // same data, same port
//! println!("{} {}", kafka.bootstrap(), clickhouse.url());
//! # anyhow::Ok(())
//! ```
//!
//! What is not on the machine yet is installed into a cache by [`install`] on the first start. Promises:
//!
//! * a `start` returns when the server answers, or fails within a deadline and names the server's log;
//! * signals reach the server process itself, so that kill, pause and restart are what an operator would see;
//! * no server outlives the process that started it, however that process ends;
//! * several stacks on one machine, also of several processes, do not get in each other's way.
//!
//! Only for one machine and for trusted users: every server listens on 127.0.0.1 without a password.

mod clickhouse;
pub mod demo;
pub mod install;
mod kafka;
pub mod ports;
mod prometheus;
mod server;
pub mod supervise;
mod wait;

pub use clickhouse::{ClickHouse, ClickHouseOptions};
pub use kafka::{Kafka, KafkaOptions};
pub use prometheus::{Prometheus, PrometheusOptions, Sample};
pub use wait::wait_for;
