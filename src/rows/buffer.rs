//! Rows of one table, encoded column by column as they come, in pages.
//!
//! A value is written once, where it is sent from: no rows to be taken apart later. Pages do not grow, so nothing is copied and little
//! memory is touched for the first time, which took a quarter of the processor's time; those of rows that are in are used again.
//! Promises the bytes of ClickHouse's column formats, whatever pages they lie in. Never talks to a server.

/// Of a column's first page; each further one is twice as large, up to [`LARGEST_PAGE`].
const FIRST_PAGE: usize = 8 << 10;
const LARGEST_PAGE: usize = 256 << 10;

/// Rows of one table, encoded.
#[derive(Clone, Debug, Default)]
pub struct RowBuffer {
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
    spare: Vec<Vec<u8>>,
}

/// The values of one column.
#[derive(Clone, Debug, Default)]
pub struct Column {
    /// Of an array: where each row's elements end, as counted from the first row's, eight bytes each, little endian.
    ends: Pages,
    elements: u64,
    values: Pages,
    shape: Shape,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shape {
    /// No value was written yet.
    #[default]
    Unknown,
    /// So many bytes, little endian.
    Fixed(u8),
    /// Its length as LEB128, and its bytes.
    Text,
}

/// Bytes in pages; no value lies in two.
#[derive(Clone, Debug, Default)]
struct Pages {
    full: Vec<Vec<u8>>,
    open: Vec<u8>,
}

impl Pages {
    /// Adds a value of so many bytes. One question for its room, not a second one of the vector's own.
    #[inline]
    fn push<const WIDTH: usize>(&mut self, value: [u8; WIDTH], spare: &mut Vec<Vec<u8>>) {
        if self.open.capacity() - self.open.len() >= WIDTH {
            self.open.extend_from_slice(&value);
        } else {
            self.turn(WIDTH, spare);
            self.open.extend_from_slice(&value);
        }
    }

    /// Adds a text: its length and its bytes. Returns how many these are.
    #[inline]
    fn push_text(&mut self, value: &[u8], spare: &mut Vec<Vec<u8>>) -> usize {
        let most = value.len() + MOST_LENGTH_BYTES;
        if self.open.capacity() - self.open.len() < most {
            self.turn(most, spare);
        }
        if value.len() < 0x80 {
            self.open.push(value.len() as u8);
            self.open.extend_from_slice(value);
            return 1 + value.len();
        }
        let before = self.open.len();
        push_varint(&mut self.open, value.len() as u64);
        self.open.extend_from_slice(value);
        self.open.len() - before
    }

    #[cold]
    #[inline(never)]
    fn turn(&mut self, length: usize, spare: &mut Vec<Vec<u8>>) {
        let own_size = (FIRST_PAGE << self.full.len().min(16)).min(LARGEST_PAGE).max(length);
        let page = spare.pop().filter(|page| page.capacity() >= length).unwrap_or_else(|| Vec::with_capacity(own_size));
        let before = std::mem::replace(&mut self.open, page);
        if !before.is_empty() {
            self.full.push(before);
        }
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.full.iter().chain([&self.open]).map(Vec::as_slice)
    }

    fn into_vec(self) -> Vec<Vec<u8>> {
        let mut pages = self.full;
        if !self.open.is_empty() {
            pages.push(self.open);
        }
        pages
    }
}

impl Column {
    /// The bytes of its values, in order.
    pub fn into_pages(self) -> Vec<Vec<u8>> {
        self.values.into_vec()
    }

    /// Of an array: where each row's elements end, as counted from `before`; empty for other columns.
    pub fn ends(&self, before: u64) -> Vec<u8> {
        let ends = self.ends.iter().flat_map(|page| page.as_chunks().0);
        ends.flat_map(|end| (u64::from_le_bytes(*end) + before).to_le_bytes()).collect()
    }

    /// Elements of all its arrays.
    pub fn elements(&self) -> u64 {
        self.elements
    }
}

impl RowBuffer {
    /// Empty, over the memory of pages that were used before.
    pub fn over(mut spare: Vec<Vec<u8>>) -> Self {
        spare.iter_mut().for_each(Vec::clear);
        RowBuffer { spare, ..RowBuffer::default() }
    }

