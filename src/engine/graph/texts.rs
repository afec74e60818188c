//! Ids of shares and customers as small numbers. Whoever was named once stays named, so none is dropped while what names it is in memory.

use std::hash::BuildHasher;

use crate::engine::prefetch::{prefetch, prefetch_all};
use crate::engine::slab::{Density, Moved, Slab, Slot};
use crate::engine::slot_index::SlotIndex;

/// Number of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine) struct TextId(pub(super) Slot);

impl TextId {
    /// The same text's number after [`Texts::compact`].
    pub(super) fn renamed(self, texts: &Moved) -> TextId {
        TextId(texts.new_place(self.0))
    }
}

#[derive(Debug, Default)]
pub(in crate::engine) struct Texts {
    entries: Slab<Box<str>>,
    index: SlotIndex,
    hasher: foldhash::quality::FixedState,
    text_bytes: usize,
}

impl Texts {
    /// The number of a text.
    pub(super) fn intern(&mut self, text: &str) -> TextId {
        self.intern_hashed(self.hash(text), text)
    }

    /// The same, where its hash is known.
    pub(super) fn intern_hashed(&mut self, hash: u64, text: &str) -> TextId {
        debug_assert_eq!(hash, self.hash(text), "the hash of another text");
        if let Some(slot) = self.index.find(hash, |slot| *self.entries[slot] == *text) {
            return TextId(slot);
        }
        let slot = self.entries.insert(text.into());
        self.index.insert(hash, slot);
        self.text_bytes += text.len();
        TextId(slot)
    }

    /// The number of a text that has one.
    pub(super) fn find(&self, text: &str) -> Option<TextId> {
        self.index.find(self.hash(text), |slot| *self.entries[slot] == *text).map(TextId)
    }

    /// What a text is found by.
    pub(super) fn hash(&self, text: &str) -> u64 {
        self.hasher.hash_one(text)
    }

    pub(super) fn index(&self) -> &SlotIndex {
        &self.index
    }

    pub(super) fn index_mut(&mut self) -> &mut SlotIndex {
        &mut self.index
    }

    /// Asks for the memory of where a text lies (`engine/foresee.rs`).
    pub(super) fn prefetch(&self, id: TextId) {
        prefetch(&self.entries[id.0]);
    }

    /// The same of the text, once it is known where it lies.
    pub(super) fn prefetch_beyond(&self, id: TextId) {
        prefetch_all(self.entries[id.0].as_bytes());
    }

    /// By slot, whether a place is free: to be completed with what is held, for [`Texts::keep_only`].
    pub(super) fn vacancies(&self) -> Vec<bool> {
        self.entries.vacancies()
    }

    /// Drops every text whose place is not marked.
    pub(super) fn keep_only(&mut self, is_kept: &[bool]) {
        for (slot, _) in (0..).zip(is_kept).filter(|(_, is_kept)| !**is_kept) {
            let text = self.entries.remove(slot, "".into());
            self.index.remove(self.hasher.hash_one(&*text), slot);
            self.text_bytes -= text.len();
        }
    }

    pub(super) fn density(&self) -> Density {
        self.entries.density()
    }

    /// Gives the memory of free places back.
    pub(super) fn compact(&mut self) -> Moved {
        let moved = self.entries.compact();
        self.index.rebuild(self.entries.slots(), |slot| self.hasher.hash_one(&*self.entries[slot]));
        moved
    }

    pub(super) fn vacant_bytes(&self) -> usize {
        self.entries.vacant_bytes()
    }

    /// The text of a number.
    pub(in crate::engine) fn text(&self, id: TextId) -> &str {
        &self.entries[id.0]
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.entries.allocated_bytes() + self.index.allocated_bytes() + self.text_bytes
    }
}
