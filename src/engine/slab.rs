//! Places for customers and cells, addressed by small numbers ("slots"): pages of fixed size, of which the last grows by steps, so that growth
//! copies a page at most and over-allocates a step, and an index from a key's hash to its slot that grows piece by piece.
//!
//! Promises that a slot stays valid until it is freed, or until [`Slab::compact`] says where its value went. Never hashes or compares
//! keys itself: keys live in the values.
#![allow(clippy::indexing_slicing, reason = "slots come from this module, never from input")]

use std::ops::{Index, IndexMut};

use prefetch_index::prefetch_index;

/// Number of a place in a [`Slab`].
pub(super) type Slot = u32;

const PAGE_BITS: u32 = 10;
const PAGE: usize = 1 << PAGE_BITS;
/// The last page begins with so many places and doubles: whole at once, it would be a large part of what a small task takes, and a worker may
/// have hundreds of them. A value is moved three times at most, once on average, most of the time where it lies in the processor's cache.
const STEP: usize = PAGE / 8;

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
            self.pages.push(Vec::new());
        }
        let slot = self.slots();
        let last = self.pages.len() - 1;
        let page = &mut self.pages[last];
        if page.len() == page.capacity() {
            page.reserve_exact(page.len().clamp(STEP, PAGE - page.len().min(PAGE - STEP)));
        }
        page.push(value);
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

    /// Places that there is memory for.
    fn places(&self) -> usize {
        self.pages.split_last().map_or(0, |(last, full)| full.len() * PAGE + last.capacity())
    }

    /// Bytes of places that are free, or were never taken: they are taken before a new page is.
    pub(super) fn vacant_bytes(&self) -> usize {
        (self.places() - self.len()) * size_of::<T>()
    }

    /// How many bytes of places were left free, and how many are not.
    pub(super) fn density(&self) -> Density {
        Density { vacant_bytes: self.free.len() * size_of::<T>(), taken_bytes: self.len() * size_of::<T>() }
    }

    /// Moves the values to the lowest places, in their order, and gives the memory behind them back.
    pub(super) fn compact(&mut self) -> Moved {
        let mut moved = vec![VACATED; self.slots() as usize];
        let vacancies = self.vacancies();
        self.free = Vec::new();
        let mut next: Slot = 0;
        for (old, _) in (0..).zip(&vacancies).filter(|(_, is_vacant)| !**is_vacant) {
            self.swap(next, old);
            moved[old as usize] = next;
            next += 1;
        }
        self.pages.truncate((next as usize).div_ceil(PAGE));
        self.pages.shrink_to_fit();
        if let Some(last) = self.pages.last_mut() {
            last.truncate(((next - 1) as usize & (PAGE - 1)) + 1);
            last.shrink_to(last.len().next_multiple_of(STEP));
        }
        Moved { slots: moved }
    }

    /// Exchanges the values of two places, the lower one first.
    fn swap(&mut self, low: Slot, high: Slot) {
        let (low_page, high_page) = ((low >> PAGE_BITS) as usize, (high >> PAGE_BITS) as usize);
        let (low_place, high_place) = (low as usize & (PAGE - 1), high as usize & (PAGE - 1));
        if low_page == high_page {
            self.pages[low_page].swap(low_place, high_place);
            return;
        }
        let (below, from_high) = self.pages.split_at_mut(high_page);
        std::mem::swap(&mut below[low_page][low_place], &mut from_high[0][high_place]);
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
        self.places() * size_of::<T>() + self.free.capacity() * size_of::<Slot>()
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

/// How much of some slabs' memory is free.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Density {
    vacant_bytes: usize,
    taken_bytes: usize,
}

impl Density {
    /// Of slabs that are compacted together.
    pub(super) fn and(self, other: Density) -> Density {
        Density { vacant_bytes: self.vacant_bytes + other.vacant_bytes, taken_bytes: self.taken_bytes + other.taken_bytes }
    }

    /// Whether so much is free that compacting pays: each place that is moved frees at least half a place.
    pub(super) fn is_sparse(self) -> bool {
        self.vacant_bytes > self.taken_bytes / 2
    }
}

