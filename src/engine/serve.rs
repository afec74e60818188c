//! What changed since the last drain, as absolute rows of the serving tables.

use super::cells::CellKey;
use super::customer::Customer;
use super::slab::Slot;
use super::{Engine, FORESEEN};
use crate::model::{Day, Version};
use crate::rows::ServingRows;
use crate::rows::serving::{CellRow, CustomerRow};

impl Engine {
    /// Rows that wait to be served.
    pub fn dirty_rows(&self) -> usize {
        let cells = [&self.minute_cells, &self.day_cells, &self.active_days];
        self.customers.dirty_rows() + self.graph.dirty_rows() + cells.iter().map(|cells| cells.dirty_rows()).sum::<usize>()
    }

    /// Adds the rows of every key touched since the last drain. A drain that has rows needs a version above that of the one before.
    pub fn drain_rows(&mut self, version: Version, out: &mut ServingRows) {
        if self.dirty_rows() == 0 {
            return;
        }
        debug_assert!(self.last_version.is_none_or(|last| last < version), "two drains with one version, or a lower one");
        self.last_version = Some(version);
        self.drain_customers(version, out);
        self.drain_cells(version, out);
        self.drain_graph(version, out);
    }

    /// Makes every row of the state wait to be served: how tests compare the rows of two states.
    pub fn mark_everything_for_serving(&mut self) {
        self.customers.mark_all_for_serving();
        for cells in [&mut self.minute_cells, &mut self.day_cells, &mut self.active_days] {
            cells.mark_all_for_serving();
        }
        self.mark_graph_for_serving();
    }

    fn drain_customers(&mut self, version: Version, out: &mut ServingRows) {
        for days in std::mem::take(&mut self.customers.days_to_be_served).chunks(FORESEEN) {
            self.customers.prefetch(days.iter().map(|(slot, _)| *slot));
            for (slot, day) in days {
                let Some(sums) = self.customers.change(*slot, |customer| customer.history.take_served(*day)) else { continue };
                let customer = self.customers.get(*slot);
                out.push_customer_day(self.brands.name(customer.brand), customer.names.id(), *day, &sums, version);
            }
        }
        for slots in std::mem::take(&mut self.customers.to_be_served).chunks(FORESEEN) {
            self.foresee_names(slots.iter().map(|slot| (*slot, self.customers.get(*slot).link)));
            self.foresee_sharers(slots);
            for slot in slots {
                self.drain_customer(*slot, version, out);
            }
        }
    }

    fn drain_customer(&mut self, slot: Slot, version: Version, out: &mut ServingRows) {
        self.customers.change(slot, |customer| customer.flags &= !Customer::TO_BE_SERVED);
        let customer = self.customers.get(slot);
        let last = customer.last.read();
        let row = CustomerRow {
            brand: self.brands.name(customer.brand),
            customer_id: customer.names.id(),
            first_event_ms: customer.first.time_ms,
            first_event_id: customer.names.first_event_id(),
            last_event_ms: last.event_ms,
            last_scan_ms: last.scan_ms,
            last_purchase_ms: last.purchase_ms,
            last_share_ms: last.share_ms,
            sums: customer.history.total(),
            graph: self.graph_columns(customer, self.edge(slot).and_then(|edge| self.graph.names(edge))),
        };
        out.push_customer(&row, version);
    }

    fn drain_cells(&mut self, version: Version, out: &mut ServingRows) {
        let Engine { task, brands, symbols, minute_cells, day_cells, active_days, .. } = self;
        let cell_row = |key: &CellKey| CellRow {
            brand: brands.name(key.brand),
            campaign: symbols.text(key.campaign),
            sku: symbols.text(key.sku),
            channel: symbols.text(key.channel),
            region: key.region,
            task,
        };
        minute_cells.drain_rows(|key, sums| out.push_minute_cell(&cell_row(key), key.bucket, sums, version));
        day_cells.drain_rows(|key, sums| out.push_day_cell(&cell_row(key), key.bucket as Day, sums, version));
        active_days.drain_rows(|key, sums| out.push_active_day(brands.name(key.brand), key.bucket as Day, task, sums, version));
    }
}
