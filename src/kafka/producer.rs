//! The producer of a worker: relays, progress messages and dead letters. Idempotent, without a message timeout; any delivery
//! error is reported and ends the run.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::util::Timeout;

use super::log_as;
use crate::model::{Offset, TopicPartition};
use crate::task::{DeadLetter, EXCHANGE_HEADER, Headers, Record, dead_letter_headers};
use crate::worker::{InFlight, RunId, Ticket};

/// The outcome of one message.
pub type Delivery = (Ticket, Result<(), String>);

/// Why no producer could be made.
#[derive(Debug, thiserror::Error)]
#[error("no producer can be made: {0}")]
pub struct ProducerError(#[from] KafkaError);

#[derive(Default)]
struct Outcomes {
    deliveries: Vec<Delivery>,
    acknowledged: InFlight,
}

/// Gathers outcomes; its callbacks run inside `poll`, on the worker's own thread.
#[derive(Clone, Default)]
struct Context {
    outcomes: Arc<Mutex<Outcomes>>,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_as(level as i32, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(target: "librdkafka", %error, "{reason}");
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, opaque: usize) {
        let (outcome, message) = match result {
            Ok(message) => (Ok(()), message),
            Err((error, message)) => {
                let text =
                    format!("{error} (topic {} partition {}, {} bytes)", message.topic(), message.partition(), message.payload_len());
                (Err(text), message)
            }
        };
        let bytes = message.payload_len() + message.key_len();
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        outcomes.acknowledged.messages += 1;
        outcomes.acknowledged.bytes += bytes;
        outcomes.deliveries.push((ticket_of(opaque), outcome));
    }
}

/// Reports that are taken at once, at most: then the worker goes on with other things.
const MOST_REPORTS: usize = 1_000;

fn opaque_of(ticket: Ticket) -> usize {
    (ticket.run.0 as usize) << 32 | ticket.epoch as usize
}

fn ticket_of(opaque: usize) -> Ticket {
    Ticket { run: RunId((opaque >> 32) as u32), epoch: opaque as u32 }
}

/// Headers as they are.
fn copied(headers: &dyn Headers) -> OwnedHeaders {
    let mut copy = OwnedHeaders::new();
    headers.visit(&mut |name, value| {
        let so_far = std::mem::replace(&mut copy, OwnedHeaders::new_with_capacity(0));
        copy = so_far.insert(Header { key: name, value });
    });
    copy
}

/// Produces to the exchange and the dead-letter topic.
pub struct ExchangeProducer {
    producer: BaseProducer<Context>,
    context: Context,
    exchange: String,
    dead_letter: String,
    in_flight: InFlight,
}

impl ExchangeProducer {
    /// From librdkafka's own option names.
    pub fn new(options: &BTreeMap<String, String>, exchange: &str, dead_letter: &str) -> Result<Self, ProducerError> {
        let mut config = ClientConfig::new();
        for (name, value) in options {
            config.set(name, value);
        }
        config.set_log_level(RDKafkaLogLevel::Warning);
        let context = Context::default();
        let producer = config.create_with_context(context.clone())?;
        let (exchange, dead_letter) = (exchange.to_owned(), dead_letter.to_owned());
        Ok(ExchangeProducer { producer, context, exchange, dead_letter, in_flight: InFlight::default() })
    }

    /// A message for a partition of the exchange: the record, and one header more.
    pub fn exchange(&mut self, ticket: Ticket, partition: u32, header: &[u8], record: Option<&Record<'_>>) {
        let mut headers = record.map_or_else(OwnedHeaders::new, |record| copied(record.headers));
        // Behind all others: a record that was relayed may have one of this name itself.
        headers = headers.insert(Header { key: EXCHANGE_HEADER, value: Some(header) });
        let key = record.and_then(|record| record.key);
        let value = record.and_then(|record| record.value);
        let topic = self.exchange.clone();
        self.send(&topic, i32::try_from(partition).ok(), key, value, headers, ticket);
    }

    /// A dead letter.
    pub fn dead_letter(&mut self, ticket: Ticket, letter: &DeadLetter<'_>) {
        let mut headers = copied(letter.headers);
        for (name, value) in &dead_letter_headers(letter) {
            headers = headers.insert(Header { key: name, value: Some(value) });
        }
        let topic = self.dead_letter.clone();
        self.send(&topic, None, letter.key, letter.value, headers, ticket);
    }

    fn send(
        &mut self,
        topic: &str,
        partition: Option<i32>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: OwnedHeaders,
        ticket: Ticket,
    ) {
        self.in_flight.messages += 1;
        self.in_flight.bytes += key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        let mut record = BaseRecord::<[u8], [u8], usize>::with_opaque_to(topic, opaque_of(ticket)).headers(headers);
        record.partition = partition;
        record.key = key;
        record.payload = value;
        let mut waiting = record;
        loop {
            match self.producer.send(waiting) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    // Workers stop fetching at half of it; a last resort that keeps order.
                    self.producer.poll(Duration::from_millis(20));
                    waiting = back;
                }
                Err((error, _)) => {
                    let mut outcomes = self.context.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                    let bytes = value.map_or(0, <[u8]>::len);
                    outcomes.deliveries.push((ticket, Err(format!("{error} (topic {topic}, {bytes} bytes)"))));
                    return;
                }
            }
        }
    }

    /// Serves the client, and gives the outcomes since the last call: all that have come, because those that wait hold checkpoints and memory.
    pub fn poll(&mut self) -> Vec<Delivery> {
        // A poll that does not wait takes one report, which is of one batch of one partition.
        let mut reported = self.reported();
        for _ in 0..MOST_REPORTS {
            self.producer.poll(Duration::ZERO);
            let before = std::mem::replace(&mut reported, self.reported());
            if reported == before {
                break;
            }
        }
        let mut outcomes = self.context.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let acknowledged = std::mem::take(&mut outcomes.acknowledged);
        self.in_flight.messages = self.in_flight.messages.saturating_sub(acknowledged.messages);
        self.in_flight.bytes = self.in_flight.bytes.saturating_sub(acknowledged.bytes);
        std::mem::take(&mut outcomes.deliveries)
    }

    fn reported(&self) -> usize {
        self.context.outcomes.lock().unwrap_or_else(PoisonError::into_inner).deliveries.len()
    }

    /// Asks the broker for the first offset and the end of a log, by this client's connection: a consumer's answers one request after the other, and so
    /// none before a fetch has waited for records.
    ///
    /// # Errors
    /// [`ProducerError`]: no answer within `timeout`, or none that says it.
    pub fn range(&self, tp: &TopicPartition, timeout: Duration) -> Result<(Offset, Offset), ProducerError> {
        Ok(self.producer.client().fetch_watermarks(&tp.topic, tp.partition, timeout)?)
    }

    /// What is not acknowledged yet.
    pub fn in_flight(&self) -> InFlight {
        self.in_flight
    }

    /// Waits for what is in flight, no longer than `timeout`.
    pub fn flush(&mut self, timeout: Duration) {
        if let Err(error) = self.producer.flush(Timeout::After(timeout)) {
            tracing::warn!(%error, "messages were still in flight at the end; they will be produced again by replay");
        }
    }
}

impl std::fmt::Debug for ExchangeProducer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExchangeProducer").field("exchange", &self.exchange).field("in_flight", &self.in_flight).finish_non_exhaustive()
    }
}
