//! The graph's state rows. The way back: `restore.rs`.

use super::texts::TextId;
use super::{Graph, Link, VISIT_FIELDS};
use crate::engine::brands::Brands;
use crate::engine::customers::Customers;
use crate::engine::cut::{Cutter, RowBytes};
use crate::engine::kind::StateKind;
use crate::engine::slab::Slot;
use crate::engine::wire::Writer;
use crate::engine::{Engine, FORESEEN};
use crate::model::{Measure, Sums};

/// Writes a key of texts, brand first.
fn key(out: &mut RowBytes, texts: &[&str]) {
    out.key(|writer| texts.iter().fold(writer, |begun, text| begun.text(text)));
}

/// What both kinds of visit have in common.
fn write_visit(state: &mut Writer<'_>, sums: &Sums) {
    for (field, measure) in (2..).zip(VISIT_FIELDS) {
        state.number(field, sums.get(measure));
    }
}

impl Engine {
    /// Adds the rows of the graph's keys that changed since the last cut.
    pub(in crate::engine) fn cut_graph(&mut self, out: &mut Cutter<'_>) {
        self.cut_outbound_visits(out);
        self.cut_inbound_visits(out);
        self.cut_inbound_referrals(out);
        self.cut_shares(out);
        self.cut_child_shares(out);
    }

    fn cut_outbound_visits(&mut self, out: &mut Cutter<'_>) {
        for slots in self.graph.outbound_visits.take_to_be_cut().chunks(FORESEEN) {
            let pairs = slots.iter().map(|slot| self.graph.outbound_visits.get(*slot));
            self.foresee_names(pairs.map(|pair| (pair.left, Link(pair.right))));
            let Engine { brands, customers, graph, live, .. } = self;
            for slot in slots {
                graph.write_outbound_visit(*slot, customers, brands, &mut out.bytes);
                graph.outbound_visits.change(*slot, |pair| out.row(StateKind::OutboundVisit, true, &mut pair.stored, live));
            }
        }
    }

    fn cut_inbound_visits(&mut self, out: &mut Cutter<'_>) {
        let Engine { brands, graph, live, .. } = self;
        for slots in graph.inbound_visits.take_to_be_cut().chunks(FORESEEN) {
            let pairs = slots.iter().map(|slot| graph.inbound_visits.get(*slot));
            graph.prefetch_names(pairs.clone().map(|pair| Link(pair.left)));
            graph.prefetch_texts(pairs.map(|pair| TextId(pair.right)));
            for slot in slots {
                graph.write_inbound_visit(*slot, brands, &mut out.bytes);
                graph.inbound_visits.change(*slot, |pair| out.row(StateKind::InboundVisit, true, &mut pair.stored, live));
            }
        }
    }

    fn cut_inbound_referrals(&mut self, out: &mut Cutter<'_>) {
        let Engine { brands, customers, graph, live, .. } = self;
        for slots in graph.inbound_referrals.take_to_be_cut().chunks(FORESEEN) {
            let pairs = slots.iter().map(|slot| graph.inbound_referrals.get(*slot));
            customers.prefetch(pairs.clone().map(|pair| pair.left));
            graph.prefetch_texts(pairs.map(|pair| TextId(pair.right)));
            for slot in slots {
                graph.write_inbound_referral(*slot, customers, brands, &mut out.bytes);
                graph.inbound_referrals.change(*slot, |pair| out.row(StateKind::InboundReferral, true, &mut pair.stored, live));
            }
        }
    }

    fn cut_shares(&mut self, out: &mut Cutter<'_>) {
        let Engine { brands, graph, live, .. } = self;
        for nodes in graph.take_shares_to_be_cut().chunks(FORESEEN) {
            graph.prefetch_shares(nodes);
            for node in nodes {
                if graph.write_share_row(*node, brands, &mut out.bytes) {
                    out.row(StateKind::Share, true, &mut graph.shares[*node].stored, live);
                }
            }
        }
    }

