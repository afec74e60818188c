//! The validated configuration: what the rest of the program sees.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::Secret;
pub use crate::decode::Format;
use crate::decode::Rules;
use crate::model::{Calendar, EventKind, TimeZone};

/// Everything that was configured, valid.
#[derive(Clone, Debug)]
pub struct Config {
    /// Brokers, group and client.
    pub kafka: Kafka,
    /// Names and formats of topics.
    pub topics: Topics,
    /// The store.
    pub clickhouse: ClickHouse,
    /// The listener for metrics and health.
    pub http: Http,
    /// Rhythm and calendar.
    pub pipeline: Pipeline,
    /// When rejected records stop a worker.
    pub dead_letter: DeadLetter,
    /// Bounds of memory, batches and retries.
    pub limits: Limits,
    /// What single brands have of their own.
    pub brands: Brands,
    pub(super) settings: Vec<Setting>,
}

impl Config {
    /// Every key with its value and where it came from, in order; secrets are redacted.
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// The rules of acceptance.
    pub fn rules(&self) -> Rules {
        Rules {
            event_bytes: self.limits.event_bytes,
            future_skew_ms: self.pipeline.future_skew_ms,
            max_lateness_ms: self.pipeline.max_lateness_ms,
            currency: self.pipeline.currency.clone(),
            brand_currencies: self.brands.currencies(),
            brands: self.brands.closed.then(|| self.brands.names()),
        }
    }

    /// The business calendars of all brands.
    pub fn calendar(&self) -> Calendar {
        let zones = self.brands.sections.iter().filter_map(|(brand, section)| Some((brand.clone(), section.time_zone?))).collect();
        Calendar::new(self.pipeline.time_zone, zones)
    }
}

/// One key of the effective configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// As it is written in the file, e.g. `pipeline.workers`.
    pub key: String,
    /// As TOML; a placeholder for a secret.
    pub value: String,
    /// The file, a variable, or `default`.
    pub source: String,
}

/// `[kafka]`: the cluster, and this process as a member of its group.
#[derive(Clone, Debug)]
pub struct Kafka {
    /// Bootstrap servers, `host:port`, comma-separated.
    pub brokers: String,
    /// Consumer group.
    pub group: String,
    /// Name of this process in the group; see [`Kafka::member_instance_id`].
    pub instance_id: String,
    /// How long a silent member keeps its tasks. Already what `kafka.client` says, if it says something.
    pub session_timeout: Duration,
    /// Whether the instance id is sent to Kafka (`onecode run --dynamic` overrides it).
    pub static_membership: bool,
    /// librdkafka options as given; none of them breaks the guarantee, and each wins over what the program sets.
    pub client: BTreeMap<String, Secret>,
    /// For topics that `onecode migrate` creates; none = the broker's default.
    pub replication_factor: Option<i32>,
    /// For topics that `onecode migrate` creates; none = the broker's default.
    pub min_insync_replicas: Option<i32>,
}

impl Kafka {
    /// The `group.instance.id` of a worker: `<kafka.instance_id>-<worker>`.
    pub fn member_instance_id(&self, worker: usize) -> String {
        format!("{}-{worker}", self.instance_id)
    }
}

/// `[topics]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topics {
    /// Scan events.
    pub scans: InputTopic,
    /// Purchase events.
    pub purchases: InputTopic,
    /// Share events.
    pub shares: InputTopic,
    /// The internal topic; its partition count is the number of tasks.
    pub exchange: String,
    /// Records that were not accepted.
    pub dead_letter: String,
}

impl Topics {
    /// The topic or topics of a kind.
    pub fn input(&self, kind: EventKind) -> &InputTopic {
        match kind {
            EventKind::Scan => &self.scans,
            EventKind::Purchase => &self.purchases,
            EventKind::Share => &self.shares,
        }
    }

