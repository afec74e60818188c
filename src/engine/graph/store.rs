//! The graph's state rows: to a checkpoint and back. Sums are not stored; they come back with what they are made of.

use prost::Message;

use super::layers::Said;
use super::shares::{ChildShare, OwnShare};
use super::{Graph, InboundVisit, Link};
use crate::engine::Engine;
use crate::engine::brands::BrandId;
use crate::engine::cut::{RestoreError, Stored, state_row};
use crate::engine::kind::{KeyReader, KeyWriter, StateKind, StateRow};
use crate::engine::slab::Slot;
use crate::model::{Measure, Sums};
use crate::pb;

/// The texts of a key, brand first; `None` where it is none.
fn key_texts<const N: usize>(key: &[u8]) -> Option<[&str; N]> {
    let mut reader = KeyReader(key);
    let mut texts = [""; N];
    for text in &mut texts {
        *text = reader.text()?;
    }
    reader.end()?;
    Some(texts)
}

fn key_of(texts: &[&str]) -> Vec<u8> {
    texts.iter().fold(KeyWriter::default(), |writer, text| writer.text(text)).finish()
}

fn decode<M: Message + Default>(stored: Stored<'_>) -> Result<M, RestoreError> {
    M::decode(stored.payload).map_err(|source| stored.bad_payload(source))
}

impl Engine {
    /// Adds the rows of the graph's keys that changed since the last cut.
    pub(in crate::engine) fn cut_graph(&mut self, out: &mut Vec<StateRow>) {
        self.cut_outbound_visits(out);
        self.cut_inbound_visits(out);
        self.cut_inbound_referrals(out);
        self.cut_shares(out);
        self.cut_child_shares(out);
    }

    fn cut_outbound_visits(&mut self, out: &mut Vec<StateRow>) {
        let Engine { brands, customers, graph, live, .. } = self;
        for slot in graph.outbound_visits.take_to_be_cut() {
            let Graph { outbound_visits, links, texts, .. } = &mut *graph;
            out.extend(outbound_visits.change(slot, |pair| {
                let customer = customers.get(pair.left);
                let (share, sharer) = links.names(Link(pair.right), texts);
                let key = key_of(&[brands.name(customer.brand), customer.names.id(), share, sharer]);
                let sums = pair.value.sums.read();
                let state = pb::OutboundVisitState {
                    first_time_ms: pair.value.first_ms,
                    visits: sums.get(Measure::Visits),
                    orders: sums.get(Measure::Orders),
                    paid: sums.get(Measure::Paid),
                    refunded: sums.get(Measure::Refunded),
                    reshares: sums.get(Measure::Shares),
                };
                state_row(StateKind::OutboundVisit, key, Some(state.encode_to_vec()), &mut pair.stored, live)
            }));
        }
    }

    fn cut_inbound_visits(&mut self, out: &mut Vec<StateRow>) {
        let Engine { brands, graph, live, .. } = self;
        for slot in graph.inbound_visits.take_to_be_cut() {
            let Graph { inbound_visits, links, texts, .. } = &mut *graph;
            out.extend(inbound_visits.change(slot, |pair| {
                let link = Link(pair.left);
                let (share, sharer) = links.names(link, texts);
                let visitor = texts.text(super::texts::TextId(pair.right));
                let key = key_of(&[brands.name(links.key(link).brand), share, sharer, visitor]);
                let sums = pair.value.sums.read();
                let state = pb::InboundVisitState {
                    version: pair.value.version,
                    visits: sums.get(Measure::Visits),
                    orders: sums.get(Measure::Orders),
                    paid: sums.get(Measure::Paid),
                    refunded: sums.get(Measure::Refunded),
                    reshares: sums.get(Measure::Shares),
                    is_referral: sums.get(Measure::NewCustomers) > 0,
                };
                state_row(StateKind::InboundVisit, key, Some(state.encode_to_vec()), &mut pair.stored, live)
            }));
        }
    }

    fn cut_inbound_referrals(&mut self, out: &mut Vec<StateRow>) {
        let Engine { brands, customers, graph, live, .. } = self;
        for slot in graph.inbound_referrals.take_to_be_cut() {
            let Graph { inbound_referrals, texts, .. } = &mut *graph;
            out.extend(inbound_referrals.change(slot, |pair| {
                let sharer = customers.get(pair.left);
                let child = texts.text(super::texts::TextId(pair.right));
                let key = key_of(&[brands.name(sharer.brand), sharer.names.id(), child]);
                let state = pb::InboundReferralState { version: pair.value.version, value: Some(pair.value.said.to_wire()) };
                state_row(StateKind::InboundReferral, key, Some(state.encode_to_vec()), &mut pair.stored, live)
            }));
        }
    }

