//! The graph's part of reading ahead in memory (`engine/foresee.rs`): steps of which each reads what the one before named.

use smallvec::SmallVec;

use super::links::LinkKey;
use super::pairs::{Held, Pairs};
use super::texts::TextId;
use super::{Graph, Link};
use crate::engine::FORESEEN;
use crate::engine::brands::BrandId;
use crate::engine::customer::Customer;
use crate::engine::foresee::{Ahead, HeardAhead};
use crate::engine::prefetch::{prefetch, prefetch_all};
use crate::engine::slab::Slot;

/// Where a link and what belongs to it will be looked for.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::engine) struct LinkAhead {
    brand: Option<BrandId>,
    share: Ahead,
    sharer: Ahead,
    link: Ahead,
    visit: Ahead,
    referral: Ahead,
}

/// What the texts of a link are found by.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct LinkHashes {
    pub(super) share: u64,
    pub(super) sharer: u64,
}

impl LinkAhead {
    fn is_some(&self) -> bool {
        self.brand.is_some()
    }
}

impl Graph {
    /// What the texts of a link are found by.
    pub(in crate::engine) fn link_hashes(&self, share_id: &str, sharer_id: &str) -> LinkHashes {
        LinkHashes { share: self.texts.hash(share_id), sharer: self.texts.hash(sharer_id) }
    }

    /// Asks for what the index of texts has of its texts.
    pub(in crate::engine) fn begin_link(&self, brand: BrandId, hashes: LinkHashes) -> LinkAhead {
        let begin = |hash| Ahead::begin(self.texts.index(), hash);
        LinkAhead { brand: Some(brand), share: begin(hashes.share), sharer: begin(hashes.sharer), ..LinkAhead::default() }
    }

    /// Asks for what the index of texts has of one.
    pub(in crate::engine) fn begin_text(&self, text: &str) -> Ahead {
        self.begin_hashed(self.texts.hash(text))
    }

    /// The same, where its hash is known.
    pub(super) fn begin_hashed(&self, hash: u64) -> Ahead {
        Ahead::begin(self.texts.index(), hash)
    }

    /// Asks for the names of links that are to be written.
    pub(in crate::engine) fn prefetch_names(&self, links: impl Iterator<Item = Link> + Clone) {
        let links = links.filter_map(Link::known);
        links.clone().for_each(|link| self.links.prefetch(link.0));
        let texts = links.map(|link| self.links.key(link)).flat_map(|key| [key.share, key.sharer]);
        self.prefetch_texts(texts);
    }

    /// Asks for texts that are to be written.
    pub(super) fn prefetch_texts(&self, texts: impl Iterator<Item = TextId> + Clone) {
        texts.clone().for_each(|text| self.texts.prefetch(text));
        texts.for_each(|text| self.texts.prefetch_beyond(text));
    }

    /// Asks for shares, and what their makers said of them.
    fn prefetch_nodes(&self, nodes: &[Slot]) {
        let shares = || nodes.iter().map(|node| &self.shares[*node]);
        for share in shares() {
            prefetch(&share.link);
            prefetch(&share.own);
            prefetch(&share.brought);
            prefetch(&share.below);
            prefetch(&share.stored);
        }
        let own = || shares().filter_map(|share| share.own.as_deref());
        own().for_each(prefetch);
        own().for_each(|own| prefetch_all(own.event_id.as_bytes()));
    }

    /// Asks for shares that are to be written, and for their names and those of their parents.
    pub(super) fn prefetch_shares(&self, nodes: &[Slot]) {
        self.prefetch_nodes(nodes);
        let shares = nodes.iter().map(|node| &self.shares[*node]);
        let parents = shares.clone().filter_map(|share| Some(share.own.as_deref()?.parent));
        self.prefetch_names(shares.map(|share| share.link).chain(parents));
    }

    /// Asks for shares whose cascades are to be written, and for their names.
    pub(super) fn prefetch_cascades(&self, nodes: &[Slot]) {
        self.prefetch_nodes(nodes);
        self.prefetch_names(nodes.iter().map(|node| self.shares[*node].link));
    }

    /// Asks for the pairs of shares and those that they passed on.
    pub(super) fn prefetch_passed_on(&self, pairs: &[(Link, Link)]) {
        let nodes: SmallVec<[Slot; FORESEEN]> = pairs.iter().filter_map(|(share, _)| self.links.node(*share)).collect();
        self.prefetch_nodes(&nodes);
        self.prefetch_names(pairs.iter().flat_map(|(share, parent)| [*share, *parent]));
    }

    /// Asks for where the texts that are named lie, and for what the index of links has.
    pub(in crate::engine) fn see_names(&self, ahead: &mut HeardAhead) {
        self.see_texts(&mut ahead.share);
        self.see_texts(&mut ahead.child);
        self.see_visitor(&mut ahead.visitor);
    }

