//! Links: a share together with the customer who is said to have made it. Anybody may name any share id, so a share is never
//! known by its id alone.

use std::hash::BuildHasher;

use super::texts::{TextId, Texts};
use crate::engine::brands::BrandId;
use crate::engine::prefetch::prefetch;
use crate::engine::slab::{Density, Moved, Slab, Slot};
use crate::engine::slot_index::SlotIndex;

/// Number of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine) struct Link(pub(super) Slot);

impl Link {
    /// No link: a word less than an `Option` in every customer.
    pub(in crate::engine) const NONE: Link = Link(Slot::MAX);

    /// The same link's number after [`Links::compact`].
    pub(in crate::engine) fn renamed(self, links: &Moved) -> Link {
        Link(links.new_place(self.0))
    }

    pub(in crate::engine) fn known(self) -> Option<Link> {
        (self != Link::NONE).then_some(self)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct LinkKey {
    pub(super) brand: BrandId,
    pub(super) share: TextId,
    pub(super) sharer: TextId,
}

#[derive(Debug)]
struct Entry {
    key: LinkKey,
    /// The share's node, where this task owns the sharer; `Slot::MAX` = none.
    node: Slot,
}

#[derive(Debug, Default)]
pub(in crate::engine) struct Links {
    entries: Slab<Entry>,
    index: SlotIndex,
    hasher: foldhash::quality::FixedState,
}

impl Links {
    pub(super) fn intern(&mut self, key: LinkKey) -> Link {
        let hash = self.hash(key);
        if let Some(slot) = self.index.find(hash, |slot| self.entries[slot].key == key) {
            return Link(slot);
        }
        let slot = self.entries.insert(Entry { key, node: Slot::MAX });
        self.index.insert(hash, slot);
        Link(slot)
    }

    /// What a link is found by.
    pub(super) fn hash(&self, key: LinkKey) -> u64 {
        self.hasher.hash_one(key)
    }

    pub(super) fn index(&self) -> &SlotIndex {
        &self.index
    }

    pub(super) fn index_mut(&mut self) -> &mut SlotIndex {
        &mut self.index
    }

    /// Asks for the memory of its entry (`engine/foresee.rs`).
    pub(super) fn prefetch(&self, link: Slot) {
        prefetch(&self.entries[link]);
    }

    pub(super) fn key(&self, link: Link) -> LinkKey {
        self.entries[link.0].key
    }

    /// Share and sharer.
    pub(in crate::engine) fn names<'t>(&self, link: Link, texts: &'t Texts) -> (&'t str, &'t str) {
        let key = self.key(link);
        (texts.text(key.share), texts.text(key.sharer))
    }

    pub(super) fn node(&self, link: Link) -> Option<Slot> {
        let node = self.entries[link.0].node;
        (node != Slot::MAX).then_some(node)
    }

    pub(super) fn set_node(&mut self, link: Link, node: Slot) {
        self.entries[link.0].node = node;
    }

    /// By slot, whether a place is free: to be completed with what is held, for [`Links::keep_only`].
    pub(super) fn vacancies(&self) -> Vec<bool> {
        self.entries.vacancies()
    }

    /// Drops every link whose place is not marked.
    pub(super) fn keep_only(&mut self, is_kept: &[bool]) {
        for (slot, _) in (0..).zip(is_kept).filter(|(_, is_kept)| !**is_kept) {
            let key = self.entries[slot].key;
            self.index.remove(self.hasher.hash_one(key), slot);
            self.entries.remove(slot, Entry { key, node: Slot::MAX });
        }
    }

    /// Keys of the links in use.
    pub(super) fn keys(&self) -> impl Iterator<Item = LinkKey> {
        let vacancies = self.entries.vacancies();
        (0..self.entries.slots()).zip(vacancies).filter(|(_, is_vacant)| !is_vacant).map(|(slot, _)| self.entries[slot].key)
    }

    pub(super) fn density(&self) -> Density {
        self.entries.density()
    }

    /// Gives the memory of free places back. `texts` and `nodes` are where those went.
    pub(super) fn compact(&mut self, texts: &Moved, nodes: &Moved) -> Moved {
        let moved = self.entries.compact();
        for slot in 0..self.entries.slots() {
            let Entry { key, node } = &mut self.entries[slot];
            (key.share, key.sharer) = (key.share.renamed(texts), key.sharer.renamed(texts));
            *node = nodes.new_place(*node);
        }
        self.index.rebuild(self.entries.slots(), |slot| self.hasher.hash_one(self.entries[slot].key));
        moved
    }

    pub(super) fn vacant_bytes(&self) -> usize {
        self.entries.vacant_bytes()
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.entries.allocated_bytes() + self.index.allocated_bytes()
    }
}
