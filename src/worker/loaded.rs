//! Reads the rows of a load.

/// A row of the load: RowBinary of (kind UInt8, key String, sequence UInt64, payload String).
pub(super) struct StoredRow<'a> {
    pub kind: u8,
    pub key: &'a [u8],
    pub sequence: u64,
    pub payload: &'a [u8],
}

pub(super) struct Reader<'a> {
    pub rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// The next row; `None` when it is cut short.
    pub fn state_row(&mut self) -> Option<StoredRow<'a>> {
        let kind = *self.take(1)?.first()?;
        let key = self.string()?;
        let sequence = u64::from_le_bytes(self.take(8)?.try_into().ok()?);
        let payload = self.string()?;
        Some(StoredRow { kind, key, sequence, payload })
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let mut length = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.take(1)?.first()?;
            length |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return self.take(usize::try_from(length).ok()?);
            }
        }
        None
    }
}
