//! Which packs of cells a task's checkpoints have written, and what the next one writes.
//!
//! A cut writes the cells of a place that changed (a slice of a day) as one pack (`engine/pack.rs`), so packs of a place pile up: what an older one says of a
//! cell, a newer one may say anew. Owns the count of what is there and what of it still counts, and promises that a place's packs hold little more than twice what
//! they have to: then all its cells are written once more, in the same insert that deletes the packs before. Never reads or writes a table.

use std::collections::BTreeMap;

use hashbrown::{HashMap, HashSet};

use crate::engine::{Engine, PackKey, PackPlace, PackedRow, RowChange, StateKind, StateRows, push_packed};

/// Cells that one cut writes besides those that changed, of several places: some ten megabytes.
const MOST_ANEW: u64 = 200_000;

/// When a pack is full, and a place's packs are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackRule {
    /// A pack is closed when it is as large as this, bytes. ClickHouse sizes its blocks by the average row: much larger ones make them of a hundred megabytes.
    pub full_bytes: usize,
    /// So many outdated entries of a place are never too many: writing all its cells once more would cost more.
    pub least_outdated: u64,
    /// Fewer first rows of keys stay rows (`first_rows.rs`): what a pack says of keys that change later stays in it for ever.
    pub least_rows: usize,
}

impl Default for PackRule {
    fn default() -> Self {
        PackRule { full_bytes: 8 << 10, least_outdated: 200, least_rows: 8 }
    }
}

impl PackRule {
    fn is_exceeded(&self, entries: u64, live: u64) -> bool {
        entries > live * 2 && entries > live + self.least_outdated
    }
}

/// The packs of a place.
#[derive(Debug, Default)]
struct PlaceLog {
    /// Sequence and number of each that is stored.
    stored: Vec<(u64, u32)>,
    /// Cells in them, and in what this cut adds: a cell is counted as often as it is named.
    entries: u64,
    /// Cells that there are.
    live: u64,
    /// Some cells have rows of their own: written by a move to another number of tasks, or by a release without packs.
    has_rows: bool,
    /// Not all cells were in memory when the place was to be written anew: that is tried again when there are so many entries.
    again_at: u64,
    /// What this cut adds.
    added: Vec<Vec<u8>>,
    is_touched: bool,
}

impl PlaceLog {
    fn count(&mut self, change: RowChange) {
        self.entries += 1;
        match change {
            RowChange::New => self.live += 1,
            RowChange::Changed => {}
            RowChange::Gone => self.live = self.live.saturating_sub(1),
        }
    }
}

/// The packs of a task.
#[derive(Debug)]
pub(super) struct CellLog {
    rule: PackRule,
    places: HashMap<PackPlace, PlaceLog, foldhash::quality::FixedState>,
    /// Places to which this cut adds something, in the order in which it did.
    touched: Vec<PackPlace>,
}

/// Cells that are written anew: their packs, and how many they are.
type Anew = BTreeMap<PackPlace, (Vec<Vec<u8>>, u64)>;

impl CellLog {
    pub(super) fn new(rule: PackRule) -> Self {
        CellLog { rule, places: HashMap::default(), touched: Vec::new() }
    }

    /// A stored pack was read.
    pub(super) fn found_pack(&mut self, at: PackKey) {
        self.places.entry(at.place).or_default().stored.push((at.sequence, at.number));
    }

    /// Some of its entries were taken back; `None`: it said nothing new.
    pub(super) fn found_entries(&mut self, at: PackKey, changes: &[Option<RowChange>]) {
        let log = self.places.entry(at.place).or_default();
        changes.iter().for_each(|change| log.count(change.unwrap_or(RowChange::Changed)));
    }

    /// A row of one cell was taken back.
    pub(super) fn found_row(&mut self, place: PackPlace) {
        let log = self.places.entry(place).or_default();
        log.has_rows = true;
        log.count(RowChange::New);
    }

