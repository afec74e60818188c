//! From the configuration and the cluster to the settings of a worker.

use std::sync::Arc;
use std::time::Duration;

use super::RunOptions;
use crate::cold::ColdFiles;
use crate::config::Config;
use crate::kafka::{Cluster, EXCHANGE_RETENTION};
use crate::task::{LogRole, PackRule, RejectLimits, TaskSettings};
use crate::worker::{Switches, WorkerSettings};

/// While a worker is behind it serves this many times less often: changes of a key coalesce, and ClickHouse merges fewer and larger parts.
const BEHIND_FACTOR: i64 = 10;
/// Keys of a task that one piece of forgetting looks at, once a second: a few milliseconds for all tasks of a worker, and 40 million
/// keys in the six hours of a pass.
const SWEEP_KEYS: usize = 2_000;
/// A second query costs ClickHouse some milliseconds: packs of so many rows take ten times as long.
const HALVED_ROWS: u64 = 500;
/// Sources tell destinations how far they have read this many times while the slack of the forget horizon passes.
const PROGRESS_PER_SLACK: i64 = 16;

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn worker_settings(config: &Config, cluster: &Cluster, options: RunOptions) -> WorkerSettings {
    let workers = config.pipeline.workers.max(1);
    let inputs = cluster.topics.iter().filter_map(|topic| match topic.role {
        LogRole::Input { kind, format } => Some((topic.name.clone(), (kind, format))),
        LogRole::Exchange => None,
    });
    let task = TaskSettings {
        tasks: cluster.tasks,
        rules: config.rules(),
        inputs: inputs.collect(),
        max_lateness_ms: config.pipeline.max_lateness_ms,
        forget_slack_ms: config.pipeline.forget_slack_ms,
        progress_every_ms: (config.pipeline.forget_slack_ms / PROGRESS_PER_SLACK).max(1),
        packs: PackRule::default(),
        fingerprint: config.fingerprint(),
        cluster_id: cluster.id.clone(),
        topic_ids: cluster.topic_ids.clone(),
    };
    WorkerSettings {
        serve_interval_ms: ms(config.pipeline.serve_interval),
        serve_interval_behind_ms: BEHIND_FACTOR * ms(config.pipeline.serve_interval),
        archive_interval_ms: ms(config.pipeline.archive_interval),
        archive_rows: config.limits.archive_rows_per_insert,
        checkpoint_interval_ms: ms(config.pipeline.checkpoint_interval),
        dirty_keys_per_checkpoint: config.limits.dirty_keys_per_checkpoint,
        buffered_bytes: config.limits.buffered_bytes / workers,
        in_flight_messages: config.limits.produce_queue_records,
        in_flight_bytes: config.limits.produce_queue_bytes,
        takeover_serve_delay_ms: ms(config.pipeline.takeover_serve_delay),
        relay_gap_limit_ms: ms(config.pipeline.relay_gap_limit),
        parallel_takeovers: config.limits.parallel_takeovers,
        halved_rows: HALVED_ROWS,
        sweep_keys: SWEEP_KEYS,
        exchange_retention_ms: ms(EXCHANGE_RETENTION),
        start_from: config.pipeline.start_from,
        rejects: RejectLimits {
            max_consecutive: config.dead_letter.max_consecutive as u64,
            max_share: config.dead_letter.max_share,
            accepted: options.accept_rejects,
        },
        topics: cluster.topics.clone(),
        task: Arc::new(task),
        calendar: config.calendar(),
        switches: Switches::default(),
        levels: config.limits.levels,
        state_bytes: config.limits.state_bytes / workers,
        cold: Arc::new(ColdFiles::new(config.pipeline.cold_dir.clone().unwrap_or_else(std::env::temp_dir), config.limits.cold_bytes)),
    }
}
