//! Ids of shares and customers as small numbers. Whoever was named once stays named, so none is ever dropped.

use std::hash::BuildHasher;

use crate::engine::slab::{Slab, Slot, SlotIndex};

/// Number of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::engine) struct TextId(pub(super) Slot);

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
        let hash = self.hasher.hash_one(text);
        if let Some(slot) = self.index.find(hash, |slot| *self.entries[slot] == *text) {
            return TextId(slot);
        }
        let slot = self.entries.insert(text.into());
        let Texts { entries, index, hasher, .. } = self;
        index.insert(hash, slot, |other| hasher.hash_one(&*entries[other]));
        self.text_bytes += text.len();
        TextId(slot)
    }

    /// The text of a number.
    pub(in crate::engine) fn text(&self, id: TextId) -> &str {
        &self.entries[id.0]
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.entries.allocated_bytes() + self.index.allocated_bytes() + self.text_bytes
    }
}
