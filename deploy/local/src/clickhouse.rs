//! One ClickHouse server, run from its shared library by the launcher `onecode-clickhouse`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::install;
use crate::ports::Port;
use crate::server::{Launch, Server, scratch};
use crate::supervise::Program;

const LAUNCHER: &str = env!("ONECODE_CLICKHOUSE_LAUNCHER");
/// The library listens while its own query runs: this one takes 95 years.
const SERVE: &str = "SYSTEM START LISTEN HTTP; SELECT sleepEachRow(3) FROM numbers(1000000000) \
                     SETTINGS max_block_size = 1, function_sleep_max_microseconds_per_block = 0 FORMAT Null";
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const QUERY_TIMEOUT: Duration = Duration::from_secs(300);

/// How to run a server.
#[derive(Clone, Debug)]
pub struct ClickHouseOptions {
    /// Configuration, data and logs go here.
    pub dir: PathBuf,
    /// The HTTP port on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// `max_server_memory_usage` in MiB.
    pub memory_mib: u64,
    /// More elements for the server's configuration, inside `<clickhouse>`; they override the defaults.
    pub server_xml: String,
    /// More elements for the users' configuration, inside `<clickhouse>`: users, profiles, row policies.
    pub users_xml: String,
    /// Keeps the data when the handle is dropped or the process ends. Logs are always kept.
    pub keep_data: bool,
}

impl ClickHouseOptions {
    /// A server in `dir` on a free port whose data is removed at the end.
    #[must_use]
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self { dir, port: 0, memory_mib: 4096, server_xml: String::new(), users_xml: String::new(), keep_data: false }
    }
}

/// A server on this machine, with the user `default` and no password. Dropping it kills the process.
#[derive(Debug)]
pub struct ClickHouse {
    server: Server<ClickHouseLaunch>,
}

impl ClickHouse {
    /// Installs ClickHouse if need be, starts a server, and returns when it answers.
    ///
    /// # Errors
    /// When it cannot be installed, its port is in use, or it does not answer within two minutes; the message names its log.
    pub fn start(options: ClickHouseOptions) -> Result<Self> {
        let port = Port::reserve(options.port)?;
        ClickHouse::start_on(port, options)
    }

    /// As [`ClickHouse::start`], on a port that is already reserved, whatever the options say.
    pub(crate) fn start_on(port: Port, options: ClickHouseOptions) -> Result<Self> {
        let library = install::clickhouse(&install::to_stderr)?;
        let dir = options.dir.clone();
        let scratch = scratch(&dir.join("data"), options.keep_data);
        let server = Server::start(ClickHouseLaunch { library, options }, dir, port, scratch)?;
        Ok(Self { server })
    }

    /// The address of the HTTP interface.
    #[must_use]
    pub fn url(&self) -> String {
        url(self.server.port())
    }

    /// Runs one statement as the user `default` and returns the answer's text: tab-separated rows unless it names a format.
    ///
    /// # Errors
    /// When the server does not answer within five minutes, or answers with an error, whose text is in the message.
    pub fn query(&self, sql: &str) -> Result<String> {
        post(self.server.port(), None, sql, QUERY_TIMEOUT)
    }

    /// As [`ClickHouse::query`], with the tables of `database` by their bare names.
    ///
    /// # Errors
    /// As [`ClickHouse::query`].
    pub fn query_in(&self, database: &str, sql: &str) -> Result<String> {
        post(self.server.port(), Some(database), sql, QUERY_TIMEOUT)
    }

    /// Ends the server with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn kill(&self) -> Result<()> {
        self.server.kill()
    }

    /// Ends the server in order with SIGTERM.
    ///
    /// # Errors
    /// When it still runs after a minute.
    pub fn stop(&self) -> Result<()> {
        self.server.stop()
    }

    /// Freezes the server with SIGSTOP.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> Result<()> {
        self.server.pause()
    }

    /// Lets a frozen server go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> Result<()> {
        self.server.resume()
    }

    /// Starts the stopped or killed server on the same data and port.
    ///
    /// # Errors
    /// As [`ClickHouse::start`], and when it already runs.
    pub fn start_again(&self) -> Result<()> {
        self.server.start_again()
    }

    /// The server's process id.
    ///
    /// # Errors
    /// When it was never started.
    pub fn pid(&self) -> Result<u32> {
        self.server.pid()
    }
}

#[derive(Debug)]
struct ClickHouseLaunch {
    library: PathBuf,
    options: ClickHouseOptions,
}

impl ClickHouseLaunch {
    /// Writes the defaults, and what the options add into the directories that ClickHouse merges over them.
    fn write_configuration(&self, dir: &Path) -> Result<PathBuf> {
        let (config, users) = (dir.join("config.xml"), dir.join("users.xml"));
        let memory = self.options.memory_mib << 20;
        let mut server_defaults = format!("<users_config>{}</users_config>\n", users.display());
        server_defaults += &format!("<max_server_memory_usage>{memory}</max_server_memory_usage>\n");
        server_defaults += include_str!("../clickhouse/server.xml");
        for (file, elements) in [
            (&config, server_defaults.as_str()),
            (&users, include_str!("../clickhouse/users.xml")),
            (&dir.join("config.d/options.xml"), &self.options.server_xml),
            (&dir.join("users.d/options.xml"), &self.options.users_xml),
        ] {
            std::fs::create_dir_all(file.parent().unwrap_or(dir)).context("cannot create ClickHouse's configuration directory")?;
            let text = format!("<clickhouse>\n{elements}\n</clickhouse>\n");
            std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(config)
    }
}

impl Launch for ClickHouseLaunch {
    const NAME: &'static str = "ClickHouse";

    fn program(&self, port: u16, log: &Path) -> Result<Program> {
        let dir = std::path::absolute(&self.options.dir).context("cannot tell the server's directory")?;
        let config = self.write_configuration(&dir)?;
        let arguments = [
            "clickhouse".to_owned(),
            format!("--config-file={}", config.display()),
            format!("--path={}", dir.join("data").display()),
            format!("--http_port={port}"),
            "--listen_host=127.0.0.1".to_owned(),
            "--log-level=error".to_owned(),
            format!("--logger.log={}", dir.join("clickhouse.log").display()),
            "--multiquery".to_owned(),
            format!("--query={SERVE}"),
        ];
        let mut all = vec![self.library.clone().into_os_string()];
        all.extend(arguments.into_iter().map(OsString::from));
        Ok(Program {
            name: Self::NAME.to_owned(),
            executable: LAUNCHER.into(),
            arguments: all,
            environment: Vec::new(),
            log: log.to_owned(),
            scratch: None,
        })
    }

    fn answers(&self, port: u16, _log: &Path) -> bool {
        post(port, None, "SELECT 1", ANSWER_TIMEOUT).is_ok_and(|answer| answer == "1\n")
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn post(port: u16, database: Option<&str>, sql: &str, timeout: Duration) -> Result<String> {
    let agent = ureq::Agent::config_builder().timeout_global(Some(timeout)).http_status_as_error(false).build().new_agent();
    // Without the wait, an error after the first rows would come with a status of success.
    let mut request = agent.post(url(port)).query("wait_end_of_query", "1");
    if let Some(database) = database {
        request = request.query("database", database);
    }
    let mut answer = request.send(sql).with_context(|| format!("ClickHouse does not answer on port {port}"))?;
    let text = answer.body_mut().with_config().limit(u64::MAX).read_to_string().context("ClickHouse's answer broke off")?;
    if !answer.status().is_success() {
        bail!("ClickHouse refused a statement: {}\n{sql}", text.trim_end());
    }
    Ok(text)
}
