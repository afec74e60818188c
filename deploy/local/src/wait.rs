//! Waiting for a condition with a deadline. Owns the polling rhythm; never sleeps past the deadline without a last look.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// Returns what `poll` finds as soon as it finds something.
///
/// # Errors
/// The first error of `poll`, or one that names `what` when nothing was found within `deadline`.
pub fn wait_for<T>(what: &str, deadline: Duration, mut poll: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    loop {
        let too_late = started.elapsed() >= deadline;
        if let Some(found) = poll().with_context(|| format!("while waiting for {what}"))? {
            return Ok(found);
        }
        if too_late {
            bail!("{what} did not happen within {deadline:?}");
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
