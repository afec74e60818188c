//! The graph's state rows: to a checkpoint and back. Sums are not stored; they come back with what they are made of.

use prost::Message;

use super::layers::Said;
use super::received::Parties;
use super::shares::{ChildShare, OwnShare};
use super::texts::TextId;
use super::{CASCADE, Graph, Link, SUBTREE};
use crate::decode::protobuf::Reader;
use crate::engine::brands::{BrandId, Brands};
use crate::engine::customers::Customers;
use crate::engine::cut::{Cutter, RestoreError, RowBytes, Stored};
use crate::engine::kind::{StateKind, key_texts};
use crate::engine::payload;
use crate::engine::slab::Slot;
use crate::engine::wire::Writer;
use crate::engine::{Engine, FORESEEN};
use crate::model::{Measure, Sums, Text};
use crate::pb;

/// Brand, and whom and what a row is about; `None`: it is about none of these, or cannot be read.
pub(in crate::engine) fn parties_of_row<'a>(kind: StateKind, key: &'a [u8], payload: &'a [u8]) -> Option<(&'a str, Parties<'a>)> {
    let of = |receiver, share| Parties { receiver, share, visitor: None, child: None };
    Some(match kind {
        StateKind::Customer => {
            let [brand, id] = key_texts(key)?;
            (brand, of(id, payload::via_of(payload)))
        }
        StateKind::OutboundVisit => {
            let [brand, visitor, share, sharer] = key_texts(key)?;
            (brand, of(visitor, Some((share, sharer))))
        }
        StateKind::InboundVisit => {
            let [brand, share, sharer, visitor] = key_texts(key)?;
            (brand, Parties { visitor: Some(visitor), ..of(sharer, Some((share, sharer))) })
        }
        StateKind::InboundReferral => {
            let [brand, sharer, child] = key_texts(key)?;
            (brand, Parties { visitor: Some(child), ..of(sharer, None) })
        }
        StateKind::Share => {
            let [brand, sharer, share] = key_texts(key)?;
            (brand, of(sharer, Some((share, sharer))))
        }
        StateKind::ChildShare => {
            let [brand, parent_share, parent_sharer, share, sharer] = key_texts(key)?;
            (brand, Parties { child: Some((share, sharer)), ..of(parent_sharer, Some((parent_share, parent_sharer))) })
        }
        StateKind::MoreIds | StateKind::MinuteCell | StateKind::DayCell | StateKind::ActiveDay => return None,
    })
}

/// Writes a key of texts, brand first.
fn key(out: &mut RowBytes, texts: &[&str]) {
    out.key(|writer| texts.iter().fold(writer, |begun, text| begun.text(text)));
}

/// Of an `InboundReferralState`: the version, and what the child said.
fn read_inbound_referral(payload: &[u8], levels: u8) -> Option<(u64, Said<SUBTREE>)> {
    let (mut wire, mut version, mut said) = (Reader::new(payload), 0, Said::default());
    while let Some(field) = wire.field().ok()? {
        match field.number {
            1 => version = wire.integer(field).ok()?,
            2 => said = Said::read(wire.message(field).ok()?, levels)?,
            _ => wire.skip(field).ok()?,
        }
    }
    Some((version, said))
}

/// A `ChildShareState`.
fn read_child_share(payload: &[u8], levels: u8) -> Option<ChildShare> {
    let (mut wire, mut version, mut is_parent, mut time_ms) = (Reader::new(payload), 0, false, 0);
    let (mut event_id, mut said) = (Text::default(), Said::<CASCADE>::default());
    while let Some(field) = wire.field().ok()? {
        match field.number {
            1 => version = wire.integer(field).ok()?,
            2 => is_parent = wire.integer(field).ok()? != 0,
            3 => time_ms = wire.integer(field).ok()? as i64,
            4 => event_id = wire.text(field).ok()?,
            5 => said = Said::read(wire.message(field).ok()?, levels)?,
            _ => wire.skip(field).ok()?,
        }
    }
    let event = is_parent.then(|| (time_ms, (*event_id).into()));
    Some(ChildShare { version, event, said, ..ChildShare::default() })
}