    /// Every input topic once, with its kind and format: by kind, then as listed.
    pub fn inputs(&self) -> impl Iterator<Item = (EventKind, &str, Format)> {
        EventKind::ALL.into_iter().flat_map(|kind| {
            let input = self.input(kind);
            input.names.iter().map(move |name| (kind, name.as_str(), input.format))
        })
    }

    /// Kind and format of a topic; none if it is no input.
    pub fn kind_of(&self, topic: &str) -> Option<(EventKind, Format)> {
        self.inputs().find(|(_, name, _)| *name == topic).map(|(kind, _, format)| (kind, format))
    }
}

/// The topics that carry one kind of event (one, or one a brand).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputTopic {
    /// At least one.
    pub names: Vec<String>,
    /// Wire format of all of them.
    pub format: Format,
}

/// `[clickhouse]`.
#[derive(Clone, Debug)]
pub struct ClickHouse {
    /// Of the HTTP interface, without a trailing slash.
    pub url: String,
    /// A plain identifier.
    pub database: String,
    /// User.
    pub user: String,
    /// From `password` or `password_file`; empty = none.
    pub password: Secret,
    /// To reach the server, and to send a part of a request.
    pub send_timeout: Duration,
    /// For an insert to be answered.
    pub insert_timeout: Duration,
    /// For any other query to be answered: restores, copies at a takeover, audits.
    pub query_timeout: Duration,
    /// How long `activity_minute` is kept.
    pub minute_retention_days: u32,
    /// How long the archive is kept; none = for ever.
    pub archive_retention_days: Option<u32>,
}

/// `[http]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Address of `/metrics`, `/livez`, `/readyz`, `/status`.
    pub listen: SocketAddr,
}

/// `[pipeline]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pipeline {
    /// Threads, each with a consumer of its own.
    pub workers: usize,
    /// Between two inserts of changed rows.
    pub serve_interval: Duration,
    /// Between two inserts of archive rows.
    pub archive_interval: Duration,
    /// Between two checkpoints of a task.
    pub checkpoint_interval: Duration,
    /// An event older than its record by more than this is refused.
    pub max_lateness_ms: i64,
    /// How much further back ids are remembered.
    pub forget_slack_ms: i64,
    /// An event newer than its record by more than this is refused.
    pub future_skew_ms: i64,
    /// Where input topics are read from on a first start.
    pub start_from: StartFrom,
    /// The business calendar of brands without one of their own.
    pub time_zone: TimeZone,
    /// The currency of brands without one of their own.
    pub currency: String,
    /// From the first signal to exit.
    pub drain_deadline: Duration,
    /// After a takeover, rows wait at most this long for the log ends read at it.
    pub takeover_serve_delay: Duration,
    /// A relay gap that stays open longer stops the task.
    pub relay_gap_limit: Duration,
    /// Folder for state that has gone cold; `None`: the system's folder for temporary files.
    pub cold_dir: Option<PathBuf>,
}

/// Where a group without state starts to read its input topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartFrom {
    /// At the oldest record.
    Earliest,
    /// After the newest record.
    Latest,
}

/// `[dead_letter]`: how much a worker rejects before it stops.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// More rejected records of a partition in a row than this stop the worker.
    pub max_consecutive: usize,
    /// A larger share of a worker's last 10,000 records (judged from 1,000 on) stops it.
    pub max_share: f64,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of an input record's value.
    pub event_bytes: usize,
    /// Of subtrees and cascades.
    pub levels: u8,
    /// Records that a worker takes and applies at once; a tenth of them while some of the state is not in memory.
    pub batch_records: usize,
    /// What a worker's consumer prefetches.
    pub fetch_queue_bytes: usize,
    /// Rows of workers that go into one serving insert together: more of one worker at one moment are one insert all the same.
    pub rows_per_insert: usize,
    /// Rows that trigger an archive insert before its interval is over.
    pub archive_rows_per_insert: usize,
    /// Changed keys that trigger a checkpoint before its interval is over.
    pub dirty_keys_per_checkpoint: usize,
    /// Encoded rows of the process that wait for an insert; above it reading pauses.
    pub buffered_bytes: usize,
    /// Inserts of the process at the same time.
    pub in_flight_inserts: usize,
    /// Inserts of the process a second; intervals widen to keep it.
    pub inserts_per_second: u32,
    /// Longest pause between two attempts.
    pub retry_backoff_max: Duration,
    /// Resident memory of the process: state gets what full queues and the program leave of it.
    pub memory_bytes: usize,
    /// State of the process in memory, if `memory_bytes` leaves so much: what has gone cold leaves it for the local disk. Above it a warning is logged.
    pub state_bytes: usize,
    /// Cold state of the process on the local disk; above it state stays in memory.
    pub cold_bytes: u64,
    /// Tasks that a worker restores at the same time.
    pub parallel_takeovers: usize,
    /// Produced messages that wait for their acknowledgement, per worker.
    pub produce_queue_records: usize,
    /// Bytes of produced messages that wait for their acknowledgement, per worker.
    pub produce_queue_bytes: usize,
}

