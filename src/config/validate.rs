//! From the merged keys to a [`Config`]: every value checked, every problem collected.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use figment::value::Value;

use super::layers::{Layers, shown, shown_value};
use super::raw::{Names, RawBrand, RawClickHouse, RawConfig, RawInput, RawKafka, RawLimits, RawPipeline, RawTopics};
use super::types::{Brand, Brands, ClickHouse, Config, DeadLetter, Format, Http, InputTopic, Kafka, Limits, Pipeline, StartFrom, Topics};
use super::{ConfigError, Problem, Secret, kafka_client, ranges};
use crate::model::TimeZone;

const MS_PER_DAY: i64 = 86_400_000;
const MAX_BRAND_BYTES: usize = 64;
const MAX_TOPIC_BYTES: usize = 249;

/// Checks everything.
pub(super) fn validate(layers: &Layers) -> Result<Config, ConfigError> {
    let mut checker = Checker { layers, problems: layers.problems.clone() };
    let raw = match layers.extract() {
        Ok(raw) => raw,
        Err(problem) => {
            checker.problems.push(problem);
            return Err(checker.into_error());
        }
    };
    checker.check_ranges(&raw);
    let http = checker.http(&raw);
    let config = Config {
        kafka: checker.kafka(&raw.kafka, &http),
        topics: checker.topics(&raw.topics),
        clickhouse: checker.clickhouse(&raw.clickhouse, &raw.pipeline),
        http,
        pipeline: checker.pipeline(&raw.pipeline),
        dead_letter: checker.dead_letter(&raw),
        limits: limits(&raw.limits),
        brands: checker.brands(&raw),
        settings: layers.settings(&raw),
    };
    // Values out of range are named already, and add up to nothing.
    if checker.problems.is_empty() {
        checker.check_memory(&config.limits, config.pipeline.workers);
    }
    if checker.problems.is_empty() { Ok(config) } else { Err(checker.into_error()) }
}

