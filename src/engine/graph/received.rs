//! Contributions that arrive: kept if their version is higher than what the same pair said before.

use super::layers::Said;
use super::shares::ChildShare;
use super::{CASCADE, InboundReferral, SUBTREE, own};
use crate::decode::protobuf::{ProtobufError, Reader};
use crate::engine::Engine;
use crate::engine::brands::BrandId;
use crate::engine::customer::Customer;
use crate::engine::slab::Slot;
use crate::model::{Measure, Sums, Text, Version};

/// A contribution that nobody can have sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a contribution with {0}")]
pub struct ContributionError(pub &'static str);

impl From<ProtobufError> for ContributionError {
    fn from(_: ProtobufError) -> Self {
        ContributionError("fields that cannot be read")
    }
}

/// What a visitor says about a link.
#[derive(Debug, Default)]
struct Visit<'a> {
    share_id: Text<'a>,
    sharer_id: Text<'a>,
    visitor_id: Text<'a>,
    sums: Sums,
}

/// What a child says to a sharer.
#[derive(Debug, Default)]
struct Referral<'a> {
    sharer_id: Text<'a>,
    child_id: Text<'a>,
    first_time_ms: i64,
    said: Said<SUBTREE>,
}

/// What a share says to a parent.
#[derive(Debug, Default)]
struct Cascade<'a> {
    share_id: Text<'a>,
    sharer_id: Text<'a>,
    parent_share_id: Text<'a>,
    parent_sharer_id: Text<'a>,
    is_parent: bool,
    time_ms: i64,
    event_id: Text<'a>,
    said: Said<CASCADE>,
}

#[derive(Debug)]
enum Value<'a> {
    Visit(Visit<'a>),
    Referral(Referral<'a>),
    Cascade(Cascade<'a>),
}

/// A contribution that was read: what a key of some task says to one of another.
#[derive(Debug)]
pub struct Contribution<'a> {
    brand: Text<'a>,
    value: Value<'a>,
}

impl<'a> Contribution<'a> {
    /// Of the bytes of a `Contribution`.
    fn read(bytes: &'a [u8], levels: u8) -> Result<Self, ContributionError> {
        let mut wire = Reader::new(bytes);
        let (mut brand, mut value) = (Text::default(), None);
        while let Some(field) = wire.field()? {
            match field.number {
                1 => brand = wire.text(field)?,
                2 => value = Some(Value::Visit(Visit::read(wire.message(field)?)?)),
                3 => value = Some(Value::Referral(Referral::read(wire.message(field)?, levels)?)),
                4 => value = Some(Value::Cascade(Cascade::read(wire.message(field)?, levels)?)),
                _ => wire.skip(field)?,
            }
        }
        let value = value.ok_or(ContributionError("a kind that is unknown"))?;
        Ok(Contribution { brand, value })
    }

    pub(in crate::engine) fn brand(&self) -> &str {
        &self.brand
    }

    /// The customer who is to hear it; the share that it is about; and who says it: a customer, or a share of a customer.
    pub(in crate::engine) fn parties(&self) -> Parties<'_> {
        match &self.value {
            Value::Visit(Visit { share_id, sharer_id, visitor_id, .. }) => {
                Parties { receiver: sharer_id, share: Some((share_id, sharer_id)), visitor: Some(visitor_id), child: None }
            }
            Value::Referral(Referral { sharer_id, child_id, .. }) => {
                Parties { receiver: sharer_id, share: None, visitor: Some(child_id), child: None }
            }
            Value::Cascade(Cascade { share_id, sharer_id, parent_share_id, parent_sharer_id, .. }) => Parties {
                receiver: parent_sharer_id,
                share: Some((parent_share_id, parent_sharer_id)),
                visitor: None,
                child: Some((share_id, sharer_id)),
            },
        }
    }
}

/// Whom a contribution names.
pub(in crate::engine) struct Parties<'a> {
    pub(in crate::engine) receiver: &'a str,
    pub(in crate::engine) share: Option<(&'a str, &'a str)>,
    pub(in crate::engine) visitor: Option<&'a str>,
    pub(in crate::engine) child: Option<(&'a str, &'a str)>,
}

impl<'a> Visit<'a> {
    fn read(mut wire: Reader<'a>) -> Result<Self, ContributionError> {
        let mut visit = Visit::default();
        while let Some(field) = wire.field()? {
            match field.number {
                1 => visit.share_id = wire.text(field)?,
                2 => visit.sharer_id = wire.text(field)?,
                3 => visit.visitor_id = wire.text(field)?,
                4 => visit.sums.set(Measure::Visits, wire.integer(field)?),
                5 => visit.sums.set(Measure::Orders, wire.integer(field)?),
                6 => visit.sums.set(Measure::Paid, wire.integer(field)?),
                7 => visit.sums.set(Measure::Refunded, wire.integer(field)?),
                8 => visit.sums.set(Measure::Shares, wire.integer(field)?),
                9 => visit.sums.set(Measure::NewCustomers, wire.integer(field)?.min(1)),
                _ => wire.skip(field)?,
            }
        }
        Ok(visit)
    }
}

impl<'a> Referral<'a> {
    fn read(mut wire: Reader<'a>, levels: u8) -> Result<Self, ContributionError> {
        let mut referral = Referral::default();
        while let Some(field) = wire.field()? {
            match field.number {
                1 => referral.sharer_id = wire.text(field)?,
                2 => referral.child_id = wire.text(field)?,
                3 => referral.first_time_ms = wire.integer(field)? as i64,
                5 => referral.said = Said::read(wire.message(field)?, levels).ok_or(ContributionError("a subtree that no customer has"))?,
                _ => wire.skip(field)?,
            }
        }
        Ok(referral)
    }
}

