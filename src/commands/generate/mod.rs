//! `onecode generate`: carries the records of [`crate::generate`] to Kafka or to a file.
//!
//! The clock is read here, once, to place the stream in time; the stream itself knows none. Every record is acknowledged, or
//! the command fails.

mod file;
mod kafka;
mod progress;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use super::table::write_table;
use super::{UsageError, Verdict};
use crate::config::Config;
use crate::generate::{Class, GeneratedRecord, Generator, Options, WireFormat};
use crate::model::EventKind;
use progress::Progress;

/// Shown under `--help`.
pub const EXAMPLES: &str = "\
Examples:
  onecode generate --config onecode.toml                               100,000 events of the last hour
  onecode generate --brokers 127.0.0.1:9092 --rate 5000 --seconds 60   live traffic for a minute
  onecode generate --config onecode.toml --count 5000000 --customers 1000000 --span-days 20 --seed 7
  onecode generate --config onecode.toml --duplicates 0 --late 0 --misrouted 0 --malformed 0
  onecode generate --config onecode.toml --referred-share 0.3          fewer customers who bring customers
  onecode generate --out events.jsonl --format json --count 1000       nothing but a file

The same seed with the same --end-time gives the same records, byte for byte. Every record that is not plain carries the header
`onecode-generate` (duplicate, late, misrouted, malformed or conflict), a malformed one also `onecode-generate-reason`.
A file holds a JSON object a line (--format json), or length-delimited messages `onecode.v1.Record` (protobuf and mixed).";

const MS_PER_DAY: f64 = 86_400_000.0;

/// What to generate, and where to.
#[derive(Clone, Debug, clap::Args)]
pub struct GenerateArgs {
    /// Configuration file, for brokers, client options and topic names
    #[arg(long, value_name = "FILE", env = "ONECODE_CONFIG")]
    config: Option<PathBuf>,
    /// Kafka's bootstrap servers, instead of a configuration file
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["config", "out"])]
    brokers: Option<String>,
    /// Write to a file instead of Kafka; - is stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Topic of the scans [default: the first one configured, or scans]
    #[arg(long, value_name = "TOPIC")]
    scans_topic: Option<String>,
    /// Topic of the purchases [default: the first one configured, or purchases]
    #[arg(long, value_name = "TOPIC")]
    purchases_topic: Option<String>,
    /// Topic of the shares [default: the first one configured, or shares]
    #[arg(long, value_name = "TOPIC")]
    shares_topic: Option<String>,
    /// Wire format of the values; mixed is for topics of format auto
    #[arg(long, value_enum, default_value = "protobuf")]
    format: WireFormat,
    /// Seed of everything that looks random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Records to send, of every class [default: 100000, or --rate times --seconds]
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Records a second [default: as fast as they are taken]
    #[arg(long, value_name = "RECORDS_PER_S")]
    rate: Option<u32>,
    /// How long to send at that rate
    #[arg(long, value_name = "N", requires = "rate", conflicts_with = "count")]
    seconds: Option<u64>,
    /// Time of the last event, RFC 3339 [default: now]
    #[arg(long, value_name = "TIME")]
    end_time: Option<jiff::Timestamp>,
    /// Days over which event times are spread, up to --end-time; the most is what max_lateness leaves beside --late-max-days
    /// [default: an hour; with --rate alone, the time it takes]
    #[arg(long, value_name = "DAYS")]
    span_days: Option<f64>,
    /// At most this many customers
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    customers: u32,
    /// Distinct codes of each brand
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    codes: u64,
    /// Brands, comma-separated
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "acme")]
    brands: Vec<String>,
    /// Partitions to spread over in a file; Kafka's topics are asked for theirs
    #[arg(long, value_name = "N", default_value_t = 6, conflicts_with_all = ["config", "brokers"])]
    partitions: u32,
    /// Share of records that repeat an earlier event
    #[arg(long, value_name = "SHARE", default_value_t = 0.01)]
    duplicates: f64,
    /// Share of events that come late
    #[arg(long, value_name = "SHARE", default_value_t = 0.02)]
    late: f64,
    /// How late they come at most
    #[arg(long, value_name = "DAYS", default_value_t = 7.0)]
    late_max_days: f64,
    /// Share of records in a partition that does not own their customer
    #[arg(long, value_name = "SHARE", default_value_t = 0.1)]
    misrouted: f64,
    /// Share of records that have to be rejected, all reasons equally often
    #[arg(long, value_name = "SHARE", default_value_t = 0.001)]
    malformed: f64,
    /// Share of records with the identity of an earlier event and other content
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    conflicts: f64,
    /// Share of new customers who were brought by another one's share
    #[arg(long, value_name = "SHARE", default_value_t = 0.6)]
    referred_share: f64,
}

