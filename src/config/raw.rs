//! The keys as they are written, with their defaults. Nothing here is checked; units are in the names.
//!
//! An empty text stands for "not set", so that every key has a default of its own type.

use std::collections::BTreeMap;
use std::fmt;

use figment::value::Value;
use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::Secret;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawConfig {
    pub kafka: RawKafka,
    pub topics: RawTopics,
    pub clickhouse: RawClickHouse,
    pub http: RawHttp,
    pub pipeline: RawPipeline,
    pub dead_letter: RawDeadLetter,
    pub limits: RawLimits,
    pub brands: BTreeMap<String, RawBrand>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawKafka {
    pub brokers: String,
    pub group: String,
    pub instance_id: String,
    pub session_timeout_ms: i64,
    pub static_membership: bool,
    pub replication_factor: i64,
    pub min_insync_replicas: i64,
    pub client: BTreeMap<String, Value>,
}

impl Default for RawKafka {
    fn default() -> Self {
        RawKafka {
            brokers: "127.0.0.1:9092".to_owned(),
            group: "onecode".to_owned(),
            instance_id: String::new(),
            session_timeout_ms: 10_000,
            static_membership: true,
            replication_factor: 0,
            min_insync_replicas: 0,
            client: BTreeMap::new(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTopics {
    pub scans: RawInput,
    pub purchases: RawInput,
    pub shares: RawInput,
    pub exchange: RawTopic,
    pub dead_letter: RawTopic,
}

impl Default for RawTopics {
    fn default() -> Self {
        let input = |name: &str| RawInput { name: Names::One(name.to_owned()), format: "auto".to_owned() };
        let topic = |name: &str| RawTopic { name: name.to_owned() };
        RawTopics {
            scans: input("scans"),
            purchases: input("purchases"),
            shares: input("shares"),
            exchange: topic("onecode.exchange"),
            dead_letter: topic("onecode.dead-letter"),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawInput {
    pub name: Names,
    pub format: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTopic {
    pub name: String,
}

/// One name, or a list of them.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Names {
    One(String),
    Many(Vec<String>),
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamesVisitor;

        impl<'de> Visitor<'de> for NamesVisitor {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a topic's name, or a list of names")
            }

            fn visit_str<E>(self, name: &str) -> Result<Names, E> {
                Ok(Names::One(name.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Names, A::Error> {
                let mut names = Vec::new();
                while let Some(name) = sequence.next_element()? {
                    names.push(name);
                }
                Ok(Names::Many(names))
            }
        }

        deserializer.deserialize_any(NamesVisitor)
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawClickHouse {
    pub url: String,
    pub database: String,
    pub user: String,
    pub password: Secret,
    pub password_file: String,
    pub send_timeout_ms: i64,
    pub insert_timeout_ms: i64,
    pub query_timeout_ms: i64,
    pub minute_retention_days: i64,
    pub archive_retention_days: i64,
}

impl Default for RawClickHouse {
    fn default() -> Self {
        RawClickHouse {
            url: "http://127.0.0.1:8123".to_owned(),
            database: "onecode".to_owned(),
            user: "default".to_owned(),
            password: Secret::default(),
            password_file: String::new(),
            send_timeout_ms: 30_000,
            insert_timeout_ms: 60_000,
            query_timeout_ms: 600_000,
            minute_retention_days: 45,
            archive_retention_days: 0,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHttp {
    pub listen: String,
}

impl Default for RawHttp {
    fn default() -> Self {
        RawHttp { listen: "0.0.0.0:9464".to_owned() }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPipeline {
    pub workers: i64,
    pub serve_interval_ms: i64,
    pub archive_interval_ms: i64,
    pub checkpoint_interval_ms: i64,
    pub max_lateness_days: i64,
    pub forget_slack_days: i64,
    pub future_skew_ms: i64,
    pub start_from: String,
    pub time_zone: String,
    pub currency: String,
    pub brands_closed: bool,
    pub drain_deadline_ms: i64,
    pub takeover_serve_delay_ms: i64,
    pub relay_gap_limit_ms: i64,
    pub cold_dir: String,
}

impl Default for RawPipeline {
    fn default() -> Self {
        RawPipeline {
            workers: 2,
            serve_interval_ms: 1_000,
            archive_interval_ms: 5_000,
            checkpoint_interval_ms: 30_000,
            max_lateness_days: 35,
            forget_slack_days: 7,
            future_skew_ms: 600_000,
            start_from: "earliest".to_owned(),
            time_zone: "+08:00".to_owned(),
            currency: "CNY".to_owned(),
            brands_closed: false,
            drain_deadline_ms: 30_000,
            takeover_serve_delay_ms: 10_000,
            relay_gap_limit_ms: 600_000,
            cold_dir: String::new(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawDeadLetter {
    pub max_consecutive: i64,
    pub max_share: f64,
}

impl Default for RawDeadLetter {
    fn default() -> Self {
        RawDeadLetter { max_consecutive: 100, max_share: 0.05 }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    pub event_bytes: i64,
    pub levels: i64,
    pub batch_records: i64,
    pub fetch_queue_bytes: i64,
    pub rows_per_insert: i64,
    pub archive_rows_per_insert: i64,
    pub dirty_keys_per_checkpoint: i64,
    pub buffered_bytes: i64,
    pub in_flight_inserts: i64,
    pub inserts_per_second: i64,
    pub retry_backoff_max_ms: i64,
    pub memory_bytes: i64,
    pub state_bytes: i64,
    pub cold_bytes: i64,
    pub parallel_takeovers: i64,
    pub produce_queue_records: i64,
    pub produce_queue_bytes: i64,
}

impl Default for RawLimits {
    fn default() -> Self {
        RawLimits {
            event_bytes: 262_144,
            levels: 16,
            batch_records: 500,
            fetch_queue_bytes: 4_194_304,
            rows_per_insert: 100_000,
            archive_rows_per_insert: 300_000,
            dirty_keys_per_checkpoint: 200_000,
            buffered_bytes: 268_435_456,
            in_flight_inserts: 4,
            inserts_per_second: 20,
            retry_backoff_max_ms: 30_000,
            memory_bytes: 8_589_934_592,
            state_bytes: 4_294_967_296,
            cold_bytes: 68_719_476_736,
            parallel_takeovers: 4,
            produce_queue_records: 100_000,
            produce_queue_bytes: 67_108_864,
        }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawBrand {
    pub time_zone: String,
    pub currency: String,
}
