//! Back from state rows: the graph's half (`engine/restore.rs` has the other, and says whose each row is). Sums are not stored; they come back with what they are made of.
//!
//! Never looks at a customer: what it has to say of them waits until both halves have met.

use hashbrown::HashMap;
use smallvec::SmallVec;

use super::foresee::{LinkAhead, LinkHashes};
use super::layers::Said;
use super::shares::{ChildShare, OwnShare};
use super::{CASCADE, Graph, Link, SUBTREE, Sharer, VISIT_FIELDS};
use crate::decode::protobuf::Reader;
use crate::engine::FORESEEN;
use crate::engine::customer::Customer;
use crate::engine::foresee::HeardAhead;
use crate::engine::kind::{Live, StateKind, key_texts};
use crate::engine::payload;
use crate::engine::restore::{Known, Owner, RestoreError, Stored};
use crate::engine::slab::Slot;
use crate::engine::slot_index::SlotIndex;
use crate::model::{Measure, Sums, Text};

/// The half of a state that the graph is, while rows are taken back.
#[derive(Debug)]
pub struct GraphRestore<'e> {
    graph: &'e mut Graph,
    restored: GraphRestored,
    /// Sharers that came up since the halves were parted, by customer.
    new_sharers: HashMap<Slot, Slot, foldhash::quality::FixedState>,
}

/// What the graph's half says of customers, and of the checkpoint.
#[derive(Debug, Default)]
pub struct GraphRestored {
    pub(in crate::engine) live: Live,
    /// Customers and what their first events came through.
    pub(in crate::engine) links: Vec<(Slot, Link)>,
    /// Customers and the part that they have as sharers.
    pub(in crate::engine) sharers: Vec<(Slot, Slot)>,
}

/// A share together with who made it, and what their texts are found by.
#[derive(Clone, Copy)]
struct Named<'a> {
    share: &'a str,
    sharer: &'a str,
    hashes: LinkHashes,
}

/// A row, read but for its payload.
struct GraphRow<'a> {
    stored: Stored<'a>,
    owner: Owner,
    share: Option<Named<'a>>,
    child: Option<Named<'a>>,
    visitor: Option<(&'a str, u64)>,
}

impl<'e> GraphRestore<'e> {
    pub(in crate::engine) fn new(graph: &'e mut Graph) -> Self {
        GraphRestore { graph, restored: GraphRestored::default(), new_sharers: HashMap::default() }
    }