/// Where records go.
trait Sink {
    /// Takes a record; it may wait.
    fn send(&mut self, record: &GeneratedRecord) -> anyhow::Result<()>;
    /// Waits until everything sent is safe.
    fn finish(&mut self) -> anyhow::Result<()>;
}

/// Generates, sends, and tells what was sent.
///
/// # Errors
/// When the options make no sense ([`UsageError`]), the destination is out of reach, or a record was not acknowledged.
pub fn run(args: &GenerateArgs, out: &mut impl Write) -> anyhow::Result<Verdict> {
    let to_stdout = args.out.as_deref() == Some(Path::new("-"));
    let topics = args.topics()?;
    let (summary, elapsed) = match &args.out {
        Some(_) if to_stdout => {
            let generator = args.generator([args.partitions; 3])?;
            args.carry(generator, &mut file::FileSink::new(&mut *out, args.format, topics))?
        }
        Some(path) => {
            let generator = args.generator([args.partitions; 3])?;
            let file = std::fs::File::create(path).with_context(|| format!("cannot create `{}`", path.display()))?;
            args.carry(generator, &mut file::FileSink::new(std::io::BufWriter::new(file), args.format, topics))?
        }
        None => {
            let mut sink = kafka::KafkaSink::connect(&args.client_options()?, topics)?;
            let generator = args.generator(sink.partitions())?;
            args.carry(generator, &mut sink)?
        }
    };
    let mut told = Vec::new();
    summary.write(&mut told, elapsed)?;
    if to_stdout {
        std::io::stderr().write_all(&told)?;
    } else {
        out.write_all(&told)?;
    }
    Ok(Verdict::Fine)
}

impl GenerateArgs {
    fn config(&self) -> anyhow::Result<Option<Config>> {
        Ok(self.config.as_deref().map(Config::load).transpose()?)
    }

    /// Topics of scans, purchases and shares.
    fn topics(&self) -> anyhow::Result<[String; 3]> {
        let config = self.config()?;
        let given = [&self.scans_topic, &self.purchases_topic, &self.shares_topic];
        Ok(EventKind::ALL.map(|kind| {
            let configured = config.as_ref().and_then(|config| config.topics.input(kind).names.first().cloned());
            given[kind as usize].clone().or(configured).unwrap_or_else(|| format!("{}s", kind.name()))
        }))
    }

