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
        let mut mask = mask_of(sums);
        let mut packed = Packed { bytes: [0; PACKED_MOST], length: 2 };
        if let Some(head) = packed.bytes.first_chunk_mut() {
            *head = mask.to_le_bytes();
        }
        while let Some(sum) = sums.0.get(mask.trailing_zeros() as usize) {
            mask &= mask.wrapping_sub(1);
            packed.push(*sum);
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

/// Which sums are not 0.
fn mask_of(sums: &Sums) -> u16 {
    sums.0.iter().zip(0..).fold(0, |mask, (sum, bit)| mask | u16::from(*sum > 0) << bit)
}

/// Packed sums of so many bytes are kept in place.
const IN_PLACE: usize = 16;

/// What [`Packed::of`] gives of sums that take a byte each, as nearly all do: so many bytes of these.
pub(super) fn short(sums: &Sums) -> Option<([u8; IN_PLACE], usize)> {
    if sums.0.iter().fold(0, |all, sum| all | sum) >= 0x80 {
        return None;
    }
    let mut mask = mask_of(sums);
    let [low, high] = mask.to_le_bytes();
    let mut bytes = [0; IN_PLACE];
    (bytes[0], bytes[1]) = (low, high);
    let mut length = 2;
    while let (Some(sum), Some(byte)) = (sums.0.get(mask.trailing_zeros() as usize), bytes.get_mut(length)) {
        mask &= mask.wrapping_sub(1);
        *byte = *sum as u8;
        length += 1;
    }
    Some((bytes, length))
}

/// Packed sums that are kept.
#[derive(Clone, Debug, Default)]
pub(super) struct KeptSums(SmallVec<[u8; IN_PLACE]>);

impl KeptSums {
    pub(super) fn read(&self) -> Sums {
        Packed::read(&self.0)
    }

    pub(super) fn write(&mut self, sums: &Sums) {
        if let Some((bytes, length)) = short(sums).filter(|_| !self.0.spilled()) {
            self.0 = SmallVec::from_buf_and_len(bytes, length);
            return;
        }
        self.0.clear();
        self.0.extend_from_slice(Packed::of(sums).bytes());
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