    /// Gives the rows away, and is empty afterwards, over memory that was used before.
    pub(super) fn take(&mut self, spare: Vec<Vec<u8>>) -> RowBuffer {
        std::mem::replace(self, RowBuffer::over(spare))
    }

    /// Number of complete rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of the encoded rows.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Adds one row; `encode` writes its columns in the table's order.
    pub fn push(&mut self, encode: impl FnOnce(&mut RowWriter<'_>)) {
        let mut writer = RowWriter { rows: self, column: 0, step: 1, bytes: 0 };
        encode(&mut writer);
        let (columns, bytes) = (writer.column, writer.bytes);
        debug_assert!(columns == self.columns.len(), "a row of {columns} columns among rows of {}", self.columns.len());
        self.bytes += bytes;
        self.rows += 1;
    }

    /// The columns in the table's order.
    pub fn into_columns(self) -> Vec<Column> {
        self.columns
    }

    /// The same rows one after the other, as ClickHouse's RowBinary: for whoever reads them so.
    pub fn row_binary(&self) -> Vec<u8> {
        let mut columns: Vec<ColumnReader> = self.columns.iter().map(ColumnReader::new).collect();
        let mut bytes = Vec::with_capacity(self.bytes);
        for _ in 0..self.rows {
            for column in &mut columns {
                column.copy_row(&mut bytes);
            }
        }
        bytes
    }
}

impl PartialEq for RowBuffer {
    fn eq(&self, other: &Self) -> bool {
        self.rows == other.rows && self.row_binary() == other.row_binary()
    }
}

impl Eq for RowBuffer {}

/// Reads a column row by row.
struct ColumnReader {
    ends: std::vec::IntoIter<u64>,
    end_before: u64,
    is_array: bool,
    values: Vec<u8>,
    at: usize,
    shape: Shape,
}

impl ColumnReader {
    fn new(column: &Column) -> Self {
        let ends: Vec<u64> = column.ends.iter().flat_map(|page| page.as_chunks().0).map(|end| u64::from_le_bytes(*end)).collect();
        let values = column.values.iter().flatten().copied().collect();
        ColumnReader { is_array: !ends.is_empty(), ends: ends.into_iter(), end_before: 0, values, at: 0, shape: column.shape }
    }

    fn copy_row(&mut self, out: &mut Vec<u8>) {
        let mut count = 1;
        if self.is_array {
            let end = self.ends.next().unwrap_or(self.end_before);
            count = end - self.end_before;
            self.end_before = end;
            push_varint(out, count);
        }
        for _ in 0..count {
            let rest = self.values.get(self.at..).unwrap_or_default();
            let length = match self.shape {
                Shape::Unknown => 0,
                Shape::Fixed(width) => usize::from(width),
                Shape::Text => text_length(rest),
            };
            out.extend_from_slice(rest.get(..length).unwrap_or_default());
            self.at += length;
        }
    }
}

/// Bytes of the text at the front, its length included.
fn text_length(bytes: &[u8]) -> usize {
    let head = bytes.iter().position(|byte| *byte < 0x80).map_or(0, |last| last + 1);
    let shifts = (0..).step_by(7);
    let length: usize = bytes.iter().take(head).zip(shifts).map(|(byte, shift)| usize::from(byte & 0x7f) << shift).sum();
    head + length
}

/// A number as LEB128, at the end of some bytes.
pub fn push_varint(bytes: &mut Vec<u8>, number: u64) {
    let mut rest = number;
    while rest >= 0x80 {
        bytes.push((rest as u8) | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

/// Longest LEB128 of a length.
const MOST_LENGTH_BYTES: usize = 10;

/// Writes the columns of one row.
#[derive(Debug)]
pub struct RowWriter<'a> {
    rows: &'a mut RowBuffer,
    column: usize,
    /// Columns that a value takes: one, or none within an array.
    step: usize,
    bytes: usize,
}

impl RowWriter<'_> {
    /// `UInt8`, `Bool`.
    #[inline]
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.fixed([value])
    }

    /// `UInt16`, `Date` (days since 1970-01-01).
    #[inline]
    pub fn u16(&mut self, value: u16) -> &mut Self {
        self.fixed(value.to_le_bytes())
    }

    /// `UInt32`, `DateTime` (seconds).
    #[inline]
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.fixed(value.to_le_bytes())
    }

