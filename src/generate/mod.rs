//! Realistic synthetic events, and the ways in which real ones go wrong.
//!
//! Owns a pure stream of records: the same [`Options`] give the same records byte for byte, for ever. Knows no clock and
//! does no IO; times are computed from the options, and `onecode generate` carries the records to Kafka or a file. Every
//! record that is not [`Class::Malformed`] or [`Class::Conflict`] is accepted under the default configuration, and every
//! malformed one is rejected with the reason it names, under any.

mod catalogue;
mod dice;
mod fault;
mod message;
mod world;

#[cfg(test)]
mod tests;

use serde_json::Value;

use crate::model::{EventKind, Reason, owner};
use dice::{Dice, mixed};
use message::{Message, Spelling};
use world::{Setup, World};

/// Header of every record that is not plain: its class (see [`Class::name`]).
pub const CLASS_HEADER: &str = "onecode-generate";
/// Header of a malformed record: the code of its reason.
pub const REASON_HEADER: &str = "onecode-generate-reason";

/// Plain and late events are up to this much older than their record.
const MOST_DELAY_MS: i64 = 5_000;
/// Events kept to be repeated.
const REMEMBERED_EVENTS: usize = 4_096;

/// How the values of records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum WireFormat {
    /// The messages themselves.
    Protobuf,
    /// Proto3 JSON, in all its spellings.
    Json,
    /// Now one, now the other; for topics of format `auto`.
    Mixed,
}

/// What to generate.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The same seed gives the same records.
    pub seed: u64,
    /// Records in all, of every class.
    pub count: u64,
    /// When the first record is due, Unix milliseconds.
    pub start_ms: i64,
    /// From the first to after the last record; due times are even in between.
    pub span_ms: i64,
    /// At most this many customers, over all brands.
    pub customers: u32,
    /// Distinct codes of each brand.
    pub codes: u64,
    /// One or more.
    pub brands: Vec<String>,
    /// Of all values.
    pub format: WireFormat,
    /// Partitions of the topics of scans, purchases and shares.
    pub partitions: [u32; 3],
    /// Of all records, 0 to 1: repeats of an earlier event, in any partition.
    pub duplicates: f64,
    /// Of all records: events much older than their record.
    pub late: f64,
    /// How old late events are at most.
    pub late_max_ms: i64,
    /// Of all records: in a partition that does not own the customer, half of them without a key.
    pub misrouted: f64,
    /// Of all records: with a fault, every reason equally often.
    pub malformed: f64,
    /// Of all records: the identity of an earlier event with other content.
    pub conflicts: f64,
    /// Of the customers: those brought by another customer's share.
    pub referred: f64,
}

impl Default for Options {
    /// 100,000 protobuf records over the hour before 2026-08-01T00:00:00Z.
    fn default() -> Self {
        Options {
            seed: 1,
            count: 100_000,
            start_ms: 1_785_538_800_000,
            span_ms: 3_600_000,
            customers: 20_000,
            codes: 1_000_000,
            brands: vec!["acme".to_owned()],
            format: WireFormat::Protobuf,
            partitions: [6; 3],
            duplicates: 0.01,
            late: 0.02,
            late_max_ms: 7 * 86_400_000,
            misrouted: 0.1,
            malformed: 0.001,
            conflicts: 0.0,
            referred: 0.6,
        }
    }
}

/// Options that make no sense.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum OptionsError {
    /// A share is outside 0..=1, or they add up to more than 1.
    #[error(
        "the share `{name}` is {value}; shares are 0 to 1, and those of duplicates, late, misrouted, malformed and conflicts at most 1 together"
    )]
    Share {
        /// Which.
        name: &'static str,
        /// Its value, or the sum.
        value: f64,
    },
    /// Something that has to be there is not.
    #[error("`{0}` must be at least 1")]
    Zero(&'static str),
    /// Times outside what is accepted.
    #[error("event times must lie between 1970 and 2106; from {start_ms} over {span_ms} ms, up to {late_max_ms} ms late, they do not")]
    Time {
        /// Unix milliseconds.
        start_ms: i64,
        /// Milliseconds.
        span_ms: i64,
        /// Milliseconds.
        late_max_ms: i64,
    },
    /// A brand that no event may have.
    #[error("brand `{0}` must be 1 to 64 of a-z, 0-9, _ and -")]
    Brand(String),
}

