//! The graph's part of reading ahead in memory (`engine/foresee.rs`): steps of which each reads what the one before named.

use std::hint::black_box;

use super::links::LinkKey;
use super::texts::TextId;
use super::{Graph, Link};
use crate::engine::brands::BrandId;
use crate::engine::customer::Customer;
use crate::engine::foresee::{Ahead, HeardAhead};
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

impl LinkAhead {
    fn is_some(&self) -> bool {
        self.brand.is_some()
    }
}

impl Graph {
    /// Reads what the index of texts has of its texts.
    pub(in crate::engine) fn begin_link(&self, brand: BrandId, share_id: &str, sharer_id: &str, seen: &mut u8) -> LinkAhead {
        let index = self.texts.index();
        let (share, one) = Ahead::begin(index, self.texts.hash(share_id));
        let (sharer, other) = Ahead::begin(index, self.texts.hash(sharer_id));
        *seen ^= one ^ other;
        LinkAhead { brand: Some(brand), share, sharer, ..LinkAhead::default() }
    }

    /// Reads the names of links that are to be written.
    pub(in crate::engine) fn glance_at_names(&self, links: impl Iterator<Item = Link> + Clone) {
        let keys = || links.clone().filter_map(Link::known).map(|link| self.links.key(link));
        let near = keys().fold(0, |all, key| all ^ self.texts.glance(key.share) ^ self.texts.glance(key.sharer));
        black_box(keys().fold(near, |all, key| all ^ self.texts.glance_beyond(key.share) ^ self.texts.glance_beyond(key.sharer)));
    }

    /// Reads texts that are to be written.
    pub(super) fn glance_at_texts(&self, texts: impl Iterator<Item = TextId> + Clone) {
        let near = texts.clone().fold(0, |all, text| all ^ self.texts.glance(text));
        black_box(texts.fold(near, |all, text| all ^ self.texts.glance_beyond(text)));
    }

    /// Reads what the index of texts has of one.
    pub(in crate::engine) fn begin_text(&self, text: &str, seen: &mut u8) -> Ahead {
        let (ahead, byte) = Ahead::begin(self.texts.index(), self.texts.hash(text));
        *seen ^= byte;
        ahead
    }

    /// Reads where the text of a visitor or child lies.
    pub(in crate::engine) fn see_visitor(&self, visitor: &mut Ahead) -> u8 {
        visitor.guess(self.texts.index()).map_or(0, |slot| self.texts.glance(TextId(slot)))
    }

    /// Reads the part of a customer that only sharers have.
    pub(in crate::engine) fn glance_at_sharer(&self, customer: &Customer) -> u8 {
        if customer.sharer == Customer::NO_SHARER { 0 } else { self.sharers[customer.sharer].brought.visitors as u8 }
    }

    /// Reads a visitor's text, the share's node, and what the indices have of what was said before.
    pub(in crate::engine) fn begin_pair(&self, ahead: &mut HeardAhead) -> u8 {
        let text = ahead.visitor.slot().map_or(0, |slot| self.texts.glance_beyond(TextId(slot)));
        let share = ahead.share.link.slot();
        let node = share.and_then(|link| self.links.node(Link(link))).map_or(0, |node| self.shares[node].brought.visitors as u8);
        let mut seen = 0;
        if let (Some(link), Some(visitor)) = (share, ahead.visitor.slot()) {
            (ahead.pair, seen) = Ahead::begin(self.inbound_visits.index(), self.inbound_visits.hash(link, visitor));
        } else if let (Some(link), Some(child)) = (share, ahead.child.link.slot()) {
            (ahead.pair, seen) = Ahead::begin(self.child_shares.index(), self.child_shares.hash(link, child));
        } else if let (Some(receiver), Some(child)) = (ahead.receiver(), ahead.visitor.slot()) {
            (ahead.pair, seen) = Ahead::begin(self.inbound_referrals.index(), self.inbound_referrals.hash(receiver, child));
        }
        seen ^ text ^ node
    }

    /// Reads what was said before.
    pub(in crate::engine) fn see_pair(&self, ahead: &mut HeardAhead) -> u8 {
        if ahead.child.is_some() {
            return ahead.pair.guess(self.child_shares.index()).map_or(0, |slot| self.child_shares.glance(slot));
        }
        if ahead.share.is_some() {
            return ahead.pair.guess(self.inbound_visits.index()).map_or(0, |slot| self.inbound_visits.glance(slot));
        }
        ahead.pair.guess(self.inbound_referrals.index()).map_or(0, |slot| self.inbound_referrals.glance(slot))
    }

    /// Reads where its texts lie, and what the index of links has.
    pub(in crate::engine) fn see_texts(&self, ahead: &mut LinkAhead) -> u8 {
        let Some(brand) = ahead.brand else { return 0 };
        let texts = (ahead.share.guess(self.texts.index()), ahead.sharer.guess(self.texts.index()));
        let (Some(share), Some(sharer)) = (texts.0.map(TextId), texts.1.map(TextId)) else { return 0 };
        let seen;
        (ahead.link, seen) = Ahead::begin(self.links.index(), self.links.hash(LinkKey { brand, share, sharer }));
        seen ^ self.texts.glance(share) ^ self.texts.glance(sharer)
    }

    /// Reads its texts and its entry.
    pub(in crate::engine) fn see_link(&self, ahead: &mut LinkAhead) -> u8 {
        let link = ahead.link.guess(self.links.index()).map_or(0, |link| self.links.glance(link));
        let text = |of: &Ahead| of.slot().map_or(0, |slot| self.texts.glance_beyond(TextId(slot)));
        link ^ text(&ahead.share) ^ text(&ahead.sharer)
    }

    /// Reads what the indices have of what a customer did through it.
    pub(in crate::engine) fn begin_visit(&self, ahead: &mut LinkAhead, visitor: Option<Slot>) -> u8 {
        let (Some(visitor), Some(sharer)) = (visitor, ahead.sharer.slot()) else { return 0 };
        let mut seen;
        (ahead.referral, seen) = Ahead::begin(self.outbound_referrals.index(), self.outbound_referrals.hash(visitor, sharer));
        if let Some(link) = ahead.link.slot() {
            let visit;
            (ahead.visit, visit) = Ahead::begin(self.outbound_visits.index(), self.outbound_visits.hash(visitor, link));
            seen ^= visit;
        }
        seen
    }

    /// Reads what a customer did through it.
    pub(in crate::engine) fn see_visit(&self, ahead: &mut LinkAhead) -> u8 {
        let visit = ahead.visit.guess(self.outbound_visits.index()).map_or(0, |slot| self.outbound_visits.glance(slot));
        visit ^ ahead.referral.guess(self.outbound_referrals.index()).map_or(0, |slot| self.outbound_referrals.glance(slot))
    }
}
