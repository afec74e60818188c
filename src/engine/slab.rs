//! Places for customers and cells, addressed by small numbers ("slots"): pages of fixed size, so that growth neither copies
//! nor over-allocates, and an index from a key's hash to its slot that grows piece by piece.
//!
//! Promises that a slot stays valid until it is freed. Never hashes or compares keys itself: keys live in the values.
#![allow(clippy::indexing_slicing, reason = "slots come from this module, never from input")]

use std::ops::{Index, IndexMut};

use hashbrown::HashTable;

/// Number of a place in a [`Slab`].
pub(super) type Slot = u32;

const PAGE_BITS: u32 = 10;
const PAGE: usize = 1 << PAGE_BITS;

/// Values in pages.
#[derive(Debug)]
pub(super) struct Slab<T> {
    pages: Vec<Vec<T>>,
    free: Vec<Slot>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab::new()
    }
}

impl<T> Slab<T> {
    pub(super) fn new() -> Self {
        Slab { pages: Vec::new(), free: Vec::new() }
    }

    /// Puts a value in a free place.
    pub(super) fn insert(&mut self, value: T) -> Slot {
        if let Some(slot) = self.free.pop() {
            self[slot] = value;
            return slot;
        }
        if self.pages.last().is_none_or(|page| page.len() == PAGE) {
            self.pages.push(Vec::with_capacity(PAGE));
        }
        let slot = self.slots();
        let last = self.pages.len() - 1;
        self.pages[last].push(value);
        slot
    }

    /// Makes a place free; `vacant` stays there until the place is used again.
    pub(super) fn remove(&mut self, slot: Slot, vacant: T) -> T {
        self.free.push(slot);
        std::mem::replace(&mut self[slot], vacant)
    }

    /// One above the highest slot ever used.
    pub(super) fn slots(&self) -> Slot {
        match self.pages.split_last() {
            None => 0,
            Some((last, full)) => (full.len() * PAGE + last.len()) as Slot,
        }
    }

    /// Places in use.
    pub(super) fn len(&self) -> usize {
        self.slots() as usize - self.free.len()
    }

    /// Bytes of places that are free: taken again before a new page is.
    pub(super) fn vacant_bytes(&self) -> usize {
        self.free.len() * size_of::<T>()
    }

    /// By slot, whether the place is free.
    pub(super) fn vacancies(&self) -> Vec<bool> {
        let mut is_vacant = vec![false; self.slots() as usize];
        for slot in &self.free {
            is_vacant[*slot as usize] = true;
        }
        is_vacant
    }

    /// Bytes of the pages.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.pages.len() * PAGE * size_of::<T>() + self.free.capacity() * size_of::<Slot>()
    }
}

impl<T> Index<Slot> for Slab<T> {
    type Output = T;

    fn index(&self, slot: Slot) -> &T {
        &self.pages[(slot >> PAGE_BITS) as usize][slot as usize & (PAGE - 1)]
    }
}

impl<T> IndexMut<Slot> for Slab<T> {
    fn index_mut(&mut self, slot: Slot) -> &mut T {
        &mut self.pages[(slot >> PAGE_BITS) as usize][slot as usize & (PAGE - 1)]
    }
}

const SHARDS: usize = 64;

/// From hashes to slots. Sharded, so that one growth rehashes a 64th of the keys and no event waits for all of them.
#[derive(Debug)]
pub(super) struct SlotIndex {
    shards: Vec<HashTable<Slot>>,
}

impl Default for SlotIndex {
    fn default() -> Self {
        SlotIndex::new()
    }
}

impl SlotIndex {
    pub(super) fn new() -> Self {
        SlotIndex { shards: (0..SHARDS).map(|_| HashTable::new()).collect() }
    }

    /// Bits that the tables use neither for their buckets (the low ones) nor for their tags (the top seven).
    fn shard(hash: u64) -> usize {
        (hash >> 40) as usize % SHARDS
    }

    pub(super) fn find(&self, hash: u64, mut is_it: impl FnMut(Slot) -> bool) -> Option<Slot> {
        self.shards[Self::shard(hash)].find(hash, |slot| is_it(*slot)).copied()
    }

    /// Adds a slot whose key is not there yet.
    pub(super) fn insert(&mut self, hash: u64, slot: Slot, rehash: impl Fn(Slot) -> u64) {
        self.shards[Self::shard(hash)].insert_unique(hash, slot, |other| rehash(*other));
    }

    pub(super) fn remove(&mut self, hash: u64, slot: Slot) {
        if let Ok(entry) = self.shards[Self::shard(hash)].find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.shards.iter().map(HashTable::allocation_size).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn freed_places_are_used_again() {
        let mut slab = Slab::new();
        let slots: Vec<Slot> = (0..3000_u32).map(|number| slab.insert(number)).collect();
        assert_eq!((slab.slots(), slab.len()), (3000, 3000));
        assert!(slots.iter().all(|slot| slab[*slot] == *slot));
        assert_eq!(slab.remove(1500, 0), 1500);
        assert_eq!(slab.len(), 2999);
        assert_eq!(slab.insert(7), 1500);
        assert_eq!((slab[1500], slab.slots()), (7, 3000));
    }

    #[test]
    fn the_index_finds_what_was_put_in_and_not_removed() {
        let hash_of = |slot: Slot| u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut index = SlotIndex::new();
        for slot in 0..10_000 {
            index.insert(hash_of(slot), slot, hash_of);
        }
        index.remove(hash_of(77), 77);
        for slot in 0..10_000 {
            let found = index.find(hash_of(slot), |other| other == slot);
            assert_eq!(found, (slot != 77).then_some(slot));
        }
    }
}
