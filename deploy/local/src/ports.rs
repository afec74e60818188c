//! Free TCP ports for several stacks at once.
//!
//! Asking the system for "any free port" races with everybody else who asks before the server has bound it. Here a port is
//! taken from a range below the system's ephemeral ports and stays reserved by a file lock for as long as the [`Port`] lives,
//! so that a server can be restarted on it and no other stack of this user gets it meanwhile.

use std::fs::{File, OpenOptions};
use std::net::TcpListener;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::install::cache_dir;

const RANGE: Range<u16> = 21_000..31_000;

/// A reserved port of 127.0.0.1.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves `wanted`, or any free port if it is 0.
    ///
    /// # Errors
    /// When `wanted` is in use, or no port of the range is free.
    pub fn reserve(wanted: u16) -> Result<Self> {
        let locks = locks_dir()?;
        if wanted != 0 {
            return Port::take(&locks, wanted)?.with_context(|| format!("port {wanted} is in use; choose another one"));
        }
        // Processes start their search at different places, so that they rarely meet.
        let width = RANGE.end - RANGE.start;
        let first = u16::try_from(std::process::id() % u32::from(width / 16)).unwrap_or(0) * 16;
        for step in 0..width {
            if let Some(port) = Port::take(&locks, RANGE.start + (first + step) % width)? {
                return Ok(port);
            }
        }
        bail!("no free port between {} and {}", RANGE.start, RANGE.end);
    }

    /// Reserves the usual port of something, or any free one if that is in use.
    ///
    /// # Errors
    /// When no port is free.
    pub fn reserve_usual(usual: u16) -> Result<Self> {
        match Port::take(&locks_dir()?, usual)? {
            Some(port) => Ok(port),
            None => Port::reserve(0),
        }
    }

    fn take(locks: &Path, number: u16) -> Result<Option<Self>> {
        let path = locks.join(number.to_string());
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        let lock = lock.with_context(|| format!("cannot open {}", path.display()))?;
        let is_free = lock.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", number)).is_ok();
        Ok(is_free.then_some(Self { number, _lock: lock }))
    }

    /// The port's number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }
}

fn locks_dir() -> Result<PathBuf> {
    let locks = cache_dir()?.join("ports");
    std::fs::create_dir_all(&locks).with_context(|| format!("cannot create {}", locks.display()))?;
    Ok(locks)
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

    /// Its port is outside of what others reserve: between finding it free and reserving it, nobody else may take it.
    #[test]
    fn a_usual_port_goes_to_one_and_others_get_another() -> Result<()> {
        let locks = locks_dir()?;
        let outside = (RANGE.start - 1_000..RANGE.start).find_map(|number| Port::take(&locks, number).transpose());
        let first = outside.context("no free port below the range")??;
        let usual = first.number();
        assert!(Port::reserve(usual).is_err(), "reserved, though nobody listens yet");
        assert_ne!(Port::reserve_usual(usual)?.number(), usual);
        drop(first);
        assert_eq!(Port::reserve_usual(usual)?.number(), usual);
        Ok(())
    }
}