/// Of a place that was free.
const VACATED: Slot = Slot::MAX;

/// Where values went.
#[derive(Debug)]
pub(super) struct Moved {
    slots: Vec<Slot>,
}

impl Moved {
    /// The new place of a value; `Slot::MAX`, which is none, stays what it is.
    pub(super) fn new_place(&self, slot: Slot) -> Slot {
        let new = self.slots.get(slot as usize).copied().unwrap_or(slot);
        debug_assert!(slot == Slot::MAX || new != VACATED, "a place in use that was free");
        new
    }

    /// Where a walk over all places goes on that would have looked at this one next.
    pub(super) fn resumed(&self, slot: Slot) -> Slot {
        let before = self.slots.iter().take(slot as usize);
        before.filter(|new| **new != VACATED).count() as Slot
    }
}

const SHARDS: usize = 64;

/// From hashes to slots. Sharded, so that one growth moves a 64th of the keys and no event waits for all of them.
///
/// An entry is one word: half of the key's hash, and the slot. So a look-up reads one line of memory before the key itself (a table with its tags
/// apart reads two), other keys are as good as never looked at, growing looks at no key at all, and a line can be read ahead without a decision that
/// waits for it.
#[derive(Debug)]
pub(super) struct SlotIndex {
    shards: Vec<Shard>,
    /// Of all shards: asked for after every few hundred records, of every index of every task.
    bytes: usize,
}

/// Entries near the place that their hash names, in a ring.
#[derive(Debug, Default)]
struct Shard {
    entries: Vec<Entry>,
    taken: usize,
}

/// Half of a hash above a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry(u64);

impl Entry {
    /// No slot has this number.
    const FREE: Entry = Entry(u64::MAX);

    fn new(hash: u32, slot: Slot) -> Self {
        Entry(u64::from(hash) << 32 | u64::from(slot))
    }

    fn hash(self) -> u32 {
        (self.0 >> 32) as u32
    }

    fn slot(self) -> Slot {
        self.0 as u32
    }
}

impl Shard {
    const LEAST: usize = 8;

    /// At most so many of its places are taken: with more, runs of taken ones become long.
    fn most(places: usize) -> usize {
        places * 17 / 20
    }

    /// The place that a hash names. In the order of hashes, so that growing goes once through both memories.
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.entries.len() as u64) >> 32) as usize
    }

    fn next(&self, place: usize) -> usize {
        if place + 1 == self.entries.len() { 0 } else { place + 1 }
    }

    /// The place of an entry.
    fn find(&self, hash: u32, mut is_it: impl FnMut(Slot) -> bool) -> Option<usize> {
        if self.entries.is_empty() {
            return None;
        }
        let mut place = self.home(hash);
        loop {
            let entry = self.entries[place];
            if entry == Entry::FREE {
                return None;
            }
            if entry.hash() == hash && is_it(entry.slot()) {
                return Some(place);
            }
            place = self.next(place);
        }
    }

    fn insert(&mut self, entry: Entry) {
        if self.taken >= Shard::most(self.entries.len()) {
            self.grow();
        }
        self.taken += 1;
        self.put(entry);
    }

    fn put(&mut self, entry: Entry) {
        let mut place = self.home(entry.hash());
        while self.entries[place] != Entry::FREE {
            place = self.next(place);
        }
        self.entries[place] = entry;
    }

    /// Makes room for so many entries in all.
    fn reserve(&mut self, entries: usize) {
        let places = entries * 20 / 17 + Shard::LEAST;
        if places > self.entries.len() {
            self.resize(places);
        }
    }

    fn grow(&mut self) {
        // By a third: three moves an entry over its life, each to the place behind the last one's, against room for a seventh more on average.
        self.resize((self.entries.len() * 4 / 3).max(Shard::LEAST));
    }

    fn resize(&mut self, places: usize) {
        let before = std::mem::replace(&mut self.entries, vec![Entry::FREE; places]);
        before.into_iter().filter(|entry| *entry != Entry::FREE).for_each(|entry| self.put(entry));
    }

    /// Frees a place, and closes the gap: a run of taken places has none.
    fn remove(&mut self, mut gap: usize) {
        self.taken -= 1;
        let mut place = self.next(gap);
        while self.entries[place] != Entry::FREE {
            let entry = self.entries[place];
            // Whether the gap lies between where the entry belongs and where it is, in the ring.
            let home = self.home(entry.hash());
            let is_between = if home <= place { home <= gap && gap < place } else { home <= gap || gap < place };
            if is_between {
                self.entries[gap] = entry;
                gap = place;
            }
            place = self.next(place);
        }
        self.entries[gap] = Entry::FREE;
    }

    fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }
}

