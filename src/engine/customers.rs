//! All customers of a task, and which of them changed.
//!
//! Promises to name each changed customer, day and chunk once to whoever serves, and once to whoever cuts.

use std::hash::BuildHasher;

use super::brands::BrandId;
use super::customer::{Customer, KeptTimes, LastTimes, Names, Place};
use super::graph::Link;
use super::history::DayBefore;
use super::ids::{RememberedId, Seen};
use super::slab::{Density, Moved, Slab, Slot};
use super::slot_index::SlotIndex;
use crate::model::{Day, Event, Sums};

#[derive(Debug)]
pub(super) struct Customers {
    slab: Slab<Customer>,
    index: SlotIndex,
    hasher: foldhash::quality::FixedState,
    /// The customer that a row was restored to last.
    restored: Slot,
    /// It was near the one before.
    is_in_order: bool,
    /// Customers whose row waits to be served.
    pub(super) to_be_served: Vec<Slot>,
    /// Their days that wait to be served.
    pub(super) days_to_be_served: Vec<(Slot, Day)>,
    referrals_to_be_served: Vec<Slot>,
    subtrees_to_be_served: Vec<Slot>,
    /// Customers whose state waits for the next cut.
    pub(super) to_be_cut: Vec<Slot>,
    /// Chunks of ids that wait for the next cut.
    pub(super) chunks_to_be_cut: Vec<(Slot, u32)>,
    heap_bytes: usize,
}

/// Customers that are compared one after the other before one is looked for by its hash.
const NEAR: Slot = 6;

/// What became of a customer's first event.
#[derive(Clone, Copy, Debug)]
pub(super) enum FirstEvent {
    /// An earlier one is known.
    Stays,
    /// This is the customer's first event at all.
    Appears,
    /// This one comes before the one known, which was here.
    MovesFrom(Place),
}

impl Customers {
    pub(super) fn new() -> Self {
        Customers {
            slab: Slab::new(),
            index: SlotIndex::new(),
            hasher: foldhash::quality::FixedState::default(),
            restored: 0,
            is_in_order: true,
            to_be_served: Vec::new(),
            days_to_be_served: Vec::new(),
            referrals_to_be_served: Vec::new(),
            subtrees_to_be_served: Vec::new(),
            to_be_cut: Vec::new(),
            chunks_to_be_cut: Vec::new(),
            heap_bytes: 0,
        }
    }

    /// What customers are found by, and cold ones told apart by.
    pub(super) fn hash(&self, brand: BrandId, id: &str) -> u64 {
        self.hasher.hash_one((brand, id))
    }

    pub(super) fn find(&self, brand: BrandId, id: &str) -> Option<Slot> {
        self.find_hashed(self.hash(brand, id), brand, id)
    }

    fn find_hashed(&self, hash: u64, brand: BrandId, id: &str) -> Option<Slot> {
        let is_it = |slot| {
            let customer: &Customer = &self.slab[slot];
            customer.brand == brand && customer.names.id() == id
        };
        self.index.find(hash, is_it)
    }

    pub(super) fn index(&self) -> &SlotIndex {
        &self.index
    }

    pub(super) fn index_mut(&mut self) -> &mut SlotIndex {
        &mut self.index
    }

    /// Asks for the memory of customers that come next (`engine/foresee.rs`).
    pub(super) fn prefetch(&self, slots: impl Iterator<Item = Slot> + Clone) {
        slots.clone().for_each(|slot| self.slab[slot].prefetch());
        slots.for_each(|slot| self.slab[slot].prefetch_beyond());
    }

    pub(super) fn find_or_insert(&mut self, brand: BrandId, id: &str) -> Slot {
        self.find_or_insert_hashed(self.hash(brand, id), brand, id)
    }

    /// The same, where the hash is known.
    pub(super) fn find_or_insert_hashed(&mut self, hash: u64, brand: BrandId, id: &str) -> Slot {
        debug_assert_eq!(hash, self.hash(brand, id), "the hash of another customer");
        if let Some(slot) = self.find_hashed(hash, brand, id) {
            return slot;
        }
        let customer = Customer::new(brand, id);
        self.heap_bytes += customer.heap_bytes();
        let slot = self.slab.insert(customer);
        self.index.insert(hash, slot);
        slot
    }