fn decode<M: Message + Default>(stored: Stored<'_>) -> Result<M, RestoreError> {
    M::decode(stored.payload).map_err(|source| stored.bad_payload(source))
}

/// A `ShareState`, borrowed: shares come by the million when a state is taken back.
#[derive(Default)]
struct ShareState<'a> {
    time_ms: i64,
    event_id: &'a str,
    parent: Option<(&'a str, &'a str)>,
    campaign: &'a str,
    sku: &'a str,
    channel: &'a str,
    region: u32,
    rewarded: bool,
}

impl<'a> ShareState<'a> {
    fn read(payload: &'a [u8]) -> Option<Self> {
        let mut wire = Reader::new(payload);
        let mut state = ShareState::default();
        while let Some(field) = wire.field().ok()? {
            match field.number {
                1 => state.time_ms = wire.integer(field).ok()? as i64,
                2 => state.event_id = wire.str(field).ok()?,
                3 => state.parent = Some(payload::read_via(wire.message(field).ok()?).ok()?),
                4 => state.campaign = wire.str(field).ok()?,
                5 => state.sku = wire.str(field).ok()?,
                6 => state.channel = wire.str(field).ok()?,
                7 => state.region = wire.integer(field).ok()? as u32,
                8 => state.rewarded = wire.integer(field).ok()? != 0,
                _ => wire.skip(field).ok()?,
            }
        }
        Some(state)
    }
}

