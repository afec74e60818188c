//! What an event or a contribution needs that is not in memory.

use super::ColdGroup;
use crate::engine::Engine;
use crate::engine::brands::BrandId;
use crate::engine::customer::{Dimensions, Place, PlaceTexts};
use crate::engine::cut::CellParts;
use crate::engine::graph::Receiver;
use crate::engine::kind::{StateKind, owner_of_key};
use crate::model::Event;

impl Engine {
    /// Adds the groups that have to be back before [`Engine::apply`], some perhaps twice. To be asked again after taking them back: what a customer's
    /// event moves is known only then.
    pub fn missing_for_event(&self, event: &Event<'_>, out: &mut Vec<ColdGroup>) {
        if self.cold.is_empty() {
            return;
        }
        let Some(brand) = self.brands.find(&event.brand) else { return };
        self.cold.find(self.customers.hash(brand, &event.customer_id), out);
        let dimensions = Dimensions::of(event);
        let place = Place { time_ms: event.time_ms, region: dimensions.region, ..Place::NONE };
        self.missing_cells(brand, &place, dimensions.texts, out);
        let Some(slot) = self.customers.find(brand, &event.customer_id) else { return };
        let known = self.customers.get(slot);
        if known.first.is_known() && known.is_first(event) {
            self.missing_first_cells(brand, &known.first, out);
        }
    }

    /// The same before [`Engine::receive`].
    pub fn missing_for_contribution(&self, contribution: &[u8], out: &mut Vec<ColdGroup>) {
        if self.cold.is_empty() {
            return;
        }
        // What cannot be read is refused by whoever applies it.
        let Ok(receiver) = Receiver::read(contribution) else { return };
        let Some(brand) = self.brands.find(&receiver.brand) else { return };
        self.cold.find(self.customers.hash(brand, &receiver.id), out);
        let Some(slot) = self.customers.find(brand, &receiver.id).filter(|_| receiver.told_ms > 0) else { return };
        let known = self.customers.get(slot);
        if self.edge(slot).is_some() && receiver.told_ms <= known.first.time_ms && self.are_cells_kept(brand, known.first.time_ms) {
            self.missing_first_cells(brand, &known.first, out);
        }
    }

    /// The same before a row says something new of a stored cell.
    pub fn missing_for_cell(&self, kind: StateKind, key: &[u8], out: &mut Vec<ColdGroup>) {
        if self.cold.is_empty() {
            return;
        }
        // What cannot be read is refused by whoever takes it.
        let Some(CellParts { brand, bucket, texts, region }) = CellParts::read(kind, key) else { return };
        let Some(brand) = self.brands.find(brand) else { return };
        self.cold.find(self.cell_group(kind, (brand, bucket, region), texts), out);
    }

    /// The same before a first pack says something of a key that may have a row of its own.
    pub fn missing_for_row(&self, kind: StateKind, key: &[u8], out: &mut Vec<ColdGroup>) {
        if self.cold.is_empty() {
            return;
        }
        // What cannot be read is refused by whoever takes it.
        let Some(Some((brand, customer))) = owner_of_key(kind, key) else { return };
        let Some(brand) = self.brands.find(brand) else { return };
        self.cold.find(self.customers.hash(brand, customer), out);
    }

    /// Those of a customer's first event.
    fn missing_first_cells(&self, brand: BrandId, first: &Place, out: &mut Vec<ColdGroup>) {
        let texts = PlaceTexts::of(first.campaign, first.sku, first.channel, &self.symbols);
        self.missing_cells(brand, first, texts, out);
    }

    fn missing_cells(&self, brand: BrandId, place: &Place, texts: PlaceTexts<'_>, out: &mut Vec<ColdGroup>) {
        let zone = self.brands.zone(brand);
        for (kind, key) in [(StateKind::MinuteCell, place.minute_cell(brand)), (StateKind::DayCell, place.day_cell(brand, zone))] {
            self.cold.find(self.cell_group(kind, (key.brand, key.bucket, key.region), texts), out);
        }
    }
}
