//! `onecode dead-letter list`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io::Write;

use serde_json::Value;

use super::letter::{Letter, Position};
use super::{Filter, read};
use crate::commands::Verdict;
use crate::commands::table::{plain, write_table};
use crate::config::Config;

/// A letter without its value, in the order of a list: by time, then by position.
struct Line(Letter);

impl Line {
    fn order(&self) -> (i64, &Position) {
        (self.0.time_ms, &self.0.at)
    }
}

impl PartialEq for Line {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl Eq for Line {}

impl PartialOrd for Line {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Line {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

pub(super) fn run(config: &Config, filter: &Filter, limit: usize, as_json: bool, out: &mut impl Write) -> anyhow::Result<Verdict> {
    let mut newest = BinaryHeap::new();
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    let foreign = read::each_letter(config, |letter| {
        if filter.takes(&letter) {
            *reasons.entry(letter.reason.clone()).or_default() += 1;
            newest.push(Reverse(Line(letter)));
            if newest.len() > limit {
                newest.pop();
            }
        }
        Ok(())
    })?;
    let letters: Vec<Letter> = newest.into_sorted_vec().into_iter().rev().map(|Reverse(line)| line.0).collect();
    if as_json {
        for letter in &letters {
            writeln!(out, "{}", Value::Object(letter.json()))?;
        }
        return Ok(Verdict::Fine);
    }
    let rows: Vec<[String; 5]> = letters.iter().map(row).collect();
    if !rows.is_empty() {
        write_table(out, ["rejected", "reason", "origin", "key", "message"], &rows)?;
        writeln!(out)?;
    }
    let total: u64 = reasons.values().sum();
    writeln!(out, "{total} dead letters in `{}` fit, {} shown", config.topics.dead_letter, rows.len())?;
    for (reason, count) in &reasons {
        writeln!(out, "  {count} {}", plain(reason))?;
    }
    if foreign > 0 {
        writeln!(out, "{foreign} other records there have no headers of a dead letter and are left out")?;
    }
    Ok(Verdict::Fine)
}

fn row(letter: &Letter) -> [String; 5] {
    let key = letter.key.as_deref().map_or_else(|| "(none)".to_owned(), |key| String::from_utf8_lossy(key).into_owned());
    [letter.time(), letter.reason.clone(), letter.origin.to_string(), key, letter.message.clone()]
}