    /// Writes what changed in a state since the last cut, cells in packs.
    pub(super) fn cut(&mut self, engine: &mut Engine, sequence: u64, rows: &mut dyn StateRows) {
        engine.cut(&mut InPacks { rows, cells: self });
        self.finish(engine, sequence, rows);
    }

    /// Takes a row of a cut into a pack. `false`: it is none that goes into packs, or has to be written as a row besides.
    fn takes(&mut self, kind: u8, key: &[u8], payload: &[u8], change: RowChange) -> bool {
        let Some(place) = PackPlace::of(kind, key) else { return false };
        let log = self.places.entry(place).or_default();
        if !std::mem::replace(&mut log.is_touched, true) {
            self.touched.push(place);
        }
        log.count(change);
        add(&mut log.added, self.rule.full_bytes, &PackedRow { key, payload, is_deleted: change == RowChange::Gone });
        !(log.has_rows && change == RowChange::Gone)
    }

    /// Writes the packs of a cut, and deletes those that it makes superfluous.
    fn finish(&mut self, engine: &Engine, sequence: u64, rows: &mut dyn StateRows) {
        let mut anew = self.anew(engine);
        for place in std::mem::take(&mut self.touched) {
            let Some(log) = self.places.get_mut(&place) else { continue };
            let mut added = std::mem::take(&mut log.added);
            log.is_touched = false;
            let mut superfluous = Vec::new();
            if log.live == 0 {
                added.clear();
                superfluous = std::mem::take(&mut log.stored);
            } else if let Some((packs, cells)) = anew.remove(&place) {
                // Some may not be in memory.
                if cells == log.live {
                    added = packs;
                    superfluous = std::mem::take(&mut log.stored);
                    (log.entries, log.again_at) = (log.live, 0);
                } else {
                    log.again_at = log.entries + log.entries / 2;
                }
            }
            for (sequence, number) in superfluous {
                let pack = PackKey { place, sequence, number };
                rows.row(pack.row_kind(), &pack.row_key(), &[], RowChange::Gone);
            }
            for (number, cells) in (0..).zip(&added) {
                let pack = PackKey { place, sequence, number };
                rows.row(pack.row_kind(), &pack.row_key(), cells, RowChange::New);
                log.stored.push((sequence, number));
            }
            if log.live == 0 {
                self.places.remove(&place);
            }
        }
    }

    /// The cells of places whose packs have become too many, as far as they are in memory; no more than a cut should write besides, but one place at least.
    fn anew(&self, engine: &Engine) -> Anew {
        let mut anew = Anew::new();
        let mut cells = 0;
        for place in &self.touched {
            let Some(log) = self.places.get(place) else { continue };
            let is_due = log.live > 0 && self.rule.is_exceeded(log.entries, log.live) && log.entries >= log.again_at;
            if is_due && (cells == 0 || cells + log.live <= MOST_ANEW) {
                cells += log.live;
                anew.insert(*place, (Vec::new(), 0));
            }
        }
        for kind in [StateKind::MinuteCell, StateKind::DayCell] {
            let days: HashSet<u32, foldhash::quality::FixedState> =
                anew.keys().filter(|place| place.kind == kind).map(|place| place.day).collect();
            if days.is_empty() {
                continue;
            }
            engine.visit_cells(
                kind,
                |day| days.contains(&day),
                |place, cell| {
                    if let Some((packs, count)) = anew.get_mut(&place) {
                        add(packs, self.rule.full_bytes, cell);
                        *count += 1;
                    }
                },
            );
        }
        anew
    }
}

/// Passes on the rows of a cut that go into no pack.
struct InPacks<'a> {
    rows: &'a mut dyn StateRows,
    cells: &'a mut CellLog,
}

impl StateRows for InPacks<'_> {
    fn row(&mut self, kind: u8, key: &[u8], payload: &[u8], change: RowChange) {
        if !self.cells.takes(kind, key, payload, change) {
            self.rows.row(kind, key, payload, change);
        }
    }
}

