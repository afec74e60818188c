//! From assigned partitions to tasks: which partition belongs to which task, and whether a task has all of its own.

use std::collections::BTreeMap;

use compact_str::format_compact;

use crate::model::{TaskName, TopicPartition};
use crate::task::{LogRole, TaskIdentity};

/// A topic that workers subscribe to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Name.
    pub name: String,
    /// What it carries.
    pub role: LogRole,
    /// Number of partitions at start.
    pub partitions: u32,
}

/// A task as an assignment describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignedTask {
    /// Who it is.
    pub identity: TaskIdentity,
    /// Its logs, the home partition first.
    pub logs: Vec<(TopicPartition, LogRole)>,
}

impl AssignedTask {
    /// Its logs that a task of another number of partitions may have relayed.
    pub(super) fn once_relayed(&self) -> impl Iterator<Item = &TopicPartition> {
        let inputs = self.logs.iter().filter(|(_, role)| self.identity.owns.is_some() && *role != LogRole::Exchange);
        inputs.map(|(tp, _)| tp)
    }

    /// The partition whose committed metadata carries the generation.
    pub fn home(&self) -> Option<&TopicPartition> {
        self.logs.first().map(|(tp, _)| tp)
    }
}

/// An assignment that cannot be worked on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignmentError {
    /// A partition that was not there at start.
    #[error(
        "topic `{topic}` had {known} partitions when this process started and now has partition {partition}: stop all instances, then run `onecode rescale --tasks N` if N is to change, and start again"
    )]
    Grown {
        /// Topic.
        topic: String,
        /// The new partition.
        partition: i32,
        /// Partitions at start.
        known: u32,
    },
    /// The range assignor did not bring a task's partitions together.
    #[error(
        "task {task} was assigned without {missing}: another member of the group subscribes to other topics; give all instances the same configuration"
    )]
    Incomplete {
        /// Task.
        task: TaskName,
        /// Topic and partition.
        missing: String,
    },
}

/// The task that reads a partition of a topic that does not share the tasks' partitions.
pub(super) fn relaying_task(tp: &TopicPartition) -> TaskName {
    format_compact!("{}:{}", tp.topic, tp.partition)
}

/// Groups assigned partitions into tasks, in a stable order.
pub fn group(assigned: &[TopicPartition], topics: &[TopicSpec], tasks: u32) -> Result<Vec<AssignedTask>, AssignmentError> {
    let mut by_task: BTreeMap<(bool, String, i32), AssignedTask> = BTreeMap::new();
    for tp in assigned {
        let Some(topic) = topics.iter().find(|topic| topic.name == *tp.topic) else { continue };
        let partition = u32::try_from(tp.partition).unwrap_or(u32::MAX);
        if partition >= topic.partitions {
            return Err(AssignmentError::Grown { topic: topic.name.clone(), partition: tp.partition, known: topic.partitions });
        }
        let shares_a_task = topic.partitions == tasks;
        let (key, identity) = if shares_a_task {
            let identity = TaskIdentity { name: format_compact!("{partition}"), owns: Some(partition) };
            ((false, String::new(), tp.partition), identity)
        } else {
            let identity = TaskIdentity { name: relaying_task(tp), owns: None };
            ((true, topic.name.clone(), tp.partition), identity)
        };
        by_task.entry(key).or_insert_with(|| AssignedTask { identity, logs: Vec::new() }).logs.push((tp.clone(), topic.role));
    }
    let mut assigned_tasks: Vec<AssignedTask> = by_task.into_values().collect();
    for task in &mut assigned_tasks {
        task.logs.sort_by_key(|(tp, role)| (*role != LogRole::Exchange, tp.clone()));
        check_complete(task, topics, tasks)?;
    }
    Ok(assigned_tasks)
}

fn check_complete(task: &AssignedTask, topics: &[TopicSpec], tasks: u32) -> Result<(), AssignmentError> {
    let Some(owned) = task.identity.owns else { return Ok(()) };
    for topic in topics.iter().filter(|topic| topic.partitions == tasks) {
        let has = task.logs.iter().any(|(tp, _)| *tp.topic == topic.name);
        if !has {
            return Err(AssignmentError::Incomplete { task: task.identity.name.clone(), missing: format!("{}[{owned}]", topic.name) });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::decode::Format;
    use crate::model::EventKind;

    fn tp(topic: &str, partition: i32) -> TopicPartition {
        TopicPartition { topic: Arc::from(topic), partition }
    }

    fn topics() -> Vec<TopicSpec> {
        let input =
            |name: &str, kind, partitions| TopicSpec { name: name.into(), role: LogRole::Input { kind, format: Format::Auto }, partitions };
        vec![
            input("scans", EventKind::Scan, 6),
            input("purchases", EventKind::Purchase, 4),
            TopicSpec { name: "exchange".into(), role: LogRole::Exchange, partitions: 6 },
        ]
    }

    #[test]
    fn equal_partition_counts_share_a_task_and_others_only_relay() {
        let assigned = [tp("scans", 1), tp("purchases", 1), tp("exchange", 1)];
        let tasks = group(&assigned, &topics(), 6).expect("complete");
        let names: Vec<&str> = tasks.iter().map(|task| task.identity.name.as_str()).collect();
        assert_eq!(names, ["1", "purchases:1"]);
        assert_eq!(tasks[0].home(), Some(&tp("exchange", 1)));
        assert_eq!((tasks[0].identity.owns, tasks[1].identity.owns), (Some(1), None));
        assert_eq!(tasks[1].home(), Some(&tp("purchases", 1)));
    }

    #[test]
    fn a_task_without_one_of_its_partitions_is_refused_by_name() {
        let error = group(&[tp("exchange", 2)], &topics(), 6).expect_err("incomplete").to_string();
        assert!(error.contains("task 2") && error.contains("scans[2]"), "{error}");
    }

    #[test]
    fn a_partition_that_was_not_there_at_start_is_refused() {
        let error = group(&[tp("purchases", 4)], &topics(), 6).expect_err("grown").to_string();
        assert!(error.contains("rescale"), "{error}");
    }
}
