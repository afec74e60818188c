//! Many small values side by side, in pieces of memory that never move.
//!
//! Owns the bytes. Promises that what was put in comes out as it was; a value borrows its texts from here, so that ten million of them
//! are ten million times their bytes and a place, and not as many allocations. Never drops one value alone.

use serde::{Deserialize, Serialize};

/// Of one piece. A value that is larger gets a piece of its own.
const PIECE_BYTES: usize = 16 << 20;

/// Where a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    piece: u32,
    at: u32,
}

/// The values.
#[derive(Debug, Default)]
pub(super) struct Packed {
    pieces: Vec<Vec<u8>>,
    scratch: Vec<u8>,
}

impl Packed {
    /// Keeps a value.
    ///
    /// # Errors
    /// What cannot be written down: a value of 4 GiB.
    pub fn put(&mut self, value: &impl Serialize) -> Result<Place, postcard::Error> {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        let bytes = postcard::to_extend(value, bytes)?;
        if self.pieces.last().is_none_or(|piece| piece.len() + bytes.len() > piece.capacity()) {
            self.pieces.push(Vec::with_capacity(bytes.len().max(PIECE_BYTES)));
        }
        let piece = u32::try_from(self.pieces.len() - 1).map_err(|_| postcard::Error::SerializeBufferFull)?;
        let last = self.pieces.last_mut().ok_or(postcard::Error::SerializeBufferFull)?;
        let at = u32::try_from(last.len()).map_err(|_| postcard::Error::SerializeBufferFull)?;
        last.extend_from_slice(&bytes);
        self.scratch = bytes;
        Ok(Place { piece, at })
    }

    /// What was kept there, or what it begins with: a tuple of its first fields.
    ///
    /// # Errors
    /// When something else was kept there.
    pub fn get<'a, T: Deserialize<'a>>(&'a self, place: Place) -> Result<T, postcard::Error> {
        let piece = self.pieces.get(place.piece as usize).ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        let bytes = piece.get(place.at as usize..).ok_or(postcard::Error::DeserializeUnexpectedEnd)?;
        postcard::take_from_bytes(bytes).map(|(value, _)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_comes_out_as_it_was_also_when_it_is_larger_than_a_piece() -> Result<(), postcard::Error> {
        let mut packed = Packed::default();
        let long = "x".repeat(PIECE_BYTES + 1);
        let values: Vec<(&str, i64)> = ["", "a", &long, "b", "\u{0}\u{1f600}"].into_iter().zip(-2..).collect();
        let places = values.iter().map(|value| packed.put(value)).collect::<Result<Vec<_>, _>>()?;
        for (place, value) in places.iter().zip(&values) {
            assert_eq!(packed.get::<(&str, i64)>(*place)?, *value);
            assert_eq!(packed.get::<&str>(*place)?, value.0, "what it begins with");
        }
        assert_eq!(packed.pieces.len(), 3, "the large one has its own");
        Ok(())
    }
}