    fn cut_shares(&mut self, out: &mut Vec<StateRow>) {
        let Engine { brands, graph, live, .. } = self;
        for node in graph.take_shares_to_be_cut() {
            let Some(payload) = graph.share_payload(node) else { continue };
            let Graph { shares, links, texts, .. } = &mut *graph;
            let share = &mut shares[node];
            let (share_id, sharer_id) = links.names(share.link, texts);
            let key = key_of(&[brands.name(links.key(share.link).brand), sharer_id, share_id]);
            out.extend(state_row(StateKind::Share, key, Some(payload), &mut share.stored, live));
        }
    }

    fn cut_child_shares(&mut self, out: &mut Vec<StateRow>) {
        let Engine { brands, graph, live, .. } = self;
        for slot in graph.child_shares.take_to_be_cut() {
            let Graph { child_shares, links, texts, .. } = &mut *graph;
            out.extend(child_shares.change(slot, |pair| {
                let (parent_share, parent_sharer) = links.names(Link(pair.left), texts);
                let (share, sharer) = links.names(Link(pair.right), texts);
                let brand = brands.name(links.key(Link(pair.left)).brand);
                let key = key_of(&[brand, parent_share, parent_sharer, share, sharer]);
                let event = pair.value.event.as_ref();
                let state = pb::ChildShareState {
                    version: pair.value.version,
                    is_parent: event.is_some(),
                    time_ms: event.map_or(0, |(time_ms, _)| *time_ms),
                    event_id: event.map_or_else(String::new, |(_, id)| id.to_string()),
                    value: Some(pair.value.said.to_wire()),
                };
                state_row(StateKind::ChildShare, key, Some(state.encode_to_vec()), &mut pair.stored, live)
            }));
        }
    }

    pub(in crate::engine) fn restore_outbound_visit(&mut self, stored: Stored<'_>) -> Result<(), RestoreError> {
        let [brand, visitor, share, sharer] = key_texts(stored.key).ok_or_else(|| stored.bad_key())?;
        let state: pb::OutboundVisitState = decode(stored)?;
        let brand = self.brands.intern(brand);
        let customer = self.customers.find_or_insert(brand, visitor);
        let link = self.graph.link(brand, share, sharer);
        let pair = self.graph.outbound_visits.find_or_insert(customer, link.0);
        if self.graph.outbound_visits.get(pair).stored.is_some() {
            return Err(stored.twice());
        }
        let mut sums = Sums::default();
        for (measure, amount) in [
            (Measure::Visits, state.visits),
            (Measure::Orders, state.orders),
            (Measure::Paid, state.paid),
            (Measure::Refunded, state.refunded),
            (Measure::Shares, state.reshares),
        ] {
            sums.set(measure, amount);
        }
        let live = &mut self.live;
        self.graph.outbound_visits.change(pair, |changed| {
            changed.value.first_ms = state.first_time_ms;
            changed.value.sums.write(&sums);
            live.replace(&mut changed.stored, Some(stored.hash()));
        });
        self.graph.note_first_through(customer, link, state.first_time_ms);
        Ok(())
    }

    pub(in crate::engine) fn restore_inbound_visit(&mut self, stored: Stored<'_>) -> Result<(), RestoreError> {
        let [brand, share, sharer, visitor] = key_texts(stored.key).ok_or_else(|| stored.bad_key())?;
        let state: pb::InboundVisitState = decode(stored)?;
        let brand = self.brands.intern(brand);
        let customer = self.customers.find_or_insert(brand, sharer);
        let link = self.graph.link(brand, share, sharer);
        let node = self.graph.share_of(link);
        let visitor = self.graph.texts.intern(visitor);
        let pair = self.graph.inbound_visits.find_or_insert(link.0, visitor.0);
        if self.graph.inbound_visits.get(pair).stored.is_some() {
            return Err(stored.twice());
        }
        let said = pb::VisitContribution {
            visits: state.visits,
            orders: state.orders,
            paid: state.paid,
            refunded: state.refunded,
            reshares: state.reshares,
            is_referral: state.is_referral,
            ..pb::VisitContribution::default()
        };
        let (value, sums) = InboundVisit::restored(state.version, &said);
        let live = &mut self.live;
        self.graph.inbound_visits.change(pair, |changed| {
            changed.value = value;
            live.replace(&mut changed.stored, Some(stored.hash()));
        });
        self.graph.shares[node].brought.visitors += 1;
        self.graph.shares[node].brought.replace(&Sums::default(), &sums);
        let brought = &mut self.sharer_mut(customer).brought;
        brought.visitors += 1;
        brought.replace(&Sums::default(), &sums);
        Ok(())
    }

