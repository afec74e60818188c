//! Cells: sums by time bucket and dimensions. One type serves minutes, days, and the customers active on a day.
//!
//! Promises to name each changed cell once to whoever serves, and once to whoever cuts. Never decides what counts where.

use std::hash::{BuildHasher, Hash, Hasher};
use std::num::NonZeroU64;

use hashbrown::HashSet;

use super::FORESEEN;
use super::brands::BrandId;
use super::packed::KeptSums;
use super::prefetch::prefetch;
use super::slab::{Moved, Slab, Slot};
use super::slot_index::SlotIndex;
use super::symbols::Symbol;
use crate::model::{Day, Sums};

/// Which cell. Dimensions that the kind of cell does not have are empty or 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CellKey {
    pub(super) brand: BrandId,
    /// Minutes or days since 1970-01-01.
    pub(super) bucket: u32,
    pub(super) campaign: Symbol,
    pub(super) sku: Symbol,
    pub(super) channel: Symbol,
    pub(super) region: u32,
}

/// Two numbers at a time: an event looks for three cells.
impl Hash for CellKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let pairs = [(self.brand.number(), self.bucket), (self.campaign.number(), self.sku.number()), (self.channel.number(), self.region)];
        for (high, low) in pairs {
            state.write_u64(u64::from(high) << 32 | u64::from(low));
        }
    }
}

impl CellKey {
    /// A brand's day, without dimensions.
    pub(super) fn of_day(brand: BrandId, day: Day) -> Self {
        CellKey { brand, bucket: day.into(), campaign: Symbol::EMPTY, sku: Symbol::EMPTY, channel: Symbol::EMPTY, region: 0 }
    }

    pub(super) fn symbols(self) -> [Symbol; 3] {
        [self.campaign, self.sku, self.channel]
    }
}

#[derive(Debug)]
pub(super) struct Cell {
    pub(super) key: CellKey,
    sums: KeptSums,
    /// Hash of its row as of the last cut; `None` = no row.
    pub(super) stored: Option<NonZeroU64>,
    flags: u8,
}

const TO_BE_SERVED: u8 = 1;
const TO_BE_CUT: u8 = 2;
/// Out of reach of any event: goes at the next cut.
const FORGOTTEN: u8 = 4;
/// A free place.
const VACANT: u8 = 8;
/// Was changed since the last search for cold ones.
const TOUCHED: u8 = 16;

impl Cell {
    fn new(key: CellKey) -> Self {
        Cell { key, sums: KeptSums::default(), stored: None, flags: 0 }
    }

    pub(super) fn sums(&self) -> Sums {
        self.sums.read()
    }

    pub(super) fn is_forgotten(&self) -> bool {
        self.flags & FORGOTTEN != 0
    }
}

/// Where a cell is, or is to be; until the next one is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sought {
    key: CellKey,
    hash: u64,
    slot: Option<Slot>,
}

#[derive(Debug)]
pub(super) struct Cells {
    slab: Slab<Cell>,
    index: SlotIndex,
    hasher: foldhash::quality::FixedState,
    to_be_served: Vec<Slot>,
    to_be_cut: Vec<Slot>,
    heap_bytes: usize,
}

impl Cells {
    pub(super) fn new() -> Self {
        Cells {
            slab: Slab::new(),
            index: SlotIndex::new(),
            hasher: foldhash::quality::FixedState::default(),
            to_be_served: Vec::new(),
            to_be_cut: Vec::new(),
            heap_bytes: 0,
        }
    }

    /// Changes a cell, which is made if need be, and marks it.
    pub(super) fn change(&mut self, key: CellKey, change: impl FnOnce(&mut Sums)) {
        self.change_sought(self.seek(key), change);
    }

    /// Looks for a cell that is to be changed. What is looked for at once is waited for at once: see `engine/foresee.rs`.
    pub(super) fn seek(&self, key: CellKey) -> Sought {
        self.seek_hashed(self.hash(&key), key)
    }

    /// The same, where the hash is known.
    pub(super) fn seek_hashed(&self, hash: u64, key: CellKey) -> Sought {
        debug_assert_eq!(hash, self.hash(&key), "the hash of another cell");
        Sought { key, hash, slot: self.index.find(hash, |slot| self.slab[slot].key == key) }
    }

    /// What a cell is found by.
    pub(super) fn hash(&self, key: &CellKey) -> u64 {
        self.hasher.hash_one(key)
    }

    pub(super) fn index(&self) -> &SlotIndex {
        &self.index
    }

