//! Shares as nodes of their cascades: what visitors did through a share, and what was passed on from it.

use std::collections::BTreeSet;

use super::layers::{Change, Layer, Said};
use super::links::Link;
use super::pairs::Held;
use super::texts::TextId;
use super::{Below, Brought, CASCADE, Graph};
use crate::engine::slab::{Moved, Slot};

/// A share of one of this task's customers, or what others took for one.
#[derive(Debug)]
pub(super) struct ShareNode {
    pub(super) link: Link,
    /// The share's own event; `None`: never seen.
    pub(super) own: Option<Box<OwnShare>>,
    pub(super) brought: Brought,
    /// Sums over the children that count.
    pub(super) below: Below<CASCADE>,
    /// Children that name this share as their parent and do not count: it is unknown, or not older. By time and event id.
    pending: BTreeSet<(i64, Box<str>, Slot)>,
    /// Hash of its row as of the last cut; `None` = no row.
    pub(super) stored: Option<std::num::NonZeroU64>,
    flags: u8,
}

const TO_BE_SERVED: u8 = 1;
const CASCADE_TO_BE_SERVED: u8 = 2;
const TO_BE_CUT: u8 = 4;

/// About what a child that waits takes, its event's id included.
const PENDING_BYTES: usize = 64;

/// A share's own event: of several the earliest by time and event id.
#[derive(Debug)]
pub(super) struct OwnShare {
    pub(super) time_ms: i64,
    pub(super) event_id: Box<str>,
    /// `Link::NONE`: not passed on from another.
    pub(super) parent: Link,
    pub(super) campaign: TextId,
    pub(super) sku: TextId,
    pub(super) channel: TextId,
    pub(super) region: u32,
    pub(super) rewarded: bool,
}

impl OwnShare {
    pub(super) fn is_before(&self, time_ms: i64, event_id: &str) -> bool {
        (self.time_ms, &*self.event_id) < (time_ms, event_id)
    }
}

/// What a share last said to one parent.
#[derive(Debug, Default)]
pub(super) struct ChildShare {
    pub(super) version: u64,
    /// Time and event id of the child's own event; `None`: the parent is another.
    pub(super) event: Option<(i64, Box<str>)>,
    pub(super) said: Said<CASCADE>,
    /// Whether it is in the parent's sums.
    pub(super) counts: bool,
}

impl Held for ChildShare {
    fn heap_bytes(&self) -> usize {
        self.said.heap_bytes() + self.event.as_ref().map_or(0, |(_, id)| id.len())
    }
}

impl Graph {
    /// The node of a link whose sharer this task owns.
    pub(super) fn share_of(&mut self, link: Link) -> Slot {
        if let Some(node) = self.links.node(link) {
            return node;
        }
        let node = self.shares.insert(ShareNode::of(link));
        self.links.set_node(link, node);
        node
    }

    /// Shares in memory, by slot.
    pub(super) fn occupied_shares(&self) -> impl Iterator<Item = (Slot, &ShareNode)> {
        (0..self.shares.slots()).map(|node| (node, &self.shares[node])).filter(|(_, share)| share.link != Link::NONE)
    }

    /// Takes a share out of memory: nothing of it may wait for anything.
    pub(super) fn remove_share(&mut self, node: Slot) {
        let share = self.shares.remove(node, ShareNode::of(Link::NONE));
        debug_assert_eq!(share.flags, 0, "a share that waits for something");
        self.links.set_node(share.link, Slot::MAX);
        self.known_shares -= usize::from(share.own.is_some());
        self.layer_bytes -= share.below.bytes();
        self.share_bytes -= share.heap_bytes();
    }

    pub(super) fn mark_share_for_serving(&mut self, node: Slot) {
        let share = &mut self.shares[node];
        if share.flags & TO_BE_SERVED == 0 {
            share.flags |= TO_BE_SERVED;
            self.shares_to_be_served.push(node);
        }
    }

    pub(super) fn mark_cascade_for_serving(&mut self, node: Slot, change: Change) {
        let newly_dirty = change.newly_dirty;
        self.note_change(change);
        let share = &mut self.shares[node];
        if newly_dirty > 0 && share.flags & CASCADE_TO_BE_SERVED == 0 {
            share.flags |= CASCADE_TO_BE_SERVED;
            self.cascades_to_be_served.push(node);
        }
    }

    pub(super) fn mark_share_for_cut(&mut self, node: Slot) {
        let share = &mut self.shares[node];
        if share.flags & TO_BE_CUT == 0 {
            share.flags |= TO_BE_CUT;
            self.shares_to_be_cut.push(node);
        }
    }

    /// Shares whose own row waits to be served; none waits afterwards.
    pub(super) fn take_shares_to_be_served(&mut self) -> Vec<Slot> {
        let nodes = std::mem::take(&mut self.shares_to_be_served);
        for node in &nodes {
            self.shares[*node].flags &= !TO_BE_SERVED;
        }
        nodes
    }

    /// Shares with layers that wait to be served; none waits afterwards.
    pub(super) fn take_cascades_to_be_served(&mut self) -> Vec<Slot> {
        let nodes = std::mem::take(&mut self.cascades_to_be_served);
        for node in &nodes {
            self.shares[*node].flags &= !CASCADE_TO_BE_SERVED;
        }
        nodes
    }

    /// Shares whose own event changed since the last cut; none has afterwards.
    pub(super) fn take_shares_to_be_cut(&mut self) -> Vec<Slot> {
        let nodes = std::mem::take(&mut self.shares_to_be_cut);
        for node in &nodes {
            self.shares[*node].flags &= !TO_BE_CUT;
        }
        nodes
    }