    /// `UInt64`.
    #[inline]
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.fixed(value.to_le_bytes())
    }

    /// `Int64`, `DateTime64(3)` (milliseconds).
    #[inline]
    pub fn i64(&mut self, value: i64) -> &mut Self {
        self.fixed(value.to_le_bytes())
    }

    /// `String`, `LowCardinality(String)`.
    pub fn string(&mut self, value: &str) -> &mut Self {
        self.blob(value.as_bytes())
    }

    /// `String` of any bytes.
    pub fn blob(&mut self, value: &[u8]) -> &mut Self {
        let (column, spare) = self.column();
        column.shape = Shape::Text;
        let written = column.values.push_text(value, spare);
        self.written(written)
    }

    /// `Array`: each of its elements writes one value.
    pub fn array<T>(&mut self, elements: impl ExactSizeIterator<Item = T>, write: impl Fn(&mut Self, T)) -> &mut Self {
        let (column, spare) = self.column();
        column.elements += elements.len() as u64;
        let end = column.elements.to_le_bytes();
        column.ends.push(end, spare);
        self.bytes += end.len();
        self.step = 0;
        elements.for_each(|element| write(self, element));
        self.step = 1;
        self.column += 1;
        self
    }

    #[inline]
    fn fixed<const WIDTH: usize>(&mut self, value: [u8; WIDTH]) -> &mut Self {
        let (column, spare) = self.column();
        column.shape = Shape::Fixed(WIDTH as u8);
        column.values.push(value, spare);
        self.written(WIDTH)
    }

    /// The column that is next; the first row makes them.
    #[inline]
    fn column(&mut self) -> (&mut Column, &mut Vec<Vec<u8>>) {
        let RowBuffer { columns, spare, .. } = &mut *self.rows;
        if self.column >= columns.len() {
            add_column(columns);
        }
        (&mut columns[self.column], spare)
    }

    #[inline]
    fn written(&mut self, bytes: usize) -> &mut Self {
        self.bytes += bytes;
        self.column += self.step;
        self
    }
}

#[cold]
#[inline(never)]
fn add_column(columns: &mut Vec<Column>) {
    columns.push(Column::default());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(rows: &mut RowBuffer, number: u64) {
        rows.push(|out| {
            out.u64(number).string(&"x".repeat(number as usize % 300)).array(0..number as u32 % 3, |out, element| {
                out.u32(element);
            });
            out.u8(7);
        });
    }

    #[test]
    fn rows_come_back_as_they_were_written_whatever_the_pages() {
        let (mut rows, mut expected) = (RowBuffer::default(), Vec::new());
        for number in 0..20_000_u64 {
            push(&mut rows, number);
            expected.extend_from_slice(&number.to_le_bytes());
            push_varint(&mut expected, number % 300);
            expected.extend(std::iter::repeat_n(b'x', number as usize % 300));
            expected.push((number % 3) as u8);
            (0..number % 3).for_each(|element| expected.extend_from_slice(&(element as u32).to_le_bytes()));
            expected.push(7);
        }
        assert_eq!((rows.rows(), rows.row_binary() == expected), (20_000, true));
        let columns = rows.clone().into_columns();
        assert!(columns.len() == 4 && columns[1].values.full.len() > 10, "several pages");
        assert_eq!((columns[2].elements(), columns[2].ends(5).len()), (19_999, 8 * 20_000));
        assert_eq!(columns[2].ends(5).first_chunk(), Some(&5_u64.to_le_bytes()));
        let spare: Vec<Vec<u8>> = columns.into_iter().flat_map(Column::into_pages).collect();
        let mut again = RowBuffer::over(spare);
        assert!(again.is_empty());
        (0..20_000).for_each(|number| push(&mut again, number));
        assert_eq!((again == rows, again.bytes()), (true, rows.bytes()));
    }

    #[test]
    fn a_value_larger_than_a_page_is_written_whole() {
        let mut rows = RowBuffer::over(vec![Vec::with_capacity(16)]);
        let large = vec![b'y'; 3 * LARGEST_PAGE];
        rows.push(|out| {
            out.blob(&large);
        });
        rows.push(|out| {
            out.blob(b"z");
        });
        let bytes = rows.row_binary();
        assert_eq!((text_length(&bytes), bytes.len()), (large.len() + 3, large.len() + 3 + 2));
    }
}
