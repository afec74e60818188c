//! Which packs of cells a task's checkpoints have written, and what the next one writes.
//!
//! A cut writes the cells of a day that changed as one pack (`engine/pack.rs`), so packs of a day pile up: what an older one says of a cell, a newer one may
//! say anew. Owns the count of what is there and what of it still counts, and promises that a day's packs never hold more than about twice what they
//! have to: then all its cells are written once more, in the same insert that deletes the packs before. Never reads or writes a table.

use hashbrown::HashMap;

use crate::engine::{Engine, PackKey, PackedCell, RowChange, StateKind, StateRows, day_of_cell, push_cell};

/// When a pack is full, and a day's packs are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackRule {
    /// A pack is closed when it is as large as this, bytes.
    pub full_bytes: usize,
    /// So many outdated entries of a day are never too many: writing all its cells once more would cost more.
    pub least_outdated: u64,
}

impl Default for PackRule {
    fn default() -> Self {
        PackRule { full_bytes: 64 << 10, least_outdated: 1_000 }
    }
}

impl PackRule {
    fn is_exceeded(&self, entries: u64, live: u64) -> bool {
        entries > live * 2 && entries > live + self.least_outdated
    }
}

/// The packs of a day.
#[derive(Debug, Default)]
struct DayLog {
    /// Sequence and number of each that is stored.
    stored: Vec<(u64, u32)>,
    /// Cells in them, and in what this cut adds: a cell is counted as often as it is named.
    entries: u64,
    /// Cells that there are.
    live: u64,
    /// Some cells have rows of their own: written by a move to another number of tasks, or by a release without packs.
    has_rows: bool,
    /// Not all cells were in memory when the day was to be written anew: that is tried again when there are so many entries.
    again_at: u64,
    /// What this cut adds.
    added: Vec<Vec<u8>>,
    is_touched: bool,
}

impl DayLog {
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
    days: HashMap<(StateKind, u32), DayLog, foldhash::quality::FixedState>,
    /// Days to which this cut adds something, in the order in which it did.
    touched: Vec<(StateKind, u32)>,
}

impl CellLog {
    pub(super) fn new(rule: PackRule) -> Self {
        CellLog { rule, days: HashMap::default(), touched: Vec::new() }
    }

    fn day(&mut self, kind: StateKind, day: u32) -> &mut DayLog {
        self.days.entry((kind, day)).or_default()
    }

    /// A stored pack was read.
    pub(super) fn found_pack(&mut self, at: PackKey) {
        self.day(at.kind, at.day).stored.push((at.sequence, at.number));
    }

    /// One of its entries was taken back; `None`: it said nothing new.
    pub(super) fn found_entry(&mut self, at: PackKey, change: Option<RowChange>) {
        self.day(at.kind, at.day).count(change.unwrap_or(RowChange::Changed));
    }

    /// A row of one cell was taken back.
    pub(super) fn found_row(&mut self, kind: StateKind, day: u32) {
        let log = self.day(kind, day);
        log.has_rows = true;
        log.count(RowChange::New);
    }

    /// Takes a row of a cut into a pack. `false`: it is none that goes into packs, or has to be written as a row besides.
    pub(super) fn takes(&mut self, kind: u8, key: &[u8], payload: &[u8], change: RowChange) -> bool {
        let Some((kind, day)) = day_of_cell(kind, key) else { return false };
        let full_bytes = self.rule.full_bytes;
        let log = self.days.entry((kind, day)).or_default();
        if !std::mem::replace(&mut log.is_touched, true) {
            self.touched.push((kind, day));
        }
        log.count(change);
        add(&mut log.added, full_bytes, &PackedCell { key, payload, is_deleted: change == RowChange::Gone });
        !(log.has_rows && change == RowChange::Gone)
    }

    /// Writes the packs of a cut, and deletes those that it makes superfluous.
    pub(super) fn finish(&mut self, engine: &Engine, sequence: u64, rows: &mut dyn StateRows) {
        for (kind, day) in std::mem::take(&mut self.touched) {
            let Some(log) = self.days.get_mut(&(kind, day)) else { continue };
            let key_of = |(sequence, number): (u64, u32)| PackKey { kind, day, sequence, number };
            let mut added = std::mem::take(&mut log.added);
            log.is_touched = false;
            let mut superfluous = Vec::new();
            if log.live == 0 {
                added.clear();
                std::mem::swap(&mut superfluous, &mut log.stored);
            } else if self.rule.is_exceeded(log.entries, log.live) && log.entries >= log.again_at {
                match all_cells(engine, (kind, day), log.live, self.rule.full_bytes) {
                    Some(all) => {
                        added = all;
                        std::mem::swap(&mut superfluous, &mut log.stored);
                        (log.entries, log.again_at) = (log.live, 0);
                    }
                    None => log.again_at = log.entries + log.entries / 2,
                }
            }
            for pack in superfluous.into_iter().map(key_of) {
                rows.row(pack.row_kind(), &pack.row_key(), &[], RowChange::Gone);
            }
            for (number, cells) in (0..).zip(&added) {
                let pack = key_of((sequence, number));
                rows.row(pack.row_kind(), &pack.row_key(), cells, RowChange::New);
                log.stored.push((sequence, number));
            }
            if log.live == 0 {
                self.days.remove(&(kind, day));
            }
        }
    }
}

/// All cells of a day, in packs; `None`: some are not in memory.
fn all_cells(engine: &Engine, (kind, day): (StateKind, u32), live: u64, full_bytes: usize) -> Option<Vec<Vec<u8>>> {
    let (mut packs, mut found) = (Vec::new(), 0);
    engine.visit_cells_of_day(kind, day, |cell| {
        add(&mut packs, full_bytes, &cell);
        found += 1;
    });
    (found == live).then_some(packs)
}

