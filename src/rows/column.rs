//! One column of rows: texts, numbers or arrays, as ClickHouse's Native format has them.

use super::number::Whole;
use super::pages::{Pages, text_length};
use crate::short;

/// The values of one column.
#[derive(Clone, Debug, Default)]
pub struct Column {
    /// Of an array: where each row's elements end, as counted from the first row's, eight bytes each, little endian.
    pub(super) ends: Pages,
    pub(super) elements: u64,
    pub(super) values: Pages,
    pub(super) shape: Shape,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Shape {
    /// No value was written yet.
    #[default]
    Unknown,
    /// So many bytes, little endian.
    Fixed(u8),
    /// Its length as LEB128, and its bytes.
    Text,
    /// So many bytes, little endian: 1, 2, 4 or 8, but no more than the largest value of the column needs.
    Number { width: u8, whole: Whole },
}

impl Column {
    /// The column of the next rows, which will be much like these: what was too large for few bytes once is so again.
    pub(super) fn next(&self) -> Column {
        Column { shape: self.shape, ..Column::default() }
    }

    /// Adds a number. Returns how many bytes the column has more.
    #[inline]
    pub(super) fn push_number(&mut self, value: u64, whole: Whole, spare: &mut Vec<Vec<u8>>) -> usize {
        // Most numbers are small, and so is what is in their columns. Of every type, these have room in a byte.
        if matches!(self.shape, Shape::Number { width: 1, .. }) && value < 0x80 && self.values.push_byte(value as u8) {
            return 1;
        }
        self.push_any(value, whole, spare)
    }

    fn push_any(&mut self, value: u64, whole: Whole, spare: &mut Vec<Vec<u8>>) -> usize {
        let (needed, width) = (whole.narrowest(value), self.width());
        if width >= needed {
            self.values.push_number(value, width, spare);
            return width.into();
        }
        let before = self.values.bytes();
        self.widen(needed, whole, spare);
        self.values.push_number(value, needed, spare);
        self.values.bytes() - before
    }

    /// Bytes of each of its numbers; 0 if there were none yet.
    #[inline]
    fn width(&self) -> u8 {
        if let Shape::Number { width, .. } = self.shape { width } else { 0 }
    }

    /// Writes its numbers anew in so many bytes each, if they have fewer.
    #[cold]
    fn widen(&mut self, to: u8, whole: Whole, spare: &mut Vec<Vec<u8>>) {
        let width = self.width();
        if width >= to {
            return;
        }
        self.shape = Shape::Number { width: to, whole };
        let before = std::mem::take(&mut self.values);
        if width > 0 {
            for narrow in before.iter().flat_map(|page| page.chunks_exact(width.into())) {
                self.values.push_number(whole.read(narrow), to, spare);
            }
        }
    }

    /// The type that its values are sent as, if it is not the table's: numbers take no more bytes than the largest of them needs.
    pub fn own_type(&self) -> Option<&'static str> {
        match self.shape {
            Shape::Number { width, whole } if usize::from(width) < whole.width() => Some(whole.name(width)),
            _ => None,
        }
    }

    /// Makes the same columns of several buffers parts of one: their numbers equally wide.
    pub fn join(columns: &mut [Column]) {
        let Some(Shape::Number { whole, .. }) = columns.first().map(|column| column.shape) else { return };
        let widest = columns.iter().map(Column::width).max().unwrap_or_default();
        columns.iter_mut().for_each(|column| column.widen(widest, whole, &mut Vec::new()));
    }

    /// Of arrays: where each row's elements end, as counted from the first row of all; empty for other columns.
    pub fn ends(columns: &[Column]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut elements = 0;
        for column in columns {
            let ends = column.ends.iter().flat_map(|page| page.as_chunks().0);
            bytes.extend(ends.flat_map(|end| (u64::from_le_bytes(*end) + elements).to_le_bytes()));
            elements += column.elements;
        }
        bytes
    }

    /// The bytes of its values, in order.
    pub fn into_pages(self) -> Vec<Vec<u8>> {
        self.values.into_vec()
    }
}

/// Reads a column row by row.
pub(super) struct ColumnReader {
    ends: std::vec::IntoIter<u64>,
    end_before: u64,
    is_array: bool,
    values: Vec<u8>,
    at: usize,
    shape: Shape,
}

impl ColumnReader {
    pub fn new(column: &Column) -> Self {
        let ends: Vec<u64> = column.ends.iter().flat_map(|page| page.as_chunks().0).map(|end| u64::from_le_bytes(*end)).collect();
        let values = column.values.iter().flatten().copied().collect();
        ColumnReader { is_array: !ends.is_empty(), ends: ends.into_iter(), end_before: 0, values, at: 0, shape: column.shape }
    }

    /// Adds the next row as RowBinary has it.
    pub fn copy_row(&mut self, out: &mut Vec<u8>) {
        let mut count = 1;
        if self.is_array {
            let end = self.ends.next().unwrap_or(self.end_before);
            count = end - self.end_before;
            self.end_before = end;
            short::push_number(out, count);
        }
        for _ in 0..count {
            self.copy_value(out);
        }
    }

    fn copy_value(&mut self, out: &mut Vec<u8>) {
        let rest = self.values.get(self.at..).unwrap_or_default();
        let length = match self.shape {
            Shape::Unknown => 0,
            Shape::Fixed(width) | Shape::Number { width, .. } => usize::from(width),
            Shape::Text => text_length(rest),
        };
        self.at += length;
        let value = rest.get(..length).unwrap_or_default();
        match self.shape {
            Shape::Number { whole, .. } => out.extend(whole.read(value).to_le_bytes().into_iter().take(whole.width())),
            _ => out.extend_from_slice(value),
        }
    }
}
