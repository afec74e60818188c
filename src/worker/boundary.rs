//! The moments between two steps of input and output: a process that dies at any of them must change nothing. Tests make it die there.

/// A boundary between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// Takeover: the generations were asked for.
    Asked,
    /// A generation was claimed by commit.
    Claimed,
    /// The rows of a predecessor that had ended were taken over, without a copy.
    TakenOver,
    /// The source's rows were copied; the copy has no mark yet.
    Copied,
    /// The copy has its mark.
    Marked,
    /// The state is in memory; nothing was confirmed.
    Restored,
    /// The second commit has held; nothing has left the task.
    Confirmed,
    /// The older generations were told to go.
    Dropped,
    /// Fetching has begun.
    Started,
    /// Flush: rows and contributions have left the state; no row was sent.
    RowsDrained,
    /// A batch is on its way.
    RowsSent,
    /// A table of a batch is in.
    RowsIn,
    /// Archive rows are on their way.
    ArchiveSent,
    /// Checkpoint: rows and positions are fixed; nothing waits yet.
    Cut,
    /// All that the cut stands on is durable; its state was not sent.
    Covered,
    /// The state is on its way.
    StateSent,
    /// The state is durable; its offsets are not committed.
    StateIn,
    /// The offsets are committed.
    Committed,
    /// The group has taken all partitions.
    Revoked,
    /// Drain: fetching has ended.
    DrainBegun,
    /// A task has written for the last time.
    Closed,
    /// Everything is saved; the group was not left.
    Drained,
}

impl Boundary {
    /// All, in the order of their numbers. Each can be reached after a death at the one before, and the first ones behind a drain.
    pub const ALL: [Boundary; 22] = [
        Boundary::Asked,
        Boundary::Claimed,
        Boundary::TakenOver,
        Boundary::Copied,
        Boundary::Marked,
        Boundary::Restored,
        Boundary::Confirmed,
        Boundary::Dropped,
        Boundary::Started,
        Boundary::RowsDrained,
        Boundary::RowsSent,
        Boundary::RowsIn,
        Boundary::ArchiveSent,
        Boundary::Cut,
        Boundary::Covered,
        Boundary::StateSent,
        Boundary::StateIn,
        Boundary::Committed,
        Boundary::Revoked,
        Boundary::DrainBegun,
        Boundary::Closed,
        Boundary::Drained,
    ];

    /// In lower case with underscores, as tests name it.
    pub fn name(self) -> &'static str {
        match self {
            Boundary::Asked => "asked",
            Boundary::Claimed => "claimed",
            Boundary::TakenOver => "taken_over",
            Boundary::Copied => "copied",
            Boundary::Marked => "marked",
            Boundary::Restored => "restored",
            Boundary::Confirmed => "confirmed",
            Boundary::Dropped => "dropped",
            Boundary::Started => "started",
            Boundary::RowsDrained => "rows_drained",
            Boundary::RowsSent => "rows_sent",
            Boundary::RowsIn => "rows_in",
            Boundary::ArchiveSent => "archive_sent",
            Boundary::Cut => "cut",
            Boundary::Covered => "covered",
            Boundary::StateSent => "state_sent",
            Boundary::StateIn => "state_in",
            Boundary::Committed => "committed",
            Boundary::Revoked => "revoked",
            Boundary::DrainBegun => "drain_begun",
            Boundary::Closed => "closed",
            Boundary::Drained => "drained",
        }
    }

    /// By its name.
    pub fn from_name(name: &str) -> Option<Boundary> {
        Boundary::ALL.into_iter().find(|boundary| boundary.name() == name)
    }
}