/// Adds a cell to the last pack, or to a new one if that is full.
fn add(packs: &mut Vec<Vec<u8>>, full_bytes: usize, cell: &PackedCell<'_>) {
    match packs.last_mut().filter(|pack| pack.len() < full_bytes) {
        Some(pack) => push_cell(pack, cell),
        None => {
            let mut pack = Vec::new();
            push_cell(&mut pack, cell);
            packs.push(pack);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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

    struct InPacks<'a>(&'a mut CellLog, &'a mut Vec<StateRow>);

    impl StateRows for InPacks<'_> {
        fn row(&mut self, kind: u8, key: &[u8], payload: &[u8], change: RowChange) {
            if !self.0.takes(kind, key, payload, change) {
                self.1.row(kind, key, payload, change);
            }
        }
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
            let cells = CellLog::new(PackRule { full_bytes: 60, least_outdated: 2 });
            World { engine: Engine::new(settings), cells, table: BTreeMap::new(), sequence: 0, scans: 0, away: BTreeMap::new() }
        }

        fn scan(&mut self, time_ms: i64, region: u32) {
            self.scans += 1;
            let text = format!(
                r#"{{"eventId": "e{}", "brand": "acme", "customerId": "c{region}", "eventTimeMs": "{time_ms}", "code": "x", "region": "{region}"}}"#,
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
            self.engine.cut(&mut InPacks(&mut self.cells, &mut rows));
            self.cells.finish(&self.engine, self.sequence, &mut rows);
            for StateRow { kind, key, payload, deleted } in rows {
                if deleted {
                    self.table.remove(&(kind, key));
                } else {
                    self.table.insert((kind, key), payload);
                }
            }
        }

        fn packs(&self) -> usize {
            self.table.keys().filter(|(kind, _)| crate::engine::packed_kind(*kind).is_some()).count()
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
            for (kind, day) in self.cells.days.keys() {
                self.engine.visit_cells_of_day(*kind, *day, |cell| {
                    known.insert((*kind as u8, cell.key.to_vec()), cell.payload.to_vec());
                });
            }
            assert_eq!(self.stored(), known);
            known.len()
        }
    }

    #[test]
    fn a_day_that_changes_again_and_again_keeps_few_packs() {
        let mut world = World::new();
        for region in [110_101, 310_101, 440_101] {
            world.scan(NOW_MS, region);
        }
        world.cut();
        let mut most = world.packs();
        for _ in 0..50 {
            world.scan(NOW_MS, 110_101);
            world.cut();
            most = most.max(world.packs());
            assert_eq!(world.cells(), 6);
        }
        // Of two kinds each: no more than twice the three cells, or two more, one a cut.
        assert!(most <= 2 * 7, "{most} packs");
    }

    #[test]
    fn the_packs_of_a_forgotten_day_are_gone() {
        let mut world = World::new();
        world.scan(NOW_MS - 20 * DAY_MS, 110_101);
        world.scan(NOW_MS, 110_101);
        world.cut();
        let with_the_old_day = world.packs();
        world.engine.raise_horizon(NOW_MS - 10 * DAY_MS);
        world.engine.raise_reach(NOW_MS - 10 * DAY_MS);
        while world.engine.sweep(1_000) == 1_000 {}
        world.cut();
        assert_eq!((with_the_old_day, world.packs(), world.cells()), (4, 2, 2));
    }

    #[test]
    fn a_cell_that_has_a_row_of_its_own_is_gone_from_it_too() {
        let mut world = World::new();
        world.scan(NOW_MS - 20 * DAY_MS, 110_101);
        let mut rows = Vec::new();
        world.engine.drain_rows(Version::new(1, 1), &mut crate::rows::ServingRows::default());
        world.engine.cut(&mut rows);
        world.sequence = 1;
        // As a move to another number of tasks leaves them.
        for StateRow { kind, key, payload, .. } in rows {
            if let Some((kind, day)) = day_of_cell(kind, &key) {
                world.cells.found_row(kind, day);
            }
            world.table.insert((kind, key), payload);
        }
        assert_eq!((world.packs(), world.cells()), (0, 2));
        world.scan(NOW_MS - 20 * DAY_MS, 110_101);
        world.cut();
        assert_eq!((world.packs(), world.cells()), (2, 2));
        world.engine.raise_horizon(NOW_MS - 10 * DAY_MS);
        world.engine.raise_reach(NOW_MS - 10 * DAY_MS);
        while world.engine.sweep(1_000) == 1_000 {}
        world.cut();
        assert_eq!((world.packs(), world.cells(), world.stored().len()), (0, 0, 0));
    }

    #[test]
    fn a_day_that_is_not_all_in_memory_is_not_written_anew() {
        let mut world = World::new();
        for region in [110_101, 310_101, 440_101] {
            world.scan(NOW_MS, region);
        }
        world.cut();
        let away = &mut world.away;
        let left = world.engine.evict(usize::MAX, |groups| {
            away.extend(groups.iter().map(|evicted| (evicted.group, evicted.rows.clone())));
            true
        });
        assert!(left.expect("room") > 0);
        let before = world.packs();
        for _ in 0..20 {
            world.scan(NOW_MS, 110_101);
            world.cut();
        }
        assert_eq!((world.stored().len(), world.packs()), (6, before + 40), "each cut adds a pack of either kind");
        for region in [310_101, 440_101] {
            world.scan(NOW_MS, region);
        }
        // Deferred until there are half as many more.
        for _ in 0..20 {
            world.scan(NOW_MS, 110_101);
            world.cut();
        }
        assert_eq!(world.cells(), 6);
        assert!(world.packs() < before + 40, "{} packs", world.packs());
    }
}