impl Default for SlotIndex {
    fn default() -> Self {
        SlotIndex::new()
    }
}

impl SlotIndex {
    pub(super) fn new() -> Self {
        SlotIndex { shards: (0..SHARDS).map(|_| Shard::default()).collect(), bytes: 0 }
    }

    /// Bits that entries do not keep.
    fn shard(hash: u64) -> usize {
        (hash >> 40) as usize % SHARDS
    }

    pub(super) fn find(&self, hash: u64, is_it: impl FnMut(Slot) -> bool) -> Option<Slot> {
        let shard = &self.shards[Self::shard(hash)];
        shard.find(hash as u32, is_it).map(|place| shard.entries[place].slot())
    }

    /// Asks for the memory of the entry that a hash names (`engine/foresee.rs`).
    pub(super) fn prefetch(&self, hash: u64) {
        let shard = &self.shards[Self::shard(hash)];
        prefetch_index(&shard.entries, shard.home(hash as u32));
    }

    /// A slot whose key has this hash, as far as entries keep it: a guess, without a look at keys.
    pub(super) fn guess(&self, hash: u64) -> Option<Slot> {
        self.find(hash, |_| true)
    }

    /// Adds a slot whose key is not there yet.
    pub(super) fn insert(&mut self, hash: u64, slot: Slot) {
        let shard = &mut self.shards[Self::shard(hash)];
        let before = shard.bytes();
        shard.insert(Entry::new(hash as u32, slot));
        self.bytes += shard.bytes() - before;
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.taken).sum()
    }

    /// Makes room for so many entries in all, which hashes spread evenly over the shards.
    pub(super) fn reserve(&mut self, entries: usize) {
        // Least places would be most of what a small state takes.
        if entries < SHARDS * Shard::LEAST {
            return;
        }
        for shard in &mut self.shards {
            let before = shard.bytes();
            // Some have a little more: four deviations of the even share.
            let share = entries / SHARDS;
            shard.reserve(share + 4 * share.isqrt());
            self.bytes += shard.bytes() - before;
        }
    }

    /// Makes it the index of the slots below `slots`, all in use, and no larger than it needs to be.
    pub(super) fn rebuild(&mut self, slots: Slot, hash_of: impl Fn(Slot) -> u64) {
        // The old one goes first: there is no memory for both.
        *self = SlotIndex::new();
        for slot in 0..slots {
            self.insert(hash_of(slot), slot);
        }
    }

    pub(super) fn remove(&mut self, hash: u64, slot: Slot) {
        let shard = &mut self.shards[Self::shard(hash)];
        if let Some(place) = shard.find(hash as u32, |other| other == slot) {
            shard.remove(place);
        }
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.bytes
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
    fn the_last_page_is_never_twice_as_large_as_what_is_in_it() {
        let mut slab = Slab::new();
        for number in 0..3 * PAGE {
            slab.insert(number);
            let in_last = number % PAGE + 1;
            let places = number / PAGE * PAGE + in_last.next_power_of_two().max(STEP);
            assert_eq!(slab.allocated_bytes(), places * size_of::<usize>());
        }
        // Also from a page that compacting left at no power of two.
        (2 * PAGE + 3 * STEP..3 * PAGE).for_each(|slot| _ = slab.remove(slot as Slot, 0));
        slab.compact();
        (0..2 * PAGE).for_each(|number| _ = slab.insert(number));
        assert!(slab.pages.iter().all(|page| page.capacity() <= PAGE));
    }

    #[test]
    fn compacting_keeps_values_and_their_order_and_gives_pages_back() {
        let mut slab = Slab::new();
        let full_bytes = {
            (0..5000_u32).for_each(|number| _ = slab.insert(number));
            slab.allocated_bytes()
        };
        for slot in (0..5000).filter(|slot| slot % 3 > 0) {
            slab.remove(slot, 0);
        }
        assert!(slab.density().is_sparse());
        let moved = slab.compact();
        assert_eq!((slab.slots(), slab.len(), slab.vacant_bytes()), (1667, 1667, (PAGE + 6 * STEP - 1667) * 4));
        assert!((0..1667).all(|slot| slab[slot] == slot * 3 && moved.new_place(slot * 3) == slot));
        assert_eq!((moved.resumed(0), moved.resumed(1), moved.resumed(4), moved.resumed(5000)), (0, 1, 2, 1667));
        assert_eq!(moved.new_place(Slot::MAX), Slot::MAX);
        assert!(slab.allocated_bytes() * 2 < full_bytes);
        assert_eq!((slab.insert(9), slab.slots()), (1667, 1668));
        assert!(!slab.density().is_sparse());
    }

    #[test]
    fn compacting_nothing_and_everything_free_is_fine() {
        let mut slab = Slab::<u32>::new();
        assert_eq!(slab.compact().resumed(0), 0);
        (0..PAGE as u32 * 2).for_each(|number| _ = slab.insert(number));
        (0..PAGE as u32 * 2).for_each(|slot| _ = slab.remove(slot, 0));
        slab.compact();
        assert_eq!((slab.slots(), slab.allocated_bytes(), slab.insert(5)), (0, 0, 0));
    }

    /// Hashes that crowd together, at both ends of the ring too: runs are long, wrap around, and gaps are closed within them.
    #[test]
    fn an_index_with_crowded_hashes_is_a_map() {
        let mut chance = 1_u64;
        let mut next = |below: u64| {
            chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (chance >> 33) % below
        };
        let hash_of = |slot: Slot| match slot % 4 {
            0 => 7,
            1 => u64::from(u32::MAX - slot % 3),
            2 => u64::from(slot / 5),
            _ => u64::from(slot) << 26 & u64::from(u32::MAX),
        };
        let (mut index, mut present) = (SlotIndex::new(), std::collections::BTreeSet::new());
        for _ in 0..60_000 {
            let slot = next(200) as Slot;
            if present.insert(slot) {
                index.insert(hash_of(slot), slot);
            } else if next(3) > 0 {
                present.remove(&slot);
                index.remove(hash_of(slot), slot);
            }
            let asked = next(200) as Slot;
            assert_eq!(index.find(hash_of(asked), |other| other == asked), present.get(&asked).copied());
        }
        for slot in 0..200 {
            assert_eq!(index.find(hash_of(slot), |other| other == slot), present.get(&slot).copied());
            index.remove(hash_of(slot), slot);
        }
        assert!((0..200).all(|slot| index.guess(hash_of(slot)).is_none()));
    }

    #[test]
    fn the_index_finds_what_was_put_in_and_not_removed() {
        let hash_of = |slot: Slot| u64::from(slot).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut index = SlotIndex::new();
        for slot in 0..10_000 {
            index.insert(hash_of(slot), slot);
        }
        let bytes = |index: &SlotIndex| index.shards.iter().map(Shard::bytes).sum::<usize>();
        assert_eq!(index.allocated_bytes(), bytes(&index));
        index.remove(hash_of(77), 77);
        for slot in 0..10_000 {
            let found = index.find(hash_of(slot), |other| other == slot);
            assert_eq!(found, (slot != 77).then_some(slot));
        }
        (10_000..30_000).for_each(|slot| index.insert(hash_of(slot), slot));
        (0..30_000).filter(|slot| *slot != 77).for_each(|slot| index.remove(hash_of(slot), slot));
        (0..20_000).for_each(|slot| index.insert(hash_of(slot), slot));
        assert_eq!(index.allocated_bytes(), bytes(&index));
        index.rebuild(10, hash_of);
        assert_eq!(index.allocated_bytes(), bytes(&index));
    }
}
