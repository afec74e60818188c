//! How much memory is left for state: what the process may take, without what else it takes.
//!
//! Owns the division of `limits.memory_bytes`. The division itself is pure; what the process takes is read from the kernel. Never frees anything: workers do.

use crate::config::{Config, LEAST_STATE_BYTES};

/// What the configuration allows, bytes.
#[derive(Clone, Copy, Debug)]
pub struct MemoryPlan {
    limit: usize,
    headroom: usize,
    fixed: usize,
    state: usize,
}

impl MemoryPlan {
    /// From `[limits]`.
    pub fn new(config: &Config) -> Self {
        MemoryPlan {
            limit: config.limits.memory_bytes,
            headroom: config.limits.headroom_bytes(),
            fixed: config.limits.fixed_bytes(config.pipeline.workers),
            state: config.limits.state_bytes,
        }
    }

    /// How much memory the state of the whole process may use, when the process takes `resident`, state has taken `allocated` of it and `vacant` of that is
    /// free places, bytes.
    ///
    /// Queues count as full although they seldom are: memory that state has taken does not come back when an outage fills them. For the same
    /// reason places that left free are no room for others. The headroom stays free for what comes between two looks, and a quarter of
    /// the rest at least for state that has changed and cannot leave before it is cut. Whatever was seen so far, state that comes and goes costs
    /// half as much again in the allocator: a restore fills the memory before that shows.
    pub fn state_bytes(&self, resident: usize, allocated: usize, vacant: usize) -> usize {
        let all = self.limit.saturating_sub(self.headroom);
        let seen = state_of(all.saturating_sub(resident.saturating_sub(allocated)), vacant);
        let expected = state_of(all.saturating_sub(self.fixed), vacant) / 3 * 2;
        seen.min(expected).max(LEAST_STATE_BYTES).min(self.state)
    }
}

/// Of what others leave.
fn state_of(room: usize, vacant: usize) -> usize {
    room.saturating_sub(vacant.max(room / 4))
}

/// Resident memory of this process, bytes; `None` where the kernel does not say.
pub fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: usize = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kibibytes * 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;
    const PLAN: MemoryPlan = MemoryPlan { limit: 1_024 * MIB, headroom: 128 * MIB, fixed: 352 * MIB, state: 4_096 * MIB };

    #[test]
    fn state_gets_what_full_queues_leave() {
        assert_eq!(PLAN.state_bytes(200 * MIB, 80 * MIB, 0), (896 - 352) / 2 * MIB);
        assert_eq!(PLAN.state_bytes(800 * MIB, 500 * MIB, 394 * MIB), 100 * MIB);
    }

    #[test]
    fn state_gets_less_when_the_process_takes_more_than_its_queues() {
        assert_eq!(PLAN.state_bytes(900 * MIB, 300 * MIB, 10 * MIB), (896 - 600) / 4 * 3 * MIB);
        assert_eq!(PLAN.state_bytes(900 * MIB, 300 * MIB, 200 * MIB), (896 - 600 - 200) * MIB);
    }

    #[test]
    fn state_gets_no_more_than_its_own_limit_and_never_nothing() {
        let plan = MemoryPlan { state: 64 * MIB, ..PLAN };
        assert_eq!(plan.state_bytes(200 * MIB, 80 * MIB, 0), 64 * MIB);
        assert_eq!(PLAN.state_bytes(4_000 * MIB, 80 * MIB, 0), LEAST_STATE_BYTES);
    }

    #[test]
    fn the_kernel_says_what_this_process_takes() {
        assert!(resident_bytes().is_some_and(|bytes| bytes > MIB));
    }
}
