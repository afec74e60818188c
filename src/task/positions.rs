//! The positions row: everything that a successor has to know besides the state itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;

use super::contribution::Reach;
use super::relay::{Mark, SourceLog};
use crate::config::{Fingerprint, Mismatch};
use crate::model::{Offset, TopicPartition};
use crate::pb;

/// Where a task stands in one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPosition {
    /// Offset of the next record to apply.
    pub next: Offset,
    /// Timestamp of the last record applied, Unix milliseconds; 0 = none.
    pub record_time_ms: i64,
    /// Kafka's id of the topic: a topic that was deleted and made again has another.
    pub topic_id: String,
    /// The task reads the log itself from this offset on; what was before came to it by relay, if at all.
    pub read_from: Offset,
}

/// The positions row, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    /// The largest sequence spoken so far.
    pub sequence: u64,
    /// N: partitions of the exchange.
    pub tasks: u32,
    /// Settings that change results.
    pub fingerprint: Fingerprint,
    /// Kafka's id of the cluster.
    pub cluster_id: String,
    /// By log.
    pub logs: BTreeMap<TopicPartition, LogPosition>,
    /// Last relay taken, by source.
    pub received: BTreeMap<SourceLog, Mark>,
    /// Last relay sent, by source and destination.
    pub sent: BTreeMap<(SourceLog, u32), Offset>,
    /// The forget horizon, Unix milliseconds.
    pub horizon_ms: i64,
    /// Live rows of the state.
    pub live_rows: u64,
    /// Xor of their hashes.
    pub live_hash: u64,
    /// Wall clock at the cut, Unix milliseconds.
    pub written_ms: i64,
    /// How far back each task's events may still reach, by task.
    pub reaches: BTreeMap<u32, Reach>,
    /// The generation that wrote the row; 0 = before that was noted.
    pub generation: u64,
    /// How often in a row its predecessors had come to no checkpoint.
    pub haste: u32,
    /// The smallest `max_lateness` that the task ran with, milliseconds; 0 = before that was noted.
    pub least_lateness_ms: i64,
    /// See [`crate::engine::Engine::sizes`]; none = before that was noted.
    pub sizes: Vec<u64>,
}

/// More would not shorten any wait.
const MOST_HASTE: u32 = 16;

/// A positions row that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PositionsError {
    /// Not a positions row.
    #[error("the positions row cannot be decoded: {0}")]
    Undecodable(String),
    /// Another number of tasks.
    #[error(
        "the state was written for {stored} tasks, but the exchange topic has {configured} partitions: run `onecode rescale --tasks {configured}` while the pipeline is stopped, or restore the exchange topic"
    )]
    Tasks {
        /// In the row.
        stored: u32,
        /// Now.
        configured: u32,
    },
    /// A setting that changes results has changed.
    #[error(
        "{0}: set it back, or rebuild into a new database (`clickhouse.database`) and group (`kafka.group`) with `onecode migrate` and `onecode run`"
    )]
    Fingerprint(Mismatch),
    /// Another Kafka cluster.
    #[error(
        "the state was written against Kafka cluster `{stored}`, this is `{found}`: offsets of one cluster mean nothing in another; use a new `clickhouse.database`"
    )]
    Cluster {
        /// In the row.
        stored: String,
        /// Now.
        found: String,
    },
}

impl Positions {
    /// The row's payload.
    pub fn encode(&self) -> Vec<u8> {
        pb::Positions {
            sequence: self.sequence,
            tasks: self.tasks,
            fingerprint: self
                .fingerprint
                .pairs()
                .map(|(key, value)| pb::Setting { key: key.to_owned(), value: value.to_owned() })
                .collect(),
            cluster_id: self.cluster_id.clone(),
            logs: self
                .logs
                .iter()
                .map(|(log, position)| pb::LogPosition {
                    topic: log.topic.to_string(),
                    partition: log.partition,
                    next: position.next,
                    record_time_ms: position.record_time_ms,
                    topic_id: position.topic_id.clone(),
                    read_from: position.read_from,
                })
                .collect(),
            received: self
                .received
                .iter()
                .map(|(source, mark)| pb::ReceivedMark {
                    topic: source.topic.to_string(),
                    partition: source.partition,
                    offset: mark.offset,
                    record_time_ms: mark.record_time_ms,
                })
                .collect(),
            sent: self
                .sent
                .iter()
                .map(|((source, destination), offset)| pb::SentMark {
                    topic: source.topic.to_string(),
                    partition: source.partition,
                    destination: *destination,
                    offset: *offset,
                })
                .collect(),
            horizon_ms: self.horizon_ms,
            live_rows: self.live_rows,
            live_hash: self.live_hash,
            written_ms: self.written_ms,
            reaches: self
                .reaches
                .iter()
                .map(|(task, reach)| pb::ReachMark { task: *task, generation: reach.generation, horizon_ms: reach.horizon_ms })
                .collect(),
            generation: self.generation,
            haste: self.haste,
            least_lateness_ms: self.least_lateness_ms,
            sizes: self.sizes.clone(),
        }
        .encode_to_vec()
    }

