//! What leaves memory: customers and cells that nothing has touched for longest.
//!
//! A clock goes round over the customers: whoever was touched since it last came by is passed over once. Whoever hangs together with
//! more rows than [`MOST_ROWS`] stays: taking that back for one event would take longer than it is worth.

use super::{ColdError, Evicted, GroupRows, Leaving, due_of, push_row};
use crate::engine::Engine;
use crate::engine::cells::Cells;
use crate::engine::customer::{Customer, PlaceTexts};
use crate::engine::cut::{RowBytes, write_cell_key};
use crate::engine::kind::StateKind;
use crate::engine::payload;
use crate::engine::slab::Slot;
use crate::engine::sweep::Part;

/// State rows of a customer that still leaves memory.
const MOST_ROWS: usize = 5_000;

impl Engine {
    /// Takes groups out of memory until about `bytes` of memory are free again: none while anything waits to be served, sent or cut, so to be
    /// called after a cut. `keep` gets them a part at a time, each once, and has to keep them for [`Engine::take_back`]; when it says that it does not,
    /// they come back and no more leave. Returns how many groups left.
    ///
    /// # Errors
    /// [`ColdError`]: what `keep` refused could not come back; the engine is of no further use.
    pub fn evict(&mut self, bytes: usize, mut keep: impl FnMut(&[Evicted]) -> bool) -> Result<usize, ColdError> {
        if bytes == 0 || self.dirty_rows() + self.dirty_state() + self.dirty_contributions() > 0 {
            return Ok(0);
        }
        let goal_bytes = self.used_bytes().saturating_sub(bytes);
        let mut left = 0;
        // What was touched lately leaves in the second round, if it has to.
        for _ in 0..2 {
            let used = self.used_bytes();
            if used <= goal_bytes {
                break;
            }
            let share = (used - goal_bytes) as f64 / used as f64;
            let customers = part_of(self.customers.len(), share);
            for part in parts(customers) {
                let groups = match part {
                    Leaves::Cells(kind) => self.evict_cells(kind, share),
                    Leaves::Customers(most) => self.evict_customers(most),
                };
                let Some(kept) = self.hand_over(groups, &mut keep)? else {
                    // What came back may have something to forget, and wait for the next cut: nothing may move then.
                    return Ok(left);
                };
                left += kept;
            }
        }
        self.compact();
        Ok(left)
    }

    /// How many groups are kept; `None` when they are not, and came back.
    fn hand_over(&mut self, groups: Vec<GroupRows>, keep: &mut impl FnMut(&[Evicted]) -> bool) -> Result<Option<usize>, ColdError> {
        let mut evicted = Vec::with_capacity(groups.len());
        for rows in groups {
            let group = self.cold.insert(&rows);
            evicted.push(Evicted { group, rows: rows.bytes });
        }
        if evicted.is_empty() || keep(&evicted) {
            return Ok(Some(evicted.len()));
        }
        for Evicted { group, rows } in &evicted {
            self.take_back(*group, rows)?;
        }
        Ok(None)
    }

    /// Gives memory back where much of it is free: places that one kind of key has left are no use to the others.
    fn compact(&mut self) {
        if let Some(moved) = self.minute_cells.compact_if_sparse() {
            self.sweep.resume(Part::MinuteCells, &moved);
        }
        if let Some(moved) = self.day_cells.compact_if_sparse() {
            self.sweep.resume(Part::DayCells, &moved);
        }
        if let Some(moved) = self.compact_customers_if_sparse() {
            self.sweep.resume(Part::Customers, &moved);
            self.cold.hand = moved.resumed(self.cold.hand);
        }
    }

    fn evict_cells(&mut self, kind: StateKind, share: f64) -> Vec<GroupRows> {
        let mut cells = std::mem::replace(self.cells_mut(kind), Cells::new());
        let most = part_of(cells.len(), share);
        let mut groups: Vec<GroupRows> = Vec::new();
        let mut numbers = hashbrown::HashMap::<u64, usize, foldhash::quality::FixedState>::default();
        let mut row = RowBytes::default();
        let gone = cells.evict(
            most,
            |key| {
                let texts = PlaceTexts::of(key.campaign, key.sku, key.channel, &self.symbols);
                self.cell_group(kind, (key.brand, key.bucket, key.region), texts)
            },
            |hash, cell| {
                let number = *numbers.entry(hash).or_insert_with(|| {
                    groups.push(GroupRows { hash, bytes: Vec::new(), due_ms: i64::MAX });
                    groups.len() - 1
                });
                let Some(group) = groups.get_mut(number) else { return };
                row.key(|key| write_cell_key(key, kind, &cell.key, &self.brands, &self.symbols));
                payload::encode_sums(&cell.sums(), row.payload());
                push_row(&mut group.bytes, kind, &row.key, &row.payload);
                let bucket_ms = if kind == StateKind::MinuteCell { 60_000 } else { 86_400_000 };
                group.due_ms = group.due_ms.min((i64::from(cell.key.bucket) + 1) * bucket_ms);
            },
        );
        *self.cells_mut(kind) = cells;
        self.cold.count(kind, |keys| *keys += gone);
        groups
    }