    pub(super) fn index_mut(&mut self) -> &mut SlotIndex {
        &mut self.index
    }

    /// Asks for the memory of both ends of a cell: it may lie in two lines (`engine/foresee.rs`).
    pub(super) fn prefetch(&self, slot: Slot) {
        let cell = &self.slab[slot];
        prefetch(&cell.key);
        prefetch(&cell.flags);
        prefetch(&cell.sums);
    }

    /// The same of its parts elsewhere, once the cell itself is here.
    pub(super) fn prefetch_beyond(&self, slot: Slot) {
        self.slab[slot].sums.prefetch();
    }

    /// Changes a cell that was sought right before; it is made if need be.
    pub(super) fn change_sought(&mut self, sought: Sought, change: impl FnOnce(&mut Sums)) {
        let slot = self.slot_of(sought);
        let cell = &mut self.slab[slot];
        let mut sums = cell.sums.read();
        change(&mut sums);
        self.heap_bytes -= cell.sums.heap_bytes();
        cell.sums.write(&sums);
        self.heap_bytes += cell.sums.heap_bytes();
        cell.flags = cell.flags & !FORGOTTEN | TOUCHED;
        self.mark(slot, TO_BE_SERVED | TO_BE_CUT);
    }

    fn mark(&mut self, slot: Slot, marks: u8) {
        let cell = &mut self.slab[slot];
        let new_marks = marks & !cell.flags;
        cell.flags |= marks;
        if new_marks & TO_BE_SERVED != 0 {
            self.to_be_served.push(slot);
        }
        if new_marks & TO_BE_CUT != 0 {
            self.to_be_cut.push(slot);
        }
    }

    pub(super) fn find(&self, key: &CellKey) -> Option<Slot> {
        self.seek(*key).slot
    }

    fn slot_of(&mut self, Sought { key, hash, slot }: Sought) -> Slot {
        if let Some(slot) = slot {
            return slot;
        }
        let slot = self.slab.insert(Cell::new(key));
        self.index.insert(hash, slot);
        slot
    }

    /// Puts a cell back as it was stored; whether it was not there.
    pub(super) fn restore(&mut self, key: CellKey, sums: &Sums, stored: NonZeroU64, live: &mut super::Live) -> bool {
        let sought = self.seek(key);
        let is_new = sought.slot.is_none();
        if is_new {
            self.put(sought, sums, stored, live);
        }
        is_new
    }

    /// Makes a cell what was stored of it last, whatever was stored before; whether it was not there.
    pub(super) fn restore_latest(&mut self, (key, hash): (CellKey, u64), sums: &Sums, stored: NonZeroU64, live: &mut super::Live) -> bool {
        let sought = self.seek_hashed(hash, key);
        self.put(sought, sums, stored, live);
        sought.slot.is_none()
    }

    fn put(&mut self, sought: Sought, sums: &Sums, stored: NonZeroU64, live: &mut super::Live) {
        let slot = self.slot_of(sought);
        let cell = &mut self.slab[slot];
        self.heap_bytes -= cell.sums.heap_bytes();
        cell.sums.write(sums);
        self.heap_bytes += cell.sums.heap_bytes();
        live.replace(&mut cell.stored, Some(stored));
    }

    /// Takes a stored cell out for good; whether it was there.
    pub(super) fn take_out(&mut self, key: CellKey, live: &mut super::Live) -> bool {
        let Sought { hash, slot: Some(slot), .. } = self.seek(key) else { return false };
        let cell = &mut self.slab[slot];
        live.replace(&mut cell.stored, None);
        self.heap_bytes -= cell.sums.heap_bytes();
        self.index.remove(hash, slot);
        self.slab.remove(slot, Cell { flags: VACANT, ..Cell::new(key) });
        true
    }

