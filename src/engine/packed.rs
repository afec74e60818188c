//! Sums packed: most of them are 0, and a state holds millions.
//!
//! The packed form lives in memory only: payloads are protobuf.

use smallvec::SmallVec;

use super::prefetch::prefetch_all;
use crate::model::{Measure, Sums};

/// Longest packed form: the mask and 13 numbers of up to 10 bytes.
const PACKED_MOST: usize = 2 + Measure::COUNT * 10;

/// Sums as a mask of those that are not 0, and these as LEB128.
pub(super) struct Packed {
    bytes: [u8; PACKED_MOST],
    length: usize,
}

impl Packed {
    pub(super) fn of(sums: &Sums) -> Self {
        let mut packed = Packed { bytes: [0; PACKED_MOST], length: 2 };
        let mut mask = 0_u16;
        for (bit, sum) in sums.0.iter().enumerate() {
            if *sum > 0 {
                mask |= 1 << bit;
                packed.push(*sum);
            }
        }
        if let Some(head) = packed.bytes.first_chunk_mut() {
            *head = mask.to_le_bytes();
        }
        packed
    }

    #[inline]
    fn push(&mut self, number: u64) {
        let mut rest = number;
        while let Some(byte) = self.bytes.get_mut(self.length) {
            self.length += 1;
            if rest < 0x80 {
                *byte = rest as u8;
                return;
            }
            *byte = (rest as u8) | 0x80;
            rest >>= 7;
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// The plain form of bytes that [`Packed::bytes`] gave.
    pub(super) fn read(bytes: &[u8]) -> Sums {
        let mut sums = Sums::default();
        let Some((head, mut rest)) = bytes.split_first_chunk() else { return sums };
        let mut mask = u16::from_le_bytes(*head);
        while let Some(sum) = sums.0.get_mut(mask.trailing_zeros() as usize) {
            mask &= mask.wrapping_sub(1);
            let mut shift = 0;
            while let Some((byte, tail)) = rest.split_first() {
                *sum |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                rest = tail;
                if byte & 0x80 == 0 {
                    break;
                }
            }
        }
        sums
    }
}

/// Packed sums of so many bytes are kept in place.
const IN_PLACE: usize = 16;

/// Packed sums that are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptSums(SmallVec<[u8; IN_PLACE]>);

impl KeptSums {
    pub(super) fn read(&self) -> Sums {
        Packed::read(&self.0)
    }

    pub(super) fn write(&mut self, sums: &Sums) {
        let packed = Packed::of(sums);
        match packed.bytes.first_chunk() {
            // Most sums: sixteen bytes at once, of which the first count.
            Some(short) if packed.length <= IN_PLACE && !self.0.spilled() => self.0 = SmallVec::from_buf_and_len(*short, packed.length),
            _ => {
                self.0.clear();
                self.0.extend_from_slice(packed.bytes());
            }
        }
    }

    /// Asks for their memory.
    pub(super) fn prefetch(&self) {
        prefetch_all(&self.0);
    }

    pub(super) fn heap_bytes(&self) -> usize {
        if self.0.spilled() { self.0.capacity() } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_sums_are_read_back() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut sums = Sums::default();
            for measure in [Measure::Scans, Measure::Paid, Measure::Active] {
                sums.add(measure, number);
            }
            let mut kept = KeptSums::default();
            kept.write(&sums);
            assert_eq!(kept.read(), sums, "{number}");
        }
        let full = Sums([u64::MAX; Measure::COUNT]);
        assert_eq!(Packed::read(Packed::of(&full).bytes()), full);
        assert_eq!(KeptSums::default().read(), Sums::default());
    }
}
