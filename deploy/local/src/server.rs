//! What the three servers have in common: a directory, a reserved port, a start that waits for an answer, and the signals.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::ports::Port;
use crate::supervise::{Program, Supervised};
use crate::wait::wait_for;

const START_DEADLINE: Duration = Duration::from_secs(120);
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// How to start a server and how to see that it answers.
pub(crate) trait Launch {
    /// The server's name in messages.
    const NAME: &'static str;

    /// Writes its configuration and returns the program that runs it; `log` is where its output goes.
    fn program(&self, port: u16, log: &Path) -> Result<Program>;

    /// True when the server answers.
    fn answers(&self, port: u16, log: &Path) -> bool;
}

/// A server on this machine, running or not. Shared between threads; dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Server<L: Launch> {
    launch: L,
    dir: PathBuf,
    scratch: Option<PathBuf>,
    port: Port,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    running: Option<Supervised>,
    starts: u32,
}

impl<L: Launch> Server<L> {
    /// Starts the server in `dir` on a reserved port; `scratch` is removed at the end.
    pub(crate) fn start(launch: L, dir: PathBuf, port: Port, scratch: Option<PathBuf>) -> Result<Self> {
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let server = Self { launch, dir, scratch, port, state: Mutex::default() };
        server.start_again()?;
        Ok(server)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    pub(crate) fn launch(&self) -> &L {
        &self.launch
    }

    /// Starts the stopped or killed server on the same directory and port.
    pub(crate) fn start_again(&self) -> Result<()> {
        let mut state = self.lock();
        if let Some(running) = state.running.as_mut()
            && running.exit_code()?.is_none()
        {
            bail!("{} already runs", L::NAME);
        }
        state.running = None;
        state.starts += 1;
        // A log of its own for each start, so that the look for a start's traces cannot find an older one's.
        let log = self.dir.join(format!("server-{}.log", state.starts));
        if log.exists() {
            std::fs::remove_file(&log).with_context(|| format!("cannot replace {}", log.display()))?;
        }
        let mut program = self.launch.program(self.port.number(), &log)?;
        program.scratch = self.scratch.clone();
        let mut supervised = Supervised::spawn(&program)?;
        wait_for(&format!("an answer of {} (log: {})", L::NAME, log.display()), START_DEADLINE, || {
            if let Some(code) = supervised.exit_code()? {
                bail!("{} ended with exit code {code} instead of starting:\n{}", L::NAME, last_lines(&log));
            }
            Ok(self.launch.answers(self.port.number(), &log).then_some(()))
        })?;
        state.running = Some(supervised);
        Ok(())
    }

    /// Ends the server at once, as a crash would.
    pub(crate) fn kill(&self) -> Result<()> {
        self.with_running(Supervised::kill)
    }

    /// Ends the server in order; after a deadline it is killed, which is an error.
    pub(crate) fn stop(&self) -> Result<()> {
        self.with_running(|running| running.terminate(STOP_DEADLINE).map(drop))
    }

    pub(crate) fn pause(&self) -> Result<()> {
        self.with_running(Supervised::pause)
    }

    pub(crate) fn resume(&self) -> Result<()> {
        self.with_running(Supervised::resume)
    }

    pub(crate) fn pid(&self) -> Result<u32> {
        self.with_running(|running| Ok(running.pid()))
    }

    fn with_running<T>(&self, action: impl FnOnce(&mut Supervised) -> Result<T>) -> Result<T> {
        let mut state = self.lock();
        action(state.running.as_mut().with_context(|| format!("{} was not started", L::NAME))?)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of another test in between leaves the process handle as it was.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<L: Launch> Drop for Server<L> {
    fn drop(&mut self) {
        self.state.get_mut().unwrap_or_else(PoisonError::into_inner).running = None;
        if let Some(scratch) = &self.scratch {
            // What cannot be removed stays in a temporary directory.
            drop(std::fs::remove_dir_all(scratch));
        }
    }
}

/// The directory to remove at the end, if the server's data is not to be kept.
pub(crate) fn scratch(data: &Path, keep_data: bool) -> Option<PathBuf> {
    (!keep_data).then(|| data.to_owned())
}

/// The end of a log, for messages.
pub(crate) fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(20)).copied().collect::<Vec<_>>().join("\n")
}
