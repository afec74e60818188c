//! Rows as bytes: ClickHouse's RowBinary, encoded once. What sends them turns them into columns (`store/native.rs`).
//!
//! Owns the list of tables that the pipeline writes, with their columns in the order of the encoding, and the primitives of
//! the format. Promises that the same values give the same bytes. Never talks to a server.

pub mod archive;
pub mod serving;
mod table;

pub use archive::ArchiveRows;
pub use serving::ServingRows;
pub use table::Table;

/// Rows of one table, encoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowBuffer {
    bytes: Vec<u8>,
    rows: usize,
}

impl RowBuffer {
    /// Empty, with room for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        RowBuffer { bytes: Vec::with_capacity(bytes), rows: 0 }
    }

    /// Gives the rows away, and is empty afterwards, over memory that was used before.
    fn take(&mut self, mut spare: Vec<u8>) -> RowBuffer {
        spare.clear();
        std::mem::replace(self, RowBuffer { bytes: spare, rows: 0 })
    }

    /// Number of complete rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The encoded rows.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Gives the bytes away.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Adds one row; `encode` writes its columns in the table's order.
    pub fn push(&mut self, encode: impl FnOnce(&mut RowWriter<'_>)) {
        encode(&mut RowWriter { bytes: &mut self.bytes });
        self.rows += 1;
    }

    /// Adds all rows of another buffer of the same table.
    pub fn append(&mut self, other: &RowBuffer) {
        self.bytes.extend_from_slice(&other.bytes);
        self.rows += other.rows;
    }
}

/// Writes the columns of one row.
#[derive(Debug)]
pub struct RowWriter<'a> {
    bytes: &'a mut Vec<u8>,
}

impl RowWriter<'_> {
    /// `UInt8`, `Bool`.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.bytes.push(value);
        self
    }

    /// `UInt16`, `Date` (days since 1970-01-01).
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// `UInt32`, `DateTime` (seconds).
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// `UInt64`.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// `Int64`, `DateTime64(3)` (milliseconds).
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// `String`, `LowCardinality(String)`.
    pub fn string(&mut self, value: &str) -> &mut Self {
        self.blob(value.as_bytes())
    }

    /// `String` of any bytes.
    pub fn blob(&mut self, value: &[u8]) -> &mut Self {
        self.length(value.len());
        self.bytes.extend_from_slice(value);
        self
    }

    /// Length of a `String` or `Array`, as LEB128; an array's elements follow.
    pub fn length(&mut self, length: usize) -> &mut Self {
        let mut rest = length as u64;
        while rest >= 0x80 {
            self.bytes.push((rest as u8) | 0x80);
            rest >>= 7;
        }
        self.bytes.push(rest as u8);
        self
    }
}