/// What is special about a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// A new event, in order, in its owner's partition.
    Plain,
    /// The same event again.
    Duplicate,
    /// A new event, much older than its record.
    Late,
    /// A new event in a partition that does not own its customer.
    Misrouted,
    /// Never accepted, for this reason.
    Malformed(Reason),
    /// The identity of an earlier event, with other content.
    Conflict,
}

impl Class {
    /// The value of [`CLASS_HEADER`].
    pub fn name(self) -> &'static str {
        match self {
            Class::Plain => "plain",
            Class::Duplicate => "duplicate",
            Class::Late => "late",
            Class::Misrouted => "misrouted",
            Class::Malformed(_) => "malformed",
            Class::Conflict => "conflict",
        }
    }
}

/// One record to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedRecord {
    /// Which topic.
    pub kind: EventKind,
    /// What is special about it; the headers say so, too.
    pub class: Class,
    /// When it is due, Unix milliseconds; never less than that of the record before.
    pub due_ms: i64,
    /// The partition to send it to.
    pub partition: u32,
    /// The customer's id, or nothing.
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Names and values; none for plain records.
    pub headers: Vec<(&'static str, &'static str)>,
}

/// The stream of records: an iterator of [`Options::count`] items.
pub struct Generator {
    options: Options,
    dice: Dice,
    worlds: Vec<World>,
    emitted: u64,
    events: u64,
    malformed: usize,
    remembered: Vec<Remembered>,
    thresholds: Thresholds,
}

/// An event that may be repeated.
struct Remembered {
    message: Message,
    class: Class,
}

/// The shares as parts of a million, each on top of the ones before.
struct Thresholds {
    malformed: u64,
    duplicates: u64,
    conflicts: u64,
    late: u64,
    misrouted: u64,
}

impl Generator {
    /// A stream at its beginning.
    ///
    /// # Errors
    /// When the options make no sense.
    pub fn new(options: Options) -> Result<Self, OptionsError> {
        check(&options)?;
        let brands = options.brands.len() as u64;
        let setup = |brand: &String| Setup {
            brand: brand.clone(),
            seed: options.seed,
            customers: (u64::from(options.customers) / brands).max(1) as u32,
            codes: options.codes,
            events: options.count / brands,
            referred_per_million: per_million(options.referred) as u32,
        };
        let mut sum = 0;
        let mut next = |share: f64| {
            sum += per_million(share);
            sum
        };
        Ok(Generator {
            thresholds: Thresholds {
                malformed: next(options.malformed),
                duplicates: next(options.duplicates),
                conflicts: next(options.conflicts),
                late: next(options.late),
                misrouted: next(options.misrouted),
            },
            dice: Dice::new(options.seed),
            worlds: options.brands.iter().map(|brand| World::new(setup(brand))).collect(),
            emitted: 0,
            events: 0,
            malformed: 0,
            remembered: Vec::new(),
            options,
        })
    }

    /// What this generator was made of.
    pub fn options(&self) -> &Options {
        &self.options
    }

    fn record(&mut self) -> GeneratedRecord {
        let due_ms = self.due_ms();
        let throw = self.dice.below(1_000_000);
        if throw < self.thresholds.malformed {
            return self.malformed(due_ms);
        }
        if throw < self.thresholds.duplicates
            && let Some(record) = self.duplicate(due_ms)
        {
            return record;
        }
        if (self.thresholds.duplicates..self.thresholds.conflicts).contains(&throw)
            && let Some(record) = self.conflict(due_ms)
        {
            return record;
        }
        let class = match throw {
            _ if throw < self.thresholds.conflicts => Class::Plain,
            _ if throw < self.thresholds.late => Class::Late,
            _ if throw < self.thresholds.misrouted => Class::Misrouted,
            _ => Class::Plain,
        };
        self.new_event(class, due_ms)
    }

