//! Free TCP ports for several stacks at once.
//!
//! Asking the system for "any free port" races with everybody else who asks before the server has bound it. Here a port is
//! taken from a range below the system's ephemeral ports and stays reserved by a file lock for as long as the [`Port`] lives,
//! so that a server can be restarted on it and no other stack of this user gets it meanwhile.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::ops::Range;

use anyhow::{Context as _, Result, bail};

use crate::install::cache_dir;

const RANGE: Range<u16> = 21_000..31_000;

/// A reserved port of 127.0.0.1.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: Option<File>,
}

impl Port {
    /// Reserves `wanted`, or any free port if it is 0.
    ///
    /// # Errors
    /// When `wanted` is in use, or no port of the range is free.
    pub fn reserve(wanted: u16) -> Result<Self> {
        if wanted != 0 {
            TcpListener::bind(("127.0.0.1", wanted)).with_context(|| format!("port {wanted} is in use; choose another one"))?;
            return Ok(Self { number: wanted, _lock: None });
        }
        let locks = cache_dir()?.join("ports");
        std::fs::create_dir_all(&locks).with_context(|| format!("cannot create {}", locks.display()))?;
        // Processes start their search at different places, so that they rarely meet.
        let width = RANGE.end - RANGE.start;
        let first = u16::try_from(std::process::id() % u32::from(width / 16)).unwrap_or(0) * 16;
        for step in 0..width {
            let number = RANGE.start + (first + step) % width;
            let path = locks.join(number.to_string());
            let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
            let lock = lock.with_context(|| format!("cannot open {}", path.display()))?;
            if lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok() {
                return Ok(Self { number, _lock: Some(lock) });
            }
        }
        bail!("no free port between {} and {}", RANGE.start, RANGE.end);
    }

    /// The port's number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_differ_and_a_used_port_is_refused() -> Result<()> {
        let reserved = (0..40).map(|_| Port::reserve(0)).collect::<Result<Vec<_>>>()?;
        let distinct: std::collections::BTreeSet<u16> = reserved.iter().map(Port::number).collect();
        assert_eq!(distinct.len(), reserved.len());
        let in_use = TcpListener::bind(("127.0.0.1", 0))?;
        assert!(Port::reserve(in_use.local_addr()?.port()).is_err());
        Ok(())
    }
}
