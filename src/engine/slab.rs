//! Places for customers and cells, addressed by small numbers ("slots"): pages of fixed size, of which the last grows by steps, so that growth
//! copies a page at most and over-allocates a step. What finds them by their keys' hashes: `slot_index.rs`.
//!
//! Promises that a slot stays valid until it is freed, or until [`Slab::compact`] says where its value went. Never hashes or compares
//! keys itself: keys live in the values.
#![allow(clippy::indexing_slicing, reason = "slots come from this module, never from input")]

use std::ops::{Index, IndexMut};

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
}
