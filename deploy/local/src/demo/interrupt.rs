//! Ctrl-C and SIGTERM: the first asks for an orderly end, the second ends the process at once. Servers end in either case, since
//! they do not outlive this process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// The exit code of what was ended by Ctrl-C, as shells have it.
pub const INTERRUPTED_EXIT_CODE: u8 = 128 + 2;

const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// The work was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Whether the end was asked for.
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Begins to listen for the two signals.
    ///
    /// # Errors
    /// When the system does not let it.
    pub fn listen() -> Result<Interrupt> {
        let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot listen for Ctrl-C")?;
        let asked = Arc::new(AtomicBool::new(false));
        let shared = Arc::clone(&asked);
        std::thread::spawn(move || {
            for _ in signals.forever() {
                if shared.swap(true, Ordering::SeqCst) {
                    std::process::exit(INTERRUPTED_EXIT_CODE.into());
                }
            }
        });
        Ok(Interrupt(asked))
    }

    /// Fails as soon as the end was asked for.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub fn check(&self) -> Result<(), Interrupted> {
        if self.0.load(Ordering::SeqCst) { Err(Interrupted) } else { Ok(()) }
    }

    /// Waits, unless the end is asked for.
    ///
    /// # Errors
    /// [`Interrupted`].
    pub fn wait(&self, time: Duration) -> Result<(), Interrupted> {
        let until = Instant::now() + time;
        loop {
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK_INTERVAL));
        }
    }
}
