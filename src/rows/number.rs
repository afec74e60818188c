//! Numbers in as few bytes as they need, and the types that ClickHouse has for them.

/// The type that the table has for a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    UInt32,
    UInt64,
    Int64,
}

impl Whole {
    pub fn width(self) -> usize {
        if self == Whole::UInt32 { 4 } else { 8 }
    }

    /// The narrowest width that has room for a value: 1, 2, 4 or 8 bytes.
    #[inline]
    pub fn narrowest(self, value: u64) -> u8 {
        // Of a signed number one bit more, for the sign.
        let bits = match self {
            Whole::Int64 => 65 - ((value as i64) ^ ((value as i64) >> 63)).leading_zeros(),
            _ => 64 - value.leading_zeros(),
        };
        match bits {
            0..=8 => 1,
            9..=16 => 2,
            17..=32 => 4,
            _ => 8,
        }
    }

    /// A value from all bytes that it has.
    pub fn read(self, narrow: &[u8]) -> u64 {
        let is_negative = self == Whole::Int64 && narrow.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut wide = if is_negative { [0xff; 8] } else { [0; 8] };
        wide.iter_mut().zip(narrow).for_each(|(wide, byte)| *wide = *byte);
        u64::from_le_bytes(wide)
    }

    /// ClickHouse's name of the type of so many bytes.
    pub fn name(self, width: u8) -> &'static str {
        match (self, width) {
            (Whole::Int64, 1) => "Int8",
            (Whole::Int64, 2) => "Int16",
            (Whole::Int64, 4) => "Int32",
            (Whole::Int64, _) => "Int64",
            (_, 1) => "UInt8",
            (_, 2) => "UInt16",
            (_, 4) => "UInt32",
            _ => "UInt64",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back_from_its_narrowest_width_and_from_no_narrower_one() {
        let edges = [0, 7, 8, 15, 16, 31, 32, 62, 63].map(|bit| 1_u64 << bit);
        let numbers = edges.iter().flat_map(|edge| [edge - 1, *edge, edge.wrapping_neg(), !edge]);
        for (number, whole) in numbers.flat_map(|number| [(number, Whole::UInt64), (number, Whole::Int64)]) {
            let width = whole.narrowest(number);
            let bytes = number.to_le_bytes();
            let of_width = |width: u8| whole.read(&bytes[..width.into()]);
            assert_eq!(of_width(width), number, "{number:x} as {}", whole.name(width));
            assert!(width == 1 || of_width(width / 2) != number, "{number:x} has room in less than {}", whole.name(width));
        }
    }
}