/// Adds a cell to the last pack, or to a new one if that is full.
fn add(packs: &mut Vec<Vec<u8>>, full_bytes: usize, cell: &PackedRow<'_>) {
    match packs.last_mut().filter(|pack| pack.len() < full_bytes) {
        Some(pack) => push_packed(pack, cell),
        None => {
            let mut pack = Vec::new();
            push_packed(&mut pack, cell);
            packs.push(pack);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Format, RawRecord, Rules, decode};
    use crate::engine::{Applied, CellName, ColdGroup, ForgetRule, LatestCells, Mechanisms, Settings, StateRow};
    use crate::model::{Calendar, EventKind, Version};

    const DAY_MS: i64 = 86_400_000;
    const NOW_MS: i64 = 20_000 * DAY_MS;

    /// A task's state as its checkpoints leave it in the table.
    struct World {
        engine: Engine,
        cells: CellLog,
        table: BTreeMap<(u8, Vec<u8>), Vec<u8>>,
        sequence: u64,
        scans: u32,
        /// What left memory.
        away: BTreeMap<ColdGroup, Vec<u8>>,
    }

    impl World {
        fn new() -> World {
            let settings = Settings {
                task: "0".into(),
                calendar: Calendar::new("+00:00".parse().expect("a zone"), BTreeMap::new()),
                forget: ForgetRule { slack_ms: 0, pass_step_ms: 1 },
                mechanisms: Mechanisms::default(),
                levels: 2,
            };
            let cells = CellLog::new(PackRule { full_bytes: 60, least_outdated: 2, ..PackRule::default() });
            World { engine: Engine::new(settings), cells, table: BTreeMap::new(), sequence: 0, scans: 0, away: BTreeMap::new() }
        }

        fn scan(&mut self, time_ms: i64, channel: u32) {
            self.scans += 1;
            let text = format!(
                r#"{{"eventId": "e{}", "brand": "acme", "customerId": "c{channel}", "eventTimeMs": "{time_ms}", "code": "x", "channel": "{channel}"}}"#,
                self.scans
            );
            let raw = RawRecord { value: Some(text.as_bytes()), content_type: None, timestamp_ms: NOW_MS };
            let event = decode(EventKind::Scan, Format::Json, raw, &Rules::default()).expect("a scan");
            let mut missing = Vec::new();
            self.engine.missing_for_event(&event, &mut missing);
            for group in missing {
                let Some(rows) = self.away.remove(&group) else { continue };
                self.engine.take_back(group, &rows).expect("a group");
            }
            assert_eq!(self.engine.apply(&event), Applied::Applied);
        }

        fn cut(&mut self) {
            self.sequence += 1;
            self.engine.drain_rows(Version::new(1, self.sequence), &mut crate::rows::ServingRows::default());
            self.engine.drain_contributions(|_, _| {});
            let mut rows = Vec::new();
            self.cells.cut(&mut self.engine, self.sequence, &mut rows);
            for StateRow { kind, key, payload, deleted } in rows {
                if deleted {
                    self.table.remove(&(kind, key));
                } else {
                    self.table.insert((kind, key), payload);
                }
            }
        }

        /// Cuts when all but the last ten days are forgotten.
        fn cut_after_forgetting(&mut self) {
            self.engine.raise_horizon(NOW_MS - 10 * DAY_MS);
            self.engine.raise_reach(NOW_MS - 10 * DAY_MS);
            while self.engine.sweep(1_000) == 1_000 {}
            self.cut();
        }

        fn packs(&self) -> usize {
            self.table.keys().filter(|(kind, _)| crate::engine::packed_kind(*kind).is_some()).count()
        }

        /// Of one slice of the minutes.
        fn most_packs(&self) -> usize {
            let of_minutes = self.cells.places.iter().filter(|(place, _)| place.kind == StateKind::MinuteCell);
            of_minutes.map(|(_, log)| log.stored.len()).max().unwrap_or_default()
        }

        /// Cells by what the table says.
        fn stored(&self) -> BTreeMap<CellName, Vec<u8>> {
            let mut latest = LatestCells::default();
            for ((kind, key), payload) in &self.table {
                latest.take(*kind, key, payload).expect("readable");
            }
            latest.iter().map(|(name, payload)| (name.clone(), payload.to_vec())).collect()
        }

        /// How many; they must be those of the engine.
        fn cells(&self) -> usize {
            let mut known = BTreeMap::new();
            for kind in [StateKind::MinuteCell, StateKind::DayCell] {
                self.engine.visit_cells(
                    kind,
                    |_| true,
                    |_, cell| {
                        known.insert((kind as u8, cell.key.to_vec()), cell.payload.to_vec());
                    },
                );
            }
            assert_eq!(self.stored(), known);
            known.len()
        }
    }

    #[test]
    fn a_day_that_changes_again_and_again_keeps_few_packs() {
        let mut world = World::new();
        for channel in 0..100 {
            world.scan(NOW_MS, channel);
        }
        world.cut();
        let first = world.packs();
        let mut most = first;
        for _ in 0..50 {
            world.scan(NOW_MS, 0);
            world.cut();
            most = most.max(world.packs());
            assert_eq!(world.cells(), 200);
        }
        // Of two kinds and 16 slices, which no cut adds more than a pack of some cells to; of the changing one no more than twice its cells.
        assert!(most <= first + 2 * 12, "{first} packs, then {most}");
    }

    #[test]
    fn the_packs_of_a_forgotten_day_are_gone() {
        let mut world = World::new();
        world.scan(NOW_MS - 20 * DAY_MS, 0);
        world.scan(NOW_MS, 0);
        world.cut();
        let with_the_old_day = world.packs();
        world.cut_after_forgetting();
        assert_eq!((with_the_old_day, world.packs(), world.cells()), (4, 2, 2));
    }

    #[test]
    fn a_cell_that_has_a_row_of_its_own_is_gone_from_it_too() {
        let mut world = World::new();
        world.scan(NOW_MS - 20 * DAY_MS, 0);
        let mut rows = Vec::new();
        world.engine.drain_rows(Version::new(1, 1), &mut crate::rows::ServingRows::default());
        world.engine.cut(&mut rows);
        world.sequence = 1;
        // As a move to another number of tasks leaves them.
        for StateRow { kind, key, payload, .. } in rows {
            if let Some(place) = PackPlace::of(kind, &key) {
                world.cells.found_row(place);
            }
            world.table.insert((kind, key), payload);
        }
        assert_eq!((world.packs(), world.cells()), (0, 2));
        world.scan(NOW_MS - 20 * DAY_MS, 0);
        world.cut();
        assert_eq!((world.packs(), world.cells()), (2, 2));
        world.cut_after_forgetting();
        assert_eq!((world.packs(), world.cells(), world.stored().len()), (0, 0, 0));
    }

    #[test]
    fn a_day_that_is_not_all_in_memory_is_not_written_anew() {
        let mut world = World::new();
        for channel in 0..100 {
            world.scan(NOW_MS, channel);
        }
        world.cut();
        let away = &mut world.away;
        let left = world.engine.evict(usize::MAX, |groups| {
            away.extend(groups.iter().map(|evicted| (evicted.group, evicted.rows.clone())));
            true
        });
        assert!(left.expect("room") > 0);
        for _ in 0..20 {
            world.scan(NOW_MS, 0);
            world.cut();
        }
        // An event takes its own minute's neighbours of one channel back, and those of another stay away.
        assert_eq!(world.stored().len(), 200);
        assert!(world.most_packs() > 20, "{} packs", world.most_packs());
        for channel in 1..100 {
            world.scan(NOW_MS, channel);
        }
        // Deferred until there are half as many more.
        for _ in 0..20 {
            world.scan(NOW_MS, 0);
            world.cut();
        }
        assert_eq!(world.cells(), 200);
        assert!(world.most_packs() <= 20, "{} packs", world.most_packs());
    }
}
