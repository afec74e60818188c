//! Contributions that leave: the present value of every pair that was touched.

use super::layers::{Layer, Said};
use super::{Graph, Link, SUBTREE};
use crate::engine::Engine;
use crate::engine::customer::Customer;
use crate::engine::slab::Slot;
use crate::model::{Measure, TimeZone};
use crate::pb;
use pb::contribution::Value;

impl Engine {
    /// Contributions that wait to be sent.
    pub fn dirty_contributions(&self) -> usize {
        self.graph.dirty_contributions()
    }

    /// Gives `send` the contribution of every pair touched since the last drain, with the customer whose task has to receive it.
    /// All of one drain have one version, above that of the drain before.
    pub fn drain_contributions(&mut self, mut send: impl FnMut(&str, pb::Contribution)) {
        let mut last_said = self.graph.last_said.take();
        self.drain_touched(|sharer_id, contribution| {
            if last_said.as_mut().is_none_or(|last| last.note(&contribution)) {
                send(sharer_id, contribution);
            }
        });
        self.graph.last_said = last_said;
    }

    fn drain_touched(&mut self, mut send: impl FnMut(&str, pb::Contribution)) {
        for slot in self.graph.outbound_visits.take_to_be_sent() {
            let (brand, visit) = self.visit_value(slot);
            let sharer_id = visit.sharer_id.clone();
            send(&sharer_id, contribution(brand, Value::Visit(visit)));
        }
        for slot in self.graph.outbound_referrals.take_to_be_sent() {
            let (brand, referral) = self.referral_value(slot);
            let sharer_id = referral.sharer_id.clone();
            send(&sharer_id, contribution(brand, Value::Referral(referral)));
        }
        for (share, parent) in self.graph.passed_on.take() {
            let brand = self.brands.name(self.graph.links.key(share).brand);
            let cascade = self.graph.cascade_value(share, parent);
            let sharer_id = cascade.parent_sharer_id.clone();
            send(&sharer_id, contribution(brand, Value::Cascade(cascade)));
        }
    }

    fn visit_value(&self, slot: Slot) -> (&str, pb::VisitContribution) {
        let pair = self.graph.outbound_visits.get(slot);
        let (customer, link) = (self.customers.get(pair.left), Link(pair.right));
        let (share_id, sharer_id) = self.graph.links.names(link, &self.graph.texts);
        let sums = pair.value.sums.read();
        let visit = pb::VisitContribution {
            share_id: share_id.to_owned(),
            sharer_id: sharer_id.to_owned(),
            visitor_id: customer.names.id().to_owned(),
            visits: sums.get(Measure::Visits),
            orders: sums.get(Measure::Orders),
            paid: sums.get(Measure::Paid),
            refunded: sums.get(Measure::Refunded),
            reshares: sums.get(Measure::Shares),
            is_referral: self.edge(pair.left) == Some(link),
        };
        (self.brands.name(customer.brand), visit)
    }

    fn referral_value(&self, slot: Slot) -> (&str, pb::ReferralContribution) {
        let pair = self.graph.outbound_referrals.get(slot);
        let customer = self.customers.get(pair.left);
        let sharer = super::texts::TextId(pair.right);
        let is_referrer = self.edge(pair.left).is_some_and(|edge| self.graph.links.key(edge).sharer == sharer);
        let referral = pb::ReferralContribution {
            sharer_id: self.graph.texts.text(sharer).to_owned(),
            child_id: customer.names.id().to_owned(),
            first_time_ms: pair.value.first_ms,
            is_referrer,
            value: is_referrer.then(|| self.subtree_said(pair.left).to_wire()),
        };
        (self.brands.name(customer.brand), referral)
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

/// A customer alone: new in the month of its first event, with money by the month of each purchase.
fn own_layers(customer: &Customer, zone: TimeZone) -> Vec<(Layer, [u64; SUBTREE])> {
    let first_month = TimeZone::month_of(zone.day(customer.first.time_ms));
    let mut layers: Vec<(Layer, [u64; SUBTREE])> = vec![(Layer { level: 0, month: first_month }, [1, 0, 0, 0])];
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

fn contribution(brand: &str, value: Value) -> pb::Contribution {
    pb::Contribution { brand: brand.to_owned(), value: Some(value) }
}

impl Graph {
    pub(super) fn sharers_below(&self, customer: &Customer) -> Option<&super::Below<SUBTREE>> {
        (customer.sharer != Customer::NO_SHARER).then(|| &self.sharers[customer.sharer].below)
    }

    fn cascade_value(&self, share: Link, parent: Link) -> pb::CascadeContribution {
        let (share_id, sharer_id) = self.links.names(share, &self.texts);
        let (parent_share_id, parent_sharer_id) = self.links.names(parent, &self.texts);
        let mut cascade = pb::CascadeContribution {
            share_id: share_id.to_owned(),
            sharer_id: sharer_id.to_owned(),
            parent_share_id: parent_share_id.to_owned(),
            parent_sharer_id: parent_sharer_id.to_owned(),
            ..pb::CascadeContribution::default()
        };
        let Some(node) = self.links.node(share) else { return cascade };
        let Some(own) = self.shares[node].own.as_ref().filter(|own| own.parent == parent) else { return cascade };
        cascade.is_parent = true;
        cascade.time_ms = own.time_ms;
        cascade.event_id = own.event_id.to_string();
        cascade.value = Some(self.cascade_said(node).to_wire());
        cascade
    }
}
