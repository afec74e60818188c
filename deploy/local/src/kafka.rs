//! One Kafka broker (KRaft, broker and controller in one process) and Kafka's own command-line tools.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::install;
use crate::ports::Port;
use crate::server::{Launch, Server, scratch};
use crate::supervise::Program;

const LOG4J: &str = include_str!("../kafka/log4j2.properties");
const STARTED: &str = "Kafka Server started";
/// Any fixed id will do: every broker here is a cluster of its own on a port of its own.
const CLUSTER_ID: &str = "b25lY29kZS1sb2NhbC0wMQ";

/// How to run a broker.
#[derive(Clone, Debug)]
pub struct KafkaOptions {
    /// Configuration, data and logs go here.
    pub dir: PathBuf,
    /// The port for clients on 127.0.0.1; 0 takes a free one.
    pub port: u16,
    /// Java heap in MiB.
    pub heap_mib: u32,
    /// Broker properties on top of the defaults, which they override.
    pub properties: Vec<(String, String)>,
    /// Keeps the data when the handle is dropped or the process ends. Logs are always kept.
    pub keep_data: bool,
}

impl KafkaOptions {
    /// A broker in `dir` on a free port whose data is removed at the end.
    #[must_use]
    pub fn in_dir(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), port: 0, heap_mib: 768, properties: Vec::new(), keep_data: false }
    }

    /// Sets a broker property.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// A broker on this machine. Dropping it kills the process.
#[derive(Debug)]
pub struct Kafka {
    server: Server<KafkaLaunch>,
}

impl Kafka {
    /// Installs Kafka if need be, starts a broker, and returns when it serves.
    ///
    /// Topics are not created by use, messages are kept for ever and may have 10 MiB, sessions may be as short as 1 s.
    ///
    /// # Errors
    /// When it cannot be installed, its port is in use, or it does not serve within two minutes; the message names its log.
    pub fn start(options: KafkaOptions) -> Result<Self> {
        let port = Port::reserve(options.port)?;
        Kafka::start_on(port, options)
    }

    /// As [`Kafka::start`], on a port that is already reserved, whatever the options say.
    pub(crate) fn start_on(port: Port, options: KafkaOptions) -> Result<Self> {
        let jars = install::kafka(&install::to_stderr)?;
        let dir = options.dir.clone();
        let scratch = scratch(&dir.join("data"), options.keep_data);
        let launch = KafkaLaunch { jars, controller: Port::reserve(0)?, options };
        Ok(Self { server: Server::start(launch, dir, port, scratch)? })
    }

    /// The address for clients, as in `bootstrap.servers`.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.server.port())
    }

    /// Ends the broker with SIGKILL and waits until it is gone.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub fn kill(&self) -> Result<()> {
        self.server.kill()
    }

    /// Ends the broker in order with SIGTERM.
    ///
    /// # Errors
    /// When it still runs after a minute.
    pub fn stop(&self) -> Result<()> {
        self.server.stop()
    }

    /// Freezes the broker with SIGSTOP.
    ///
    /// # Errors
    /// When it does not run.
    pub fn pause(&self) -> Result<()> {
        self.server.pause()
    }

    /// Lets a frozen broker go on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn resume(&self) -> Result<()> {
        self.server.resume()
    }

    /// Starts the stopped or killed broker on the same data and port.
    ///
    /// # Errors
    /// As [`Kafka::start`], and when it already runs.
    pub fn start_again(&self) -> Result<()> {
        self.server.start_again()
    }

    /// The broker's process id.
    ///
    /// # Errors
    /// When it was never started.
    pub fn pid(&self) -> Result<u32> {
        self.server.pid()
    }

    /// Runs one of Kafka's own command-line tools by its class name, e.g. `org.apache.kafka.tools.TopicCommand`, with `input`
    /// on its standard input, and returns its standard output.
    ///
    /// # Errors
    /// When the tool fails; the message carries what it printed.
    pub fn tool(&self, class: &str, arguments: &[&str], input: &str) -> Result<String> {
        let launch = self.server.launch();
        let mut tool = Command::new("java");
        tool.args(["-XX:TieredStopAtLevel=1", "-Xmx256m"]).arg(launch.log4j_option()).arg("-cp").arg(launch.class_path()).arg(class);
        tool.args(["--bootstrap-server", &self.bootstrap()]).args(arguments);
        let mut child = tool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut standard_input = child.stdin.take().context("the tool has no standard input")?;
        let text = input.to_owned();
        // On a thread of its own: a tool that prints before it has read everything would block both sides.
        let writer = std::thread::spawn(move || standard_input.write_all(text.as_bytes()));
        let output = child.wait_with_output().with_context(|| format!("cannot run {class}"))?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaints = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{class} failed ({}):\n{printed}{complaints}", output.status);
        let written = writer.join().map_err(|_| anyhow::anyhow!("writing to {class} panicked"))?;
        written.with_context(|| format!("{class} did not read its input:\n{complaints}"))?;
        Ok(printed)
    }

    /// Creates a topic with Kafka's own tool; `configs` are lines such as `message.timestamp.type=LogAppendTime`.
    ///
    /// # Errors
    /// When the tool fails, e.g. because the topic exists.
    pub fn create_topic(&self, topic: &str, partitions: u32, configs: &[&str]) -> Result<()> {
        let partitions = partitions.to_string();
        let mut arguments = vec!["--create", "--topic", topic, "--partitions", &partitions];
        for config in configs {
            arguments.extend(["--config", config]);
        }
        self.tool("org.apache.kafka.tools.TopicCommand", &arguments, "").map(drop)
    }

    /// Sends each of `lines` as a record with Kafka's console producer; `reader_properties` are lines such as
    /// `parse.key=true`, `key.separator=|`, `parse.headers=true`.
    ///
    /// # Errors
    /// When the tool fails.
    pub fn console_producer<'a>(&self, topic: &str, reader_properties: &[&str], lines: impl IntoIterator<Item = &'a str>) -> Result<()> {
        let mut arguments = vec!["--topic", topic];
        for property in reader_properties {
            arguments.extend(["--property", property]);
        }
        let mut input = String::new();
        for line in lines {
            writeln!(input, "{line}")?;
        }
        self.tool("org.apache.kafka.tools.ConsoleProducer", &arguments, &input).map(drop)
    }
}

