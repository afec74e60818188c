//! Topics full of generated events.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use onecode::generate::{Generator, Options};
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};

/// In the order of `EventKind`.
pub const TOPICS: [&str; 3] = ["scans", "purchases", "shares"];

/// What is generated.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Load {
    /// Events to generate
    #[arg(long, default_value_t = 2_000_000)]
    pub events: u64,
    /// Customers among them
    #[arg(long, default_value_t = 400_000)]
    pub customers: u32,
    /// Partitions of each topic
    #[arg(long, default_value_t = 6)]
    pub partitions: u32,
    /// Share of the events in another partition than their customer's
    #[arg(long, default_value_t = 0.1)]
    pub misrouted: f64,
    /// Share of the customers whom another customer brought
    #[arg(long, default_value_t = 0.6)]
    pub referred: f64,
}

impl Load {
    /// The generator's options. Nothing is malformed: other systems have no dead letters, and all are to do the same work.
    pub fn options(&self) -> Result<Options> {
        let now_ms = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
        Ok(Options {
            count: self.events,
            customers: self.customers,
            start_ms: now_ms - 3_600_000,
            partitions: [self.partitions; 3],
            misrouted: self.misrouted,
            referred: self.referred,
            malformed: 0.0,
            ..Options::default()
        })
    }

    /// Fills the topics, evenly over `pace` if there is one, else at once.
    pub fn produce(&self, brokers: &str, topics: [&str; 3], options: Options, pace: Option<Duration>) -> Result<()> {
        let producer: ThreadedProducer<DefaultProducerContext> =
            ClientConfig::new().set("bootstrap.servers", brokers).set("linger.ms", "20").set("compression.type", "lz4").create()?;
        let began = std::time::Instant::now();
        for (number, record) in (0_u32..).zip(Generator::new(options)?) {
            if let Some(pace) = pace
                && number % 256 == 0
            {
                let due = pace.mul_f64(f64::from(number) / self.events as f64);
                std::thread::sleep(due.saturating_sub(began.elapsed()));
            }
            let topic = topics.get(record.kind as usize).context("no such kind")?;
            let mut message = BaseRecord::<[u8], [u8]>::to(topic).partition(i32::try_from(record.partition)?);
            message.key = record.key.as_deref();
            message.payload = record.value.as_deref();
            while let Err((error, back)) = producer.send(message) {
                ensure!(error == KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), "cannot send: {error}");
                std::thread::sleep(Duration::from_millis(10));
                message = back;
            }
        }
        producer.flush(Duration::from_secs(300))?;
        Ok(())
    }
}