    fn cut_child_shares(&mut self, out: &mut Cutter<'_>) {
        let Engine { brands, graph, live, .. } = self;
        for slots in graph.child_shares.take_to_be_cut().chunks(FORESEEN) {
            let pairs = slots.iter().map(|slot| graph.child_shares.get(*slot));
            graph.prefetch_names(pairs.flat_map(|pair| [Link(pair.left), Link(pair.right)]));
            for slot in slots {
                graph.write_child_share(*slot, brands, &mut out.bytes);
                graph.child_shares.change(*slot, |pair| out.row(StateKind::ChildShare, true, &mut pair.stored, live));
            }
        }
    }
}

/// One row each, into the bytes of its key and payload.
impl Graph {
    pub(super) fn write_outbound_visit(&self, slot: Slot, customers: &Customers, brands: &Brands, out: &mut RowBytes) {
        let pair = self.outbound_visits.get(slot);
        let customer = customers.get(pair.left);
        let (share, sharer) = self.links.names(Link(pair.right), &self.texts);
        key(out, &[brands.name(customer.brand), customer.names.id(), share, sharer]);
        let mut state = Writer(out.payload());
        write_visit(state.signed(1, pair.value.first_ms), &pair.value.sums.read());
    }

    pub(super) fn write_inbound_visit(&self, slot: Slot, brands: &Brands, out: &mut RowBytes) {
        let pair = self.inbound_visits.get(slot);
        let link = Link(pair.left);
        let (share, sharer) = self.links.names(link, &self.texts);
        let visitor = self.texts.text(TextId(pair.right));
        key(out, &[brands.name(self.links.key(link).brand), share, sharer, visitor]);
        let sums = pair.value.sums.read();
        let mut state = Writer(out.payload());
        write_visit(state.number(1, pair.value.version), &sums);
        state.number(7, sums.get(Measure::NewCustomers) > 0);
    }

    pub(super) fn write_inbound_referral(&self, slot: Slot, customers: &Customers, brands: &Brands, out: &mut RowBytes) {
        let pair = self.inbound_referrals.get(slot);
        let sharer = customers.get(pair.left);
        let child = self.texts.text(TextId(pair.right));
        key(out, &[brands.name(sharer.brand), sharer.names.id(), child]);
        Writer(out.payload()).number(1, pair.value.version).message(2, |layers| pair.value.said.write(layers));
    }

    /// Whether it has a row: a share whose own event is not known has none.
    pub(super) fn write_share_row(&self, node: Slot, brands: &Brands, out: &mut RowBytes) -> bool {
        if !self.write_share(node, out.payload()) {
            return false;
        }
        let link = self.shares[node].link;
        let (share_id, sharer_id) = self.links.names(link, &self.texts);
        key(out, &[brands.name(self.links.key(link).brand), sharer_id, share_id]);
        true
    }

    pub(super) fn write_child_share(&self, slot: Slot, brands: &Brands, out: &mut RowBytes) {
        let pair = self.child_shares.get(slot);
        let (parent_share, parent_sharer) = self.links.names(Link(pair.left), &self.texts);
        let (share, sharer) = self.links.names(Link(pair.right), &self.texts);
        let brand = brands.name(self.links.key(Link(pair.left)).brand);
        key(out, &[brand, parent_share, parent_sharer, share, sharer]);
        let event = pair.value.event.as_ref();
        let mut state = Writer(out.payload());
        state.number(1, pair.value.version).number(2, event.is_some()).signed(3, event.map_or(0, |(time_ms, _)| *time_ms));
        state.text(4, event.map_or("", |(_, id)| id)).message(5, |layers| pair.value.said.write(layers));
    }
}

impl Graph {
    /// The payload of a share; whether it has an own event.
    fn write_share(&self, node: Slot, out: &mut Vec<u8>) -> bool {
        let Some(own) = self.shares[node].own.as_deref() else { return false };
        let mut state = Writer(out);
        state.signed(1, own.time_ms).text(2, &own.event_id);
        if let Some((share, sharer)) = self.names(own.parent) {
            state.message(3, |parent| {
                parent.text(1, share).text(2, sharer);
            });
        }
        state.text(4, self.texts.text(own.campaign)).text(5, self.texts.text(own.sku)).text(6, self.texts.text(own.channel));
        state.number(7, own.region).number(8, own.rewarded);
        true
    }
}
