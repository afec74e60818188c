//! What a worker asks of the world, and what the world tells it: the seam between the real shells and the simulator.

use std::collections::BTreeMap;
use std::fmt;

use super::boundary::Boundary;
use crate::engine::Half;
use crate::model::{Offset, TaskName, TopicPartition};
use crate::rows::{RowBuffer, Table};
use crate::task::{DeadLetter, Record};

/// Names one run of a task in one worker; answers to an older run are told apart by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(pub u32);

/// Names a group of produced messages: those of one run between two cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    /// Run.
    pub run: RunId,
    /// Number of the cut that waits for them.
    pub epoch: u32,
}

/// What the committed metadata of a home partition says of its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The generation.
    pub generation: u64,
    /// The task has state in `task_state`: none there is a loss, never a first start.
    pub has_state: bool,
}

/// One entry of an offset commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Log.
    pub tp: TopicPartition,
    /// Next offset to read.
    pub offset: Offset,
    /// For home partitions.
    pub claim: Option<Claim>,
}

/// What the group's coordinator holds for a partition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Next offset to read.
    pub offset: Option<Offset>,
    /// In the metadata of a home partition.
    pub claim: Option<Claim>,
}

/// Ends of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRange {
    /// First offset that can be read.
    pub start: Offset,
    /// Offset of the next record to be written.
    pub end: Offset,
}

/// Why Kafka did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The group has another idea of who owns what: stop speaking.
    #[error("fenced by the group's coordinator: {0}")]
    Fenced(String),
    /// May work later.
    #[error("kafka does not answer: {0}")]
    Unavailable(String),
}

/// Work for ClickHouse. Everything but `Copy` and `Drop` may be repeated with the same bytes until it is answered, and the shell does so.
#[derive(Debug)]
pub enum StoreRequest {
    /// Serving or archive rows of the worker's batch `batch`.
    Insert {
        /// Table.
        table: Table,
        /// Batch.
        batch: u64,
        /// Rows.
        rows: RowBuffer,
    },
    /// Generations of tasks that `task_state` holds.
    Newest {
        /// Number of the question.
        question: u64,
        /// Tasks.
        tasks: Vec<TaskName>,
    },
    /// Copies the live rows of one generation into another, without the completeness mark. Tried once.
    Copy {
        /// Run.
        run: RunId,
        /// Task.
        task: TaskName,
        /// Source generation.
        from: u64,
        /// New generation.
        to: u64,
    },
    /// Writes rows of one task and generation in one atomic insert.
    Write {
        /// Run.
        run: RunId,
        /// Number of the cut, or 0.
        epoch: u32,
        /// Rows.
        rows: RowBuffer,
    },
    /// Reads live rows of a generation, by kind and key: all, or those of one half of a state.
    Load {
        /// Run.
        run: RunId,
        /// Task.
        task: TaskName,
        /// Generation.
        generation: u64,
        /// Which half; `None`: both.
        half: Option<Half>,
        /// Kind and key of the last row that was read already.
        after: Option<RowKey>,
    },
    /// Adds up the rows of a copy.
    Tally {
        /// Run.
        run: RunId,
        /// Task.
        task: TaskName,
        /// The copy.
        generation: u64,
    },
    /// Asks once more whose the generations of a task are, leaving out what one of them says of itself.
    Owners {
        /// Run.
        run: RunId,
        /// Task.
        task: TaskName,
        /// The generation that asks.
        besides: u64,
    },
    /// Drops generations; nobody waits for it.
    Drop {
        /// Task.
        task: TaskName,
        /// Generations.
        generations: Vec<u64>,
    },
}

/// A generation of a task in `task_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredGeneration {
    /// Number.
    pub generation: u64,
    /// Whether it has its completeness mark.
    pub complete: bool,
    /// The last generation that took its rows over; its own as long as none did, never a lower one.
    pub owner: u64,
    /// The owner has written there for the last time.
    pub is_closed: bool,
    /// Rows, and how many of them only say that a key is gone.
    pub rows: u64,
    /// See `rows`.
    pub gone: u64,
}

impl StoredGeneration {
    /// One row in so many may say that a key is gone: only a copy leaves these out.
    const ROWS_A_GONE: u64 = 4;

    /// What a task goes on from: of complete generations the one that was owned last. Owners and copiers of one task are a single line of claims.
    pub fn newest(stored: &[StoredGeneration]) -> Option<StoredGeneration> {
        stored.iter().filter(|stored| stored.complete).max_by_key(|stored| (stored.owner, stored.generation)).copied()
    }

    /// Whether a successor may go on where its rows are, instead of copying them: nobody else will ever write there.
    pub fn may_go_on(&self) -> bool {
        self.is_closed && self.gone.saturating_mul(Self::ROWS_A_GONE) <= self.rows
    }
}

