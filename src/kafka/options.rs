//! Options of librdkafka: defaults, what `kafka.client` says, and what the guarantee needs (`config` has refused the rest).

use std::collections::BTreeMap;

use crate::config::Config;

/// How a worker joins the group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    /// Under a name that survives a restart.
    Static(String),
    /// Under a fresh name each time.
    Dynamic,
}

/// Options of a worker's consumer.
pub fn consumer_options(config: &Config, membership: &Membership) -> BTreeMap<String, String> {
    let session_ms = config.kafka.session_timeout.as_millis();
    let mut options = BTreeMap::new();
    let mut set = |name: &str, value: String| options.insert(name.to_owned(), value);
    set("session.timeout.ms", session_ms.to_string());
    set("heartbeat.interval.ms", (session_ms / 3).max(1).to_string());
    set("max.poll.interval.ms", "300000".to_owned());
    // Read ahead for a tenth of a second and no more: what waits longer has left the processor's caches when its turn comes.
    set("queued.min.messages", "10000".to_owned());
    set("queued.max.messages.kbytes", (config.limits.fetch_queue_bytes / 1024).max(1).to_string());
    // One answer may go beyond the queue: no more than once.
    set("fetch.max.bytes", config.limits.fetch_queue_bytes.max(max_message_bytes(config)).to_string());
    // librdkafka's default of 1,000 leaves holes of a second whenever its queue was full.
    set("fetch.queue.backoff.ms", "5".to_owned());
    // Relays and contributions come in small batches all the time: without a least size every one of them would be a request.
    set("fetch.min.bytes", "32768".to_owned());
    set("fetch.wait.max.ms", "100".to_owned());
    set("socket.keepalive.enable", "true".to_owned());
    // For so long a commit waits for an answer, and the worker with it: less than what makes a worker count as stuck.
    set("socket.timeout.ms", "20000".to_owned());
    common(config, &mut options);
    let mut enforce = |name: &str, value: &str| options.insert(name.to_owned(), value.to_owned());
    enforce("group.id", &config.kafka.group);
    enforce("group.protocol", "classic");
    enforce("partition.assignment.strategy", "range");
    enforce("enable.auto.commit", "false");
    enforce("enable.auto.offset.store", "false");
    enforce("auto.offset.reset", "error");
    enforce("isolation.level", "read_committed");
    enforce("enable.partition.eof", "true");
    if let Membership::Static(instance) = membership {
        enforce("group.instance.id", instance);
    }
    options
}

/// Options of a worker's producer: relays arrive in order and once, or the run ends.
pub fn producer_options(config: &Config) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    let mut set = |name: &str, value: String| options.insert(name.to_owned(), value);
    // Relays wait for company: at 5 ms the requests cost brokers and client several times what their records do.
    set("linger.ms", "20".to_owned());
    set("compression.type", "lz4".to_owned());
    // Twice the limits at which workers stop fetching, so that the queue itself never refuses.
    set("queue.buffering.max.messages", (2 * config.limits.produce_queue_records).to_string());
    set("queue.buffering.max.kbytes", (2 * config.limits.produce_queue_bytes / 1024).max(1).to_string());
    set("message.max.bytes", max_message_bytes(config).to_string());
    set("socket.keepalive.enable", "true".to_owned());
    common(config, &mut options);
    let mut enforce = |name: &str, value: &str| options.insert(name.to_owned(), value.to_owned());
    enforce("enable.idempotence", "true");
    enforce("acks", "all");
    enforce("message.timeout.ms", "0");
    enforce("enable.gapless.guarantee", "true");
    options
}

/// The largest message that onecode produces: a dead letter of a record of any size that a broker takes by default, with headers.
pub fn max_message_bytes(config: &Config) -> usize {
    const LARGEST_RECORD_BYTES: usize = 16 * 1024 * 1024;
    config.limits.event_bytes.max(LARGEST_RECORD_BYTES) + 64 * 1024
}

fn common(config: &Config, options: &mut BTreeMap<String, String>) {
    options.insert("bootstrap.servers".to_owned(), config.kafka.brokers.clone());
    options.insert("client.id".to_owned(), "onecode".to_owned());
    options.insert("allow.auto.create.topics".to_owned(), "false".to_owned());
    for (name, value) in &config.kafka.client {
        options.insert(name.clone(), value.expose().to_owned());
    }
}
