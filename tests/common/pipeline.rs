//! The real binary as a child process: run to its end, or running until a test kills it.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use onecode_local::supervise::{Program, Supervised};

use super::DEADLINE;

const BINARY: &str = env!("CARGO_BIN_EXE_onecode");
const HTTP_TIMEOUT: Duration = Duration::from_secs(10);

/// A command that has ended.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Its exit code.
    pub code: i32,
    /// What it printed on standard output.
    pub stdout: String,
    /// What it printed on standard error.
    pub stderr: String,
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {}\n{}{}", self.code, self.stdout, self.stderr)
    }
}

/// Runs `onecode ARGUMENTS` to its end.
///
/// # Errors
/// When it does not end within the deadline; then it is killed.
pub fn run_to_end(arguments: &[&str]) -> Result<Finished> {
    run_to_end_within(DEADLINE, arguments)
}

/// As [`run_to_end`], for what takes longer.
///
/// # Errors
/// As [`run_to_end`].
pub fn run_to_end_within(deadline: Duration, arguments: &[&str]) -> Result<Finished> {
    // Files instead of pipes: what a command prints has no limit, and nobody needs to read it meanwhile.
    let (stdout, stderr) = (tempfile::NamedTempFile::new()?, tempfile::NamedTempFile::new()?);
    let mut command = Command::new(BINARY);
    command.args(arguments).stdin(Stdio::null()).stdout(stdout.reopen()?).stderr(stderr.reopen()?);
    let mut child = command.spawn().context("cannot start onecode")?;
    let ended = onecode_local::wait_for(&format!("the end of onecode {}", arguments.join(" ")), deadline, || Ok(child.try_wait()?));
    let read =
        |file: &tempfile::NamedTempFile| -> Result<String> { Ok(String::from_utf8_lossy(&std::fs::read(file.path())?).into_owned()) };
    match ended {
        Ok(status) => Ok(Finished { code: status.code().unwrap_or(-1), stdout: read(&stdout)?, stderr: read(&stderr)? }),
        Err(timeout) => {
            child.kill()?;
            child.wait()?;
            Err(timeout).context(format!("it printed:\n{}{}", read(&stdout)?, read(&stderr)?))
        }
    }
}

/// A running `onecode run`. Dropping it kills the process; when a test panics, the end of its log is printed.
#[derive(Debug)]
pub struct Pipeline {
    process: RefCell<Supervised>,
    address: String,
    log: PathBuf,
}

impl Pipeline {
    /// Starts `onecode run --config CONFIG ARGUMENTS`; standard output and standard error go to a log of its own in `dir`.
    pub(super) fn spawn(
        dir: &Path,
        instance: usize,
        config: &Path,
        address: &str,
        arguments: &[&str],
        environment: &[(&str, &str)],
    ) -> Result<Pipeline> {
        let log = (1..).map(|start| dir.join(format!("onecode-{instance}-{start}.log"))).find(|log| !log.exists());
        let log = log.context("no name for a log is left")?;
        let mut all = vec!["run".into(), "--config".into(), config.into()];
        all.extend(arguments.iter().map(std::ffi::OsString::from));
        let program = Program {
            name: "onecode".to_owned(),
            executable: BINARY.into(),
            arguments: all,
            environment: environment.iter().map(|(variable, value)| ((*variable).to_owned(), (*value).to_owned())).collect(),
            log: log.clone(),
            scratch: None,
        };
        let process = RefCell::new(Supervised::spawn(&program)?);
        Ok(Pipeline { process, address: address.to_owned(), log })
    }

    /// Waits until `/readyz` says so.
    pub fn wait_ready(&self) -> Result<()> {
        onecode_local::wait_for("readiness of onecode", DEADLINE, || {
            if let Some(code) = self.exit_code()? {
                bail!("onecode ended with exit code {code}:\n{}", self.log_text());
            }
            Ok(self.get("/readyz").ok())
        })
        .with_context(|| format!("log: {}", self.log.display()))?;
        Ok(())
    }

    /// The body of a page.
    ///
    /// # Errors
    /// When it does not answer, or not with success.
    pub fn get(&self, path: &str) -> Result<String> {
        let config = ureq::Agent::config_builder().timeout_global(Some(HTTP_TIMEOUT)).http_status_as_error(false).build();
        let mut answer = config.new_agent().get(format!("http://{}{path}", self.address)).call()?;
        let text = answer.body_mut().read_to_string()?;
        ensure!(answer.status().is_success(), "{path} answered {}: {text}", answer.status());
        Ok(text)
    }

    /// `/status`.
    pub fn status(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.get("/status")?).context("/status is no JSON")
    }

    /// `/metrics`.
    pub fn metrics(&self) -> Result<String> {
        self.get("/metrics")
    }

    /// The sum over all series of a metric, or of those whose labels contain each of `labels` (e.g. `topic="scans"`); 0 when
    /// there is none.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Result<f64> {
        let mut sum = 0.0;
        for line in self.metrics()?.lines() {
            let Some(rest) = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' '])) else { continue };
            let (series, value) = rest.rsplit_once(' ').with_context(|| format!("no value in {line:?}"))?;
            if labels.iter().all(|label| series.contains(label)) {
                sum += value.parse::<f64>().with_context(|| format!("no number in {line:?}"))?;
            }
        }
        Ok(sum)
    }

    /// The exit code, if it has ended.
    pub fn exit_code(&self) -> Result<Option<i32>> {
        self.process.borrow_mut().exit_code()
    }

    /// Waits for its end and returns the exit code.
    pub fn wait_for_exit(&self) -> Result<i32> {
        self.process.borrow_mut().wait_for_exit(DEADLINE)
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&self) -> Result<()> {
        self.process.borrow_mut().kill()
    }

    /// SIGTERM, and returns the exit code.
    pub fn terminate(&self) -> Result<i32> {
        self.process.borrow_mut().terminate(DEADLINE)
    }

    /// SIGTERM, and does not wait.
    pub fn request_end(&self) -> Result<()> {
        self.process.borrow_mut().request_end()
    }

    /// SIGSTOP.
    pub fn pause(&self) -> Result<()> {
        self.process.borrow_mut().pause()
    }

    /// SIGCONT.
    pub fn resume(&self) -> Result<()> {
        self.process.borrow_mut().resume()
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.borrow().pid()
    }

    /// Everything it has printed.
    pub fn log_text(&self) -> String {
        std::fs::read(&self.log).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let text = self.log_text();
            let lines: Vec<&str> = text.lines().collect();
            let last = lines.iter().skip(lines.len().saturating_sub(40)).copied().collect::<Vec<_>>();
            eprintln!("the end of {}:\n{}", self.log.display(), last.join("\n"));
        }
    }
}