    /// Asks for the links that are named, and their texts.
    pub(in crate::engine) fn see_links(&self, ahead: &mut HeardAhead) {
        self.see_link(&mut ahead.share);
        self.see_link(&mut ahead.child);
    }

    /// Asks for what was said before, behind [`Graph::see_links`].
    pub(in crate::engine) fn see_pairs(&self, all: &mut [HeardAhead]) {
        all.iter_mut().for_each(|ahead| self.begin_pair(ahead));
        all.iter_mut().for_each(|ahead| self.see_pair(ahead));
    }

    /// Asks for where the text of a visitor or child lies.
    fn see_visitor(&self, visitor: &mut Ahead) {
        if let Some(slot) = visitor.guess(self.texts.index()) {
            self.texts.prefetch(TextId(slot));
        }
    }

    /// Asks for the part of a customer that only sharers have, if there is one.
    pub(in crate::engine) fn see_sharer(&self, sharer: Slot) {
        if sharer != Customer::NO_SHARER {
            let sharer = &self.sharers[sharer];
            prefetch(&sharer.brought);
            prefetch(&sharer.below);
        }
    }

    /// Asks for a visitor's text, the share's node, and what the indices have of what was said before.
    fn begin_pair(&self, ahead: &mut HeardAhead) {
        let (share, visitor) = (ahead.share.link.slot(), ahead.visitor.slot());
        if let Some(visitor) = visitor {
            self.texts.prefetch_beyond(TextId(visitor));
        }
        if let Some(node) = share.and_then(|link| self.links.node(Link(link))) {
            prefetch(&self.shares[node].brought);
            prefetch(&self.shares[node].link);
        }
        ahead.pair = match (ahead.receiver(), share, visitor, ahead.child.link.slot()) {
            (Some(visitor), Some(link), None, _) if ahead.is_own_visit => {
                Ahead::begin(self.outbound_visits.index(), self.outbound_visits.hash(visitor, link))
            }
            (_, Some(link), Some(visitor), _) => Ahead::begin(self.inbound_visits.index(), self.inbound_visits.hash(link, visitor)),
            (_, Some(link), None, Some(child)) => Ahead::begin(self.child_shares.index(), self.child_shares.hash(link, child)),
            (Some(receiver), None, Some(child), _) => {
                Ahead::begin(self.inbound_referrals.index(), self.inbound_referrals.hash(receiver, child))
            }
            _ => Ahead::default(),
        };
    }

    /// Asks for what was said before.
    fn see_pair(&self, ahead: &mut HeardAhead) {
        let pair = &mut ahead.pair;
        if ahead.is_own_visit {
            see(pair, &self.outbound_visits);
        } else if ahead.child.is_some() {
            see(pair, &self.child_shares);
        } else if ahead.share.is_some() {
            see(pair, &self.inbound_visits);
        } else {
            see(pair, &self.inbound_referrals);
        }
    }

    /// Asks for where its texts lie, and for what the index of links has.
    pub(in crate::engine) fn see_texts(&self, ahead: &mut LinkAhead) {
        let Some(brand) = ahead.brand else { return };
        let texts = (ahead.share.guess(self.texts.index()), ahead.sharer.guess(self.texts.index()));
        let (Some(share), Some(sharer)) = (texts.0.map(TextId), texts.1.map(TextId)) else { return };
        ahead.link = Ahead::begin(self.links.index(), self.links.hash(LinkKey { brand, share, sharer }));
        self.texts.prefetch(share);
        self.texts.prefetch(sharer);
    }

    /// Asks for its texts and its entry.
    pub(in crate::engine) fn see_link(&self, ahead: &mut LinkAhead) {
        if let Some(link) = ahead.link.guess(self.links.index()) {
            self.links.prefetch(link);
        }
        for text in [ahead.share.slot(), ahead.sharer.slot()].into_iter().flatten() {
            self.texts.prefetch_beyond(TextId(text));
        }
    }

    /// Asks for what the indices have of what a customer did through it.
    pub(in crate::engine) fn begin_visit(&self, ahead: &mut LinkAhead, visitor: Option<Slot>) {
        let (Some(visitor), Some(sharer)) = (visitor, ahead.sharer.slot()) else { return };
        ahead.referral = Ahead::begin(self.outbound_referrals.index(), self.outbound_referrals.hash(visitor, sharer));
        if let Some(link) = ahead.link.slot() {
            ahead.visit = Ahead::begin(self.outbound_visits.index(), self.outbound_visits.hash(visitor, link));
        }
    }

    /// Asks for what a customer did through it.
    pub(in crate::engine) fn see_visit(&self, ahead: &mut LinkAhead) {
        see(&mut ahead.visit, &self.outbound_visits);
        see(&mut ahead.referral, &self.outbound_referrals);
    }
}

fn see<T: Held + Default>(ahead: &mut Ahead, pairs: &Pairs<T>) {
    if let Some(slot) = ahead.guess(pairs.index()) {
        pairs.prefetch(slot);
    }
}