    /// What the share says to its parent has changed.
    pub(super) fn touch_parent(&mut self, node: Slot) {
        let share = &self.shares[node];
        if let Some(parent) = share.own.as_ref().and_then(|own| own.parent.known()) {
            self.passed_on.touch(share.link, parent);
        }
    }

    /// What a share says of itself: level 0.
    pub(super) fn cascade_itself(&self, node: Slot) -> [u64; CASCADE] {
        let share = &self.shares[node];
        let [visits, new_customers, orders, paid, refunded, _] = share.brought.clamped();
        [u64::from(share.own.is_some()), visits, new_customers, orders, paid, refunded]
    }

    /// What a share now says to its parent.
    pub(super) fn cascade_said(&self, node: Slot) -> Said<CASCADE> {
        let itself = (Layer { level: 0, month: 0 }, self.cascade_itself(node));
        self.shares[node].below.say([itself], self.levels)
    }

    /// A child says something new to its parent. All its layers wait to be served, counted or not: a run that crashed may have
    /// counted them.
    pub(super) fn replace_child(&mut self, parent: Slot, child: Slot, event: Option<(i64, Box<str>)>, said: Said<CASCADE>) -> Change {
        let Graph { shares, child_shares, levels, share_bytes, .. } = self;
        let share = &mut shares[parent];
        child_shares.change(child, |pair| {
            let bytes_before = share.heap_bytes();
            let before = &mut pair.value;
            if let Some((time_ms, event_id)) = before.event.take()
                && !before.counts
            {
                share.pending.remove(&(time_ms, event_id, child));
            }
            let counts = share.counts(event.as_ref());
            let old = if before.counts { &before.said } else { Said::NOTHING };
            let new = if counts { &said } else { Said::NOTHING };
            let change = share.below.replace(old, new, *levels);
            let touched = share.below.touch(&before.said).and(share.below.touch(&said));
            share.wait_for(event.as_ref().filter(|_| !counts), child);
            *share_bytes = *share_bytes + share.heap_bytes() - bytes_before;
            (before.event, before.said, before.counts) = (event, said, counts);
            change.and(touched)
        })
    }

    /// Takes back what a child had said.
    pub(super) fn restore_child(&mut self, parent: Slot, child: Slot, mut value: ChildShare) {
        let Graph { shares, child_shares, levels, share_bytes, .. } = self;
        let share = &mut shares[parent];
        let bytes_before = share.heap_bytes();
        value.counts = share.counts(value.event.as_ref());
        if value.counts {
            self.layer_bytes += share.below.restore(&value.said, *levels).new_bytes;
        }
        share.wait_for(value.event.as_ref().filter(|_| !value.counts), child);
        *share_bytes = *share_bytes + share.heap_bytes() - bytes_before;
        child_shares.change(child, |pair| pair.value = value);
    }

    /// The share's own event is another, earlier one: children that were waiting for it count from now on.
    pub(super) fn set_own_share(&mut self, node: Slot, own: OwnShare, to_be_served: bool) -> Change {
        let Graph { shares, child_shares, levels, known_shares, share_bytes, .. } = self;
        let share = &mut shares[node];
        let bytes_before = share.heap_bytes();
        let younger = if share.pending.is_empty() {
            // Nearly always: no memory is taken for a bound then.
            BTreeSet::new()
        } else {
            share.pending.split_off(&(own.time_ms, own.event_id.clone(), Slot::MAX))
        };
        *known_shares += usize::from(share.own.is_none());
        share.own = Some(Box::new(own));
        *share_bytes = *share_bytes + share.heap_bytes() - bytes_before;
        let mut change = Change::default();
        for (_, _, child) in younger {
            child_shares.change(child, |pair| {
                pair.value.counts = true;
                change = change.and(if to_be_served {
                    share.below.replace(Said::NOTHING, &pair.value.said, *levels)
                } else {
                    share.below.restore(&pair.value.said, *levels)
                });
            });
        }
        change
    }
}

impl ShareNode {
    /// Of which nothing is known yet.
    fn of(link: Link) -> Self {
        ShareNode {
            link,
            own: None,
            brought: Brought::default(),
            below: Below::default(),
            pending: BTreeSet::new(),
            stored: None,
            flags: 0,
        }
    }

    /// Memory of what it holds, without its layers.
    fn heap_bytes(&self) -> usize {
        let own = self.own.as_ref().map_or(0, |own| size_of::<OwnShare>() + own.event_id.len());
        own + self.pending.len() * PENDING_BYTES
    }

    /// Changes the numbers that a share holds.
    pub(super) fn rename(&mut self, links: &Moved, texts: &Moved, children: &Moved) {
        self.link = self.link.renamed(links);
        if let Some(own) = &mut self.own {
            own.parent = own.parent.renamed(links);
            for text in [&mut own.campaign, &mut own.sku, &mut own.channel] {
                *text = text.renamed(texts);
            }
        }
        let pending = std::mem::take(&mut self.pending);
        self.pending = pending.into_iter().map(|(time_ms, id, child)| (time_ms, id, children.new_place(child))).collect();
    }

    /// Whether a child with this event counts: the own event is known and strictly older.
    fn counts(&self, child: Option<&(i64, Box<str>)>) -> bool {
        let Some((own, (time_ms, event_id))) = self.own.as_ref().zip(child) else { return false };
        own.is_before(*time_ms, event_id)
    }

    fn wait_for(&mut self, event: Option<&(i64, Box<str>)>, child: Slot) {
        if let Some((time_ms, event_id)) = event {
            self.pending.insert((*time_ms, event_id.clone(), child));
        }
    }
}