    /// Reads the row's payload.
    pub fn decode(payload: &[u8]) -> Result<Self, PositionsError> {
        let row = pb::Positions::decode(payload).map_err(|error| PositionsError::Undecodable(error.to_string()))?;
        let log = |topic: &str, partition| TopicPartition { topic: Arc::from(topic), partition };
        Ok(Positions {
            sequence: row.sequence,
            tasks: row.tasks,
            fingerprint: Fingerprint::from_pairs(row.fingerprint.into_iter().map(|setting| (setting.key, setting.value))),
            cluster_id: row.cluster_id,
            logs: row
                .logs
                .into_iter()
                .map(|position| {
                    let tp = log(&position.topic, position.partition);
                    let pb::LogPosition { next, record_time_ms, topic_id, read_from, .. } = position;
                    (tp, LogPosition { next, record_time_ms, topic_id, read_from })
                })
                .collect(),
            received: row
                .received
                .into_iter()
                .map(|mark| (log(&mark.topic, mark.partition), Mark { offset: mark.offset, record_time_ms: mark.record_time_ms }))
                .collect(),
            sent: row.sent.into_iter().map(|mark| ((log(&mark.topic, mark.partition), mark.destination), mark.offset)).collect(),
            horizon_ms: row.horizon_ms,
            live_rows: row.live_rows,
            live_hash: row.live_hash,
            written_ms: row.written_ms,
            reaches: row
                .reaches
                .into_iter()
                .map(|mark| (mark.task, Reach { generation: mark.generation, horizon_ms: mark.horizon_ms }))
                .collect(),
            generation: row.generation,
            haste: row.haste,
            least_lateness_ms: row.least_lateness_ms,
            sizes: row.sizes,
        })
    }

    /// The haste of a successor: generations between the one that wrote this row and its own came to no checkpoint.
    pub fn haste_of(&self, successor: u64) -> u32 {
        let fruitless = if self.generation == 0 { 0 } else { successor.saturating_sub(self.generation + 1) };
        self.haste.saturating_add(u32::try_from(fruitless).unwrap_or(MOST_HASTE)).min(MOST_HASTE)
    }

    /// Whether a task may go on from this row under the present settings.
    pub fn check(&self, tasks: u32, fingerprint: &Fingerprint, cluster_id: &str) -> Result<(), PositionsError> {
        if self.tasks != tasks {
            return Err(PositionsError::Tasks { stored: self.tasks, configured: tasks });
        }
        if self.cluster_id != cluster_id {
            return Err(PositionsError::Cluster { stored: self.cluster_id.clone(), found: cluster_id.to_owned() });
        }
        match self.fingerprint.mismatches(fingerprint).into_iter().next() {
            Some(mismatch) => Err(PositionsError::Fingerprint(mismatch)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> Fingerprint {
        Fingerprint::from_pairs(pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn the_row_survives_the_wire() {
        let log = TopicPartition { topic: Arc::from("scans"), partition: 4 };
        let positions = Positions {
            sequence: 9,
            tasks: 6,
            fingerprint: settings(&[("pipeline.time_zone", "+08:00")]),
            cluster_id: "c".into(),
            logs: BTreeMap::from([(log.clone(), LogPosition { next: 7, record_time_ms: 3, topic_id: "t".into(), read_from: 2 })]),
            received: BTreeMap::from([(log.clone(), Mark { offset: 3, record_time_ms: 2 })]),
            sent: BTreeMap::from([((log, 2), 6)]),
            horizon_ms: 1,
            live_rows: 5,
            live_hash: u64::MAX,
            written_ms: 8,
            reaches: BTreeMap::from([(2, Reach { generation: 4, horizon_ms: 9 })]),
            generation: 3,
            haste: 2,
            least_lateness_ms: 11,
            sizes: vec![3, 0, 70_000],
        };
        assert_eq!(Positions::decode(&positions.encode()), Ok(positions));
    }

    #[test]
    fn haste_counts_the_generations_that_came_to_no_checkpoint() {
        let positions = Positions { generation: 5, haste: 1, ..Positions::default() };
        assert_eq!([6, 7, 9, 500].map(|successor| positions.haste_of(successor)), [1, 2, 4, MOST_HASTE]);
        assert_eq!(Positions::default().haste_of(9), 0, "rows of older versions do not say who wrote them");
    }

    #[test]
    fn a_changed_setting_is_named_with_both_values() {
        let positions =
            Positions { tasks: 6, fingerprint: settings(&[("pipeline.currency", "CNY")]), cluster_id: "c".into(), ..Positions::default() };
        let same = settings(&[("pipeline.currency", "CNY")]);
        assert_eq!(positions.check(6, &same, "c"), Ok(()));
        let error = positions.check(6, &settings(&[("pipeline.currency", "EUR")]), "c").expect_err("changed").to_string();
        assert!(error.contains("pipeline.currency") && error.contains("CNY") && error.contains("EUR"), "{error}");
        assert!(positions.check(12, &same, "c").expect_err("other N").to_string().contains("rescale --tasks 12"));
        assert!(matches!(positions.check(6, &same, "d"), Err(PositionsError::Cluster { .. })));
    }
}
