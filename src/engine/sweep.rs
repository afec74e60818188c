//! Forgetting what no accepted event can reach, in bounded pieces.
//!
//! A pass goes over all customers and cells once, for one limit below the horizon. Everything is judged by whole days of the
//! brand, so that a customer or cell changes at most once a day for being old. Ends by dropping texts that nobody holds.

use super::brands::BrandId;
use super::cells::{CellKey, Cells};
use super::customer::Customer;
use super::kind::StateKind;
use super::restore::Stored;
use super::slab::{Moved, Slot};
use super::{Engine, ForgetRule};
use crate::model::{Day, TimeZone};

const MS_PER_MINUTE: i64 = 60_000;
const MS_PER_DAY: i64 = 86_400_000;

/// Forgetting a piece of a busy customer's ids takes about as long as looking at so many keys.
const KEYS_PER_PIECE_OF_IDS: usize = 500;

#[derive(Debug)]
pub(super) struct Sweep {
    rule: ForgetRule,
    /// Of the pass under way or the last one.
    limit_ms: i64,
    /// The same for cells, which corrections by other tasks may reach for longer.
    cells_limit_ms: i64,
    /// Where the pass under way continues.
    next: Option<(Part, Slot)>,
}

/// What a pass goes over, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Customers,
    MinuteCells,
    DayCells,
    ActiveDays,
}

impl Sweep {
    pub(super) fn new(rule: ForgetRule) -> Self {
        Sweep { rule, limit_ms: 0, cells_limit_ms: 0, next: None }
    }

    /// What a pass goes over has moved: a pass that is there goes on with what it had not looked at.
    pub(super) fn resume(&mut self, part: Part, moved: &Moved) {
        self.next = self.next.map(|(at, slot)| if at == part { (at, moved.resumed(slot)) } else { (at, slot) });
    }
}

/// The first day that is not wholly before a limit, and its beginning.
fn first_kept_day(zone: TimeZone, limit_ms: i64) -> (Day, i64) {
    let day = zone.day(limit_ms);
    (day, i64::from(day) * MS_PER_DAY - i64::from(zone.offset_minutes()) * MS_PER_MINUTE)
}

impl Engine {
    /// Continues the pass under way, or begins one if the horizon has risen enough since the last; looks at no more than
    /// `most_keys` keys. Returns how many it looked at: fewer than `most_keys` when there is nothing more to do for now.
    pub fn sweep(&mut self, most_keys: usize) -> usize {
        if self.sweep.next.is_none() {
            let limit_ms = self.horizon_ms - self.sweep.rule.slack_ms;
            let cells_limit_ms = self.horizon_ms.min(self.reach_ms) - self.sweep.rule.slack_ms;
            let step_ms = self.sweep.rule.pass_step_ms.max(1);
            if limit_ms < self.sweep.limit_ms + step_ms && cells_limit_ms < self.sweep.cells_limit_ms + step_ms {
                return 0;
            }
            (self.sweep.limit_ms, self.sweep.cells_limit_ms) = (limit_ms, cells_limit_ms);
            self.sweep.next = Some((Part::Customers, 0));
            self.symbols.begin_pass();
            self.cold.begin_pass(cells_limit_ms);
        }
        let mut looked_at = 0;
        while let Some((part, slot)) = self.sweep.next {
            if slot >= self.slots_of(part) {
                self.sweep.next = self.part_after(part);
                continue;
            }
            if looked_at >= most_keys {
                break;
            }
            looked_at += 1;
            if self.sweep_slot(part, slot) {
                looked_at += KEYS_PER_PIECE_OF_IDS;
            } else {
                self.sweep.next = Some((part, slot + 1));
            }
        }
        looked_at.min(most_keys)
    }

    fn slots_of(&self, part: Part) -> Slot {
        match part {
            Part::Customers => self.customers.slots(),
            Part::MinuteCells => self.minute_cells.slots(),
            Part::DayCells => self.day_cells.slots(),
            Part::ActiveDays => self.active_days.slots(),
        }
    }

    fn part_after(&mut self, part: Part) -> Option<(Part, Slot)> {
        let next = match part {
            Part::Customers => Part::MinuteCells,
            Part::MinuteCells => Part::DayCells,
            Part::DayCells => Part::ActiveDays,
            Part::ActiveDays => {
                self.symbols.end_pass();
                return None;
            }
        };
        Some((next, 0))
    }

    /// Whether cells of this moment are still in the state, so that a correction may reach them.
    pub(super) fn are_cells_kept(&self, brand: BrandId, time_ms: i64) -> bool {
        let limit_ms = self.sweep.cells_limit_ms.max(self.horizon_ms.min(self.reach_ms) - self.sweep.rule.slack_ms);
        time_ms >= limit_ms.max(first_kept_day(self.brands.zone(brand), limit_ms).1)
    }

    /// Forgets of a customer that is back in memory what the pass under way or the last one forgot of others.
    pub(super) fn sweep_customer(&mut self, slot: Slot) {
        while self.sweep_slot(Part::Customers, slot) {}
    }

    /// The same of a cell, by its state row's key.
    pub(super) fn sweep_cell_of(&mut self, kind: StateKind, key: &[u8]) {
        let Some(cell_key) = self.read_cell_key(Stored { kind, key, payload: &[] }) else { return };
        let (part, slot) = match kind {
            StateKind::MinuteCell => (Part::MinuteCells, self.minute_cells.find(&cell_key)),
            _ => (Part::DayCells, self.day_cells.find(&cell_key)),
        };
        if let Some(slot) = slot {
            self.sweep_slot(part, slot);
        }
    }

    /// Whether the slot is to be swept again.
    fn sweep_slot(&mut self, part: Part, slot: Slot) -> bool {
        let mut is_again = false;
        let (limit_ms, cells_limit_ms) = (self.sweep.limit_ms, self.sweep.cells_limit_ms);
        let brands = &self.brands;
        let is_old_minute = |key: &CellKey| (i64::from(key.bucket) + 1) * MS_PER_MINUTE <= cells_limit_ms;
        let is_old_day = |limit_ms: i64| move |key: &CellKey| key.bucket < u32::from(first_kept_day(brands.zone(key.brand), limit_ms).0);
        let sweep_cell = |cells: &mut Cells, is_old: &dyn Fn(&CellKey) -> bool| cells.sweep(slot, is_old);
        let kept = match part {
            Part::Customers if self.customers.get(slot).flags & Customer::VACANT != 0 => None,
            Part::Customers => {
                let (first_kept, day_begin_ms) = first_kept_day(brands.zone(self.customers.get(slot).brand), limit_ms);
                let cells_begin_ms = first_kept_day(brands.zone(self.customers.get(slot).brand), cells_limit_ms).1;
                is_again = self.customers.forget(slot, day_begin_ms, first_kept, cells_begin_ms);
                let first = &self.customers.get(slot).first;
                Some([first.campaign, first.sku, first.channel])
            }
            Part::MinuteCells => sweep_cell(&mut self.minute_cells, &is_old_minute).map(CellKey::symbols),
            Part::DayCells => sweep_cell(&mut self.day_cells, &is_old_day(cells_limit_ms)).map(CellKey::symbols),
            Part::ActiveDays => sweep_cell(&mut self.active_days, &is_old_day(limit_ms)).map(CellKey::symbols),
        };
        for symbol in kept.into_iter().flatten() {
            self.symbols.keep(symbol);
        }
        is_again
    }
}