/// Collects problems; what it returns for a wrong value is only a stand-in, since any problem ends in an error.
struct Checker<'a> {
    layers: &'a Layers,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn into_error(self) -> ConfigError {
        ConfigError::Problems { path: self.layers.path.clone(), problems: self.problems }
    }

    fn problem(&mut self, key: &[&str], value: &Value, message: impl Into<String>) {
        let key: Vec<String> = key.iter().map(|part| (*part).to_owned()).collect();
        self.problems.push(Problem {
            key: shown(&key),
            value: Some(shown_value(&key, value)),
            source: self.layers.source(&key),
            message: message.into(),
        });
    }

    fn text_problem(&mut self, key: &[&str], text: &str, message: impl Into<String>) {
        self.problem(key, &Value::from(text), message);
    }

    fn check_ranges(&mut self, raw: &RawConfig) {
        let Ok(merged) = Value::serialize(raw) else { return };
        for range in ranges::RANGES {
            let Some(value) = merged.find_ref(range.key) else { continue };
            let number = value.to_i128().unwrap_or(i128::MIN);
            if number < i128::from(range.least) || number > i128::from(range.most) {
                let key: Vec<&str> = range.key.split('.').collect();
                self.problem(&key, value, format!("must be from {} to {}", range.least, range.most));
            }
        }
    }

    fn http(&mut self, raw: &RawConfig) -> Http {
        let listen = raw.http.listen.parse().unwrap_or_else(|_| {
            self.text_problem(&["http", "listen"], &raw.http.listen, "must be an IP address and a port, such as 0.0.0.0:9464");
            SocketAddr::from(([0, 0, 0, 0], 0))
        });
        Http { listen }
    }

    fn kafka(&mut self, raw: &RawKafka, http: &Http) -> Kafka {
        let client = self.client(&raw.client);
        if raw.brokers.split(',').any(|broker| broker.trim().is_empty()) {
            self.text_problem(&["kafka", "brokers"], &raw.brokers, "must be one or more host:port, separated by commas");
        }
        if raw.group.is_empty() {
            self.text_problem(&["kafka", "group"], &raw.group, "must be the name of a consumer group");
        }
        if raw.replication_factor > 0 && raw.min_insync_replicas > raw.replication_factor {
            let number = Value::from(raw.min_insync_replicas);
            let message = format!("must not be above `kafka.replication_factor` = {}", raw.replication_factor);
            self.problem(&["kafka", "min_insync_replicas"], &number, message);
        }
        let session_timeout_ms =
            client.get("session.timeout.ms").and_then(|text| text.expose().parse::<i64>().ok()).unwrap_or(raw.session_timeout_ms);
        let brokers = client.get("bootstrap.servers").or_else(|| client.get("metadata.broker.list"));
        Kafka {
            brokers: brokers.map_or_else(|| raw.brokers.clone(), |given| given.expose().to_owned()),
            group: raw.group.clone(),
            instance_id: self.instance_id(raw, http),
            session_timeout: milliseconds(session_timeout_ms),
            static_membership: raw.static_membership,
            client,
            replication_factor: positive(raw.replication_factor),
            min_insync_replicas: positive(raw.min_insync_replicas),
        }
    }

    fn client(&mut self, options: &BTreeMap<String, Value>) -> BTreeMap<String, Secret> {
        let mut client = BTreeMap::new();
        for (option, value) in options {
            let text = match value {
                Value::String(_, text) => text.clone(),
                Value::Bool(_, flag) => flag.to_string(),
                Value::Num(_, number) => super::layers::shown_number(*number),
                _ => continue,
            };
            if let Some(message) = kafka_client::fault(option, &text) {
                self.problem(&["kafka", "client", option], value, message);
            }
            client.insert(option.clone(), Secret::new(text));
        }
        client
    }

    /// A port of 0 is another one at each start: the process id keeps two such processes apart, at the price of a stable name.
    fn instance_id(&mut self, raw: &RawKafka, http: &Http) -> String {
        if !raw.instance_id.is_empty() {
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
            if !raw.instance_id.bytes().all(is_plain) || raw.instance_id.len() > MAX_TOPIC_BYTES - 4 {
                self.text_problem(&["kafka", "instance_id"], &raw.instance_id, "must be letters, digits, `.`, `_` and `-`");
            }
            return raw.instance_id.clone();
        }
        let Some(host) = host_name() else {
            self.text_problem(&["kafka", "instance_id"], "", "the host name is not known: set a name of this process's own");
            return String::new();
        };
        match http.listen.port() {
            0 => format!("{host}-{}", std::process::id()),
            port => format!("{host}-{port}"),
        }
    }

    fn topics(&mut self, raw: &RawTopics) -> Topics {
        let topics = Topics {
            scans: self.input("scans", &raw.scans),
            purchases: self.input("purchases", &raw.purchases),
            shares: self.input("shares", &raw.shares),
            exchange: raw.exchange.name.clone(),
            dead_letter: raw.dead_letter.name.clone(),
        };
        let mut used: BTreeMap<&str, &str> = BTreeMap::new();
        let inputs = [("scans", &topics.scans), ("purchases", &topics.purchases), ("shares", &topics.shares)];
        let inputs = inputs.iter().flat_map(|(kind, input)| input.names.iter().map(move |name| (*kind, name.as_str())));
        let internal = [("exchange", topics.exchange.as_str()), ("dead_letter", topics.dead_letter.as_str())];
        for (use_as, name) in inputs.chain(internal) {
            let key = ["topics", use_as, "name"];
            if !is_topic_name(name) {
                self.text_problem(&key, name, "must be 1 to 249 letters, digits, `.`, `_` and `-`, as Kafka takes them");
            } else if let Some(first) = used.insert(name, use_as) {
                self.text_problem(&key, name, format!("is the name of `topics.{first}` already; each topic has one use"));
            }
        }
        topics
    }

    fn input(&mut self, kind: &str, raw: &RawInput) -> InputTopic {
        let names = match &raw.name {
            Names::One(name) => vec![name.clone()],
            Names::Many(names) => names.clone(),
        };
        if names.is_empty() {
            self.problem(&["topics", kind, "name"], &Value::from(Vec::<String>::new()), "must name at least one topic");
        }
        let format = match raw.format.as_str() {
            "auto" => Format::Auto,
            "protobuf" => Format::Protobuf,
            "json" => Format::Json,
            other => {
                self.text_problem(&["topics", kind, "format"], other, "must be one of auto, protobuf, json");
                Format::Auto
            }
        };
        InputTopic { names, format }
    }

    fn clickhouse(&mut self, raw: &RawClickHouse, pipeline: &RawPipeline) -> ClickHouse {
        if let Some(message) = url_fault(&raw.url) {
            // A password in the address would otherwise be shown with it.
            let shown_url = if raw.url.contains('@') { "…" } else { raw.url.as_str() };
            self.text_problem(&["clickhouse", "url"], shown_url, message);
        }
        if !is_identifier(&raw.database) {
            let message = "must be an identifier: letters, digits and `_`, no digit first, at most 64";
            self.text_problem(&["clickhouse", "database"], &raw.database, message);
        }
        if raw.user.is_empty() {
            self.text_problem(&["clickhouse", "user"], &raw.user, "must be the name of a user, such as default");
        }
        if raw.minute_retention_days <= pipeline.max_lateness_days {
            let message = format!("must be above `pipeline.max_lateness_days` = {}", pipeline.max_lateness_days);
            self.problem(&["clickhouse", "minute_retention_days"], &Value::from(raw.minute_retention_days), message);
        }
        if raw.archive_retention_days != 0 && raw.archive_retention_days <= pipeline.max_lateness_days {
            let message = format!("must be 0 (for ever) or above `pipeline.max_lateness_days` = {}", pipeline.max_lateness_days);
            self.problem(&["clickhouse", "archive_retention_days"], &Value::from(raw.archive_retention_days), message);
        }
        ClickHouse {
            url: raw.url.trim_end_matches('/').to_owned(),
            database: raw.database.clone(),
            user: raw.user.clone(),
            password: self.password(raw),
            send_timeout: milliseconds(raw.send_timeout_ms),
            insert_timeout: milliseconds(raw.insert_timeout_ms),
            query_timeout: milliseconds(raw.query_timeout_ms),
            minute_retention_days: raw.minute_retention_days as u32,
            archive_retention_days: positive(raw.archive_retention_days).map(i32::cast_unsigned),
        }
    }

    fn password(&mut self, raw: &RawClickHouse) -> Secret {
        if raw.password_file.is_empty() {
            return raw.password.clone();
        }
        let key = ["clickhouse", "password_file"];
        if !raw.password.is_empty() {
            self.text_problem(&key, &raw.password_file, "is set beside `clickhouse.password`; keep one of them");
        }
        match std::fs::read_to_string(&raw.password_file) {
            Ok(text) => Secret::new(text.trim_end_matches(['\r', '\n'])),
            Err(error) => {
                self.text_problem(&key, &raw.password_file, format!("cannot be read: {error}"));
                Secret::default()
            }
        }
    }

    fn pipeline(&mut self, raw: &RawPipeline) -> Pipeline {
        let start_from = match raw.start_from.as_str() {
            "earliest" => StartFrom::Earliest,
            "latest" => StartFrom::Latest,
            other => {
                self.text_problem(&["pipeline", "start_from"], other, "must be one of earliest, latest");
                StartFrom::Earliest
            }
        };
        self.check_currency(&["pipeline", "currency"], &raw.currency);
        Pipeline {
            workers: raw.workers as usize,
            serve_interval: milliseconds(raw.serve_interval_ms),
            archive_interval: milliseconds(raw.archive_interval_ms),
            checkpoint_interval: milliseconds(raw.checkpoint_interval_ms),
            max_lateness_ms: raw.max_lateness_days.saturating_mul(MS_PER_DAY),
            forget_slack_ms: raw.forget_slack_days.saturating_mul(MS_PER_DAY),
            future_skew_ms: raw.future_skew_ms,
            start_from,
            time_zone: self.time_zone(&["pipeline", "time_zone"], &raw.time_zone),
            currency: raw.currency.clone(),
            drain_deadline: milliseconds(raw.drain_deadline_ms),
            takeover_serve_delay: milliseconds(raw.takeover_serve_delay_ms),
            relay_gap_limit: milliseconds(raw.relay_gap_limit_ms),
            cold_dir: (!raw.cold_dir.is_empty()).then(|| raw.cold_dir.clone().into()),
        }
    }

    fn time_zone(&mut self, key: &[&str], text: &str) -> TimeZone {
        text.parse().unwrap_or_else(|_| {
            self.text_problem(key, text, "must be an offset from UTC such as +08:00, -03:30 or Z");
            TimeZone::UTC
        })
    }

    fn check_currency(&mut self, key: &[&str], text: &str) {
        if text.len() != 3 || !text.bytes().all(|byte| byte.is_ascii_uppercase()) {
            self.text_problem(key, text, "must be three capital letters of ISO 4217, such as CNY");
        }
    }

    /// Memory has to hold the program, full queues and some state.
    fn check_memory(&mut self, limits: &Limits, workers: usize) {
        let least = limits.least_memory_bytes(workers);
        if limits.memory_bytes < least {
            let message = format!(
                "must be at least {least} here: the program, {workers} workers' queues and the least state take so much; raise it, or lower `limits.buffered_bytes`, `limits.fetch_queue_bytes`, `limits.produce_queue_bytes` or `pipeline.workers`"
            );
            self.problem(&["limits", "memory_bytes"], &Value::from(limits.memory_bytes), message);
        }
    }

    fn dead_letter(&mut self, raw: &RawConfig) -> DeadLetter {
        let share = raw.dead_letter.max_share;
        if !(share > 0.0 && share <= 1.0) {
            self.problem(&["dead_letter", "max_share"], &Value::from(share), "must be above 0 and at most 1");
        }
        DeadLetter { max_consecutive: raw.dead_letter.max_consecutive as usize, max_share: share }
    }

    fn brands(&mut self, raw: &RawConfig) -> Brands {
        let sections = raw.brands.iter().map(|(brand, section)| (brand.clone(), self.brand(brand, section))).collect();
        Brands { closed: raw.pipeline.brands_closed, sections }
    }

    fn brand(&mut self, brand: &str, raw: &RawBrand) -> Brand {
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
        if brand.is_empty() || brand.len() > MAX_BRAND_BYTES || !brand.bytes().all(is_plain) {
            let key = ["brands".to_owned(), brand.to_owned()];
            self.problems.push(Problem {
                key: shown(&key),
                value: None,
                source: self.layers.path.display().to_string(),
                message: "a brand's name is 1 to 64 of a-z, 0-9, `_` and `-`".to_owned(),
            });
        }
        if !raw.currency.is_empty() {
            self.check_currency(&["brands", brand, "currency"], &raw.currency);
        }
        Brand {
            time_zone: (!raw.time_zone.is_empty()).then(|| self.time_zone(&["brands", brand, "time_zone"], &raw.time_zone)),
            currency: (!raw.currency.is_empty()).then(|| raw.currency.clone()),
        }
    }
}