impl<'a> Cascade<'a> {
    fn read(mut wire: Reader<'a>, levels: u8) -> Result<Self, ContributionError> {
        let mut cascade = Cascade::default();
        while let Some(field) = wire.field()? {
            match field.number {
                1 => cascade.share_id = wire.text(field)?,
                2 => cascade.sharer_id = wire.text(field)?,
                3 => cascade.parent_share_id = wire.text(field)?,
                4 => cascade.parent_sharer_id = wire.text(field)?,
                5 => cascade.is_parent = wire.integer(field)? != 0,
                6 => cascade.time_ms = wire.integer(field)? as i64,
                7 => cascade.event_id = wire.text(field)?,
                8 => cascade.said = Said::read(wire.message(field)?, levels).ok_or(ContributionError("a cascade that no share has"))?,
                _ => wire.skip(field)?,
            }
        }
        Ok(cascade)
    }
}

/// Whom a contribution is for, and the moment at which its sender says that this customer had appeared; 0 = it says nothing of that.
pub(in crate::engine) struct Receiver<'a> {
    pub(in crate::engine) brand: Text<'a>,
    pub(in crate::engine) id: Text<'a>,
    pub(in crate::engine) told_ms: i64,
}

impl<'a> Receiver<'a> {
    /// Of the bytes of a `Contribution`.
    pub(in crate::engine) fn read(contribution: &'a [u8]) -> Result<Self, ContributionError> {
        let mut wire = Reader::new(contribution);
        let mut receiver = Receiver { brand: Text::default(), id: Text::default(), told_ms: 0 };
        while let Some(field) = wire.field()? {
            // Where each kind of value has its receiver.
            let receiver_field = match field.number {
                2 => 2,
                3 => 1,
                4 => 4,
                1 => {
                    receiver.brand = wire.text(field)?;
                    continue;
                }
                _ => {
                    wire.skip(field)?;
                    continue;
                }
            };
            let is_referral = field.number == 3;
            let mut value = wire.message(field)?;
            receiver.told_ms = 0;
            while let Some(field) = value.field()? {
                if field.number == receiver_field {
                    receiver.id = value.text(field)?;
                } else if is_referral && field.number == 3 {
                    receiver.told_ms = value.integer(field)? as i64;
                } else {
                    value.skip(field)?;
                }
            }
        }
        Ok(receiver)
    }
}

impl Engine {
    /// Reads what a key of some task says to one of this task's: the bytes of a `Contribution`. Changes nothing.
    ///
    /// # Errors
    /// When nobody can have said it.
    pub fn read_contribution<'a>(&self, bytes: &'a [u8]) -> Result<Contribution<'a>, ContributionError> {
        Contribution::read(bytes, self.graph.levels)
    }

    /// Takes a contribution; what it touches must be in memory. Tells whether it was new.
    pub fn hear(&mut self, version: Version, contribution: Contribution<'_>) -> bool {
        let brand = self.brands.intern(&contribution.brand);
        match contribution.value {
            Value::Visit(visit) => self.receive_visit(version, brand, &visit),
            Value::Referral(referral) => self.receive_referral(version, brand, referral),
            Value::Cascade(cascade) => self.receive_cascade(version, brand, cascade),
        }
    }

    /// Reads and takes a contribution.
    ///
    /// # Errors
    /// When nobody can have said it.
    pub fn receive(&mut self, version: Version, contribution: &[u8]) -> Result<bool, ContributionError> {
        debug_assert!(self.has_receiver(contribution), "state of a contribution's receiver that is not in memory");
        let read = self.read_contribution(contribution)?;
        Ok(self.hear(version, read))
    }

    fn has_receiver(&self, contribution: &[u8]) -> bool {
        let mut missing = Vec::new();
        self.missing_for_contribution(contribution, &mut missing);
        missing.is_empty()
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

    fn receive_visit(&mut self, version: Version, brand: BrandId, visit: &Visit<'_>) -> bool {
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
        let (old, new) = (known.sums.read(), visit.sums);
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

    fn receive_referral(&mut self, version: Version, brand: BrandId, referral: Referral<'_>) -> bool {
        let (levels, said) = (self.graph.levels, referral.said);
        let sharer = self.named_sharer(brand, &referral.sharer_id);
        let child = self.graph.texts.intern(&referral.child_id);
        let pair = self.graph.inbound_referrals.find_or_insert(sharer, child.0);
        if self.graph.is_outdated(self.graph.inbound_referrals.get(pair).value.version, version) {
            return false;
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
        true
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

    fn receive_cascade(&mut self, version: Version, brand: BrandId, cascade: Cascade<'_>) -> bool {
        self.named_sharer(brand, &cascade.parent_sharer_id);
        let graph = &mut self.graph;
        let parent = graph.link(brand, &cascade.parent_share_id, &cascade.parent_sharer_id);
        let child = graph.link(brand, &cascade.share_id, &cascade.sharer_id);
        let node = graph.share_of(parent);
        let pair = graph.child_shares.find_or_insert(parent.0, child.0);
        if graph.is_outdated(graph.child_shares.get(pair).value.version, version) {
            return false;
        }
        let event = cascade.is_parent.then(|| (cascade.time_ms, (*cascade.event_id).into()));
        graph.child_shares.change(pair, |changed: &mut super::pairs::Pair<ChildShare>| changed.value.version = version.0);
        graph.child_shares.mark_for_cut(pair);
        let change = graph.replace_child(node, pair, event, cascade.said);
        graph.mark_cascade_for_serving(node, change);
        if change.climbs {
            graph.touch_parent(node);
        }
        true
    }
}
