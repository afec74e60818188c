//! From the positions of the old tasks to those of the new ones.

use std::collections::{BTreeMap, BTreeSet};

use compact_str::format_compact;

use crate::model::{Offset, TaskName, TopicPartition};
use crate::task::{LogPosition, Positions};

/// A task as its newest complete generation of the old number of tasks left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub task: TaskName,
    /// That generation.
    pub generation: u64,
    /// Its positions row.
    pub positions: Positions,
}

/// What is to be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The new number of tasks.
    pub tasks: u32,
    /// The old one.
    pub old_tasks: u32,
    /// The old exchange topic.
    pub old_exchange: String,
    /// The new exchange topic: name, Kafka's id, and where each partition begins.
    pub exchange: (String, String, Vec<Offset>),
    /// Input topics and their numbers of partitions.
    pub inputs: Vec<(String, u32)>,
}

/// A task to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTask {
    /// Its name.
    pub name: TaskName,
    /// Its positions; without count and hash of its rows, which are known once they have moved.
    pub positions: Positions,
}

/// Tasks to be, and those that end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How many of them own customers.
    pub owners: u32,
    /// With which they begin to speak; the one before is spoken by nobody.
    pub sequence: u64,
    /// Tasks that own customers come first, in the order of their numbers.
    pub tasks: Vec<NewTask>,
    /// Tasks of the old number that are not among the new ones.
    pub ended: Vec<TaskName>,
    /// Logs of topics that the configuration does not name: where they stand is not kept.
    pub dropped: Vec<TopicPartition>,
}

/// A state that cannot be moved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A task has no state of the old number of tasks.
    #[error(
        "task {0} has no complete state for {1} tasks: `topics.exchange` must name the exchange topic that the pipeline ran with, and it must have run with it"
    )]
    NoState(TaskName, u32),
}

/// Decides who reads what from where.
///
/// # Errors
/// [`PlanError`].
pub fn plan(sources: &[Source], wanted: &Wanted, now_ms: i64) -> Result<Plan, PlanError> {
    let names: BTreeSet<&TaskName> = sources.iter().map(|source| &source.task).collect();
    if let Some(missing) = (0..wanted.old_tasks).map(|task| format_compact!("{task}")).find(|name| !names.contains(name)) {
        return Err(PlanError::NoState(missing, wanted.old_tasks));
    }
    let mut logs: BTreeMap<&TopicPartition, &LogPosition> = BTreeMap::new();
    for (tp, position) in sources.iter().flat_map(|source| &source.positions.logs) {
        // Two tasks know a log when its topic was taken out for a while: the one that read on knows better.
        let known = logs.entry(tp).or_insert(position);
        if position.next > known.next {
            *known = position;
        }
    }
    let mut tasks = Vec::new();
    for task in 0..wanted.tasks {
        let shared = wanted.inputs.iter().filter(|(_, partitions)| *partitions == wanted.tasks);
        let own = shared.map(|(topic, _)| log(topic, task));
        let mut positions = common_positions(sources, wanted, now_ms);
        positions.logs = own.filter_map(|tp| Some((tp.clone(), moved(logs.get(&tp)?)))).collect();
        positions.logs.extend(exchange_log(wanted, task));
        tasks.push(NewTask { name: format_compact!("{task}"), positions });
    }
    for (topic, partitions) in wanted.inputs.iter().filter(|(_, partitions)| *partitions != wanted.tasks) {
        for partition in 0..*partitions {
            let tp = log(topic, partition);
            // A partition that nobody has read yet begins as any other: at its task's first start.
            let Some(position) = logs.get(&tp) else { continue };
            let mut positions = common_positions(sources, wanted, now_ms);
            positions.logs.insert(tp, moved(position));
            tasks.push(NewTask { name: format_compact!("{topic}:{partition}"), positions });
        }
    }
    let sequence = tasks.first().map_or(1, |task| task.positions.sequence);
    let kept: BTreeSet<&TaskName> = tasks.iter().map(|task| &task.name).collect();
    let ended = sources.iter().map(|source| source.task.clone()).filter(|name| !kept.contains(name)).collect();
    let is_known = |topic: &str| topic == wanted.old_exchange || wanted.inputs.iter().any(|(input, _)| input == topic);
    let dropped = logs.keys().filter(|tp| !is_known(&tp.topic)).map(|tp| TopicPartition::clone(tp)).collect();
    Ok(Plan { owners: wanted.tasks, sequence, tasks, ended, dropped })
}

fn log(topic: &str, partition: u32) -> TopicPartition {
    TopicPartition { topic: topic.into(), partition: i32::try_from(partition).unwrap_or(i32::MAX) }
}

/// The tasks have taken every relay, so whoever reads the log from now on owes nothing to a relay from before.
fn moved(position: &LogPosition) -> LogPosition {
    LogPosition { read_from: 0, ..position.clone() }
}