    fn evict_customers(&mut self, most: usize) -> Vec<GroupRows> {
        let mut leaving = self.choose(most);
        let mut rows: Vec<usize> = vec![1; leaving.groups.len()];
        self.count_graph_rows(&leaving, &mut rows);
        let stays = |number: u32| rows.get(number as usize).is_some_and(|count| *count > MOST_ROWS);
        leaving.by_slot.retain(|_, number| !stays(*number));
        leaving.by_name.retain(|_, number| !stays(*number));
        self.take_out_of_graph(&mut leaving);
        let mut slots: Vec<(Slot, u32)> = leaving.by_slot.iter().map(|(slot, number)| (*slot, *number)).collect();
        slots.sort_unstable();
        for (slot, number) in slots {
            self.take_out_customer(slot, number, &mut leaving);
        }
        self.drop_unheld_names();
        for kind in &leaving.kinds {
            self.cold.count(*kind, |keys| *keys += 1);
        }
        // A customer of which nothing is stored yet is in the state under restoration alone, by rows of its own that are still to come.
        leaving.groups.into_iter().filter(|group| !group.bytes.is_empty()).collect()
    }

    /// The next customers that the clock finds cold.
    fn choose(&mut self, most: usize) -> Leaving {
        let mut leaving = Leaving::default();
        let slots = self.customers.slots();
        for _ in 0..slots {
            if leaving.groups.len() >= most {
                break;
            }
            let slot = self.cold.hand % slots;
            self.cold.hand = slot + 1;
            if self.customers.get(slot).flags & Customer::VACANT != 0 || self.customers.pass_over(slot) {
                continue;
            }
            let customer = self.customers.get(slot);
            if customer.ids.chunks().nth(MOST_ROWS / 8).is_some() {
                continue;
            }
            let number = leaving.groups.len() as u32;
            let (brand, id) = (customer.brand, customer.names.id());
            leaving.by_slot.insert(slot, number);
            if let Some(name) = self.name_number(id) {
                leaving.by_name.insert((brand, name), number);
            }
            leaving.groups.push(GroupRows { hash: self.customers.hash(brand, id), bytes: Vec::new(), due_ms: due_of(customer) });
        }
        leaving
    }

    fn take_out_customer(&mut self, slot: Slot, number: u32, leaving: &mut Leaving) {
        let Engine { brands, symbols, customers, graph, .. } = self;
        let customer = customers.get(slot);
        let mut row = RowBytes::default();
        for (chunk_number, chunk) in customer.ids.chunks() {
            if let Some(stored) = chunk.stored {
                row.key(|key| key.text(brands.name(customer.brand)).text(customer.names.id()).number(chunk_number));
                payload::encode_ids(&chunk.ids, row.payload());
                leaving.row(number, StateKind::MoreIds, &row, stored);
            }
        }
        if let Some(stored) = customer.stored {
            row.key(|key| key.text(brands.name(customer.brand)).text(customer.names.id()));
            payload::encode_customer(customer, graph.names(customer.link), symbols, row.payload());
            leaving.row(number, StateKind::Customer, &row, stored);
        }
        let sharer = customer.sharer;
        self.customers.remove(slot);
        if sharer != Customer::NO_SHARER {
            self.take_out_sharer(sharer);
        }
    }
}

/// What leaves at once.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    Cells(StateKind),
    /// So many.
    Customers(usize),
}

/// Customers leave in so many parts, because what leaves is in memory twice until it is on the disk...
const PARTS: usize = 4;

/// ...but no fewer of them at once: each part looks through all pairs of customers.
const LEAST_CUSTOMERS: usize = 2_048;

/// One round of leaving.
fn parts(customers: usize) -> impl Iterator<Item = Leaves> {
    let a_part = customers.div_ceil(PARTS).max(LEAST_CUSTOMERS);
    let of_customers = (0..customers).step_by(a_part).map(move |from| Leaves::Customers(a_part.min(customers - from)));
    [Leaves::Cells(StateKind::MinuteCell), Leaves::Cells(StateKind::DayCell)].into_iter().chain(of_customers)
}

/// A share of a number, rounded up.
fn part_of(number: usize, share: f64) -> usize {
    (number as f64 * share).ceil() as usize
}
