//! Campaigns, skus and channels as small numbers.
//!
//! A text is kept while somebody refers to it. Who still refers to what is found out by the sweep, which passes every customer
//! and cell anyway: a pass marks what it meets, everything interned meanwhile is marked too, and the rest is dropped at its end.

use std::hash::BuildHasher;

use super::slab::{Slab, Slot};
use super::slot_index::SlotIndex;

/// Number of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Symbol(Slot);

impl Symbol {
    /// The empty text, never dropped.
    pub(super) const EMPTY: Symbol = Symbol(0);

    pub(super) fn number(self) -> Slot {
        self.0
    }
}

#[derive(Debug)]
struct Entry {
    /// `None` = a free place.
    text: Option<Box<str>>,
    /// The last pass that met it.
    mark: u32,
}

impl Entry {
    const VACANT: Entry = Entry { text: None, mark: 0 };

    fn text(&self) -> &str {
        self.text.as_deref().unwrap_or_default()
    }
}

#[derive(Debug)]
pub(super) struct Symbols {
    entries: Slab<Entry>,
    index: SlotIndex,
    hasher: foldhash::quality::FixedState,
    pass: u32,
    losses: u64,
    text_bytes: usize,
}

impl Symbols {
    pub(super) fn new() -> Self {
        let mut entries = Slab::new();
        entries.insert(Entry { text: Some("".into()), mark: 0 });
        Symbols { entries, index: SlotIndex::new(), hasher: foldhash::quality::FixedState::default(), pass: 0, losses: 0, text_bytes: 0 }
    }

    /// The number of a text.
    pub(super) fn intern(&mut self, text: &str) -> Symbol {
        if text.is_empty() {
            return Symbol::EMPTY;
        }
        let hash = self.hasher.hash_one(text);
        if let Some(slot) = self.index.find(hash, |slot| self.entries[slot].text() == text) {
            self.entries[slot].mark = self.pass;
            return Symbol(slot);
        }
        let slot = self.entries.insert(Entry { text: Some(text.into()), mark: self.pass });
        self.index.insert(hash, slot);
        self.text_bytes += text.len();
        Symbol(slot)
    }

    /// The number of a text that has one.
    pub(super) fn find(&self, text: &str) -> Option<Symbol> {
        if text.is_empty() {
            return Some(Symbol::EMPTY);
        }
        self.index.find(self.hasher.hash_one(text), |slot| self.entries[slot].text() == text).map(Symbol)
    }

    /// How often a number may have been taken from its text: as long as this stays the same, what [`Symbols::find`] said holds.
    pub(super) fn losses(&self) -> u64 {
        self.losses
    }

    /// The text of a number.
    pub(super) fn text(&self, symbol: Symbol) -> &str {
        self.entries[symbol.0].text()
    }

    /// Begins a pass over everything that may hold a symbol.
    pub(super) fn begin_pass(&mut self) {
        self.pass = self.pass.wrapping_add(1);
    }

    /// Somebody holds this symbol.
    pub(super) fn keep(&mut self, symbol: Symbol) {
        self.entries[symbol.0].mark = self.pass;
    }

    /// Drops what nobody was found to hold since [`Symbols::begin_pass`].
    pub(super) fn end_pass(&mut self) {
        self.losses += 1;
        for slot in 1..self.entries.slots() {
            let entry = &self.entries[slot];
            let Some(text) = entry.text.as_deref().filter(|_| entry.mark != self.pass) else { continue };
            self.text_bytes -= text.len();
            self.index.remove(self.hasher.hash_one(text), slot);
            self.entries.remove(slot, Entry::VACANT);
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn vacant_bytes(&self) -> usize {
        self.entries.vacant_bytes()
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.entries.allocated_bytes() + self.index.allocated_bytes() + self.text_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_drops_what_nobody_holds() {
        let mut symbols = Symbols::new();
        let (held, lost) = (symbols.intern("held"), symbols.intern("lost"));
        symbols.begin_pass();
        let newcomer = symbols.intern("newcomer");
        symbols.keep(held);
        symbols.end_pass();
        assert_eq!((symbols.text(held), symbols.text(newcomer), symbols.len()), ("held", "newcomer", 3));
        let reused = symbols.intern("other");
        assert_eq!(reused, lost);
        assert_eq!(symbols.intern("held"), held);
        assert_eq!(symbols.text(Symbol::EMPTY), "");
    }
}
