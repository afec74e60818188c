//! `onecode-local`: installs and runs the local stack from the command line.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use onecode_local::demo::{self, DemoArgs};
use onecode_local::{ClickHouse, ClickHouseOptions, Kafka, KafkaOptions, Prometheus, PrometheusOptions, install};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// A genuine Kafka, ClickHouse and Prometheus on this machine, without containers
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  onecode-local install\n  onecode-local up --dir .local/stack\n  . .local/stack/env && onecode run --config onecode.toml"
)]
struct Arguments {
    #[command(subcommand)]
    command: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Download what is missing into the cache (ONECODE_LOCAL_CACHE, default ~/.cache/onecode-local)
    Install,
    /// Run the servers until Ctrl-C or SIGTERM
    Up(Up),
    /// Show onecode at work: servers, pipeline, events, live figures, an audit
    Demo(DemoArgs),
}

#[derive(Debug, clap::Args)]
struct Up {
    /// Keeps configuration, data and logs; a later `up` on it finds the data again
    #[arg(long, default_value = ".local/stack")]
    dir: PathBuf,
    /// Kafka's port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    kafka_port: u16,
    /// ClickHouse's HTTP port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    clickhouse_port: u16,
    /// Prometheus's port on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    prometheus_port: u16,
    /// What Prometheus scrapes; may be repeated
    #[arg(long = "scrape", value_name = "HOST:PORT", default_value = "127.0.0.1:9464")]
    scrape: Vec<String>,
    /// A file with alerting rules for Prometheus; may be repeated
    #[arg(long = "rules", value_name = "FILE")]
    rules: Vec<PathBuf>,
    /// Run Kafka and ClickHouse only
    #[arg(long)]
    without_prometheus: bool,
    /// Remove the data at the end
    #[arg(long)]
    discard_data: bool,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Action::Install => print_installed(),
        Action::Up(arguments) => up(&arguments),
        Action::Demo(arguments) => return demo::run(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("onecode-local: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_installed() -> Result<()> {
    let installed = install::install(&install::to_stderr)?;
    println!("Kafka       {}", installed.kafka_jars.display());
    println!("ClickHouse  {}", installed.clickhouse_library.display());
    println!("Prometheus  {}", installed.prometheus.server.display());
    println!("Python      {}", installed.python.display());
    Ok(())
}

fn up(arguments: &Up) -> Result<()> {
    // Registered first, so that a Ctrl-C during the start waits for its end instead of leaving half a stack.
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("cannot listen for Ctrl-C")?;
    std::fs::create_dir_all(&arguments.dir).with_context(|| format!("cannot create {}", arguments.dir.display()))?;
    let dir = arguments.dir.canonicalize().with_context(|| format!("cannot find {}", arguments.dir.display()))?;
    let keep_data = !arguments.discard_data;

    let kafka = KafkaOptions { port: arguments.kafka_port, keep_data, ..KafkaOptions::in_dir(dir.join("kafka")) };
    let kafka = Kafka::start(kafka)?;
    println!("Kafka       {}", kafka.bootstrap());
    let clickhouse = ClickHouseOptions { port: arguments.clickhouse_port, keep_data, ..ClickHouseOptions::in_dir(dir.join("clickhouse")) };
    let clickhouse = ClickHouse::start(clickhouse)?;
    println!("ClickHouse  {}", clickhouse.url());
    let prometheus = if arguments.without_prometheus { None } else { Some(start_prometheus(arguments, dir.join("prometheus"))?) };

    let mut env = String::new();
    writeln!(env, "export ONECODE_KAFKA__BROKERS={}", kafka.bootstrap())?;
    writeln!(env, "export ONECODE_CLICKHOUSE__URL={}", clickhouse.url())?;
    if let Some(prometheus) = &prometheus {
        println!("Prometheus  {}", prometheus.url());
        writeln!(env, "export PROMETHEUS_URL={}", prometheus.url())?;
    }
    let env_file = dir.join("env");
    std::fs::write(&env_file, env).with_context(|| format!("cannot write {}", env_file.display()))?;
    println!("Addresses   {} (for `onecode`: source it)", env_file.display());
    println!("Stop it with Ctrl-C.");

    signals.forever().next();
    eprintln!("onecode-local: stopping");
    if let Some(prometheus) = prometheus {
        prometheus.stop()?;
    }
    clickhouse.stop()?;
    kafka.stop()
}

fn start_prometheus(arguments: &Up, dir: PathBuf) -> Result<Prometheus> {
    Prometheus::start(PrometheusOptions {
        port: arguments.prometheus_port,
        rule_files: arguments.rules.clone(),
        keep_data: !arguments.discard_data,
        ..PrometheusOptions::in_dir(dir, arguments.scrape.clone())
    })
}
