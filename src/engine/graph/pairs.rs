//! Values by a pair of small numbers: what one key said, or has to say, to another.
//!
//! Promises to name each changed pair once to whoever sends, and once to whoever cuts. A pair is never forgotten: it holds the
//! version that tells an old message from a new one. It leaves memory only together with its customer.

use std::hash::BuildHasher;
use std::num::NonZeroU64;

use crate::engine::prefetch::prefetch;
use crate::engine::slab::{Density, Moved, Slab, Slot};
use crate::engine::slot_index::SlotIndex;

/// Something with memory outside of itself.
pub(super) trait Held {
    fn heap_bytes(&self) -> usize;
}

#[derive(Debug)]
pub(super) struct Pair<T> {
    pub(super) left: Slot,
    pub(super) right: Slot,
    flags: u8,
    /// Hash of its row as of the last cut; `None` = no row.
    pub(super) stored: Option<NonZeroU64>,
    pub(super) value: T,
}

const TO_BE_SENT: u8 = 1;
const TO_BE_CUT: u8 = 2;
/// A free place.
const VACANT: u8 = 4;

#[derive(Debug)]
pub(super) struct Pairs<T> {
    slab: Slab<Pair<T>>,
    index: SlotIndex,
    hasher: foldhash::quality::FixedState,
    to_be_sent: Vec<Slot>,
    to_be_cut: Vec<Slot>,
    heap_bytes: usize,
}

impl<T> Default for Pairs<T> {
    fn default() -> Self {
        Pairs {
            slab: Slab::default(),
            index: SlotIndex::default(),
            hasher: foldhash::quality::FixedState::default(),
            to_be_sent: Vec::new(),
            to_be_cut: Vec::new(),
            heap_bytes: 0,
        }
    }
}

impl<T: Default + Held> Pairs<T> {
    pub(super) fn find(&self, left: Slot, right: Slot) -> Option<Slot> {
        self.find_hashed(self.hash(left, right), left, right)
    }

    fn find_hashed(&self, hash: u64, left: Slot, right: Slot) -> Option<Slot> {
        let is_it = |slot| {
            let pair = &self.slab[slot];
            (pair.left, pair.right) == (left, right)
        };
        self.index.find(hash, is_it)
    }

    /// What a pair is found by.
    pub(super) fn hash(&self, left: Slot, right: Slot) -> u64 {
        self.hasher.hash_one((left, right))
    }

    pub(super) fn index(&self) -> &SlotIndex {
        &self.index
    }

    pub(super) fn index_mut(&mut self) -> &mut SlotIndex {
        &mut self.index
    }

    /// Asks for the memory of both ends of a pair: it may lie in two lines.
    pub(super) fn prefetch(&self, slot: Slot) {
        let pair = &self.slab[slot];
        prefetch(&pair.left);
        prefetch(&pair.flags);
        prefetch(&pair.value);
    }

    pub(super) fn find_or_insert(&mut self, left: Slot, right: Slot) -> Slot {
        let hash = self.hash(left, right);
        if let Some(slot) = self.find_hashed(hash, left, right) {
            return slot;
        }
        let slot = self.slab.insert(Pair { left, right, flags: 0, stored: None, value: T::default() });
        self.index.insert(hash, slot);
        slot
    }

    /// Takes a pair out of memory: it may not wait for anything.
    pub(super) fn remove(&mut self, slot: Slot) {
        let Pair { left, right, flags, value, .. } = &self.slab[slot];
        debug_assert_eq!(*flags, 0, "a pair that waits for something");
        self.index.remove(self.hasher.hash_one((*left, *right)), slot);
        self.heap_bytes -= value.heap_bytes();
        self.slab.remove(slot, Pair { left: Slot::MAX, right: Slot::MAX, flags: VACANT, stored: None, value: T::default() });
    }

    pub(super) fn density(&self) -> Density {
        self.slab.density()
    }

    /// Gives the memory of free places back; no pair may wait for anything. `left` and `right` are where what pairs join went.
    pub(super) fn compact(&mut self, left: &Moved, right: &Moved) -> Moved {
        let moved = self.slab.compact();
        for slot in 0..self.slab.slots() {
            let pair = &mut self.slab[slot];
            (pair.left, pair.right) = (left.new_place(pair.left), right.new_place(pair.right));
        }
        (self.to_be_sent, self.to_be_cut) = (Vec::new(), Vec::new());
        self.index.rebuild(self.slab.slots(), |slot| self.hasher.hash_one((self.slab[slot].left, self.slab[slot].right)));
        moved
    }

    /// Pairs in memory, by slot.
    pub(super) fn occupied(&self) -> impl Iterator<Item = (Slot, &Pair<T>)> {
        (0..self.slab.slots()).map(|slot| (slot, &self.slab[slot])).filter(|(_, pair)| pair.flags & VACANT == 0)
    }

    pub(super) fn get(&self, slot: Slot) -> &Pair<T> {
        &self.slab[slot]
    }

    /// Changes a pair and keeps account of its memory. Does not mark it.
    pub(super) fn change<R>(&mut self, slot: Slot, change: impl FnOnce(&mut Pair<T>) -> R) -> R {
        let pair = &mut self.slab[slot];
        let bytes_before = pair.value.heap_bytes();
        let result = change(pair);
        self.heap_bytes = self.heap_bytes - bytes_before + pair.value.heap_bytes();
        result
    }

    pub(super) fn mark_for_sending(&mut self, slot: Slot) {
        if self.slab[slot].flags & TO_BE_SENT == 0 {
            self.slab[slot].flags |= TO_BE_SENT;
            self.to_be_sent.push(slot);
        }
    }

    pub(super) fn mark_for_cut(&mut self, slot: Slot) {
        if self.slab[slot].flags & TO_BE_CUT == 0 {
            self.slab[slot].flags |= TO_BE_CUT;
            self.to_be_cut.push(slot);
        }
    }

    /// Pairs that wait to be sent, in the order in which they were touched; none waits afterwards.
    pub(super) fn take_to_be_sent(&mut self) -> Vec<Slot> {
        let slots = std::mem::take(&mut self.to_be_sent);
        for slot in &slots {
            self.slab[*slot].flags &= !TO_BE_SENT;
        }
        slots
    }

    /// Pairs that changed since the last cut; none has afterwards.
    pub(super) fn take_to_be_cut(&mut self) -> Vec<Slot> {
        let slots = std::mem::take(&mut self.to_be_cut);
        for slot in &slots {
            self.slab[*slot].flags &= !TO_BE_CUT;
        }
        slots
    }

    pub(super) fn waiting_to_be_sent(&self) -> usize {
        self.to_be_sent.len()
    }

    pub(super) fn waiting_to_be_cut(&self) -> usize {
        self.to_be_cut.len()
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn vacant_bytes(&self) -> usize {
        self.slab.vacant_bytes()
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        let lists = (self.to_be_sent.capacity() + self.to_be_cut.capacity()) * size_of::<Slot>();
        self.slab.allocated_bytes() + self.index.allocated_bytes() + self.heap_bytes + lists
    }
}
