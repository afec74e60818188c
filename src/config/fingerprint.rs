//! The settings that change results, so that state is never continued under other ones.

use std::collections::{BTreeMap, BTreeSet};

use super::Config;

/// Pairs of key and value in the order of the keys; stored with a task's positions and compared at every takeover.
///
/// A brand's own setting is in it only where it differs from the default, so that spelling out a default changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fingerprint {
    pairs: BTreeMap<String, String>,
}

/// A setting under which the state was built, and what the configuration says now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` is {configured} in the configuration, but the state was built with {stored}")]
pub struct Mismatch {
    /// The key.
    pub key: String,
    /// Under which the state was built.
    pub stored: String,
    /// Now.
    pub configured: String,
}

impl Fingerprint {
    /// From stored pairs.
    pub fn from_pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Fingerprint { pairs: pairs.into_iter().collect() }
    }

    /// The pairs, in order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// What differs, `self` being what is stored: in the order of the keys, empty if nothing does.
    pub fn mismatches(&self, configured: &Fingerprint) -> Vec<Mismatch> {
        let keys: BTreeSet<&String> = self.pairs.keys().chain(configured.pairs.keys()).collect();
        keys.into_iter()
            .filter(|key| self.pairs.get(*key) != configured.pairs.get(*key))
            .map(|key| Mismatch { key: key.clone(), stored: self.value_of(key), configured: configured.value_of(key) })
            .collect()
    }

    /// A brand without a value of its own has the pipeline's.
    fn value_of(&self, key: &str) -> String {
        let fallback = || {
            let name = key.rsplit('.').next().unwrap_or_default();
            self.pairs.get(&format!("pipeline.{name}"))
        };
        self.pairs.get(key).or_else(fallback).cloned().unwrap_or_else(|| "not set".to_owned())
    }
}

impl Config {
    /// The settings that change results: calendars, currencies, levels.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut pairs = BTreeMap::from([
            ("limits.levels".to_owned(), self.limits.levels.to_string()),
            ("pipeline.currency".to_owned(), self.pipeline.currency.clone()),
            ("pipeline.time_zone".to_owned(), self.pipeline.time_zone.to_string()),
        ]);
        for (brand, section) in &self.brands.sections {
            if let Some(zone) = section.time_zone.filter(|zone| *zone != self.pipeline.time_zone) {
                pairs.insert(format!("brands.{brand}.time_zone"), zone.to_string());
            }
            if let Some(currency) = section.currency.as_ref().filter(|currency| **currency != self.pipeline.currency) {
                pairs.insert(format!("brands.{brand}.currency"), currency.clone());
            }
        }
        Fingerprint { pairs }
    }
}
