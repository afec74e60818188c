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
