//! Kafka's shell: the consumer and the producer of a worker, and what is asked of the cluster before a start.
//!
//! Owns the options of both clients: what the guarantee needs is enforced, the rest has defaults that `kafka.client` overrides.
//! Never decides anything about records.

mod cluster;
mod dying;
mod io;
pub mod native;
mod options;
mod producer;

pub use cluster::{Cluster, ClusterError, EXCHANGE_RETENTION, asking_consumer};
pub use dying::{DIES_AT_VARIABLE, DiesAt, NoBoundary};
pub use io::KafkaIo;
pub use options::{Membership, consumer_options, max_message_bytes, producer_options};
pub use producer::{Delivery, ExchangeProducer, ProducerError};

/// Passes on what a client says; levels are syslog's.
fn log_as(level: i32, facility: &str, text: &str) {
    match level {
        // Remarks on options that are set on purpose, or meant for the other client.
        _ if facility == "CONFWARN" => tracing::debug!(target: "librdkafka", facility, "{text}"),
        // A broker that cannot be reached: the client tries again.
        0..=3 if facility == "FAIL" => tracing::warn!(target: "librdkafka", facility, "{text}"),
        0..=3 => tracing::error!(target: "librdkafka", facility, "{text}"),
        4 => tracing::warn!(target: "librdkafka", facility, "{text}"),
        5 | 6 => tracing::info!(target: "librdkafka", facility, "{text}"),
        _ => tracing::debug!(target: "librdkafka", facility, "{text}"),
    }
}