fn exchange_log(wanted: &Wanted, task: u32) -> Option<(TopicPartition, LogPosition)> {
    let (topic, topic_id, starts) = &wanted.exchange;
    let next = *starts.get(task as usize)?;
    Some((log(topic, task), LogPosition { next, record_time_ms: 0, topic_id: topic_id.clone(), read_from: 0 }))
}

/// What all new tasks start with. Relays begin new chains: those of the old exchange were all taken. The horizon is the latest of
/// all: what one task has forgotten, its heir cannot recognise.
fn common_positions(sources: &[Source], wanted: &Wanted, now_ms: i64) -> Positions {
    let all = || sources.iter().map(|source| &source.positions);
    let any = sources.first().map(|source| source.positions.clone()).unwrap_or_default();
    Positions {
        sequence: all().map(|positions| positions.sequence).max().unwrap_or_default() + 2,
        tasks: wanted.tasks,
        horizon_ms: all().map(|positions| positions.horizon_ms).max().unwrap_or_default(),
        fingerprint: any.fingerprint,
        least_lateness_ms: all()
            .filter(|positions| !positions.logs.is_empty())
            .map(|positions| positions.least_lateness_ms)
            .min()
            .unwrap_or_default(),
        cluster_id: any.cluster_id,
        written_ms: now_ms,
        ..Positions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(task: &str, horizon_ms: i64, logs: &[(&str, u32, i64)]) -> Source {
        let logs = logs.iter().map(|(topic, partition, next)| {
            (log(topic, *partition), LogPosition { next: *next, record_time_ms: 5, topic_id: (*topic).to_owned(), read_from: 0 })
        });
        let positions = Positions { tasks: 2, sequence: 7, horizon_ms, logs: logs.collect(), ..Positions::default() };
        Source { task: task.into(), generation: 3, positions }
    }

    fn wanted(tasks: u32, inputs: &[(&str, u32)]) -> Wanted {
        let inputs = inputs.iter().map(|(topic, partitions)| ((*topic).to_owned(), *partitions)).collect();
        Wanted { tasks, old_tasks: 2, old_exchange: "x".into(), exchange: ("x2".into(), "id".into(), vec![0; tasks as usize]), inputs }
    }

    fn stands(plan: &Plan) -> Vec<(String, Vec<(String, i64)>)> {
        let logs = |task: &NewTask| task.positions.logs.iter().map(|(tp, position)| (tp.to_string(), position.next)).collect();
        plan.tasks.iter().map(|task| (task.name.to_string(), logs(task))).collect()
    }

    #[test]
    fn an_input_that_shared_the_tasks_gets_tasks_of_its_own_and_the_other_way_round() {
        let sources = [source("0", 10, &[("x", 0, 90), ("scans", 0, 4)]), source("1", 20, &[("x", 1, 91), ("scans", 1, 6)])];
        let apart = plan(&sources, &wanted(3, &[("scans", 2)]), 1).expect("a plan");
        let names: Vec<&str> = apart.tasks.iter().map(|task| task.name.as_str()).collect();
        assert_eq!(names, ["0", "1", "2", "scans:0", "scans:1"]);
        assert_eq!(apart.tasks.iter().map(|task| task.positions.horizon_ms).max(), Some(20));
        assert!(apart.tasks.iter().all(|task| (task.positions.horizon_ms, task.positions.sequence, task.positions.tasks) == (20, 9, 3)));
        assert_eq!(stands(&apart).last().map(|(_, logs)| logs.clone()), Some(vec![(log("scans", 1).to_string(), 6)]));
        assert_eq!((apart.ended, apart.dropped), (vec![], vec![]));

        let relays = [sources.to_vec(), vec![source("scans:0", 0, &[("scans", 0, 4)])]].concat();
        let together = plan(&relays, &wanted(1, &[("scans", 1), ("shares", 2)]), 1).expect("a plan");
        assert_eq!(stands(&together), [("0".to_owned(), vec![(log("scans", 0).to_string(), 4), (log("x2", 0).to_string(), 0)])]);
        assert_eq!(together.ended, [TaskName::from("1"), TaskName::from("scans:0")]);
    }

    #[test]
    fn a_task_without_state_is_named_and_topics_that_are_gone_too() {
        let sources = [source("0", 0, &[("x", 0, 9), ("old", 0, 3)])];
        assert_eq!(plan(&sources, &wanted(3, &[]), 1), Err(PlanError::NoState("1".into(), 2)));
        let both = [sources.to_vec(), vec![source("1", 0, &[("x", 1, 9)])]].concat();
        assert_eq!(plan(&both, &wanted(3, &[]), 1).expect("a plan").dropped, [log("old", 0)]);
    }
}