fn limits(raw: &RawLimits) -> Limits {
    Limits {
        event_bytes: raw.event_bytes as usize,
        levels: raw.levels as u8,
        batch_records: raw.batch_records as usize,
        fetch_queue_bytes: raw.fetch_queue_bytes as usize,
        rows_per_insert: raw.rows_per_insert as usize,
        archive_rows_per_insert: raw.archive_rows_per_insert as usize,
        dirty_keys_per_checkpoint: raw.dirty_keys_per_checkpoint as usize,
        buffered_bytes: raw.buffered_bytes as usize,
        in_flight_inserts: raw.in_flight_inserts as usize,
        inserts_per_second: raw.inserts_per_second as u32,
        retry_backoff_max: milliseconds(raw.retry_backoff_max_ms),
        memory_bytes: raw.memory_bytes as usize,
        state_bytes: raw.state_bytes as usize,
        cold_bytes: raw.cold_bytes as u64,
        parallel_takeovers: raw.parallel_takeovers as usize,
        produce_queue_records: raw.produce_queue_records as usize,
        produce_queue_bytes: raw.produce_queue_bytes as usize,
    }
}

fn milliseconds(number: i64) -> Duration {
    Duration::from_millis(number.try_into().unwrap_or(0))
}

/// Zero stands for "not set" where a number has to be positive.
fn positive(number: i64) -> Option<i32> {
    i32::try_from(number).ok().filter(|number| *number > 0)
}

fn is_topic_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !name.is_empty() && name.len() <= MAX_TOPIC_BYTES && name != "." && name != ".." && name.bytes().all(is_plain)
}

fn is_identifier(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.len() <= 64 && name.bytes().all(is_plain) && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

fn url_fault(url: &str) -> Option<&'static str> {
    let Some(rest) = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://")) else {
        return Some("must be the address of ClickHouse's HTTP interface, such as http://127.0.0.1:8123");
    };
    if rest.contains('@') {
        return Some("must not hold a user; set `clickhouse.user` and `clickhouse.password_file`");
    }
    let host = rest.trim_end_matches('/');
    if host.is_empty() || host.contains(['?', '#']) || host.contains(char::is_whitespace) {
        return Some("must be a scheme, a host and a port, such as http://127.0.0.1:8123");
    }
    None
}

/// The kernel's name of this host, without asking a resolver.
fn host_name() -> Option<String> {
    let from_kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let name = from_kernel.or_else(|| std::env::var("HOSTNAME").ok())?;
    let plain: String = name
        .trim()
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || matches!(letter, '.' | '_' | '-') { letter } else { '-' })
        .collect();
    (!plain.is_empty()).then_some(plain)
}
