//! Contributions that leave: the present value of every pair that was touched.

use smallvec::SmallVec;

use super::layers::{Layer, Said};
use super::{Graph, Link, SUBTREE, VISIT_FIELDS};
use crate::engine::customer::Customer;
use crate::engine::slab::Slot;
use crate::engine::wire::Writer;
use crate::engine::{Engine, FORESEEN};
use crate::model::{Measure, TimeZone};

impl Engine {
    /// Contributions that wait to be sent.
    pub fn dirty_contributions(&self) -> usize {
        self.graph.dirty_contributions()
    }

    /// Gives `send` the contribution of every pair touched since the last drain, as the bytes of a `Contribution`, with the customer whose
    /// task has to receive it. All of one drain have one version, above that of the drain before.
    pub fn drain_contributions(&mut self, mut send: impl FnMut(&str, &[u8])) {
        let mut last_said = self.graph.last_said.take();
        self.drain_touched(|sharer_id, contribution| {
            if last_said.as_mut().is_none_or(|last| last.note(contribution)) {
                send(sharer_id, contribution);
            }
        });
        self.graph.last_said = last_said;
    }

    fn drain_touched(&mut self, mut send: impl FnMut(&str, &[u8])) {
        let mut bytes = Vec::new();
        for slots in self.graph.outbound_visits.take_to_be_sent().chunks(FORESEEN) {
            let pairs = slots.iter().map(|slot| self.graph.outbound_visits.get(*slot));
            self.foresee_names(pairs.map(|pair| (pair.left, Link(pair.right))));
            for slot in slots {
                bytes.clear();
                let sharer_id = self.write_visit(*slot, &mut bytes);
                send(sharer_id, &bytes);
            }
        }
        for slots in self.graph.outbound_referrals.take_to_be_sent().chunks(FORESEEN) {
            let customers = slots.iter().map(|slot| self.graph.outbound_referrals.get(*slot).left);
            self.foresee_names(customers.clone().map(|customer| (customer, self.customers.get(customer).link)));
            let customers: SmallVec<[Slot; FORESEEN]> = customers.collect();
            self.foresee_sharers(&customers);
            for slot in slots {
                bytes.clear();
                let sharer_id = self.write_referral(*slot, &mut bytes);
                send(sharer_id, &bytes);
            }
        }
        for pairs in self.graph.passed_on.take().chunks(FORESEEN) {
            self.graph.prefetch_passed_on(pairs);
            for (share, parent) in pairs {
                bytes.clear();
                let brand = self.brands.name(self.graph.links.key(*share).brand);
                Writer(&mut bytes).text(1, brand).message(4, |cascade| self.graph.write_cascade(*share, *parent, cascade));
                send(self.graph.links.names(*parent, &self.graph.texts).1, &bytes);
            }
        }
    }

    /// Writes a visit; gives the sharer.
    fn write_visit(&self, slot: Slot, out: &mut Vec<u8>) -> &str {
        let pair = self.graph.outbound_visits.get(slot);
        let (customer, link) = (self.customers.get(pair.left), Link(pair.right));
        let (share_id, sharer_id) = self.graph.links.names(link, &self.graph.texts);
        let sums = pair.value.sums.read();
        Writer(out).text(1, self.brands.name(customer.brand)).message(2, |visit| {
            visit.text(1, share_id).text(2, sharer_id).text(3, customer.names.id());
            for (field, measure) in (4..).zip(VISIT_FIELDS) {
                visit.number(field, sums.get(measure));
            }
            visit.number(9, self.edge(pair.left) == Some(link));
        });
        sharer_id
    }

    /// Writes a referral; gives the sharer.
    fn write_referral(&self, slot: Slot, out: &mut Vec<u8>) -> &str {
        let pair = self.graph.outbound_referrals.get(slot);
        let customer = self.customers.get(pair.left);
        let sharer = super::texts::TextId(pair.right);
        let sharer_id = self.graph.texts.text(sharer);
        let is_referrer = self.edge(pair.left).is_some_and(|edge| self.graph.links.key(edge).sharer == sharer);
        Writer(out).text(1, self.brands.name(customer.brand)).message(3, |referral| {
            referral.text(1, sharer_id).text(2, customer.names.id()).signed(3, pair.value.first_ms).number(4, is_referrer);
            if is_referrer {
                let said = self.subtree_said(pair.left);
                referral.message(5, |layers| said.write(layers));
            }
        });
        sharer_id
    }

    /// What a customer says to its referrer: itself, and its subtree.
    fn subtree_said(&self, slot: Slot) -> Said<SUBTREE> {
        let customer = self.customers.get(slot);
        let zone = self.brands.zone(customer.brand);
        let itself = own_layers(customer, zone);
        match self.graph.sharers_below(customer) {
            Some(below) => below.say(itself, self.graph.levels),
            None => Said::new(itself),
        }
    }
}

/// Most customers buy in one month.
type OwnLayers = SmallVec<[(Layer, [u64; SUBTREE]); 2]>;

/// A customer alone: new in the month of its first event, with money by the month of each purchase.
fn own_layers(customer: &Customer, zone: TimeZone) -> OwnLayers {
    let first_month = TimeZone::month_of(zone.day(customer.first.time_ms));
    let mut layers = OwnLayers::new();
    layers.push((Layer { level: 0, month: first_month }, [1, 0, 0, 0]));
    for (month, sums) in customer.history.months() {
        let layer = Layer { level: 0, month };
        let place = match layers.binary_search_by_key(&layer, |(known, _)| *known) {
            Ok(place) => place,
            Err(place) => {
                layers.insert(place, (layer, [0; SUBTREE]));
                place
            }
        };
        if let Some((_, [_, orders, paid, refunded])) = layers.get_mut(place) {
            for (amount, measure) in [(orders, Measure::Orders), (paid, Measure::Paid), (refunded, Measure::Refunded)] {
                *amount = amount.saturating_add(sums.get(measure));
            }
        }
    }
    layers
}

impl Graph {
    pub(super) fn sharers_below(&self, customer: &Customer) -> Option<&super::Below<SUBTREE>> {
        (customer.sharer != Customer::NO_SHARER).then(|| &self.sharers[customer.sharer].below)
    }

    fn write_cascade(&self, share: Link, parent: Link, cascade: &mut Writer<'_>) {
        let (share_id, sharer_id) = self.links.names(share, &self.texts);
        let (parent_share_id, parent_sharer_id) = self.links.names(parent, &self.texts);
        cascade.text(1, share_id).text(2, sharer_id).text(3, parent_share_id).text(4, parent_sharer_id);
        let Some(node) = self.links.node(share) else { return };
        let Some(own) = self.shares[node].own.as_ref().filter(|own| own.parent == parent) else { return };
        let said = self.cascade_said(node);
        cascade.number(5, true).signed(6, own.time_ms).text(7, &own.event_id).message(8, |layers| said.write(layers));
    }
}
