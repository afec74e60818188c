//! `onecode dead-letter replay`: the original records again, to the topics they came from.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;

use super::letter::{Letter, Position};
use super::{Filter, read};
use crate::commands::Verdict;
use crate::commands::sending::Sender;
use crate::commands::table::plain;
use crate::config::Config;
use crate::kafka::producer_options;

/// Which records.
pub(super) struct Wanted<'a> {
    pub filter: &'a Filter,
    /// Empty: all.
    pub at: &'a [Position],
    pub limit: usize,
}

impl Wanted<'_> {
    fn takes(&self, letter: &Letter) -> bool {
        self.filter.takes(letter) && (self.at.is_empty() || self.at.contains(&letter.origin) || self.at.contains(&letter.at))
    }
}

pub(super) fn run(config: &Config, wanted: &Wanted<'_>, dry_run: bool, out: &mut impl Write) -> anyhow::Result<Verdict> {
    let mut sender = if dry_run { None } else { Some(Sender::new(&producer_options(config))?) };
    let mut sent: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut strangers: BTreeMap<String, u64> = BTreeMap::new();
    // A crash may have left two letters of one record.
    let mut origins = HashSet::new();
    let mut answered = HashSet::new();
    read::each_letter(config, |letter| {
        if origins.len() >= wanted.limit || !wanted.takes(&letter) {
            return Ok(());
        }
        answered.extend(wanted.at.iter().filter(|position| **position == letter.origin || **position == letter.at));
        // The header is data: it must not make us write anywhere else.
        if config.topics.kind_of(&letter.origin.topic).is_none() {
            *strangers.entry(letter.origin.topic).or_default() += 1;
            return Ok(());
        }
        if !origins.insert(letter.origin.clone()) {
            return Ok(());
        }
        if let Some(sender) = &mut sender {
            sender.send(record(&letter))?;
        }
        *sent.entry((letter.origin.topic, letter.reason)).or_default() += 1;
        Ok(())
    })?;
    if let Some(sender) = &sender {
        sender.finish()?;
    }
    let total: u64 = sent.values().sum();
    let does = if dry_run { "would send" } else { "sent" };
    let acknowledged = if dry_run { "" } else { ", every one acknowledged" };
    writeln!(out, "{does} {total} records{acknowledged}")?;
    for ((topic, reason), count) in &sent {
        writeln!(out, "  {count} to {} that were {}", plain(topic), plain(reason))?;
    }
    for (topic, count) in &strangers {
        writeln!(out, "{count} records came from `{}`, which is no input topic of this configuration, and are left", plain(topic))?;
    }
    for position in wanted.at.iter().filter(|position| !answered.contains(position)) {
        writeln!(out, "no dead letter that fits is or comes from {position}")?;
    }
    let found_all = wanted.at.iter().all(|position| answered.contains(position));
    Ok(if found_all { Verdict::Fine } else { Verdict::FoundSomething })
}

/// The record as it first arrived; its key decides on the partition, so that it reaches its owner.
fn record(letter: &Letter) -> BaseRecord<'_, [u8], [u8]> {
    let mut record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&letter.origin.topic);
    record.key = letter.key.as_deref();
    record.payload = letter.value.as_deref();
    if !letter.headers.is_empty() {
        let none = OwnedHeaders::new_with_capacity(letter.headers.len());
        let add = |headers: OwnedHeaders, (name, value): &(String, Option<Vec<u8>>)| {
            headers.insert(Header { key: name, value: value.as_deref() })
        };
        record.headers = Some(letter.headers.iter().fold(none, add));
    }
    record
}