    /// Takes the rows that the other half took, with the owners that it found; at most [`FORESEEN`] of them are looked ahead for.
    ///
    /// # Errors
    /// On an error the engine is of no further use.
    pub fn take(&mut self, rows: &[Stored<'_>], known: Known, owners: &mut impl Iterator<Item = Owner>) -> Result<(), RestoreError> {
        for rows in rows.chunks(FORESEEN) {
            let mut all: SmallVec<[GraphRow<'_>; FORESEEN]> = SmallVec::new();
            for row in rows.iter().filter(|row| concerns_graph(row.kind)) {
                let Some(owner) = owners.next() else { break };
                if owner.counts {
                    all.extend(self.graph.read_row(*row, owner)?);
                }
            }
            self.graph.foresee_rows(&all);
            for row in &all {
                let is_new = self.restore(row)?;
                row.stored.new_or(is_new, known)?;
            }
        }
        Ok(())
    }

    /// What the other half has to know, once it has taken the same rows.
    pub fn finish(self) -> GraphRestored {
        GraphRestored { sharers: self.new_sharers.into_iter().collect(), ..self.restored }
    }

    fn restore(&mut self, row: &GraphRow<'_>) -> Result<bool, RestoreError> {
        match row.stored.kind {
            StateKind::Customer => {
                if let Some(via) = row.share {
                    let link = self.graph.link_named(row.owner, via);
                    self.restored.links.push((row.owner.customer, link));
                }
                Ok(true)
            }
            StateKind::OutboundVisit => self.restore_outbound_visit(row),
            StateKind::InboundVisit => self.restore_inbound_visit(row),
            StateKind::InboundReferral => self.restore_inbound_referral(row),
            StateKind::Share => self.restore_share(row),
            StateKind::ChildShare => self.restore_child_share(row),
            StateKind::MoreIds | StateKind::MinuteCell | StateKind::DayCell | StateKind::ActiveDay => Ok(true),
        }
    }

    fn restore_outbound_visit(&mut self, row: &GraphRow<'_>) -> Result<bool, RestoreError> {
        let (stored, customer) = (row.stored, row.owner.customer);
        let link = self.graph.link_named(row.owner, row.share()?);
        let pair = self.graph.outbound_visits.find_or_insert(customer, link.0);
        if self.graph.outbound_visits.get(pair).stored.is_some() {
            return Ok(false);
        }
        let (first_ms, sums) = read_visit(stored.payload).ok_or_else(|| stored.bad_value("a payload that is no visit's"))?;
        let live = &mut self.restored.live;
        self.graph.outbound_visits.change(pair, |changed| {
            changed.value.first_ms = first_ms as i64;
            changed.value.sums.write(&sums);
            live.replace(&mut changed.stored, Some(stored.hash()));
        });
        self.graph.note_first_through(customer, link, first_ms as i64);
        Ok(true)
    }

    fn restore_inbound_visit(&mut self, row: &GraphRow<'_>) -> Result<bool, RestoreError> {
        let stored = row.stored;
        let link = self.graph.link_named(row.owner, row.share()?);
        let node = self.graph.share_of(link);
        let visitor = self.graph.visitor_named(row)?;
        let pair = self.graph.inbound_visits.find_or_insert(link.0, visitor);
        if self.graph.inbound_visits.get(pair).stored.is_some() {
            return Ok(false);
        }
        let (version, sums) = read_visit(stored.payload).ok_or_else(|| stored.bad_value("a payload that is no visit's"))?;
        let live = &mut self.restored.live;
        self.graph.inbound_visits.change(pair, |changed| {
            changed.value.version = version;
            changed.value.sums.write(&sums);
            live.replace(&mut changed.stored, Some(stored.hash()));
        });
        let sharer = self.sharer_of(row.owner);
        for brought in [&mut self.graph.shares[node].brought, &mut self.graph.sharers[sharer].brought] {
            brought.visitors += 1;
            brought.replace(&Sums::default(), &sums);
        }
        Ok(true)
    }

    fn restore_inbound_referral(&mut self, row: &GraphRow<'_>) -> Result<bool, RestoreError> {
        let stored = row.stored;
        let child = self.graph.visitor_named(row)?;
        let pair = self.graph.inbound_referrals.find_or_insert(row.owner.customer, child);
        if self.graph.inbound_referrals.get(pair).stored.is_some() {
            return Ok(false);
        }
        let levels = self.graph.levels;
        let (version, said) = read_inbound_referral(stored.payload, levels).ok_or_else(|| stored.bad_value("a subtree of no customer"))?;
        let sharer = self.sharer_of(row.owner);
        let change = self.graph.sharers[sharer].below.restore(&said, levels);
        self.graph.note_change(change);
        let live = &mut self.restored.live;
        self.graph.inbound_referrals.change(pair, |changed| {
            changed.value.version = version;
            changed.value.said = said;
            live.replace(&mut changed.stored, Some(stored.hash()));
        });
        Ok(true)
    }

    fn restore_share(&mut self, row: &GraphRow<'_>) -> Result<bool, RestoreError> {
        let stored = row.stored;
        let link = self.graph.link_named(row.owner, row.share()?);
        let node = self.graph.share_of(link);
        if self.graph.shares[node].stored.is_some() {
            return Ok(false);
        }
        let state = ShareState::read(stored.payload).ok_or_else(|| stored.bad_value("a payload that is no share's"))?;
        if state.time_ms <= 0 {
            return Err(stored.bad_value("a share event without a time"));
        }
        let own = self.graph.share_restored(row.owner, &state);
        let change = self.graph.set_own_share(node, own, false);
        self.graph.note_change(change);
        self.restored.live.replace(&mut self.graph.shares[node].stored, Some(stored.hash()));
        Ok(true)
    }

    fn restore_child_share(&mut self, row: &GraphRow<'_>) -> Result<bool, RestoreError> {
        let stored = row.stored;
        let parent = self.graph.link_named(row.owner, row.share()?);
        let child = self.graph.link_named(row.owner, row.child.ok_or_else(|| stored.bad_key())?);
        let node = self.graph.share_of(parent);
        let pair = self.graph.child_shares.find_or_insert(parent.0, child.0);
        if self.graph.child_shares.get(pair).stored.is_some() {
            return Ok(false);
        }
        let value = read_child_share(stored.payload, self.graph.levels).ok_or_else(|| stored.bad_value("a cascade of no share"))?;
        self.graph.restore_child(node, pair, value);
        let live = &mut self.restored.live;
        self.graph.child_shares.change(pair, |changed| live.replace(&mut changed.stored, Some(stored.hash())));
        Ok(true)
    }

    /// The part of a customer that only sharers have.
    fn sharer_of(&mut self, owner: Owner) -> Slot {
        if owner.sharer != Customer::NO_SHARER {
            return owner.sharer;
        }
        *self.new_sharers.entry(owner.customer).or_insert_with(|| self.graph.sharers.insert(Sharer::default()))
    }
}

impl<'a> GraphRow<'a> {
    fn share(&self) -> Result<Named<'a>, RestoreError> {
        self.share.ok_or_else(|| self.stored.bad_key())
    }
}

/// Whether the other half finds an owner for rows of a kind.
pub(in crate::engine) fn concerns_graph(kind: StateKind) -> bool {
    !matches!(kind, StateKind::MoreIds | StateKind::MinuteCell | StateKind::DayCell | StateKind::ActiveDay)
}

impl Graph {
    /// In an order that is stored.
    pub(in crate::engine) fn indices(&self) -> [&SlotIndex; 7] {
        let Graph { texts, links, outbound_visits, outbound_referrals, inbound_visits, inbound_referrals, child_shares, .. } = self;
        [
            texts.index(),
            links.index(),
            outbound_visits.index(),
            outbound_referrals.index(),
            inbound_visits.index(),
            inbound_referrals.index(),
            child_shares.index(),
        ]
    }

