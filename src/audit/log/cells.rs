//! Cells of minutes and days: what was counted, what the state says and what the serving rows say, side by side.
//!
//! Promises one entry for a key, whoever names it first. Texts are kept once and cells hold their numbers: there are millions of cells
//! and few campaigns. Sums are added as they come, whatever their order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Sums of a cell or day, in the order of [`SUMS`].
pub(super) type Sums = [i64; 12];
/// Names of the sums, as the tables have them.
pub(super) const SUMS: [&str; 12] =
    ["scans", "verifies", "draws", "joins", "visits", "shares", "orders", "refunds", "paid", "refunded", "new_customers", "active"];

/// Which table a cell belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum CellTable {
    Minute,
    Day,
    ActiveDay,
}

impl CellTable {
    pub fn name(self) -> &'static str {
        match self {
            CellTable::Minute => "activity_minute",
            CellTable::Day => "activity_day",
            CellTable::ActiveDay => "active_customers_day",
        }
    }
}

/// The key of a cell. What its table does not have is empty or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CellKey<'a> {
    pub table: CellTable,
    pub brand: &'a str,
    /// The minute's first second, Unix; or the day's number since 1970.
    pub bucket: u32,
    pub campaign: &'a str,
    pub sku: &'a str,
    pub channel: &'a str,
    pub region: u32,
}

/// A key with texts by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Id {
    table: CellTable,
    brand: u32,
    bucket: u32,
    campaign: u32,
    sku: u32,
    channel: u32,
    region: u32,
}

/// What is known of a cell.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cell {
    pub counted: Sums,
    /// By the state, over all tasks.
    pub stored: Sums,
    /// By the serving rows, over all tasks.
    pub seen: Sums,
    /// Somebody named it: counted, stored or seen.
    is_there: bool,
    /// Events after the checkpoints fall into it: newer rows may know them.
    pub moves: bool,
    /// Events of unknown customers may fall into it.
    pub is_unknown: bool,
}

/// All cells.
#[derive(Debug, Default)]
pub(super) struct Cells {
    numbers: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
    cells: BTreeMap<Id, Cell>,
    /// Minutes before this are on their way out, Unix seconds.
    pub first_minute: u32,
}

impl Cells {
    /// Adds what was counted.
    pub fn count(&mut self, key: &CellKey<'_>, sums: &Sums) {
        let cell = self.at(key);
        cell.is_there = true;
        add(&mut cell.counted, sums);
    }

    /// Adds what the state of a task says.
    pub fn store(&mut self, key: &CellKey<'_>, sums: &Sums) {
        let cell = self.at(key);
        cell.is_there = true;
        add(&mut cell.stored, sums);
    }

    /// Adds what serving rows say.
    pub fn see(&mut self, key: &CellKey<'_>, sums: &Sums) {
        let cell = self.at(key);
        cell.is_there = true;
        add(&mut cell.seen, sums);
    }

    /// An event after the checkpoints falls into it.
    pub fn moves(&mut self, key: &CellKey<'_>) {
        self.at(key).moves = true;
    }

    /// An event of an unknown customer may fall into it.
    pub fn is_unknown(&mut self, key: &CellKey<'_>) {
        self.at(key).is_unknown = true;
    }

    /// Those that were counted, stored or seen, by key.
    pub fn by_key(&self) -> Vec<(CellKey<'_>, &Cell)> {
        let there = self.cells.iter().filter(|(_, cell)| cell.is_there);
        let mut sorted: Vec<_> = there.map(|(id, cell)| (self.key(id), cell)).collect();
        sorted.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        sorted
    }

    fn at(&mut self, key: &CellKey<'_>) -> &mut Cell {
        let id = Id {
            table: key.table,
            brand: self.number(key.brand),
            bucket: key.bucket,
            campaign: self.number(key.campaign),
            sku: self.number(key.sku),
            channel: self.number(key.channel),
            region: key.region,
        };
        self.cells.entry(id).or_default()
    }

    fn number(&mut self, text: &str) -> u32 {
        if let Some(known) = self.numbers.get(text) {
            return *known;
        }
        let text: Arc<str> = text.into();
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.texts.push(text.clone());
        self.numbers.insert(text, number);
        number
    }

    fn key(&self, id: &Id) -> CellKey<'_> {
        let text = |number: u32| self.texts.get(number as usize).map_or("", |text| &**text);
        CellKey {
            table: id.table,
            brand: text(id.brand),
            bucket: id.bucket,
            campaign: text(id.campaign),
            sku: text(id.sku),
            channel: text(id.channel),
            region: id.region,
        }
    }
}

/// Adds sums to sums.
pub(super) fn add(known: &mut Sums, more: &Sums) {
    known.iter_mut().zip(more).for_each(|(known, more)| *known = known.saturating_add(*more));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(brand: &'static str, bucket: u32) -> CellKey<'static> {
        CellKey { table: CellTable::Day, brand, bucket, campaign: "c", sku: "", channel: "w", region: 310_000 }
    }

    #[test]
    fn what_three_say_of_a_cell_stands_in_one_place_and_comes_by_key() {
        let mut cells = Cells::default();
        cells.moves(&day("never counted", 1));
        cells.count(&day("b", 2), &[1; 12]);
        cells.count(&day("a", 3), &[1; 12]);
        cells.store(&day("b", 2), &[2; 12]);
        cells.store(&day("b", 2), &[3; 12]);
        cells.see(&day("b", 1), &[4; 12]);
        cells.is_unknown(&day("a", 3));
        let found: Vec<_> =
            cells.by_key().into_iter().map(|(key, cell)| (key.brand, key.bucket, cell.counted[0], cell.stored[0], cell.seen[0])).collect();
        assert_eq!(found, [("a", 3, 1, 0, 0), ("b", 1, 0, 0, 4), ("b", 2, 1, 5, 0)]);
        assert!(cells.by_key()[0].1.is_unknown);
    }
}