    pub(in crate::engine) fn restore_inbound_referral(&mut self, stored: Stored<'_>) -> Result<(), RestoreError> {
        let [brand, sharer, child] = key_texts(stored.key).ok_or_else(|| stored.bad_key())?;
        let state: pb::InboundReferralState = decode(stored)?;
        let levels = self.graph.levels;
        let said = Said::from_wire(&state.value.unwrap_or_default(), levels).ok_or_else(|| stored.bad_value("a subtree of no customer"))?;
        let brand = self.brands.intern(brand);
        let customer = self.customers.find_or_insert(brand, sharer);
        let child = self.graph.texts.intern(child);
        let pair = self.graph.inbound_referrals.find_or_insert(customer, child.0);
        if self.graph.inbound_referrals.get(pair).stored.is_some() {
            return Err(stored.twice());
        }
        let change = self.sharer_mut(customer).below.restore(&said, levels);
        self.graph.note_change(change);
        let live = &mut self.live;
        self.graph.inbound_referrals.change(pair, |changed| {
            changed.value.version = state.version;
            changed.value.said = said;
            live.replace(&mut changed.stored, Some(stored.hash()));
        });
        Ok(())
    }

    pub(in crate::engine) fn restore_share(&mut self, stored: Stored<'_>) -> Result<(), RestoreError> {
        let [brand, sharer, share] = key_texts(stored.key).ok_or_else(|| stored.bad_key())?;
        let state: pb::ShareState = decode(stored)?;
        if state.time_ms <= 0 {
            return Err(stored.bad_value("a share event without a time"));
        }
        let brand = self.brands.intern(brand);
        let link = self.graph.link(brand, share, sharer);
        let node = self.graph.share_of(link);
        if self.graph.shares[node].stored.is_some() {
            return Err(stored.twice());
        }
        let own = self.graph.share_restored(brand, state);
        let change = self.graph.set_own_share(node, own, false);
        self.graph.note_change(change);
        self.live.replace(&mut self.graph.shares[node].stored, Some(stored.hash()));
        Ok(())
    }

    pub(in crate::engine) fn restore_child_share(&mut self, stored: Stored<'_>) -> Result<(), RestoreError> {
        let [brand, parent_share, parent_sharer, share, sharer] = key_texts(stored.key).ok_or_else(|| stored.bad_key())?;
        let state: pb::ChildShareState = decode(stored)?;
        let levels = self.graph.levels;
        let said = Said::from_wire(&state.value.unwrap_or_default(), levels).ok_or_else(|| stored.bad_value("a cascade of no share"))?;
        let brand = self.brands.intern(brand);
        let parent = self.graph.link(brand, parent_share, parent_sharer);
        let child = self.graph.link(brand, share, sharer);
        let node = self.graph.share_of(parent);
        let pair = self.graph.child_shares.find_or_insert(parent.0, child.0);
        if self.graph.child_shares.get(pair).stored.is_some() {
            return Err(stored.twice());
        }
        let event = state.is_parent.then(|| (state.time_ms, state.event_id.as_str().into()));
        self.graph.restore_child(node, pair, ChildShare { version: state.version, event, said, ..ChildShare::default() });
        let live = &mut self.live;
        self.graph.child_shares.change(pair, |changed| live.replace(&mut changed.stored, Some(stored.hash())));
        Ok(())
    }
}

impl Graph {
    fn share_payload(&self, node: Slot) -> Option<Vec<u8>> {
        let own = self.shares[node].own.as_deref()?;
        let state = pb::ShareState {
            time_ms: own.time_ms,
            event_id: own.event_id.to_string(),
            parent: self.names(own.parent).map(|(share, sharer)| pb::Via { share_id: share.to_owned(), sharer_id: sharer.to_owned() }),
            campaign: self.texts.text(own.campaign).to_owned(),
            sku: self.texts.text(own.sku).to_owned(),
            channel: self.texts.text(own.channel).to_owned(),
            region: own.region,
            rewarded: own.rewarded,
        };
        Some(state.encode_to_vec())
    }

    fn share_restored(&mut self, brand: BrandId, state: pb::ShareState) -> OwnShare {
        OwnShare {
            time_ms: state.time_ms,
            event_id: state.event_id.into(),
            parent: state.parent.map_or(Link::NONE, |via| self.link(brand, &via.share_id, &via.sharer_id)),
            campaign: self.texts.intern(&state.campaign),
            sku: self.texts.intern(&state.sku),
            channel: self.texts.intern(&state.channel),
            region: state.region,
            rewarded: state.rewarded,
        }
    }
}
