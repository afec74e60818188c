//! The servers of a test program.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};
use onecode_local::{ClickHouse, ClickHouseOptions, Kafka, KafkaOptions};

/// A Kafka and a ClickHouse. Their data goes when they go; their logs stay under `target/tmp`.
#[derive(Debug)]
pub struct Stack {
    /// The broker.
    pub kafka: Kafka,
    /// The server with the tables.
    pub clickhouse: ClickHouse,
    /// Where this stack's files are.
    pub dir: PathBuf,
}

impl Stack {
    /// The stack that all tests of this program share. Nobody may kill, stop or freeze it.
    ///
    /// # Errors
    /// When it could not be started; then every test of the program fails with the same message.
    pub fn shared() -> Result<&'static Stack> {
        static SHARED: OnceLock<Result<Stack, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| Stack::own("shared").map_err(|error| format!("{error:#}")));
        shared.as_ref().map_err(|message| anyhow::anyhow!("the shared servers did not start: {message}"))
    }

    /// A stack for one test that kills or freezes servers; `name` tells its directory.
    ///
    /// # Errors
    /// When a server cannot be installed or started.
    pub fn own(name: &str) -> Result<Stack> {
        Stack::with(name, KafkaOptions::in_dir, ClickHouseOptions::in_dir)
    }

    /// As [`Stack::own`], with other options than the default ones.
    ///
    /// # Errors
    /// As [`Stack::own`].
    pub fn with(
        name: &str,
        kafka: impl FnOnce(PathBuf) -> KafkaOptions,
        clickhouse: impl FnOnce(PathBuf) -> ClickHouseOptions,
    ) -> Result<Stack> {
        let dir = fresh_dir(name)?;
        // Kafka needs the longer time: both start at once.
        let (kafka_options, clickhouse_options) = (kafka(dir.join("kafka")), clickhouse(dir.join("clickhouse")));
        let (kafka, clickhouse) = std::thread::scope(|scope| {
            let kafka = scope.spawn(|| Kafka::start(kafka_options));
            let clickhouse = ClickHouse::start(clickhouse_options);
            (kafka.join(), clickhouse)
        });
        let kafka = kafka.map_err(|_| anyhow::anyhow!("starting Kafka panicked"))??;
        Ok(Stack { kafka, clickhouse: clickhouse?, dir })
    }
}

/// A new empty directory under `target/tmp/<program>-<process id>`. Directories of earlier runs of this program are removed.
pub fn fresh_dir(name: &str) -> Result<PathBuf> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    static RUN_DIR: OnceLock<PathBuf> = OnceLock::new();
    let run_dir = RUN_DIR.get_or_init(|| {
        let program = std::env::current_exe().ok();
        let program = program.as_deref().and_then(Path::file_stem).and_then(|stem| stem.to_str()).unwrap_or("test");
        let program = program.rsplit_once('-').map_or(program, |(program, _hash)| program);
        let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
        remove_leftovers(root, program);
        root.join(format!("{program}-{}", std::process::id()))
    });
    let dir = run_dir.join(format!("{name}-{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    Ok(dir)
}

fn remove_leftovers(root: &Path, program: &str) {
    let entries = std::fs::read_dir(root).into_iter().flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let run = name.to_str().and_then(|name| name.strip_prefix(program)).and_then(|rest| rest.strip_prefix('-'));
        let Some(process_id) = run.and_then(|run| run.parse::<u32>().ok()) else { continue };
        if !Path::new(&format!("/proc/{process_id}")).exists() {
            // Two runs may remove the same leftovers: whoever comes second finds nothing.
            drop(std::fs::remove_dir_all(entry.path()));
        }
    }
}
