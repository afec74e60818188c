//! Who brings whom: the referral forest and the cascades of shares (`src/DESIGN.md`, section 5).
//!
//! Owns what customers did through each other's shares, what others last said about it, and the sums of both uses of [`layers`].
//! Promises that every message carries an absolute value and is kept only if its version is higher, and the touch rule: the pairs
//! that an event touches are sent again, whatever was sent before. Never looks at another task's state: all that crosses between
//! two customers is a contribution, also when one task owns both.

mod compact;
mod foresee;
mod layers;
mod leave;
mod links;
mod own;
mod pairs;
mod received;
mod restore;
mod rows;
mod sent;
mod shares;
mod store;
mod texts;
mod unsaid;

use hashbrown::HashSet;

use self::layers::{Below, Change, Said};
use self::links::{LinkKey, Links};
use self::pairs::{Held, Pairs};
use self::shares::{ChildShare, ShareNode};
use self::texts::Texts;
use self::unsaid::LastSaid;
use super::Mechanisms;
use super::packed::KeptSums;
use super::slab::{Slab, Slot};
use crate::engine::brands::BrandId;
use crate::model::{Measure, Sums, Version};

pub(super) use self::foresee::{LinkAhead, LinkHashes};
pub(super) use self::links::Link;
pub use self::received::{Contribution, ContributionError};
pub(in crate::engine) use self::received::{Parties, Receiver};
pub(in crate::engine) use self::restore::concerns_graph;
pub use self::restore::{GraphRestore, GraphRestored};

/// Measures of a customer's subtree: customers, orders, paid, refunded.
pub(super) const SUBTREE: usize = 4;
/// Measures of a share's cascade: shares, visits, new customers, orders, paid, refunded.
pub(super) const CASCADE: usize = 6;

/// What a customer did through one link: visits, orders, money, re-shares (`Measure::Shares`).
#[derive(Debug, Default)]
struct OutboundVisit {
    first_ms: i64,
    sums: KeptSums,
}

/// How a customer came through any share of one sharer. Not stored: the visits say it.
#[derive(Debug, Default)]
struct OutboundReferral {
    first_ms: i64,
}

/// What a visitor last said about one link; `Measure::NewCustomers` is 1 where the link brought the visitor.
#[derive(Debug, Default)]
struct InboundVisit {
    version: u64,
    sums: KeptSums,
}

/// What a child last said to one sharer.
#[derive(Debug, Default)]
struct InboundReferral {
    version: u64,
    said: Said<SUBTREE>,
}

impl Held for OutboundVisit {
    fn heap_bytes(&self) -> usize {
        self.sums.heap_bytes()
    }
}

impl Held for OutboundReferral {
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl Held for InboundVisit {
    fn heap_bytes(&self) -> usize {
        self.sums.heap_bytes()
    }
}

impl Held for InboundReferral {
    fn heap_bytes(&self) -> usize {
        self.said.heap_bytes()
    }
}

/// What visitors did, added up: of one share, or of all shares of a customer.
#[derive(Clone, Debug, Default)]
struct Brought {
    visitors: u64,
    amounts: [u128; VISIT_MEASURES.len()],
}

/// What a visitor's state and messages say of a visit, in the order of their fields.
const VISIT_FIELDS: [Measure; 5] = [Measure::Visits, Measure::Orders, Measure::Paid, Measure::Refunded, Measure::Shares];

/// What a visit is made of.
const VISIT_MEASURES: [Measure; 6] =
    [Measure::Visits, Measure::NewCustomers, Measure::Orders, Measure::Paid, Measure::Refunded, Measure::Shares];

impl Brought {
    fn replace(&mut self, old: &Sums, new: &Sums) {
        for (amount, measure) in self.amounts.iter_mut().zip(VISIT_MEASURES) {
            *amount = (*amount + u128::from(new.get(measure))).saturating_sub(old.get(measure).into());
        }
    }

    /// Visits, new customers, orders, paid, refunded, re-shares.
    fn clamped(&self) -> [u64; VISIT_MEASURES.len()] {
        self.amounts.map(layers::clamp)
    }
}

/// The part of a customer that only those have whom somebody named as a sharer.
#[derive(Debug, Default)]
struct Sharer {
    brought: Brought,
    below: Below<SUBTREE>,
}

/// Pairs of shares and parents that wait to be sent, in the order in which they were touched.
#[derive(Debug, Default)]
struct PassedOn {
    order: Vec<(Link, Link)>,
    waiting: HashSet<(Link, Link), foldhash::quality::FixedState>,
}

impl PassedOn {
    fn touch(&mut self, share: Link, parent: Link) {
        if self.waiting.insert((share, parent)) {
            self.order.push((share, parent));
        }
    }