/// What tells the checkpoints of one generation apart: every checkpoint changes it. With as many rows as before, those that are new or changed have
/// higher sequences than any had, so that the sum is higher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Of the rows of customers, among them the one that every checkpoint writes anew.
    pub customers: HalfTally,
    /// Of those of the graph: both halves may have been read at different times.
    pub graph: HalfTally,
}

/// See [`Tally`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HalfTally {
    /// Live rows without the completeness mark.
    pub rows: u64,
    /// Sum of their sequences, modulo 2^64.
    pub sequences: u64,
}

impl Tally {
    /// Counts one row more.
    pub fn add(&mut self, kind: u8, sequence: u64) {
        let half = match Half::of(kind) {
            Half::Customers => &mut self.customers,
            Half::Graph => &mut self.graph,
        };
        half.rows += 1;
        half.sequences = half.sequences.wrapping_add(sequence);
    }
}

/// Kind and key of a row of `task_state`.
pub type RowKey = (u8, Vec<u8>);

/// ClickHouse's answers.
#[derive(Debug)]
pub enum StoreReply {
    /// The rows are in and durable.
    Inserted {
        /// Table.
        table: Table,
        /// Batch.
        batch: u64,
    },
    /// Generations by task, in order.
    Newest {
        /// Number of the question.
        question: u64,
        /// Generations.
        generations: BTreeMap<TaskName, Vec<StoredGeneration>>,
    },
    /// The copy ended, or its outcome is unknown.
    Copied {
        /// Run.
        run: RunId,
        /// Unknown outcome.
        result: Result<(), String>,
    },
    /// The rows are in and durable.
    Written {
        /// Run.
        run: RunId,
        /// Number of the cut, or 0.
        epoch: u32,
    },
    /// Rows as RowBinary of (kind UInt8, key String, sequence UInt64, payload String), ascending by kind and key.
    Loaded {
        /// Run.
        run: RunId,
        /// As asked for.
        half: Option<Half>,
        /// Rows.
        rows: Vec<u8>,
        /// Kind and key of the last of them, if these may not be all: the next piece is to be asked for.
        more_behind: Option<RowKey>,
    },
    /// The rows of a copy.
    Tallied {
        /// Run.
        run: RunId,
        /// Their number and sequences.
        tally: Tally,
    },
    /// Generations of a task, in order.
    Owners {
        /// Run.
        run: RunId,
        /// Generations.
        generations: Vec<StoredGeneration>,
    },
    /// ClickHouse refuses for good (a missing table, a wrong column, no permission): an operator has to act.
    Refused {
        /// What it says, with the table and what to do.
        error: String,
    },
}

/// The world of a worker. All calls come from the worker's own thread.
pub trait Io {
    /// Commits offsets, and waits for the answer.
    fn commit(&mut self, commits: &[Commit]) -> Result<(), LogError>;
    /// Reads what is committed for the group.
    fn committed(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Committed>, LogError>;
    /// Asks the broker for the ends of a log.
    fn range(&mut self, tp: &TopicPartition) -> Result<LogRange, LogError>;
    /// Sets the next offsets to fetch and begins to fetch; what was fetched before is discarded.
    fn start(&mut self, starts: &[(TopicPartition, Offset)]) -> Result<(), LogError>;
    /// Stops fetching; the consumer goes on being polled. [`Io::start`] begins again.
    fn pause(&mut self, partitions: &[TopicPartition]);
    /// Produces to a partition of the exchange: the record's key, value and headers, and one header more.
    fn produce_exchange(&mut self, ticket: Ticket, partition: u32, header: &[u8], record: Option<&Record<'_>>);
    /// Produces to the dead-letter topic.
    fn produce_dead_letter(&mut self, ticket: Ticket, letter: &DeadLetter<'_>);
    /// Hands work to ClickHouse's shell; the answer comes as a [`StoreReply`].
    fn store(&mut self, request: StoreRequest);
    /// Pages for the next rows of a table, which earlier rows of it had; none if there are none. `None` is `task_state`.
    fn spare(&mut self, _table: Option<Table>) -> Vec<Vec<u8>> {
        Vec::new()
    }
    /// A boundary between two steps is crossed. Nothing happens there but in tests.
    fn cross(&mut self, _boundary: Boundary) {}
    /// Produced messages that are not acknowledged yet, and their bytes.
    fn in_flight(&self) -> InFlight;
}

/// What is on its way to Kafka.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// Messages.
    pub messages: usize,
    /// Bytes.
    pub bytes: usize,
}

/// Why a worker has to stop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fatal(pub String);

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Fatal {}
