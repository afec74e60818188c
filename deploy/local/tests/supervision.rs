//! No server outlives its parent, and signals reach the server itself.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use onecode_local::supervise::{Program, Supervised};
use onecode_local::wait_for;

const DEADLINE: Duration = Duration::from_secs(60);

fn shell(dir: &Path, script: &str) -> Program {
    Program {
        name: "a script".to_owned(),
        executable: "sh".into(),
        arguments: vec!["-c".into(), script.into()],
        environment: vec![("GREETING".to_owned(), "hello".to_owned())],
        log: dir.join("log"),
        scratch: None,
    }
}

fn is_alive(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    state.is_ok_and(|state| !state.contains(") Z "))
}

#[test]
fn exit_codes_and_output_are_passed_on() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut script = Supervised::spawn(&shell(dir.path(), "echo $GREETING; echo world >&2; exit 7"))?;
    assert_eq!(script.wait_for_exit(DEADLINE)?, 7);
    assert_eq!(std::fs::read_to_string(dir.path().join("log"))?, "hello\nworld\n");
    assert!(script.pause().is_err(), "an ended program cannot be paused");

    let mut script = Supervised::spawn(&shell(dir.path(), "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"))?;
    onecode_local::wait_for("the trap", DEADLINE, || Ok(std::fs::read_to_string(dir.path().join("log"))?.contains("ready").then_some(())))?;
    assert_eq!(script.exit_code()?, None);
    script.pause()?;
    script.resume()?;
    assert_eq!(script.terminate(DEADLINE)?, 3);

    let mut script = Supervised::spawn(&shell(dir.path(), "exec sleep 1000"))?;
    script.kill()?;
    assert_eq!(script.exit_code()?, Some(128 + 9));
    Ok(())
}

#[test]
fn dropping_the_handle_kills_even_a_paused_program() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut script = Supervised::spawn(&shell(dir.path(), "exec sleep 1000"))?;
    let pid = script.pid();
    script.pause()?;
    drop(script);
    assert!(!is_alive(pid));
    Ok(())
}

#[test]
fn servers_and_their_scratch_data_go_when_the_parent_is_killed() -> Result<()> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut parent = Command::new(env!("CARGO_BIN_EXE_onecode-local"))
        .args(["up", "--without-prometheus", "--discard-data", "--dir"])
        .arg(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = parent.stdout.take().context("no output")?;
    if !BufReader::new(output).lines().map_while(Result::ok).any(|line| line.contains("Ctrl-C")) {
        bail!("the stack did not come up");
    }
    let env = std::fs::read_to_string(dir.path().join("env"))?;
    let address = env.lines().find_map(|line| line.strip_prefix("export ONECODE_KAFKA__BROKERS=")).context("no Kafka address")?;
    std::net::TcpStream::connect(address)?;

    parent.kill()?;
    parent.wait()?;
    wait_for("the servers' end", DEADLINE, || {
        let data_left = ["kafka/data", "clickhouse/data"].iter().any(|data| dir.path().join(data).exists());
        Ok((std::net::TcpStream::connect(address).is_err() && !data_left).then_some(()))
    })
}

#[test]
fn a_terminated_stack_stops_in_order_and_keeps_its_data() -> Result<()> {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut program = shell(dir.path(), "");
    program.executable = env!("CARGO_BIN_EXE_onecode-local").into();
    program.arguments = vec!["up".into(), "--dir".into(), dir.path().into()];
    let mut stack = Supervised::spawn(&program)?;
    wait_for("the stack", DEADLINE, || {
        if let Some(code) = stack.exit_code()? {
            bail!("the stack ended with exit code {code}: {}", std::fs::read_to_string(dir.path().join("log"))?);
        }
        Ok(std::fs::read_to_string(dir.path().join("log"))?.contains("Ctrl-C").then_some(()))
    })?;
    assert_eq!(stack.terminate(DEADLINE)?, 0);
    assert!(dir.path().join("kafka/data/meta.properties").is_file());
    assert!(dir.path().join("clickhouse/data").is_dir());
    Ok(())
}