    fn take(&mut self) -> Vec<(Link, Link)> {
        self.waiting.clear();
        std::mem::take(&mut self.order)
    }
}

#[derive(Debug, Default)]
pub(super) struct Graph {
    levels: u8,
    texts: Texts,
    links: Links,
    /// Customer, link.
    outbound_visits: Pairs<OutboundVisit>,
    /// Customer, sharer's id.
    outbound_referrals: Pairs<OutboundReferral>,
    /// Link, visitor's id.
    inbound_visits: Pairs<InboundVisit>,
    /// Customer, child's id.
    inbound_referrals: Pairs<InboundReferral>,
    /// Parent's link, child's link.
    child_shares: Pairs<ChildShare>,
    sharers: Slab<Sharer>,
    shares: Slab<ShareNode>,
    known_shares: usize,
    passed_on: PassedOn,
    shares_to_be_served: Vec<Slot>,
    cascades_to_be_served: Vec<Slot>,
    shares_to_be_cut: Vec<Slot>,
    /// Layers of customers' subtrees and shares' cascades that wait to be served.
    dirty_layers: usize,
    /// Memory of all layers.
    layer_bytes: usize,
    /// What shares hold beside their layers, bytes.
    share_bytes: usize,
    /// Not so in tests of the tests.
    compares_versions: bool,
    /// Only in tests of the tests.
    last_said: Option<LastSaid>,
}

impl Graph {
    fn note_change(&mut self, change: Change) {
        self.dirty_layers += change.newly_dirty;
        self.layer_bytes += change.new_bytes;
    }

    pub(super) fn new(levels: u8, mechanisms: Mechanisms) -> Self {
        let last_said = (!mechanisms.repeats_itself).then(LastSaid::default);
        Graph { levels, compares_versions: mechanisms.compares_versions, last_said, ..Graph::default() }
    }

    /// Whether a contribution is not above what the same pair said before.
    fn is_outdated(&self, known: u64, version: Version) -> bool {
        self.compares_versions && known >= version.0
    }

    /// The number of a link.
    pub(super) fn link(&mut self, brand: BrandId, share_id: &str, sharer_id: &str) -> Link {
        self.link_hashed(self.link_hashes(share_id, sharer_id), brand, share_id, sharer_id)
    }

    /// The same, where the hashes of both texts are known.
    pub(super) fn link_hashed(&mut self, hashes: LinkHashes, brand: BrandId, share_id: &str, sharer_id: &str) -> Link {
        let share = self.texts.intern_hashed(hashes.share, share_id);
        let sharer = self.texts.intern_hashed(hashes.sharer, sharer_id);
        self.links.intern(LinkKey { brand, share, sharer })
    }

    /// Share and sharer.
    pub(super) fn names(&self, link: Link) -> Option<(&str, &str)> {
        link.known().map(|known| self.links.names(known, &self.texts))
    }

    /// Rows that wait to be served, those of customers not counted.
    pub(super) fn dirty_rows(&self) -> usize {
        2 * self.shares_to_be_served.len() + self.dirty_layers
    }

    /// Keys that wait for the next cut.
    pub(super) fn dirty_state(&self) -> usize {
        self.outbound_visits.waiting_to_be_cut()
            + self.inbound_visits.waiting_to_be_cut()
            + self.inbound_referrals.waiting_to_be_cut()
            + self.child_shares.waiting_to_be_cut()
            + self.shares_to_be_cut.len()
    }

    /// Contributions that wait to be sent.
    pub(super) fn dirty_contributions(&self) -> usize {
        self.outbound_visits.waiting_to_be_sent() + self.outbound_referrals.waiting_to_be_sent() + self.passed_on.order.len()
    }

    /// Number of outbound visits, inbound visits, inbound referrals, shares and child shares.
    pub(super) fn keys(&self) -> [usize; 5] {
        [self.outbound_visits.len(), self.inbound_visits.len(), self.inbound_referrals.len(), self.known_shares, self.child_shares.len()]
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        let pairs = self.outbound_visits.allocated_bytes()
            + self.outbound_referrals.allocated_bytes()
            + self.inbound_visits.allocated_bytes()
            + self.inbound_referrals.allocated_bytes()
            + self.child_shares.allocated_bytes();
        let nodes = self.sharers.allocated_bytes() + self.shares.allocated_bytes();
        pairs + nodes + self.layer_bytes + self.share_bytes + self.texts.allocated_bytes() + self.links.allocated_bytes()
    }
}
