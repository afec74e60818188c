//! From a key's hash to its slot: an index that grows piece by piece.
//!
//! Never hashes or compares keys itself: keys live in the values of a [`super::slab::Slab`].
#![allow(clippy::indexing_slicing, reason = "places come from this module, never from input")]

use prefetch_index::prefetch_index;

use super::slab::Slot;

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
