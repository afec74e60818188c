//! Contributions that arrive: kept if their version is higher than what the same pair said before.

use super::layers::Said;
use super::shares::ChildShare;
use super::{InboundReferral, InboundVisit, own};
use crate::engine::Engine;
use crate::engine::brands::BrandId;
use crate::engine::customer::Customer;
use crate::engine::slab::Slot;
use crate::model::{Measure, Sums, Version};
use crate::pb;

/// A contribution that nobody can have sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a contribution with {0}")]
pub struct ContributionError(pub &'static str);

impl Engine {
    /// Takes what a key of some task says to one of this task's. Tells whether it was new.
    pub fn receive(&mut self, version: Version, contribution: &pb::Contribution) -> Result<bool, ContributionError> {
        let brand = self.brands.intern(&contribution.brand);
        match &contribution.value {
            Some(pb::contribution::Value::Visit(visit)) => Ok(self.receive_visit(version, brand, visit)),
            Some(pb::contribution::Value::Referral(referral)) => self.receive_referral(version, brand, referral),
            Some(pb::contribution::Value::Cascade(cascade)) => self.receive_cascade(version, brand, cascade),
            None => Err(ContributionError("a kind that is unknown")),
        }
    }

    /// Who is named as a sharer has a row, and is no new customer by that.
    fn named_sharer(&mut self, brand: BrandId, sharer_id: &str) -> Slot {
        let sharer = self.customers.find_or_insert(brand, sharer_id);
        let known = self.customers.get(sharer);
        if known.stored.is_none() && known.flags & Customer::TO_BE_CUT == 0 {
            self.customers.mark(sharer, Customer::TO_BE_SERVED | Customer::TO_BE_CUT);
        }
        sharer
    }

    fn receive_visit(&mut self, version: Version, brand: BrandId, visit: &pb::VisitContribution) -> bool {
        let sharer = self.named_sharer(brand, &visit.sharer_id);
        let graph = &mut self.graph;
        let link = graph.link(brand, &visit.share_id, &visit.sharer_id);
        let node = graph.share_of(link);
        let visitor = graph.texts.intern(&visit.visitor_id);
        let pair = graph.inbound_visits.find_or_insert(link.0, visitor.0);
        let known = &graph.inbound_visits.get(pair).value;
        if graph.is_outdated(known.version, version) {
            return false;
        }
        let is_new = known.version == 0;
        let (old, new) = (known.sums.read(), visit_sums(visit));
        graph.inbound_visits.change(pair, |changed| {
            changed.value.version = version.0;
            changed.value.sums.write(&new);
        });
        graph.inbound_visits.mark_for_cut(pair);
        if !is_new && old == new {
            return true;
        }
        graph.shares[node].brought.visitors += u64::from(is_new);
        graph.shares[node].brought.replace(&old, &new);
        graph.mark_share_for_serving(node);
        graph.touch_parent(node);
        let brought = &mut self.sharer_mut(sharer).brought;
        brought.visitors += u64::from(is_new);
        brought.replace(&old, &new);
        self.customers.mark(sharer, Customer::TO_BE_SERVED);
        true
    }

    fn receive_referral(
        &mut self,
        version: Version,
        brand: BrandId,
        referral: &pb::ReferralContribution,
    ) -> Result<bool, ContributionError> {
        let levels = self.graph.levels;
        let wire = referral.value.clone().unwrap_or_default();
        let said = Said::from_wire(&wire, levels).ok_or(ContributionError("a subtree that no customer has"))?;
        let sharer = self.named_sharer(brand, &referral.sharer_id);
        let child = self.graph.texts.intern(&referral.child_id);
        let pair = self.graph.inbound_referrals.find_or_insert(sharer, child.0);
        if self.graph.is_outdated(self.graph.inbound_referrals.get(pair).value.version, version) {
            return Ok(false);
        }
        let change = |pair: &mut super::pairs::Pair<InboundReferral>| {
            pair.value.version = version.0;
            std::mem::replace(&mut pair.value.said, said.clone())
        };
        let old = self.graph.inbound_referrals.change(pair, change);
        self.graph.inbound_referrals.mark_for_cut(pair);
        let change = self.sharer_mut(sharer).below.replace(&old, &said, levels);
        if change.is_any {
            self.graph.note_change(change);
            self.customers.mark(sharer, Customer::TO_BE_SERVED | Customer::SUBTREE_TO_BE_SERVED);
        }
        if change.climbs
            && let Some(edge) = self.edge(sharer)
        {
            self.graph.touch_referral(sharer, edge);
        }
        if referral.first_time_ms > 0 {
            self.note_appearance(sharer, referral.first_time_ms);
        }
        Ok(true)
    }

    /// The customer had appeared as a sharer at this moment: an edge from a first event that is not earlier goes.
    fn note_appearance(&mut self, customer: Slot, time_ms: i64) {
        let known = self.customers.get(customer);
        if known.appeared_ms > 0 && known.appeared_ms <= time_ms {
            return;
        }
        let (before, first, brand) = (self.edge(customer), known.first, known.brand);
        self.customers.change(customer, |changed| changed.appeared_ms = own::earlier(changed.appeared_ms, time_ms));
        self.customers.mark(customer, Customer::TO_BE_CUT);
        let Some(lost) = before.filter(|_| self.edge(customer).is_none()) else { return };
        self.graph.touch_edge(customer, lost);
        self.customers.mark(customer, Customer::TO_BE_SERVED | Customer::REFERRAL_TO_BE_SERVED);
        if self.are_cells_kept(brand, first.time_ms) {
            let zone = self.brands.zone(brand);
            self.minute_cells.change(first.minute_cell(brand), |sums| sums.take_one(Measure::ReferredCustomers));
            self.day_cells.change(first.day_cell(brand, zone), |sums| sums.take_one(Measure::ReferredCustomers));
        }
    }

    fn receive_cascade(&mut self, version: Version, brand: BrandId, cascade: &pb::CascadeContribution) -> Result<bool, ContributionError> {
        let wire = cascade.value.clone().unwrap_or_default();
        let said = Said::from_wire(&wire, self.graph.levels).ok_or(ContributionError("a cascade that no share has"))?;
        self.named_sharer(brand, &cascade.parent_sharer_id);
        let graph = &mut self.graph;
        let parent = graph.link(brand, &cascade.parent_share_id, &cascade.parent_sharer_id);
        let child = graph.link(brand, &cascade.share_id, &cascade.sharer_id);
        let node = graph.share_of(parent);
        let pair = graph.child_shares.find_or_insert(parent.0, child.0);
        if graph.is_outdated(graph.child_shares.get(pair).value.version, version) {
            return Ok(false);
        }
        let event = cascade.is_parent.then(|| (cascade.time_ms, cascade.event_id.as_str().into()));
        graph.child_shares.change(pair, |changed: &mut super::pairs::Pair<ChildShare>| changed.value.version = version.0);
        graph.child_shares.mark_for_cut(pair);
        let change = graph.replace_child(node, pair, event, said);
        graph.mark_cascade_for_serving(node, change);
        if change.climbs {
            graph.touch_parent(node);
        }
        Ok(true)
    }
}

/// What a visit says, as sums.
fn visit_sums(visit: &pb::VisitContribution) -> Sums {
    let mut sums = Sums::default();
    for (measure, amount) in [
        (Measure::Visits, visit.visits),
        (Measure::Orders, visit.orders),
        (Measure::Paid, visit.paid),
        (Measure::Refunded, visit.refunded),
        (Measure::Shares, visit.reshares),
        (Measure::NewCustomers, visit.is_referral.into()),
    ] {
        sums.set(measure, amount);
    }
    sums
}

impl InboundVisit {
    pub(super) fn restored(version: u64, visit: &pb::VisitContribution) -> (Self, Sums) {
        let sums = visit_sums(visit);
        let mut value = InboundVisit { version, ..InboundVisit::default() };
        value.sums.write(&sums);
        (value, sums)
    }
}