    /// All cells.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Cell> {
        (0..self.slab.slots()).map(|slot| &self.slab[slot]).filter(|cell| cell.flags & VACANT == 0)
    }

    pub(super) fn dirty_rows(&self) -> usize {
        self.to_be_served.len()
    }

    pub(super) fn dirty_state(&self) -> usize {
        self.to_be_cut.len()
    }

    /// Visits the cells that wait to be served, in the order in which they changed.
    pub(super) fn drain_rows(&mut self, mut visit: impl FnMut(&CellKey, &Sums)) {
        for slots in std::mem::take(&mut self.to_be_served).chunks(FORESEEN) {
            self.prefetch_cells(slots);
            for slot in slots {
                let cell = &mut self.slab[*slot];
                cell.flags &= !TO_BE_SERVED;
                visit(&cell.key, &cell.sums.read());
            }
        }
    }

    /// Visits the cells that changed since the last cut; forgotten ones are gone afterwards.
    pub(super) fn cut(&mut self, mut visit: impl FnMut(&mut Cell)) {
        for slots in std::mem::take(&mut self.to_be_cut).chunks(FORESEEN) {
            self.prefetch_cells(slots);
            for slot in slots {
                let cell = &mut self.slab[*slot];
                cell.flags &= !TO_BE_CUT;
                visit(cell);
                if cell.is_forgotten() {
                    let vacant = Cell { flags: VACANT, ..Cell::new(cell.key) };
                    self.index.remove(self.hasher.hash_one(cell.key), *slot);
                    self.slab.remove(*slot, vacant);
                }
            }
        }
    }

    /// Asks for the memory of cells that come next (`engine/foresee.rs`).
    fn prefetch_cells(&self, slots: &[Slot]) {
        slots.iter().for_each(|slot| self.prefetch(*slot));
        slots.iter().for_each(|slot| self.prefetch_beyond(*slot));
    }

    /// Forgets the cell at a slot if `is_out_of_reach`; one that waits to be served stays. Returns the key of the cell that is still
    /// there, forgotten or not: its texts are needed until the cut.
    pub(super) fn sweep(&mut self, slot: Slot, is_out_of_reach: impl FnOnce(&CellKey) -> bool) -> Option<CellKey> {
        let cell = &mut self.slab[slot];
        if cell.flags & VACANT != 0 {
            return None;
        }
        let key = cell.key;
        if cell.flags & (TO_BE_SERVED | FORGOTTEN) == 0 && is_out_of_reach(&key) {
            cell.flags |= FORGOTTEN;
            self.heap_bytes -= cell.sums.heap_bytes();
            cell.sums = KeptSums::default();
            self.mark(slot, TO_BE_CUT);
        }
        Some(key)
    }

    /// Takes about `most` cells out of memory, whole groups, and gives each to `visit`; groups of which a cell was changed since the last
    /// call stay. Returns how many went. No cell may wait for anything.
    pub(super) fn evict(&mut self, most: usize, group_of: impl Fn(&CellKey) -> u64, mut visit: impl FnMut(u64, &Cell)) -> usize {
        debug_assert!(self.to_be_served.is_empty() && self.to_be_cut.is_empty(), "cells that wait for something");
        let mut touched = HashSet::with_hasher(self.hasher.clone());
        for slot in 0..self.slab.slots() {
            let cell = &mut self.slab[slot];
            if cell.flags & TOUCHED != 0 {
                cell.flags &= !TOUCHED;
                touched.insert(group_of(&cell.key));
            }
        }
        let mut leaving = HashSet::with_hasher(self.hasher.clone());
        let mut gone = 0;
        for slot in 0..self.slab.slots() {
            let cell = &self.slab[slot];
            let group = group_of(&cell.key);
            if cell.flags & VACANT != 0 || touched.contains(&group) || !(gone < most || leaving.contains(&group)) {
                continue;
            }
            leaving.insert(group);
            gone += 1;
            visit(group, cell);
            self.index.remove(self.hasher.hash_one(cell.key), slot);
            self.heap_bytes -= cell.sums.heap_bytes();
            let vacant = Cell { flags: VACANT, ..Cell::new(cell.key) };
            self.slab.remove(slot, vacant);
        }
        gone
    }

    /// Gives memory back if much of it is free; no cell may wait for anything. Where they went.
    pub(super) fn compact_if_sparse(&mut self) -> Option<Moved> {
        if !self.slab.density().is_sparse() {
            return None;
        }
        let moved = self.slab.compact();
        (self.to_be_served, self.to_be_cut) = (Vec::new(), Vec::new());
        self.index.rebuild(self.slab.slots(), |slot| self.hasher.hash_one(self.slab[slot].key));
        Some(moved)
    }

    pub(super) fn mark_all_for_serving(&mut self) {
        for slot in 0..self.slab.slots() {
            if self.slab[slot].flags & (VACANT | FORGOTTEN) == 0 {
                self.mark(slot, TO_BE_SERVED);
            }
        }
    }

    pub(super) fn slots(&self) -> Slot {
        self.slab.slots()
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn vacant_bytes(&self) -> usize {
        self.slab.vacant_bytes()
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        let lists = (self.to_be_served.capacity() + self.to_be_cut.capacity()) * size_of::<Slot>();
        self.slab.allocated_bytes() + self.index.allocated_bytes() + self.heap_bytes + lists
    }
}