    fn due_ms(&self) -> i64 {
        let elapsed = i128::from(self.emitted) * i128::from(self.options.span_ms) / i128::from(self.options.count);
        self.options.start_ms + elapsed as i64
    }

    fn new_event(&mut self, class: Class, due_ms: i64) -> GeneratedRecord {
        let brand = self.dice.below(self.worlds.len() as u64) as usize;
        let mut delay_ms = self.dice.below(MOST_DELAY_MS as u64) as i64;
        let world = &mut self.worlds[brand];
        let mut message = if class == Class::Late {
            delay_ms += self.dice.below(self.options.late_max_ms.max(1) as u64) as i64;
            world.late_event(&mut self.dice, due_ms - delay_ms)
        } else {
            world.event(&mut self.dice, due_ms - delay_ms)
        };
        *message.common().event_id = self.event_id();
        let partition = match class {
            Class::Misrouted => self.wrong_partition(&message),
            _ => self.right_partition(&message),
        };
        let record = self.sent(&message, class, due_ms, partition);
        self.remember(message, class);
        record
    }

    /// Unique, and without a visible order.
    fn event_id(&mut self) -> String {
        self.events += 1;
        format!("{:016x}", mixed(self.events ^ mixed(self.options.seed)))
    }

    fn partitions_of(&self, message: &Message) -> u32 {
        self.options.partitions[message.kind() as usize]
    }

    fn right_partition(&self, message: &Message) -> u32 {
        owner(message.customer_id(), self.partitions_of(message))
    }

    /// Any but the owner's, if there is another.
    fn wrong_partition(&mut self, message: &Message) -> u32 {
        let partitions = self.partitions_of(message);
        let step = 1 + self.dice.below(u64::from(partitions - 1)) as u32;
        (self.right_partition(message) + step) % partitions
    }

    /// Most are forgotten again soon; the few first and some of the others stay for long.
    fn remember(&mut self, message: Message, class: Class) {
        if self.remembered.len() < 64 || (self.remembered.len() < REMEMBERED_EVENTS && self.dice.chance(60_000)) {
            self.remembered.push(Remembered { message, class });
        } else if self.dice.chance(60_000) {
            let place = self.dice.below(self.remembered.len() as u64) as usize;
            self.remembered[place] = Remembered { message, class };
        }
    }

    fn duplicate(&mut self, due_ms: i64) -> Option<GeneratedRecord> {
        let place = self.dice.below(self.remembered.len() as u64) as usize;
        let message = self.remembered.get(place)?.message.clone();
        let partition = if self.dice.chance(500_000) { self.wrong_partition(&message) } else { self.right_partition(&message) };
        Some(self.sent(&message, Class::Duplicate, due_ms, partition))
    }

    /// Of an event that went straight to its owner, so that it is certainly the first of its identity.
    fn conflict(&mut self, due_ms: i64) -> Option<GeneratedRecord> {
        let start = self.dice.below(self.remembered.len() as u64) as usize;
        let mut rotated = self.remembered.iter().cycle().skip(start).take(self.remembered.len());
        let original = rotated.find(|event| event.class != Class::Misrouted && event.message.is_customers_own())?;
        let mut message = original.message.clone();
        message.common().campaign.push_str("-changed");
        let partition = self.right_partition(&message);
        Some(self.sent(&message, Class::Conflict, due_ms, partition))
    }

