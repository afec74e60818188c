//! The demo's path: from nothing to an audited set of tables, on a terminal and without one, and what is left when it ends early.

mod common;

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result, ensure};
use common::stack::fresh_dir;
use common::{DEADLINE, wait_until};

/// A demo under way, with everything it prints.
struct Demo {
    child: Child,
    printed: Arc<Mutex<Vec<u8>>>,
    reader: std::thread::JoinHandle<()>,
    /// Its temporary directory: what it leaves behind is there.
    temporary: PathBuf,
}

/// The program beside the one under test. Cargo builds it with the workspace's tests, but not with this test alone.
fn onecode_local() -> Result<PathBuf> {
    let program = Path::new(env!("CARGO_BIN_EXE_onecode")).with_file_name("onecode-local");
    ensure!(program.is_file(), "{} is missing: build with --workspace", program.display());
    Ok(program)
}

impl Demo {
    fn start(name: &str, program: impl AsRef<OsStr>, arguments: &[&str]) -> Result<Demo> {
        let temporary = fresh_dir(name)?;
        let mut command = Command::new(program);
        command.args(arguments).env("TMPDIR", &temporary).env("TERM", "xterm").env("NO_COLOR", "1");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let mut output = child.stdout.take().context("no standard output")?;
        let printed = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&printed);
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                shared.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..length]);
            }
        });
        Ok(Demo { child, printed, reader, temporary })
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.printed.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }

    fn wait_for_text(&mut self, text: &str) -> Result<()> {
        let has_it = wait_until(&format!("{text:?} in the demo's output"), DEADLINE, || Ok(self.text().contains(text)));
        has_it.with_context(|| self.text())
    }

    /// Waits for its end, and checks that nothing it started runs any more. Returns the exit code and what it printed.
    fn finish(mut self) -> Result<(i32, String)> {
        let ended = onecode_local::wait_for("the end of the demo", DEADLINE, || Ok(self.child.try_wait()?));
        let status = ended.with_context(|| self.text())?;
        ensure!(status.signal().is_none(), "ended by a signal: {status}\n{}", self.text());
        wait_until("the end of all that the demo started", DEADLINE, || Ok(processes_that_mention(&self.temporary).is_empty()))?;
        self.reader.join().map_err(|_| anyhow::anyhow!("reading the demo's output panicked"))?;
        let printed = String::from_utf8_lossy(&self.printed.lock().unwrap_or_else(PoisonError::into_inner)).into_owned();
        Ok((status.code().unwrap_or(-1), printed))
    }
}

/// Ids of processes with the directory in their command line.
fn processes_that_mention(dir: &Path) -> Vec<u32> {
    let wanted = dir.as_os_str().as_encoded_bytes();
    let ids = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mentions =
        |id: &u32| std::fs::read(format!("/proc/{id}/cmdline")).is_ok_and(|line| line.windows(wanted.len()).any(|part| part == wanted));
    ids.filter(mentions).collect()
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    std::fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
}

#[test]
fn without_a_terminal_it_shows_figures_survives_a_kill_ends_exact_and_keeps_what_is_asked_for() -> Result<()> {
    let demo = Demo::start("plain", onecode_local()?, &["demo", "--seconds", "8", "--rate", "1500", "--kill", "--keep-data"])?;
    let temporary = demo.temporary.clone();
    let (code, printed) = demo.finish()?;
    ensure!(code == 0, "exit code {code}:\n{printed}");
    for part in [
        "events in 12,000,",
        "kill -9 of the pipeline",
        "audit: 0 differences",
        "The audit found no difference.",
        "Best customers",
        "Tiers by net value",
        "Top word-of-mouth",
        "referred_new_share",
        "Top sharers",
        "The biggest tree",
        "tree of o",
        "├─ o",
        "v_activity_minute",
        "/status",
        "dead-letter list",
    ] {
        assert!(printed.contains(part), "{part:?} is missing:\n{printed}");
    }
    assert!(!printed.contains('\u{1b}'), "an escape code without a terminal:\n{printed}");
    let kept = entries(&temporary)?;
    let [kept] = kept.as_slice() else { anyhow::bail!("kept {kept:?}") };
    assert!(printed.contains(&format!("are kept in {}", kept.display())), "{printed}");
    for file in ["onecode.toml", "kafka/data/meta.properties", "clickhouse/data"] {
        assert!(kept.join(file).exists(), "{file} was not kept");
    }
    Ok(())
}

#[test]
fn on_a_terminal_it_draws_in_place_and_stays_up_until_ctrl_c() -> Result<()> {
    // `exec`, because a shell that waits for the demo dies of the Ctrl-C itself, and `script` tells its end (which shell: $SHELL).
    let command = format!("exec {} demo --seconds 4 --rate 1000", onecode_local()?.display());
    let mut demo = Demo::start("terminal", "script", &["-qec", &command, "/dev/null"])?;
    demo.wait_for_text("until Ctrl-C")?;
    let printed = demo.text();
    let config = printed.split("--config ").nth(1).and_then(|rest| rest.split_whitespace().next()).context("no configuration named")?;
    let status = common::pipeline::run_to_end(&["check", "--config", config])?;
    assert_eq!(status.code, 0, "the stack is not up: {status}");
    demo.child.stdin.take().context("no standard input")?.write_all(b"\x03")?;
    let temporary = demo.temporary.clone();
    let (code, printed) = demo.finish()?;
    ensure!(code == 0, "exit code {code}:\n{printed}");
    assert!(printed.contains("\u{1b}[6A\u{1b}[J"), "nothing was drawn in place:\n{printed}");
    assert!(!printed.contains("\u{1b}[1m"), "NO_COLOR was set:\n{printed}");
    assert_eq!(entries(&temporary)?, [] as [PathBuf; 0], "left behind");
    Ok(())
}

#[test]
fn an_interrupted_demo_ends_at_once_and_leaves_nothing_behind() -> Result<()> {
    let mut demo = Demo::start("interrupted", onecode_local()?, &["demo", "--seconds", "600", "--rate", "500"])?;
    demo.wait_for_text("events in")?;
    assert!(!processes_that_mention(&demo.temporary).is_empty(), "servers are not found by their directory");
    let interrupted = Command::new("kill").args(["-INT", &demo.child.id().to_string()]).status()?;
    ensure!(interrupted.success(), "kill failed: {interrupted}");
    let temporary = demo.temporary.clone();
    let (code, printed) = demo.finish()?;
    assert_eq!(code, 130, "{printed}");
    assert_eq!(entries(&temporary)?, [] as [PathBuf; 0], "left behind");
    Ok(())
}
