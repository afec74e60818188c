//! A child process that cannot outlive this one, and that signals reach directly.
//!
//! A small shell script (`keeper.sh`) stands between: it starts the program, tells its process id, and kills it when the pipe
//! from this process ends. That also happens when this process is killed, so nothing stays behind. The keeper is in a process
//! group of its own: Ctrl-C on a terminal reaches this process alone, which then stops its children in order.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait::wait_for;

const KEEPER: &str = include_str!("keeper.sh");
const KILL_DEADLINE: Duration = Duration::from_secs(20);

/// What to run and where its output goes.
#[derive(Clone, Debug)]
pub struct Program {
    /// The name in messages, e.g. `Kafka`.
    pub name: String,
    /// The executable; looked up in `PATH` when it has no slash.
    pub executable: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Environment variables on top of this process's own.
    pub environment: Vec<(String, String)>,
    /// Standard output and standard error are appended here.
    pub log: PathBuf,
    /// A directory to remove when this process is gone while the program still runs.
    pub scratch: Option<PathBuf>,
}

/// A running, or meanwhile ended, [`Program`]. Dropping it kills the program.
#[derive(Debug)]
pub struct Supervised {
    name: String,
    log: PathBuf,
    keeper: Child,
    pid: Pid,
    exit_code: Option<i32>,
}

impl Supervised {
    /// Starts the program.
    ///
    /// # Errors
    /// When the shell cannot be started or the log cannot be written. A program that does not exist shows as exit code 127, and in its log.
    pub fn spawn(program: &Program) -> Result<Self> {
        let name = program.name.clone();
        let log = OpenOptions::new().create(true).append(true).open(&program.log);
        log.with_context(|| format!("cannot write the log {}", program.log.display()))?;
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&program.log)
            .arg(program.scratch.as_deref().unwrap_or_else(|| Path::new("")))
            .arg(&program.executable)
            .args(&program.arguments)
            .envs(program.environment.iter().map(|(variable, value)| (variable, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start a shell for {name}"))?;
        let mut first_line = String::new();
        let output = keeper.stdout.take().context("the keeper has no standard output")?;
        BufReader::new(output).read_line(&mut first_line).with_context(|| format!("cannot read the process id of {name}"))?;
        let pid = first_line.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.with_context(|| format!("{name} was not started; see {}", program.log.display()))?;
        Ok(Self { name, log: program.log.clone(), keeper, pid, exit_code: None })
    }

    /// The program's own process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Where standard output and standard error go.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Returns the exit code if the program has ended; 128 + n after signal n.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn exit_code(&mut self) -> Result<Option<i32>> {
        if self.exit_code.is_none() {
            let status = self.keeper.try_wait().with_context(|| format!("cannot ask for the state of {}", self.name))?;
            self.exit_code = status.map(|status| status.code().unwrap_or(-1));
        }
        Ok(self.exit_code)
    }

    /// Waits for the program's end and returns its exit code.
    ///
    /// # Errors
    /// When it still runs after `deadline`.
    pub fn wait_for_exit(&mut self, deadline: Duration) -> Result<i32> {
        wait_for(&format!("the end of {} (log: {})", self.name, self.log.display()), deadline, || self.exit_code())
    }

    /// Ends the program at once with SIGKILL, as a crash would, and waits until it is gone.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn kill(&mut self) -> Result<()> {
        self.send(Signal::KILL)?;
        self.wait_for_exit(KILL_DEADLINE).map(drop)
    }

    /// Asks the program to end with SIGTERM and returns its exit code.
    ///
    /// # Errors
    /// When it still runs after `deadline`.
    pub fn terminate(&mut self, deadline: Duration) -> Result<i32> {
        self.request_end()?;
        self.wait_for_exit(deadline)
    }

    /// Sends SIGTERM and does not wait.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn request_end(&mut self) -> Result<()> {
        self.send(Signal::TERM)
    }

    /// Freezes the program with SIGSTOP and waits until it stands still.
    ///
    /// # Errors
    /// When it has already ended.
    pub fn pause(&mut self) -> Result<()> {
        self.send_to_running(Signal::STOP)?;
        wait_for(&format!("the halt of {}", self.name), KILL_DEADLINE, || Ok((self.state()? == 'T').then_some(())))
    }

    /// The letter that stands for the process's state in `/proc`.
    fn state(&self) -> Result<char> {
        let path = format!("/proc/{}/stat", self.pid());
        let stat = std::fs::read_to_string(&path).with_context(|| format!("{} has ended", self.name))?;
        // The name before it, in parentheses, may contain anything.
        let after_name = stat.rsplit(") ").next().unwrap_or_default();
        after_name.chars().next().with_context(|| format!("{path} is not as expected"))
    }

    /// Lets a frozen program go on with SIGCONT.
    ///
    /// # Errors
    /// When it has already ended.
    pub fn resume(&mut self) -> Result<()> {
        self.send_to_running(Signal::CONT)
    }

    fn send_to_running(&mut self, signal: Signal) -> Result<()> {
        if let Some(code) = self.exit_code()? {
            bail!("{} has already ended with exit code {code}; see {}", self.name, self.log.display());
        }
        self.send(signal)
    }

    fn send(&mut self, signal: Signal) -> Result<()> {
        if self.exit_code()?.is_some() {
            return Ok(());
        }
        match kill_process(self.pid, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot send signal {} to {}", signal.as_raw(), self.name)),
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        // The keeper kills the program when its standard input ends, which `wait` sees to; nobody is left to tell of an error.
        drop(self.keeper.wait());
    }
}
