//! State rows as ClickHouse sends them: RowBinary of (kind UInt8, key String, sequence UInt64, payload String).

/// One live row of `task_state`, borrowed from what was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredRow<'a> {
    /// A [`crate::engine::StateKind`], or one of the task's own.
    pub kind: u8,
    /// Unique within the kind.
    pub key: &'a [u8],
    /// When it was written.
    pub sequence: u64,
    /// Protobuf.
    pub payload: &'a [u8],
}

/// Reads rows one after the other.
#[derive(Clone, Copy, Debug)]
pub struct StoredRows<'a> {
    rest: &'a [u8],
}

impl<'a> StoredRows<'a> {
    /// Columns of the SELECT, in the order of the encoding.
    pub const COLUMNS: &'static str = "kind, key, sequence, payload";

    /// All rows of an answer, or of the rest of one.
    pub fn new(bytes: &'a [u8]) -> Self {
        StoredRows { rest: bytes }
    }

    /// Bytes that are not read yet.
    pub fn unread(&self) -> usize {
        self.rest.len()
    }

    /// The next row; `None` at the end, and where a row is cut short, which leaves bytes unread.
    pub fn read(&mut self) -> Option<StoredRow<'a>> {
        let before = self.rest;
        let row = self.row();
        if row.is_none() {
            self.rest = before;
        }
        row
    }

    fn row(&mut self) -> Option<StoredRow<'a>> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::RowBuffer;

    #[test]
    fn rows_are_read_to_the_end_and_a_cut_one_is_not() {
        let mut rows = RowBuffer::default();
        for kind in [1_u8, 7] {
            rows.push(|out| {
                out.u8(kind).blob(&[kind; 200]).u64(u64::from(kind) << 40).blob(b"payload");
            });
        }
        let bytes = rows.row_binary();
        let mut reader = StoredRows::new(&bytes);
        assert_eq!(reader.read().map(|row| (row.kind, row.key.len(), row.sequence, row.payload)), Some((1, 200, 1 << 40, &b"payload"[..])));
        assert_eq!(reader.read().map(|row| row.kind), Some(7));
        assert_eq!((reader.read(), reader.unread()), (None, 0));
        let cut = bytes.get(..bytes.len() - 1).expect("a prefix");
        let mut reader = StoredRows::new(cut);
        assert!(reader.read().is_some());
        assert_eq!(reader.read(), None);
        assert!(reader.unread() > 0);
    }
}