    /// The same, for rows that may come in the order of their customers: these lie in that order after a restore, so that the next one is near the last.
    pub(super) fn find_or_insert_next(&mut self, hash: u64, brand: BrandId, id: &str) -> Slot {
        let near = self.restored..self.slab.slots().min(self.restored + NEAR);
        let is_it = |slot: &Slot| {
            let customer = &self.slab[*slot];
            customer.brand == brand && customer.flags & Customer::VACANT == 0 && customer.names.id() == id
        };
        let found = near.clone().find(|slot| self.is_in_order && is_it(slot));
        let slot = found.unwrap_or_else(|| self.find_or_insert_hashed(hash, brand, id));
        (self.restored, self.is_in_order) = (slot, near.contains(&slot));
        slot
    }

    /// What groups of cells are told apart by.
    pub(super) fn hash_cells(&self, group: (u8, BrandId, u32, u32, &str, &str)) -> u64 {
        self.hasher.hash_one(group)
    }

    /// The clock comes by: whether the customer was touched since it last did.
    pub(super) fn pass_over(&mut self, slot: Slot) -> bool {
        let flags = &mut self.slab[slot].flags;
        let was_touched = *flags & Customer::TOUCHED != 0;
        *flags &= !Customer::TOUCHED;
        was_touched
    }

    /// Takes a customer out of memory: nothing of it may wait for anything.
    pub(super) fn remove(&mut self, slot: Slot) {
        let customer = &self.slab[slot];
        debug_assert_eq!(customer.flags & !Customer::TOUCHED, 0, "a customer that waits for something");
        self.index.remove(self.hasher.hash_one((customer.brand, customer.names.id())), slot);
        self.heap_bytes -= customer.heap_bytes();
        let vacant = Customer { flags: Customer::VACANT, ..Customer::new(customer.brand, "") };
        self.slab.remove(slot, vacant);
    }

    pub(super) fn density(&self) -> Density {
        self.slab.density()
    }

    /// Gives the memory of free places back; no customer may wait for anything. `renamed` changes the numbers that a customer holds.
    pub(super) fn compact(&mut self, renamed: impl Fn(&mut Customer)) -> Moved {
        let moved = self.slab.compact();
        for slot in 0..self.slab.slots() {
            renamed(&mut self.slab[slot]);
        }
        for list in [&mut self.to_be_served, &mut self.referrals_to_be_served, &mut self.subtrees_to_be_served, &mut self.to_be_cut] {
            *list = Vec::new();
        }
        (self.days_to_be_served, self.chunks_to_be_cut) = (Vec::new(), Vec::new());
        let Customers { slab, index, hasher, .. } = self;
        index.rebuild(slab.slots(), |slot| hasher.hash_one((slab[slot].brand, slab[slot].names.id())));
        moved
    }

    /// Customers in memory, by slot.
    pub(super) fn occupied(&self) -> impl Iterator<Item = (Slot, &Customer)> {
        (0..self.slab.slots()).map(|slot| (slot, &self.slab[slot])).filter(|(_, customer)| customer.flags & Customer::VACANT == 0)
    }

    pub(super) fn get(&self, slot: Slot) -> &Customer {
        &self.slab[slot]
    }

    /// Changes a customer and keeps account of its memory. Does not mark it.
    pub(super) fn change<T>(&mut self, slot: Slot, change: impl FnOnce(&mut Customer) -> T) -> T {
        let customer = &mut self.slab[slot];
        let bytes_before = customer.heap_bytes();
        let result = change(customer);
        self.heap_bytes = self.heap_bytes - bytes_before + customer.heap_bytes();
        result
    }

    /// Remembers an event unless it is known.
    pub(super) fn remember(&mut self, slot: Slot, id: RememberedId) -> Seen {
        let seen = self.change(slot, |customer| customer.ids.remember(id));
        if let Seen::Never { dirtied_chunk: Some(chunk) } = seen {
            self.chunks_to_be_cut.push((slot, chunk));
        }
        seen
    }

    /// Adds a new event to its day and to the last times.
    pub(super) fn add(&mut self, slot: Slot, day: Day, amounts: &Sums, times: &LastTimes) -> DayBefore {
        let before = self.change(slot, |customer| {
            let mut last = customer.last.read();
            last.raise(times);
            customer.last = KeptTimes::of(&last);
            customer.history.add(day, amounts)
        });
        if before.is_newly_dirty {
            self.days_to_be_served.push((slot, day));
        }
        self.mark(slot, Customer::TO_BE_SERVED | Customer::TO_BE_CUT);
        before
    }

