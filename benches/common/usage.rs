//! What processes have used so far, from `/proc`.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::servers::Servers;

const CLOCK_TICKS_PER_SECOND: f64 = 100.0;
const BYTES_PER_BLOCK: u64 = 512;

/// Processor time of the two servers, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct ServersCpu {
    pub clickhouse_s: f64,
    pub broker_s: f64,
}

impl ServersCpu {
    /// Up to now.
    pub fn now(servers: &Servers) -> Result<Self> {
        Ok(ServersCpu { clickhouse_s: cpu_s(servers.clickhouse.pid()?)?, broker_s: cpu_s(servers.kafka.pid()?)? })
    }

    /// Since `before`.
    pub fn since(self, before: ServersCpu) -> Self {
        ServersCpu { clickhouse_s: self.clickhouse_s - before.clickhouse_s, broker_s: self.broker_s - before.broker_s }
    }
}

fn stat_fields(process: u32) -> Result<Vec<String>> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).with_context(|| format!("process {process} is gone"))?;
    let (_, after_name) = stat.rsplit_once(')').context("no name in /proc stat")?;
    Ok(after_name.split_whitespace().map(str::to_owned).collect())
}

/// User and system time of a process (fields 14 and 15 of its `stat`, in clock ticks), also when it has ended and nobody waited for it.
pub fn cpu_s(process: u32) -> Result<f64> {
    let fields = stat_fields(process)?;
    let ticks = |field: usize| -> Result<f64> { Ok(fields.get(field).context("short /proc stat")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / CLOCK_TICKS_PER_SECOND)
}

/// Whether a child has ended, without waiting for it.
pub fn has_ended(process: u32) -> Result<bool> {
    Ok(stat_fields(process)?.first().is_some_and(|state| state == "Z"))
}

/// The most memory that a running process had resident, since its start or since [`forget_peak`].
pub fn peak_rss_bytes(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}

/// Lets the peak of a process's memory begin anew.
pub fn forget_peak(process: u32) -> Result<()> {
    std::fs::write(format!("/proc/{process}/clear_refs"), "5").context("the peak of a process's memory cannot be set back")
}

/// Bytes that the files of a directory take on the disk; files that vanish meanwhile count nothing.
pub fn allocated_bytes(dir: &Path) -> Result<u64> {
    let mut bytes = 0;
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(0) };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            bytes += allocated_bytes(&path)?;
        } else if let Ok(metadata) = path.metadata() {
            bytes += metadata.blocks() * BYTES_PER_BLOCK;
        }
    }
    Ok(bytes)
}
