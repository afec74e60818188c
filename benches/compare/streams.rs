//! Kafka Streams with `exactly_once_v2` and RocksDB (`streams/Counters.java`).

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use onecode_local::install::cache_dir;

use super::common::load::TOPICS;
use super::common::onecode::terminate;
use super::common::servers::Servers;
use super::common::usage::{ServersCpu, allocated_bytes, has_ended, peak_rss_bytes};
use super::truth::Counted;
use super::{Arguments, Figure, System};

const POM: &str = include_str!("streams/pom.xml");
const PROGRAM: &str = include_str!("streams/Counters.java");
const PART: &str = "kafka-streams-4.1.1";
const LONGEST_RUN: Duration = Duration::from_secs(3_600);

/// Runs until so many records are counted and committed.
pub fn run(servers: &Servers, system: System, application: &str, arguments: &Arguments, records: u64) -> Result<Figure> {
    let jars = jars()?;
    let classes = compiled(&servers.dir, &jars)?;
    let state = servers.dir.join(application);
    let broker_bytes = servers.broker_bytes()?;
    let before = ServersCpu::now(servers)?;
    let began = Instant::now();
    let mut command = Command::new("java");
    command.args(["-Xmx1g", "-cp", &format!("{}/*:{}", jars.display(), classes.display()), "Counters"]);
    command.args([&servers.kafka.bootstrap(), application]).arg(&state).arg(arguments.workers.to_string());
    command.arg(if system == System::KafkaStreamsExact { "events" } else { "records" });
    command.arg(arguments.load.partitions.to_string()).args(TOPICS);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("java cannot be started")?;
    let said = Said::listen(child.stdout.take().context("java has no output")?);
    let (mut committed, mut peak) = (0, 0);
    let outcome = onecode_local::wait_for("the end of the topics", LONGEST_RUN, || {
        ensure!(!has_ended(child.id())?, "kafka streams has ended");
        peak = peak_rss_bytes(child.id())?;
        committed = servers.committed(application, &TOPICS)?;
        std::thread::sleep(Duration::from_millis(150));
        Ok((committed >= records && said.now().0 >= records).then_some(()))
    });
    let elapsed = began.elapsed();
    let process_cpu_s = terminate(child.id());
    child.wait()?;
    outcome?;
    Ok(Figure {
        system,
        events: committed,
        elapsed,
        process_cpu_s: process_cpu_s?,
        servers: ServersCpu::now(servers)?.since(before),
        peak_rss_bytes: peak,
        disk_bytes: allocated_bytes(&state)? + servers.broker_bytes()?.saturating_sub(broker_bytes),
        counted: Some(said.ended()?),
    })
}

/// What the program prints: records that were taken to their end, and what it counted.
struct Said {
    last: Arc<Mutex<(u64, Counted)>>,
    listener: JoinHandle<Result<()>>,
}

impl Said {
    fn listen(output: ChildStdout) -> Said {
        let last = Arc::new(Mutex::new((0, Counted { events: 0, customers: 0 })));
        let told = Arc::clone(&last);
        let listener = std::thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                let line = line?;
                let numbers = line.split(' ').map(str::parse).collect::<Result<Vec<u64>, _>>().with_context(|| line.clone())?;
                let &[records, events, customers] = numbers.as_slice() else { bail!("kafka streams printed {line}") };
                *told.lock().map_err(|_| anyhow!("a thread panicked"))? = (records, Counted { events, customers });
            }
            Ok(())
        });
        Said { last, listener }
    }

    fn now(&self) -> (u64, Counted) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last line of a program that has ended.
    fn ended(self) -> Result<Counted> {
        let Said { last, listener } = self;
        listener.join().map_err(|_| anyhow!("the thread that listens to kafka streams panicked"))??;
        Ok(last.lock().unwrap_or_else(PoisonError::into_inner).1)
    }
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