    /// Where Kafka is, and how to talk to it.
    fn client_options(&self) -> anyhow::Result<BTreeMap<String, String>> {
        let mut options = BTreeMap::new();
        match (&self.brokers, self.config()?) {
            (Some(brokers), _) => drop(options.insert("bootstrap.servers".to_owned(), brokers.clone())),
            (None, Some(config)) => {
                options.insert("bootstrap.servers".to_owned(), config.kafka.brokers.clone());
                options.extend(config.kafka.client.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())));
            }
            (None, None) => return Err(UsageError("say where to send: --config, --brokers or --out".to_owned()).into()),
        }
        Ok(options)
    }

    fn generator(&self, partitions: [u32; 3]) -> anyhow::Result<Generator> {
        let count = match (self.count, self.rate, self.seconds) {
            (Some(count), ..) => count,
            (None, Some(rate), Some(seconds)) => u64::from(rate) * seconds,
            _ => 100_000,
        };
        let (start_ms, span_ms) = self.period(count)?;
        let options = Options {
            seed: self.seed,
            count,
            start_ms,
            span_ms,
            customers: self.customers,
            codes: self.codes,
            brands: self.brands.clone(),
            format: self.format,
            partitions,
            duplicates: self.duplicates,
            late: self.late,
            late_max_ms: days_in_ms("--late-max-days", self.late_max_days)?,
            misrouted: self.misrouted,
            malformed: self.malformed,
            conflicts: self.conflicts,
            referred: self.referred_share,
        };
        Generator::new(options).map_err(|error| UsageError(error.to_string()).into())
    }

    /// When the events begin, and how long they go on: from now at the rate, or up to the end time.
    fn period(&self, count: u64) -> anyhow::Result<(i64, i64)> {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_millis() as i64;
        if let (Some(rate), None, None) = (self.rate, self.end_time, self.span_days) {
            let span_ms = count.saturating_mul(1_000) / u64::from(rate).max(1);
            return Ok((now_ms, i64::try_from(span_ms).unwrap_or(i64::MAX)));
        }
        let end_ms = self.end_time.map_or(now_ms, |time| time.as_millisecond());
        let span_ms = days_in_ms("--span-days", self.span_days.unwrap_or(1.0 / 24.0))?;
        Ok((end_ms.saturating_sub(span_ms), span_ms))
    }

    /// Sends every record at its time.
    fn carry(&self, generator: Generator, sink: &mut dyn Sink) -> anyhow::Result<(Summary, Duration)> {
        let mut progress = Progress::start(generator.options().count);
        let mut summary = Summary::default();
        let began = Instant::now();
        for (sent, record) in (0_u64..).zip(generator) {
            if let Some(rate) = self.rate {
                wait_for_turn(began, sent, rate);
            }
            sink.send(&record)?;
            summary.count(&record);
            progress.sent(sent + 1);
        }
        sink.finish()?;
        progress.finish();
        Ok((summary, began.elapsed()))
    }
}

fn wait_for_turn(began: Instant, sent: u64, rate: u32) {
    let due = Duration::from_secs_f64(sent as f64 / f64::from(rate.max(1)));
    // In steps of some milliseconds, since a sleep is no finer than that.
    if let Some(early) = due.checked_sub(began.elapsed()).filter(|early| *early > Duration::from_millis(2)) {
        std::thread::sleep(early);
    }
}

fn days_in_ms(name: &str, days: f64) -> anyhow::Result<i64> {
    if !(0.0..=36_500.0).contains(&days) {
        return Err(UsageError(format!("{name} is {days}; it must be 0 to 36500 days")).into());
    }
    Ok((days * MS_PER_DAY) as i64)
}

/// How many records of each kind and class were sent.
#[derive(Default)]
struct Summary {
    counts: BTreeMap<(EventKind, &'static str), u64>,
    reasons: BTreeMap<&'static str, u64>,
    total: u64,
}

impl Summary {
    fn count(&mut self, record: &GeneratedRecord) {
        self.total += 1;
        *self.counts.entry((record.kind, record.class.name())).or_default() += 1;
        if let Class::Malformed(reason) = record.class {
            *self.reasons.entry(reason.code()).or_default() += 1;
        }
    }

    fn write(&self, out: &mut impl Write, elapsed: Duration) -> std::io::Result<()> {
        const CLASSES: [&str; 6] = ["plain", "duplicate", "late", "misrouted", "malformed", "conflict"];
        let seconds = elapsed.as_secs_f64();
        let rate = self.total as f64 / seconds.max(0.001);
        writeln!(out, "sent {} records in {seconds:.1} s ({rate:.0} a second), every one acknowledged", self.total)?;
        let cell = |kind: EventKind, class: &'static str| self.counts.get(&(kind, class)).copied().unwrap_or_default();
        let rows = EventKind::ALL.map(|kind| {
            let of_kind = CLASSES.map(|class| cell(kind, class));
            let [plain, duplicate, late, misrouted, malformed, conflict] = of_kind.map(|count| count.to_string());
            [kind.name().to_owned(), plain, duplicate, late, misrouted, malformed, conflict, of_kind.iter().sum::<u64>().to_string()]
        });
        write_table(out, ["kind", "plain", "duplicate", "late", "misrouted", "malformed", "conflict", "total"], &rows)?;
        if !self.reasons.is_empty() {
            let reasons: Vec<String> = self.reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
            writeln!(out, "malformed: {}", reasons.join(", "))?;
        }
        Ok(())
    }
}
