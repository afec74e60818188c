//! Kafka Streams with `exactly_once_v2` and RocksDB (`streams/Counters.java`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onecode_local::install::cache_dir;

use super::common::load::TOPICS;
use super::common::onecode::terminate;
use super::common::servers::Servers;
use super::common::usage::{ServersCpu, allocated_bytes, has_ended, peak_rss_bytes};
use super::{Figure, System};

const POM: &str = include_str!("streams/pom.xml");
const PROGRAM: &str = include_str!("streams/Counters.java");
const PART: &str = "kafka-streams-4.1.1";
const LONGEST_RUN: Duration = Duration::from_secs(3_600);

/// Runs until so many records are committed.
pub fn run(servers: &Servers, application: &str, threads: u32, records: u64) -> Result<Figure> {
    let jars = jars()?;
    let classes = compiled(&servers.dir, &jars)?;
    let state = servers.dir.join(application);
    let broker_bytes = servers.broker_bytes()?;
    let before = ServersCpu::now(servers)?;
    let began = Instant::now();
    let mut command = Command::new("java");
    command.args(["-Xmx1g", "-cp", &format!("{}/*:{}", jars.display(), classes.display()), "Counters"]);
    command.args([&servers.kafka.bootstrap(), application]).arg(&state).arg(threads.to_string()).args(TOPICS);
    let mut child = command.stdin(Stdio::null()).spawn().context("java cannot be started")?;
    let (mut committed, mut peak) = (0, 0);
    let outcome = onecode_local::wait_for("the end of the topics", LONGEST_RUN, || {
        ensure!(!has_ended(child.id())?, "kafka streams has ended");
        peak = peak_rss_bytes(child.id())?;
        committed = servers.committed(application, &TOPICS)?;
        std::thread::sleep(Duration::from_millis(150));
        Ok((committed >= records).then_some(()))
    });
    let elapsed = began.elapsed();
    let process_cpu_s = terminate(child.id());
    child.wait()?;
    outcome?;
    Ok(Figure {
        system: System::KafkaStreams,
        events: committed,
        elapsed,
        process_cpu_s: process_cpu_s?,
        servers: ServersCpu::now(servers)?.since(before),
        peak_rss_bytes: peak,
        disk_bytes: allocated_bytes(&state)? + servers.broker_bytes()?.saturating_sub(broker_bytes),
    })
}

/// Kafka Streams and RocksDB, fetched once with Maven beside what the local stack keeps.
fn jars() -> Result<PathBuf> {
    let complete = cache_dir()?.join(PART);
    if complete.is_dir() {
        return Ok(complete.join("jars"));
    }
    eprintln!("installing Kafka Streams 4.1.1 with mvn (93 MB)");
    std::fs::create_dir_all(cache_dir()?)?;
    let unfinished = tempfile::Builder::new().prefix(PART).tempdir_in(cache_dir()?)?;
    std::fs::write(unfinished.path().join("pom.xml"), POM)?;
    let target = format!("-DoutputDirectory={}", unfinished.path().join("jars").display());
    let mut maven = Command::new("mvn");
    maven.args(["-q", "-B", "dependency:copy-dependencies", &target]).current_dir(unfinished.path()).stdin(Stdio::null());
    ensure!(maven.status().context("mvn cannot be started: install the package maven")?.success(), "mvn failed");
    std::fs::rename(unfinished.path(), &complete).with_context(|| format!("cannot create {}", complete.display()))?;
    Ok(complete.join("jars"))
}

fn compiled(dir: &Path, jars: &Path) -> Result<PathBuf> {
    let classes = dir.join("classes");
    std::fs::create_dir_all(&classes)?;
    let source = classes.join("Counters.java");
    std::fs::write(&source, PROGRAM)?;
    let mut compiler = Command::new("javac");
    compiler.args(["-cp", &format!("{}/*", jars.display()), "-d"]).arg(&classes).arg(&source);
    let status = compiler.status().context("javac cannot be started: install the package openjdk-17-jdk-headless")?;
    ensure!(status.success(), "javac failed");
    Ok(classes)
}
