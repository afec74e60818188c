//! Whether the logs and the configuration are those that a task's positions were written against.

use super::io::{Fatal, LogRange};
use super::{Now, Worker};
use crate::model::{TaskName, TopicPartition};
use crate::task::{LogRole, Positions};

impl Worker {
    /// Compares a position with its log: lost input and recreated topics are refused.
    pub(super) fn check_log(&self, name: &TaskName, tp: &TopicPartition, range: LogRange, positions: &Positions) -> Result<(), Fatal> {
        let Some(stands) = positions.logs.get(tp) else { return Ok(()) };
        let topic_id = self.settings.task.topic_ids.get(&*tp.topic).map_or("", String::as_str);
        if is_remade(topic_id, &stands.topic_id) {
            return Err(Fatal(remade_text(name, &tp.topic, topic_id, &stands.topic_id)));
        }
        if stands.next < range.start {
            return Err(Fatal(format!(
                "task {name}: {tp} begins at offset {}, but the next record to read is {}: {} records were removed by retention before they were read, and the tables would lack them. Restore them, or rebuild from what is left into a new database (`clickhouse.database`) and group (`kafka.group`): `onecode migrate`, then `onecode run`",
                range.start,
                stands.next,
                range.start - stands.next
            )));
        }
        if stands.next > range.end {
            return Err(Fatal(format!(
                "task {name}: {tp} ends at offset {}, but records up to {} were read already: the topic was recreated or lost acknowledged data. Restore it, or rebuild into a new database (`clickhouse.database`) and group (`kafka.group`): `onecode migrate`, then `onecode run`",
                range.end, stands.next
            )));
        }
        Ok(())
    }

    pub(super) fn check_age(&self, name: &TaskName, positions: &Positions, now: Now) -> Result<(), Fatal> {
        let age_ms = now.wall_ms - positions.written_ms;
        if age_ms <= self.settings.exchange_retention_ms {
            return Ok(());
        }
        Err(Fatal(format!(
            "task {name}: its last checkpoint is {} days old, but the exchange topic keeps messages for {} days: messages to this task may be gone. Rebuild into a new database (`clickhouse.database`) and group (`kafka.group`): `onecode migrate`, then `onecode run`",
            age_ms / 86_400_000,
            self.settings.exchange_retention_ms / 86_400_000
        )))
    }

    /// A log that the state knows and that is not this task's any more although its topic is still read: another partition count.
    pub(super) fn check_repartitioned(
        &self,
        name: &TaskName,
        logs: &[(TopicPartition, LogRole)],
        positions: &Positions,
    ) -> Result<(), Fatal> {
        for tp in positions.logs.keys() {
            let is_read = self.settings.topics.iter().find(|topic| topic.name == *tp.topic);
            if let Some(topic) = is_read
                && !logs.iter().any(|(log, _)| log == tp)
            {
                return Err(Fatal(format!(
                    "task {name} has read {tp} as its own, but topic `{}` has {} partitions now and the exchange has {}: set the partition count back, or stop all instances and run `onecode rescale --tasks {}`",
                    topic.name, topic.partitions, self.settings.task.tasks, topic.partitions
                )));
            }
        }
        Ok(())
    }
}

/// Whether two ids are those of different topics; an empty one is not known.
pub(super) fn is_remade(topic_id: &str, stored_id: &str) -> bool {
    !stored_id.is_empty() && !topic_id.is_empty() && stored_id != topic_id
}

pub(super) fn remade_text(name: &TaskName, topic: &str, topic_id: &str, stored_id: &str) -> String {
    format!(
        "task {name}: topic `{topic}` was deleted and made again (its id is {topic_id}, the state was written against {stored_id}): positions of the old topic mean nothing in the new one. Restore the topic, or rebuild into a new database (`clickhouse.database`) and group (`kafka.group`): `onecode migrate`, then `onecode run`"
    )
}