    /// Judges whether a new event, with this via, is the customer's first one.
    pub(super) fn settle_first(&mut self, slot: Slot, event: &Event<'_>, place: Place, link: Link) -> FirstEvent {
        if !self.slab[slot].is_first(event) {
            return FirstEvent::Stays;
        }
        self.change(slot, |customer| {
            let old = std::mem::replace(&mut customer.first, place);
            customer.first_kind = event.kind();
            customer.names = Names::new(&event.customer_id, &event.event_id);
            customer.link = link;
            if old.is_known() { FirstEvent::MovesFrom(old) } else { FirstEvent::Appears }
        })
    }

    pub(super) fn mark(&mut self, slot: Slot, marks: u8) {
        let customer = &mut self.slab[slot];
        let new_marks = marks & !customer.flags;
        customer.flags |= marks | Customer::TOUCHED;
        if new_marks & Customer::TO_BE_SERVED != 0 {
            self.to_be_served.push(slot);
        }
        if new_marks & Customer::TO_BE_CUT != 0 {
            self.to_be_cut.push(slot);
        }
        if new_marks & Customer::REFERRAL_TO_BE_SERVED != 0 {
            self.referrals_to_be_served.push(slot);
        }
        if new_marks & Customer::SUBTREE_TO_BE_SERVED != 0 {
            self.subtrees_to_be_served.push(slot);
        }
    }

    /// Customers with one of the graph's two marks; none has it afterwards.
    pub(super) fn take_marked(&mut self, mark: u8) -> Vec<Slot> {
        let list = if mark == Customer::REFERRAL_TO_BE_SERVED { &mut self.referrals_to_be_served } else { &mut self.subtrees_to_be_served };
        let slots = std::mem::take(list);
        for slot in &slots {
            self.slab[*slot].flags &= !mark;
        }
        slots
    }

    pub(super) fn mark_all_for_serving(&mut self) {
        for slot in 0..self.slab.slots() {
            if self.slab[slot].flags & Customer::VACANT != 0 {
                continue;
            }
            self.mark(slot, Customer::TO_BE_SERVED);
            let days = self.slab[slot].history.mark_all();
            self.days_to_be_served.extend(days.into_iter().map(|day| (slot, day)));
        }
    }

    /// Forgets what no accepted event can reach: ids before `limit_ms`, days before `first_kept`; and the dimensions of a first event
    /// before `cells_limit_ms`, whose cells nothing corrects any more. Whether it is to be called again.
    pub(super) fn forget(&mut self, slot: Slot, limit_ms: i64, first_kept: Day, cells_limit_ms: i64) -> bool {
        let (is_changed, forgotten) = self.change(slot, |customer| {
            let forgotten = customer.ids.forget_before(limit_ms);
            let is_folded = customer.history.fold_before(first_kept);
            let loses_place = customer.first.time_ms < cells_limit_ms && customer.first.has_dimensions();
            if loses_place {
                customer.first = customer.first.without_dimensions();
            }
            (forgotten.inline || is_folded || loses_place, forgotten)
        });
        self.chunks_to_be_cut.extend(forgotten.chunks.into_iter().map(|chunk| (slot, chunk)));
        if is_changed {
            self.mark(slot, Customer::TO_BE_CUT);
        }
        forgotten.may_be_more
    }

    pub(super) fn slots(&self) -> Slot {
        self.slab.slots()
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    pub(super) fn dirty_rows(&self) -> usize {
        self.to_be_served.len() + self.days_to_be_served.len() + self.referrals_to_be_served.len()
    }

    pub(super) fn dirty_state(&self) -> usize {
        self.to_be_cut.len() + self.chunks_to_be_cut.len()
    }

    pub(super) fn vacant_bytes(&self) -> usize {
        self.slab.vacant_bytes()
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        let lists = (self.to_be_served.capacity() + self.to_be_cut.capacity()) * size_of::<Slot>()
            + (self.days_to_be_served.capacity() + self.chunks_to_be_cut.capacity()) * size_of::<(Slot, u32)>();
        self.slab.allocated_bytes() + self.index.allocated_bytes() + self.heap_bytes + lists
    }
}
