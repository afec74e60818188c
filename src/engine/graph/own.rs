//! What a customer's own event means for the graph, and which edge it has.

use super::shares::OwnShare;
use super::{Graph, Link, Sharer, VISIT_FIELDS};
use crate::engine::Engine;
use crate::engine::customer::Customer;
use crate::engine::customers::FirstEvent;
use crate::engine::slab::Slot;
use crate::model::{Body, Event, EventKind, Sums};

impl Engine {
    /// The share that brought a customer: the via of the first own event, unless the customer had appeared as somebody's sharer
    /// at that moment or before. So an edge always leads to an earlier first event, and the edges are a forest whatever is claimed.
    pub(in crate::engine) fn edge(&self, customer: Slot) -> Option<Link> {
        let known = self.customers.get(customer);
        let is_blocked = known.appeared_ms > 0 && known.appeared_ms <= known.first.time_ms;
        known.link.known().filter(|_| !is_blocked)
    }

    /// Notes an own event that counts: `link` is its via, `old_link` that of the first event before it.
    pub(in crate::engine) fn note_own_event(
        &mut self,
        customer: Slot,
        event: &Event<'_>,
        amounts: &Sums,
        link: Link,
        (first_event, old_link): (FirstEvent, Link),
    ) {
        if let Some(via) = link.known() {
            self.graph.add_visit(customer, via, event, amounts);
        }
        if !matches!(first_event, FirstEvent::Stays) {
            self.customers.mark(customer, Customer::REFERRAL_TO_BE_SERVED);
            self.graph.touch_edge(customer, old_link);
        }
        if event.kind() == EventKind::Purchase
            && let Some(edge) = self.edge(customer)
        {
            self.graph.touch_referral(customer, edge);
        }
        if matches!(event.body, Body::Share(_)) {
            self.note_own_share(customer, event, link);
        }
    }

    fn note_own_share(&mut self, customer: Slot, event: &Event<'_>, parent: Link) {
        let Body::Share(share) = &event.body else { return };
        let brand = self.customers.get(customer).brand;
        let graph = &mut self.graph;
        let link = graph.link(brand, &share.share_id, &event.customer_id);
        let node = graph.share_of(link);
        if let Some(named) = parent.known() {
            graph.passed_on.touch(link, named);
        }
        if graph.shares[node].own.as_ref().is_some_and(|own| own.is_before(event.time_ms, &event.event_id)) {
            return;
        }
        graph.touch_parent(node);
        let own = OwnShare {
            time_ms: event.time_ms,
            event_id: (&*event.event_id).into(),
            parent,
            campaign: graph.texts.intern(&share.campaign),
            sku: graph.texts.intern(&share.sku),
            channel: graph.texts.intern(&share.channel),
            region: share.region,
            rewarded: share.rewarded,
        };
        let change = graph.set_own_share(node, own, true);
        graph.touch_parent(node);
        graph.mark_share_for_serving(node);
        graph.mark_cascade_for_serving(node, change);
        graph.mark_share_for_cut(node);
    }

    /// The part of a customer that only sharers have.
    pub(super) fn sharer_mut(&mut self, customer: Slot) -> &mut Sharer {
        let known = self.customers.get(customer).sharer;
        if known != Customer::NO_SHARER {
            return &mut self.graph.sharers[known];
        }
        let sharer = self.graph.sharers.insert(Sharer::default());
        self.customers.change(customer, |changed| changed.sharer = sharer);
        &mut self.graph.sharers[sharer]
    }
}

impl Graph {
    /// The touch rule: an event sends its own pairs again, also when nothing in them changed.
    fn add_visit(&mut self, customer: Slot, link: Link, event: &Event<'_>, amounts: &Sums) {
        let visit = self.outbound_visits.find_or_insert(customer, link.0);
        self.outbound_visits.change(visit, |pair| {
            let mut sums = pair.value.sums.read();
            for measure in VISIT_FIELDS {
                sums.add(measure, amounts.get(measure));
            }
            pair.value.sums.write(&sums);
            pair.value.first_ms = earlier(pair.value.first_ms, event.time_ms);
        });
        self.outbound_visits.mark_for_sending(visit);
        self.outbound_visits.mark_for_cut(visit);
        let referral = self.note_first_through(customer, link, event.time_ms);
        self.outbound_referrals.mark_for_sending(referral);
    }

    /// The earliest event through any share of one sharer.
    pub(super) fn note_first_through(&mut self, customer: Slot, link: Link, time_ms: i64) -> Slot {
        let sharer = self.links.key(link).sharer;
        let referral = self.outbound_referrals.find_or_insert(customer, sharer.0);
        self.outbound_referrals.change(referral, |pair| pair.value.first_ms = earlier(pair.value.first_ms, time_ms));
        referral
    }

    /// An edge came or went: visit and referral of its link are to be said again.
    pub(super) fn touch_edge(&mut self, customer: Slot, link: Link) {
        if let Some(visit) = link.known().and_then(|known| self.outbound_visits.find(customer, known.0)) {
            self.outbound_visits.mark_for_sending(visit);
            self.touch_referral(customer, link);
        }
    }

    /// What a customer says to the sharer of a link has changed.
    pub(super) fn touch_referral(&mut self, customer: Slot, link: Link) {
        let sharer = self.links.key(link).sharer;
        if let Some(referral) = self.outbound_referrals.find(customer, sharer.0) {
            self.outbound_referrals.mark_for_sending(referral);
        }
    }
}

/// The earlier of two times; 0 = none.
pub(super) fn earlier(known_ms: i64, time_ms: i64) -> i64 {
    if known_ms == 0 { time_ms } else { known_ms.min(time_ms) }
}
