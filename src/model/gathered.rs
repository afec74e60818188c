//! Bytes gathered from pieces, to be hashed at once.
//!
//! Most events are short, and a hash that is fed in pieces costs more to set up than to feed. A fixed array, because a vector asks for each
//! of some thirty pieces whether it must grow. Promises XXH3 of the pieces one behind the other, however long they are.

use xxhash_rust::xxh3::xxh3_64;

use crate::short;

/// Pieces one behind the other: in place up to `SHORT` bytes, in a vector from there on.
pub(super) struct Gathered<const SHORT: usize> {
    short: [u8; SHORT],
    length: usize,
    long: Vec<u8>,
}

impl<const SHORT: usize> Gathered<SHORT> {
    pub(super) fn new() -> Self {
        Gathered { short: [0; SHORT], length: 0, long: Vec::new() }
    }

    #[inline]
    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        if bytes.len() <= short::SHORT
            && self.long.is_empty()
            && let Some(room) = self.short.get_mut(self.length..self.length + short::SHORT)
        {
            room.copy_from_slice(&short::word(bytes).to_le_bytes());
            self.length += bytes.len();
            return;
        }
        let end = self.length + bytes.len();
        match self.short.get_mut(self.length..end) {
            Some(room) if self.long.is_empty() => {
                room.copy_from_slice(bytes);
                self.length = end;
            }
            _ => self.spill(bytes),
        }
    }

    #[cold]
    fn spill(&mut self, bytes: &[u8]) {
        if self.long.is_empty() {
            self.long.extend_from_slice(self.short.get(..self.length).unwrap_or_default());
        }
        self.long.extend_from_slice(bytes);
    }

    pub(super) fn hash(&self) -> u64 {
        xxh3_64(if self.long.is_empty() { self.short.get(..self.length).unwrap_or_default() } else { &self.long })
    }

    pub(super) fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    /// With its length, so that neighbours cannot be shifted into each other.
    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_hash_is_that_of_all_pieces(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..8)) {
            let mut gathered = Gathered::<16>::new();
            pieces.iter().for_each(|piece| gathered.bytes(piece));
            prop_assert_eq!(gathered.hash(), xxh3_64(&pieces.concat()));
        }
    }
}