    /// The same.
    pub(in crate::engine) fn indices_mut(&mut self) -> [&mut SlotIndex; 7] {
        let Graph { texts, links, outbound_visits, outbound_referrals, inbound_visits, inbound_referrals, child_shares, .. } = self;
        [
            texts.index_mut(),
            links.index_mut(),
            outbound_visits.index_mut(),
            outbound_referrals.index_mut(),
            inbound_visits.index_mut(),
            inbound_referrals.index_mut(),
            child_shares.index_mut(),
        ]
    }

    /// Reads what a row is about; `None`: about nothing of the graph.
    fn read_row<'a>(&self, stored: Stored<'a>, owner: Owner) -> Result<Option<GraphRow<'a>>, RestoreError> {
        let row = GraphRow { stored, owner, share: None, child: None, visitor: None };
        let named = |share, sharer| Some(Named { share, sharer, hashes: self.link_hashes(share, sharer) });
        let visitor = |id| Some((id, self.texts.hash(id)));
        let bad_key = || stored.bad_key();
        Ok(Some(match stored.kind {
            StateKind::Customer => {
                let via = payload::via_of(stored.payload).map_err(|fault| stored.bad(fault))?;
                let Some((share, sharer)) = via else { return Ok(None) };
                GraphRow { share: named(share, sharer), ..row }
            }
            StateKind::OutboundVisit => {
                let [_, _, share, sharer] = key_texts(stored.key).ok_or_else(bad_key)?;
                GraphRow { share: named(share, sharer), ..row }
            }
            StateKind::InboundVisit => {
                let [_, share, sharer, id] = key_texts(stored.key).ok_or_else(bad_key)?;
                GraphRow { share: named(share, sharer), visitor: visitor(id), ..row }
            }
            StateKind::InboundReferral => {
                let [_, _, child] = key_texts(stored.key).ok_or_else(bad_key)?;
                GraphRow { visitor: visitor(child), ..row }
            }
            StateKind::Share => {
                let [_, sharer, share] = key_texts(stored.key).ok_or_else(bad_key)?;
                GraphRow { share: named(share, sharer), ..row }
            }
            StateKind::ChildShare => {
                let [_, parent_share, parent_sharer, share, sharer] = key_texts(stored.key).ok_or_else(bad_key)?;
                GraphRow { share: named(parent_share, parent_sharer), child: named(share, sharer), ..row }
            }
            StateKind::MoreIds | StateKind::MinuteCell | StateKind::DayCell | StateKind::ActiveDay => return Ok(None),
        }))
    }

    /// Reads ahead in memory for rows that are taken next.
    fn foresee_rows(&self, rows: &[GraphRow<'_>]) {
        let mut all: SmallVec<[HeardAhead; FORESEEN]> = rows.iter().map(|row| self.begin_row(row)).collect();
        all.iter_mut().for_each(|ahead| self.see_names(ahead));
        for (ahead, row) in all.iter_mut().zip(rows) {
            self.see_sharer(row.owner.sharer);
            self.see_links(ahead);
        }
        self.see_pairs(&mut all);
    }

    fn begin_row(&self, row: &GraphRow<'_>) -> HeardAhead {
        let link = |named: Option<Named<'_>>| named.map_or_else(LinkAhead::default, |named| self.begin_link(row.owner.brand, named.hashes));
        let visitor = row.visitor.map(|(_, hash)| self.begin_hashed(hash)).unwrap_or_default();
        let mut ahead = HeardAhead::of_found(row.owner.customer);
        (ahead.share, ahead.child, ahead.visitor) = (link(row.share), link(row.child), visitor);
        ahead.is_own_visit = row.stored.kind == StateKind::OutboundVisit;
        ahead
    }

    fn link_named(&mut self, owner: Owner, named: Named<'_>) -> Link {
        self.link_hashed(named.hashes, owner.brand, named.share, named.sharer)
    }

    fn visitor_named(&mut self, row: &GraphRow<'_>) -> Result<Slot, RestoreError> {
        let (id, hash) = row.visitor.ok_or_else(|| row.stored.bad_key())?;
        Ok(self.texts.intern_hashed(hash, id).0)
    }

    fn share_restored(&mut self, owner: Owner, state: &ShareState<'_>) -> OwnShare {
        OwnShare {
            time_ms: state.time_ms,
            event_id: state.event_id.into(),
            parent: state.parent.map_or(Link::NONE, |(share, sharer)| self.link(owner.brand, share, sharer)),
            campaign: self.texts.intern(state.campaign),
            sku: self.texts.intern(state.sku),
            channel: self.texts.intern(state.channel),
            region: state.region,
            rewarded: state.rewarded,
        }
    }
}

/// Of an `OutboundVisitState` or an `InboundVisitState`: the time or the version, and the sums.
fn read_visit(payload: &[u8]) -> Option<(u64, Sums)> {
    let (mut wire, mut first, mut sums) = (Reader::new(payload), 0, Sums::default());
    while let Some(field) = wire.field().ok()? {
        let measure = (field.number as usize).checked_sub(2).and_then(|place| VISIT_FIELDS.get(place));
        match (field.number, measure) {
            (1, _) => first = wire.integer(field).ok()?,
            (7, _) => sums.set(Measure::NewCustomers, (wire.integer(field).ok()? != 0).into()),
            (_, Some(measure)) => sums.set(*measure, wire.integer(field).ok()?),
            _ => wire.skip(field).ok()?,
        }
    }
    Some((first, sums))
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
