//! Rows of one table, encoded column by column as they come, in pages.
//!
//! A value is written once, where it is sent from: no rows to be taken apart later. Pages do not grow, so nothing is copied and little
//! memory is touched for the first time, which took a quarter of the processor's time; those of rows that are in are used again.
//! Counts and amounts are small as a rule: a column of them takes as few bytes a value as the largest needs, and says which type that is.
//! Promises the bytes of ClickHouse's column formats, whatever pages they lie in. Never talks to a server.

use super::column::{Column, ColumnReader, Shape};
use super::number::Whole;

/// Rows of one table, encoded.
#[derive(Clone, Debug, Default)]
pub struct RowBuffer {
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
    spare: Vec<Vec<u8>>,
}

impl RowBuffer {
    /// Empty, over the memory of pages that were used before.
    pub fn over(mut spare: Vec<Vec<u8>>) -> Self {
        spare.iter_mut().for_each(Vec::clear);
        RowBuffer { spare, ..RowBuffer::default() }
    }

    /// Gives the rows away, and is empty afterwards, over memory that was used before.
    pub(super) fn take(&mut self, spare: Vec<Vec<u8>>) -> RowBuffer {
        let mut next = RowBuffer::over(spare);
        next.columns.extend(self.columns.iter().map(Column::next));
        std::mem::replace(self, next)
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

    /// `UInt32` of which most are small.
    #[inline]
    pub fn count32(&mut self, value: u32) -> &mut Self {
        self.number(value.into(), Whole::UInt32)
    }

    /// `UInt64` of which most are small.
    #[inline]
    pub fn count(&mut self, value: u64) -> &mut Self {
        self.number(value, Whole::UInt64)
    }

    /// `Int64` of which most are small.
    #[inline]
    pub fn amount(&mut self, value: i64) -> &mut Self {
        self.number(value as u64, Whole::Int64)
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

    #[inline]
    fn number(&mut self, value: u64, whole: Whole) -> &mut Self {
        let (column, spare) = self.column();
        let written = column.push_number(value, whole, spare);
        self.written(written)
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
    use super::super::pages::{LARGEST_PAGE, text_length};
    use super::*;
    use crate::short;

    fn push(rows: &mut RowBuffer, number: u64) {
        rows.push(|out| {
            out.u64(number).string(&"x".repeat(number as usize % 300)).array(0..number as u32 % 3, |out, element| {
                out.u32(element);
            });
            out.u8(7).count(number / 3).amount(amount_of(number)).count32(number as u32 % 200);
        });
    }

    /// Both signs, and few that are large.
    fn amount_of(number: u64) -> i64 {
        let amount = number as i64 - 10;
        if number == 19_000 { i64::MIN } else { amount }
    }

    #[test]
    fn rows_come_back_as_they_were_written_whatever_the_pages() {
        let (mut rows, mut expected) = (RowBuffer::default(), Vec::new());
        for number in 0..20_000_u64 {
            push(&mut rows, number);
            expected.extend_from_slice(&number.to_le_bytes());
            short::push_number(&mut expected, number % 300);
            expected.extend(std::iter::repeat_n(b'x', number as usize % 300));
            expected.push((number % 3) as u8);
            (0..number % 3).for_each(|element| expected.extend_from_slice(&(element as u32).to_le_bytes()));
            expected.push(7);
            expected.extend_from_slice(&(number / 3).to_le_bytes());
            expected.extend_from_slice(&amount_of(number).to_le_bytes());
            expected.extend_from_slice(&(number as u32 % 200).to_le_bytes());
        }
        assert_eq!((rows.rows(), rows.row_binary() == expected), (20_000, true));
        let columns = rows.clone().into_columns();
        assert!(columns.len() == 7 && columns[1].values.iter().count() > 10, "several pages");
        assert_eq!((columns[2].elements, columns[2].ends.bytes()), (19_999, 8 * 20_000));
        let types: Vec<_> = columns.iter().map(Column::own_type).collect();
        assert_eq!(types, [None, None, None, None, Some("UInt16"), None, Some("UInt8")]);
        let of_columns: usize = columns.iter().map(|column| column.ends.bytes() + column.values.bytes()).sum();
        assert_eq!(rows.bytes(), of_columns);
        let spare: Vec<Vec<u8>> = columns.into_iter().flat_map(Column::into_pages).collect();
        let mut again = rows.clone();
        again.take(spare);
        assert!(again.is_empty());
        (0..20_000).for_each(|number| push(&mut again, number));
        assert!(again == rows);
        assert_eq!(again.into_columns().iter().map(Column::own_type).collect::<Vec<_>>(), types);
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