#[derive(Debug)]
struct KafkaLaunch {
    jars: PathBuf,
    controller: Port,
    options: KafkaOptions,
}

impl KafkaLaunch {
    fn class_path(&self) -> OsString {
        self.jars.join("*").into_os_string()
    }

    fn log4j_option(&self) -> OsString {
        let mut option = OsString::from("-Dlog4j2.configurationFile=");
        option.push(self.options.dir.join("log4j2.properties"));
        option
    }

    fn properties(&self, port: u16) -> String {
        let controller = self.controller.number();
        let data = self.options.dir.join("data");
        let mut text = format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
             controller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             log.dirs={}\n",
            data.display()
        );
        text.push_str(include_str!("../kafka/server.properties"));
        for (name, value) in &self.options.properties {
            text.push_str(&format!("{name}={value}\n"));
        }
        text
    }

    fn format_data(&self, properties: &Path) -> Result<()> {
        if self.options.dir.join("data/meta.properties").exists() {
            return Ok(());
        }
        let mut format = Command::new("java");
        format.arg("-XX:TieredStopAtLevel=1").arg(self.log4j_option()).arg("-cp").arg(self.class_path());
        format.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "--standalone", "-c"]).arg(properties);
        let output = format.stdin(Stdio::null()).output().context("cannot start java")?;
        let said = [output.stdout, output.stderr].concat();
        ensure!(output.status.success(), "cannot prepare Kafka's data directory:\n{}", String::from_utf8_lossy(&said));
        Ok(())
    }
}

impl Launch for KafkaLaunch {
    const NAME: &'static str = "Kafka";

    fn program(&self, port: u16, log: &Path) -> Result<Program> {
        let dir = &self.options.dir;
        let properties = dir.join("server.properties");
        std::fs::write(dir.join("log4j2.properties"), LOG4J).context("cannot write Kafka's log configuration")?;
        std::fs::write(&properties, self.properties(port)).context("cannot write Kafka's configuration")?;
        self.format_data(&properties)?;
        let heap = format!("-Xmx{}m", self.options.heap_mib);
        let mut arguments: Vec<OsString> = vec![heap.into(), "-XX:+UseSerialGC".into(), self.log4j_option(), "-cp".into()];
        arguments.extend([self.class_path(), "kafka.Kafka".into(), properties.into_os_string()]);
        Ok(Program {
            name: Self::NAME.to_owned(),
            executable: "java".into(),
            arguments,
            environment: Vec::new(),
            log: log.to_owned(),
            scratch: None,
        })
    }

    /// Kafka says so only after the controller has admitted the broker, so that clients find every partition's leader.
    fn answers(&self, port: u16, log: &Path) -> bool {
        std::fs::read_to_string(log).is_ok_and(|text| text.contains(STARTED)) && TcpStream::connect(("127.0.0.1", port)).is_ok()
    }
}
