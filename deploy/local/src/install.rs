//! Brings the servers' programs into a cache, once, with pinned versions, through the machine's ordinary package clients.
//!
//! | server | client | what |
//! |---|---|---|
//! | Kafka | `mvn` | the jars of `kafka/pom.xml`; they run on `java` 17 or newer |
//! | ClickHouse | `npm` | the package of `clickhouse/package-lock.json`: ClickHouse as one shared library, checked by its hash |
//! | Prometheus | `apt-get` | the distribution's package, unpacked and not installed: no service is started |
//!
//! And with `python3` and its pip, for the test of clients that are not ours: the packages of `python/requirements.txt`, as wheels.
//!
//! The cache is `$ONECODE_LOCAL_CACHE`, else `$XDG_CACHE_HOME/onecode-local`, else `~/.cache/onecode-local`. A part is complete
//! when its directory exists: it is prepared beside it and renamed. A file lock keeps concurrent callers apart.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

const KAFKA_POM: &str = include_str!("../kafka/pom.xml");
const KAFKA_PART: &str = "kafka-4.1.1";
const CLICKHOUSE_PACKAGE: &str = include_str!("../clickhouse/package.json");
const CLICKHOUSE_LOCK: &str = include_str!("../clickhouse/package-lock.json");
const CLICKHOUSE_PART: &str = "clickhouse-26.7.3-stable.1";
const PROMETHEUS_PART: &str = "prometheus";
const PYTHON_REQUIREMENTS: &str = include_str!("../python/requirements.txt");
const PYTHON_PART: &str = "python-clients-1";

/// Tells a person what is being installed.
pub type Progress<'a> = &'a dyn Fn(&str);

/// Where the programs are.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The directory with Kafka's jars.
    pub kafka_jars: PathBuf,
    /// ClickHouse as a shared library.
    pub clickhouse_library: PathBuf,
    /// The Prometheus programs.
    pub prometheus: PrometheusPrograms,
    /// Python with a Kafka client and protobuf.
    pub python: PathBuf,
}

/// The programs `prometheus` and `promtool`.
#[derive(Clone, Debug)]
pub struct PrometheusPrograms {
    /// The server.
    pub server: PathBuf,
    /// The checker of configurations and rules.
    pub promtool: PathBuf,
}

/// Installs what is missing of all.
///
/// # Errors
/// When a package client is missing or fails; the message names the client, its output and the package that brings it.
pub fn install(progress: Progress<'_>) -> Result<Installed> {
    Ok(Installed {
        kafka_jars: kafka(progress)?,
        clickhouse_library: clickhouse(progress)?,
        prometheus: prometheus(progress)?,
        python: python(progress)?,
    })
}

/// Prints what is being installed on standard error.
pub fn to_stderr(message: &str) {
    eprintln!("onecode-local: {message}");
}

/// The directory that keeps the programs.
///
/// # Errors
/// When neither `ONECODE_LOCAL_CACHE` nor a home directory is set.
pub fn cache_dir() -> Result<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("ONECODE_LOCAL_CACHE")
        .or_else(|| variable("XDG_CACHE_HOME").map(|cache| cache.join("onecode-local")))
        .or_else(|| variable("HOME").map(|home| home.join(".cache/onecode-local")))
        .context("cannot tell where to keep downloads: set ONECODE_LOCAL_CACHE to a directory")
}

/// Installs Kafka and returns the directory of its jars.
///
/// # Errors
/// As [`install`].
pub fn kafka(progress: Progress<'_>) -> Result<PathBuf> {
    require("java", "openjdk-17-jre-headless")?;
    let part = part(KAFKA_PART, |dir| {
        progress("installing Kafka 4.1.1 with mvn (55 MB)");
        require("mvn", "maven")?;
        std::fs::write(dir.join("pom.xml"), KAFKA_POM)?;
        let jars = format!("-DoutputDirectory={}", dir.join("jars").display());
        run(dir, "mvn", ["-q", "-B", "dependency:copy-dependencies", &jars])
    })?;
    Ok(part.join("jars"))
}

/// Installs ClickHouse and returns the path of its library.
///
/// # Errors
/// As [`install`], and on machines other than x86-64 Linux, for which there is no such package.
pub fn clickhouse(progress: Progress<'_>) -> Result<PathBuf> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")),
        "the ClickHouse library exists for x86-64 Linux with glibc only; use deploy/compose.yaml on this machine"
    );
    let part = part(CLICKHOUSE_PART, |dir| {
        progress("installing ClickHouse 26.7 with npm (166 MB, 560 MB on disk)");
        require("npm", "npm")?;
        std::fs::write(dir.join("package.json"), CLICKHOUSE_PACKAGE)?;
        std::fs::write(dir.join("package-lock.json"), CLICKHOUSE_LOCK)?;
        run(dir, "npm", ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"])
    })?;
    Ok(part.join("node_modules/@chdb/lib-linux-x64-gnu/libchdb.so"))
}

