//! Places in the logs, names of tasks, and versions of rows.

use std::fmt;
use std::sync::Arc;

use compact_str::CompactString;

/// A record's offset, or as a position the offset of the next record to apply.
pub type Offset = i64;

/// One log of Kafka.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.topic, self.partition)
    }
}

/// Name of a task: the number of its exchange partition, or `topic:partition` for a relay-only task.
pub type TaskName = CompactString;

/// Version of a row or message: `generation << 40 | sequence`. The higher one wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    /// Bits of the sequence: a generation may speak 10^12 times, and there may be 16 million generations.
    pub const SEQUENCE_BITS: u32 = 40;

    /// The version of the `sequence`-th utterance of `generation`.
    pub fn new(generation: u64, sequence: u64) -> Self {
        debug_assert!(sequence < 1 << Self::SEQUENCE_BITS && generation < 1 << (64 - Self::SEQUENCE_BITS));
        Version(generation << Self::SEQUENCE_BITS | sequence)
    }

    /// Under which generation it was spoken.
    pub fn generation(self) -> u64 {
        self.0 >> Self::SEQUENCE_BITS
    }

    /// Which of the generation's it is.
    pub fn sequence(self) -> u64 {
        self.0 & ((1 << Self::SEQUENCE_BITS) - 1)
    }
}