/// What both kinds of visit have in common.
fn write_visit(state: &mut Writer<'_>, sums: &Sums) {
    for (field, measure) in (2..).zip([Measure::Visits, Measure::Orders, Measure::Paid, Measure::Refunded, Measure::Shares]) {
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

    pub(in crate::engine) fn restore_outbound_visit(&mut self, stored: Stored<'_>) -> Result<bool, RestoreError> {
        let [brand, visitor, share, sharer] = key_texts(stored.key).ok_or_else(|| stored.bad_key())?;
        let brand = self.brands.intern(brand);
        let customer = self.customers.find_or_insert_next(brand, visitor);
        let link = self.graph.link(brand, share, sharer);
        let pair = self.graph.outbound_visits.find_or_insert(customer, link.0);
        if self.graph.outbound_visits.get(pair).stored.is_some() {
            return Ok(false);
        }
        let state: pb::OutboundVisitState = decode(stored)?;
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
        Ok(true)
    }

    pub(in crate::engine) fn restore_inbound_visit(&mut self, stored: Stored<'_>) -> Result<bool, RestoreError> {
        let [brand, share, sharer, visitor] = key_texts(stored.key).ok_or_else(|| stored.bad_key())?;
        let brand = self.brands.intern(brand);
        let customer = self.owner_restored(brand, sharer);
        let link = self.graph.link(brand, share, sharer);
        let node = self.graph.share_of(link);
        let visitor = self.graph.texts.intern(visitor);
        let pair = self.graph.inbound_visits.find_or_insert(link.0, visitor.0);
        if self.graph.inbound_visits.get(pair).stored.is_some() {
            return Ok(false);
        }
        let state: pb::InboundVisitState = decode(stored)?;
        let mut sums = Sums::default();
        for (measure, amount) in [
            (Measure::Visits, state.visits),
            (Measure::Orders, state.orders),
            (Measure::Paid, state.paid),
            (Measure::Refunded, state.refunded),
            (Measure::Shares, state.reshares),
            (Measure::NewCustomers, state.is_referral.into()),
        ] {
            sums.set(measure, amount);
        }
        let live = &mut self.live;
        self.graph.inbound_visits.change(pair, |changed| {
            changed.value.version = state.version;
            changed.value.sums.write(&sums);
            live.replace(&mut changed.stored, Some(stored.hash()));
        });
        self.graph.shares[node].brought.visitors += 1;
        self.graph.shares[node].brought.replace(&Sums::default(), &sums);
        let brought = &mut self.sharer_mut(customer).brought;
        brought.visitors += 1;
        brought.replace(&Sums::default(), &sums);
        Ok(true)
    }

    pub(in crate::engine) fn restore_inbound_referral(&mut self, stored: Stored<'_>) -> Result<bool, RestoreError> {
        let [brand, sharer, child] = key_texts(stored.key).ok_or_else(|| stored.bad_key())?;
        let brand = self.brands.intern(brand);
        let customer = self.customers.find_or_insert_next(brand, sharer);
        let child = self.graph.texts.intern(child);
        let pair = self.graph.inbound_referrals.find_or_insert(customer, child.0);
        if self.graph.inbound_referrals.get(pair).stored.is_some() {
            return Ok(false);
        }
        let levels = self.graph.levels;
        let (version, said) = read_inbound_referral(stored.payload, levels).ok_or_else(|| stored.bad_value("a subtree of no customer"))?;
        let change = self.sharer_mut(customer).below.restore(&said, levels);
        self.graph.note_change(change);
        let live = &mut self.live;
        self.graph.inbound_referrals.change(pair, |changed| {
            changed.value.version = version;
            changed.value.said = said;
            live.replace(&mut changed.stored, Some(stored.hash()));
        });
        Ok(true)
    }

    /// Shares leave memory with whoever made them, so that their maker has to be in it, if only by name: a customer's own row comes long before those
    /// of its shares, and may have left again.
    fn owner_restored(&mut self, brand: BrandId, sharer: &str) -> Slot {
        self.customers.find_or_insert(brand, sharer)
    }

    pub(in crate::engine) fn restore_share(&mut self, stored: Stored<'_>) -> Result<bool, RestoreError> {
        let [brand, sharer, share] = key_texts(stored.key).ok_or_else(|| stored.bad_key())?;
        let brand = self.brands.intern(brand);
        self.customers.find_or_insert_next(brand, sharer);
        let link = self.graph.link(brand, share, sharer);
        let node = self.graph.share_of(link);
        if self.graph.shares[node].stored.is_some() {
            return Ok(false);
        }
        let state = ShareState::read(stored.payload).ok_or_else(|| stored.bad_value("a payload that is no share's"))?;
        if state.time_ms <= 0 {
            return Err(stored.bad_value("a share event without a time"));
        }
        let own = self.graph.share_restored(brand, &state);
        let change = self.graph.set_own_share(node, own, false);
        self.graph.note_change(change);
        self.live.replace(&mut self.graph.shares[node].stored, Some(stored.hash()));
        Ok(true)
    }

    pub(in crate::engine) fn restore_child_share(&mut self, stored: Stored<'_>) -> Result<bool, RestoreError> {
        let [brand, parent_share, parent_sharer, share, sharer] = key_texts(stored.key).ok_or_else(|| stored.bad_key())?;
        let brand = self.brands.intern(brand);
        self.owner_restored(brand, parent_sharer);
        let parent = self.graph.link(brand, parent_share, parent_sharer);
        let child = self.graph.link(brand, share, sharer);
        let node = self.graph.share_of(parent);
        let pair = self.graph.child_shares.find_or_insert(parent.0, child.0);
        if self.graph.child_shares.get(pair).stored.is_some() {
            return Ok(false);
        }
        let value = read_child_share(stored.payload, self.graph.levels).ok_or_else(|| stored.bad_value("a cascade of no share"))?;
        self.graph.restore_child(node, pair, value);
        let live = &mut self.live;
        self.graph.child_shares.change(pair, |changed| live.replace(&mut changed.stored, Some(stored.hash())));
        Ok(true)
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

    fn share_restored(&mut self, brand: BrandId, state: &ShareState<'_>) -> OwnShare {
        OwnShare {
            time_ms: state.time_ms,
            event_id: state.event_id.into(),
            parent: state.parent.map_or(Link::NONE, |(share, sharer)| self.link(brand, share, sharer)),
            campaign: self.texts.intern(state.campaign),
            sku: self.texts.intern(state.sku),
            channel: self.texts.intern(state.channel),
            region: state.region,
            rewarded: state.rewarded,
        }
    }
}