/// Program, clients, runtime and the allocator's own, before anything is queued, bytes.
const PROGRAM_BYTES: usize = 128 << 20;
/// State in memory gets no less, bytes: with nothing in memory nothing goes on.
pub const LEAST_STATE_BYTES: usize = 16 << 20;
/// What comes and goes between two looks at memory, bytes: pieces of a restore, rows of an insert, what a client fetches. It does not shrink with
/// the limit (40 to 50 MB were seen with 384 MiB).
const LEAST_HEADROOM_BYTES: usize = 64 << 20;

impl Limits {
    /// Memory of rows that are in ClickHouse that is kept for the next ones, bytes.
    pub fn spare_bytes(&self) -> usize {
        self.buffered_bytes / 2
    }

    /// When a piece of state that is read back ends, bytes. Tasks that are restored have no rows yet, so the pieces of all of them, of both halves of a state the one that is
    /// taken back and the one behind it, take what rows may.
    pub fn restore_piece_bytes(&self, workers: usize) -> usize {
        let takeovers = self.parallel_takeovers.max(1).saturating_mul(workers.max(1));
        (self.buffered_bytes / 4 / takeovers).clamp(1 << 20, 16 << 20)
    }

    /// What the process takes besides state when all its queues are full, bytes.
    pub fn fixed_bytes(&self, workers: usize) -> usize {
        let of_a_worker = self.fetch_queue_bytes.saturating_add(self.produce_queue_bytes);
        let rows = self.buffered_bytes.saturating_add(self.spare_bytes());
        PROGRAM_BYTES.saturating_add(rows).saturating_add(of_a_worker.saturating_mul(workers))
    }

    /// What of `memory_bytes` stays free, bytes: an eighth of it, and enough where it is small.
    pub fn headroom_bytes(&self) -> usize {
        (self.memory_bytes / 8).max(LEAST_HEADROOM_BYTES)
    }

    /// The least that `memory_bytes` has to be, with its headroom.
    pub(super) fn least_memory_bytes(&self, workers: usize) -> usize {
        let least = self.fixed_bytes(workers).saturating_add(2 * LEAST_STATE_BYTES);
        least.saturating_add((least / 7 + 1).max(LEAST_HEADROOM_BYTES))
    }
}

/// `[brands.<brand>]`, and whether other brands are refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brands {
    /// Whether a brand without a section is refused (`bad_brand`).
    pub closed: bool,
    /// By brand, in order.
    pub sections: BTreeMap<String, Brand>,
}

impl Brands {
    /// The brands with a section.
    pub fn names(&self) -> BTreeSet<String> {
        self.sections.keys().cloned().collect()
    }

    /// The brands with a currency of their own.
    pub fn currencies(&self) -> BTreeMap<String, String> {
        self.sections.iter().filter_map(|(brand, section)| Some((brand.clone(), section.currency.clone()?))).collect()
    }
}

/// What a brand has of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Brand {
    /// Business calendar.
    pub time_zone: Option<TimeZone>,
    /// Currency.
    pub currency: Option<String>,
}