/// Finds Prometheus in `PATH`, or unpacks the distribution's package into the cache, and returns its programs.
///
/// # Errors
/// As [`install`].
pub fn prometheus(progress: Progress<'_>) -> Result<PrometheusPrograms> {
    if let (Some(server), Some(promtool)) = (find_program("prometheus"), find_program("promtool")) {
        return Ok(PrometheusPrograms { server, promtool });
    }
    let part = part(PROMETHEUS_PART, |dir| {
        progress("unpacking Prometheus from the distribution's package (19 MB)");
        require("apt-get", "apt")?;
        require("dpkg-deb", "dpkg")?;
        download_prometheus(dir)?;
        let package = file_with_extension(dir, "deb")?;
        run(dir, "dpkg-deb", [OsStr::new("-x"), package.as_os_str(), dir.as_os_str()])?;
        std::fs::remove_file(&package).with_context(|| format!("cannot remove {}", package.display()))
    })?;
    Ok(PrometheusPrograms { server: part.join("usr/bin/prometheus"), promtool: part.join("usr/bin/promtool") })
}

/// Makes a Python environment with a Kafka client and protobuf, its compiler included, and returns its interpreter.
///
/// # Errors
/// As [`install`].
pub fn python(progress: Progress<'_>) -> Result<PathBuf> {
    require("python3", "python3-venv")?;
    let part = part(PYTHON_PART, |dir| {
        progress("installing Python's Kafka client and protobuf with pip (12 MB)");
        run(dir, "python3", ["-m", "venv", "venv"]).context("install the package python3-venv")?;
        std::fs::write(dir.join("requirements.txt"), PYTHON_REQUIREMENTS)?;
        let pip = ["-m", "pip", "install", "--disable-pip-version-check", "-q", "--only-binary", ":all:", "-r", "requirements.txt"];
        run(dir, &dir.join("venv/bin/python").to_string_lossy(), pip)
    })?;
    // Works where it is moved to, as long as it is run as `python -m`: only the scripts beside it know their old place.
    Ok(part.join("venv/bin/python"))
}

/// `apt-get download` needs no privileges. Where the machine's package lists are missing or old, lists of our own are fetched.
fn download_prometheus(dir: &Path) -> Result<()> {
    if run(dir, "apt-get", ["-q", "download", "prometheus"]).is_ok() {
        return Ok(());
    }
    let lists = dir.join("apt/lists");
    let cache = dir.join("apt/cache");
    std::fs::create_dir_all(lists.join("partial"))?;
    std::fs::create_dir_all(cache.join("archives/partial"))?;
    let lists = format!("Dir::State::Lists={}", lists.display());
    let cache = format!("Dir::Cache={}", cache.display());
    run(dir, "apt-get", ["-q", "-o", &lists, "-o", &cache, "update"])?;
    run(dir, "apt-get", ["-q", "-o", &lists, "-o", &cache, "download", "prometheus"])?;
    std::fs::remove_dir_all(dir.join("apt")).context("cannot remove the fetched package lists")
}

/// Returns the directory of a complete part; `fill` prepares it if it is missing.
fn part(name: &str, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let cache = cache_dir()?;
    let complete = cache.join(name);
    if complete.is_dir() {
        return Ok(complete);
    }
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    let _only_one_installs = lock(&cache.join("install.lock"))?;
    if complete.is_dir() {
        return Ok(complete);
    }
    let unfinished = tempfile::Builder::new().prefix(name).tempdir_in(&cache).context("cannot create a directory in the cache")?;
    fill(unfinished.path()).with_context(|| format!("cannot install {name}"))?;
    std::fs::rename(unfinished.path(), &complete).with_context(|| format!("cannot create {}", complete.display()))?;
    Ok(complete)
}

fn lock(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    Ok(file)
}

fn require(program: &str, package: &str) -> Result<()> {
    ensure!(find_program(program).is_some(), "{program} is not on this machine: install the package {package}, or run deploy/install");
    Ok(())
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(name)).find(|candidate| candidate.is_file())
}

fn file_with_extension(dir: &Path, extension: &str) -> Result<PathBuf> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        if path.extension() == Some(OsStr::new(extension)) {
            return Ok(path);
        }
    }
    bail!("no .{extension} file in {}", dir.display())
}

fn run<Argument: AsRef<OsStr>>(dir: &Path, program: &str, arguments: impl IntoIterator<Item = Argument>) -> Result<()> {
    let output = Command::new(program).args(arguments).current_dir(dir).stdin(Stdio::null()).output();
    let output = output.with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        bail!("{program} failed ({}):\n{}", output.status, String::from_utf8_lossy(&said).trim_end());
    }
    Ok(())
}