    fn malformed(&mut self, due_ms: i64) -> GeneratedRecord {
        let reason = fault::REASONS[self.malformed % fault::REASONS.len()];
        self.malformed += 1;
        let kind = fault::kind_for(reason, &mut self.dice);
        let customer_id = format!("malformed{:04}", self.dice.below(10_000));
        let brand = self.options.brands[self.dice.below(self.options.brands.len() as u64) as usize].clone();
        let message = fault::template(kind, self.event_id(), &brand, customer_id, due_ms);
        let partition = self.right_partition(&message);
        let key = Some(message.customer_id().as_bytes().to_vec());
        let format = self.value_format();
        let value = fault::value(reason, message, format, &mut self.dice);
        let class = Class::Malformed(reason);
        GeneratedRecord { kind, class, due_ms, partition, key, value, headers: headers(class) }
    }

    fn sent(&mut self, message: &Message, class: Class, due_ms: i64, partition: u32) -> GeneratedRecord {
        let is_keyed = class != Class::Misrouted || self.dice.chance(500_000);
        let value = match self.value_format() {
            WireFormat::Json => Value::Object(message.json(Spelling::thrown(&mut self.dice))).to_string().into_bytes(),
            WireFormat::Protobuf | WireFormat::Mixed => message.protobuf(),
        };
        let key = is_keyed.then(|| message.customer_id().as_bytes().to_vec());
        GeneratedRecord { kind: message.kind(), class, due_ms, partition, key, value: Some(value), headers: headers(class) }
    }

    fn value_format(&mut self) -> WireFormat {
        match self.options.format {
            WireFormat::Mixed => *self.dice.one_of(&[&WireFormat::Protobuf, &WireFormat::Json]),
            format => format,
        }
    }
}

impl Iterator for Generator {
    type Item = GeneratedRecord;

    fn next(&mut self) -> Option<GeneratedRecord> {
        if self.emitted == self.options.count {
            return None;
        }
        let record = self.record();
        self.emitted += 1;
        Some(record)
    }
}

fn headers(class: Class) -> Vec<(&'static str, &'static str)> {
    match class {
        Class::Plain => Vec::new(),
        Class::Malformed(reason) => vec![(CLASS_HEADER, class.name()), (REASON_HEADER, reason.code())],
        _ => vec![(CLASS_HEADER, class.name())],
    }
}

fn per_million(share: f64) -> u64 {
    (share * 1_000_000.0).round() as u64
}

fn check(options: &Options) -> Result<(), OptionsError> {
    let shares = [
        ("duplicates", options.duplicates),
        ("late", options.late),
        ("misrouted", options.misrouted),
        ("malformed", options.malformed),
        ("conflicts", options.conflicts),
    ];
    let sum = ("sum", shares.iter().map(|(_, value)| value).sum());
    for (name, value) in shares.into_iter().chain([sum, ("referred", options.referred)]) {
        if !(0.0..=1.0).contains(&value) {
            return Err(OptionsError::Share { name, value });
        }
    }
    let at_least_one = [
        ("count", options.count),
        ("customers", u64::from(options.customers)),
        ("codes", options.codes),
        ("brands", options.brands.len() as u64),
        ("partitions", options.partitions.into_iter().min().unwrap_or_default().into()),
    ];
    if let Some((name, _)) = at_least_one.into_iter().find(|(_, number)| *number == 0) {
        return Err(OptionsError::Zero(name));
    }
    if let Some(brand) = options.brands.iter().find(|brand| !is_brand(brand)) {
        return Err(OptionsError::Brand(brand.clone()));
    }
    let Options { start_ms, span_ms, late_max_ms, .. } = *options;
    let first_ms = start_ms.saturating_sub(late_max_ms).saturating_sub(world::MOST_SPREAD_MS + MOST_DELAY_MS);
    let last_ms = start_ms.saturating_add(span_ms);
    if span_ms < 0 || late_max_ms < 0 || first_ms < 1 || last_ms / 1_000 > i64::from(u32::MAX) {
        return Err(OptionsError::Time { start_ms, span_ms, late_max_ms });
    }
    Ok(())
}

fn is_brand(brand: &str) -> bool {
    (1..=64).contains(&brand.len()) && brand.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}
