//! What workers say about themselves, their tasks and logs, a few times a second. Plain values: what becomes of them is `status.rs`.

/// What a worker says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerStatus {
    /// Whether the group has given it an assignment (an empty one counts).
    pub is_assigned: bool,
    /// Whether it stopped reading until what it has read can leave.
    pub is_paused: bool,
    /// Encoded rows that wait for ClickHouse.
    pub buffered_bytes: usize,
    /// Memory that state has taken.
    pub allocated_bytes: usize,
    /// How much of it is places that left free.
    pub vacant_bytes: usize,
    /// Memory that state may take.
    pub state_limit: usize,
    /// Memory of the whole process.
    pub resident_bytes: usize,
    /// Produced messages without acknowledgement.
    pub produce_queue_records: usize,
    /// Their bytes.
    pub produce_queue_bytes: usize,
    /// Its tasks.
    pub tasks: Vec<TaskStatus>,
}

/// Whether a task is at work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TaskPhase {
    /// Being taken over: claim, copy, load, confirm.
    #[default]
    Restoring,
    /// Applies records; its rows wait until it has caught up with the log ends of its takeover.
    CatchingUp,
    /// Applies records and serves.
    Running,
}

impl TaskPhase {
    pub(super) fn name(self) -> &'static str {
        match self {
            TaskPhase::Restoring => "restoring",
            TaskPhase::CatchingUp => "catching_up",
            TaskPhase::Running => "running",
        }
    }
}

/// What a worker says about a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TaskStatus {
    /// Name: a number, or `topic:partition`.
    pub task: String,
    /// Generation under which it speaks.
    pub generation: u64,
    /// Whether it is at work.
    pub phase: TaskPhase,
    /// Its logs.
    pub logs: Vec<LogStatus>,
    /// Since its last checkpoint, its predecessor's included, when this was published; none while it is restored.
    pub checkpoint_age_ms: Option<u64>,
    /// Keys of its state, by kind.
    pub keys: Vec<(&'static str, u64)>,
    /// Memory of its state.
    pub state_bytes: u64,
    /// Keys of its state that are not in memory.
    pub cold_keys: u64,
    /// Their bytes on the local disk.
    pub cold_bytes: u64,
    /// Keys changed since the last checkpoint.
    pub dirty_keys: u64,
    /// Relay sources with a gap.
    pub relay_gaps_open: usize,
    /// The last thing that went wrong.
    pub last_error: Option<String>,
}

/// One log of a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogStatus {
    /// Topic.
    pub topic: String,
    /// Partition.
    pub partition: i32,
    /// Next offset to apply.
    pub position: i64,
    /// Records between the position and the end of the log.
    pub lag_records: u64,
    /// Age of the record at the position, when this was published; 0 at the end of the log.
    pub lag_ms: u64,
}
