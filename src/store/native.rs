//! From rows to columns: encoded rows become one block of ClickHouse's Native format.
//!
//! Reading a row column by column is most of what an insert costs the server; a block in Native costs it a third. Types come from the
//! schema as it is shipped; `LowCardinality` is sent plain, which costs the server no more. Promises one block whatever the number of
//! buffers, and the same bytes for the same rows. What it does not know, a type or a broken row, is `None`: then rows are sent.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

use crate::migrate::schema::tables;
use crate::rows::Table;

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    /// So many bytes, little endian.
    Fixed(usize),
    /// Its length, and its bytes.
    Text,
}

/// A column of the block.
#[derive(Clone, Debug)]
struct Column {
    name: &'static str,
    kind: &'static str,
    shape: Shape,
    is_array: bool,
}

/// The columns of a table.
#[derive(Clone, Debug)]
pub(super) struct Layout(Vec<Column>);

impl Layout {
    /// Of the columns that rows of a table are encoded with.
    pub fn of(table: Table) -> Option<Self> {
        let schema = tables().get(table.name())?;
        let column = |name: &&'static str| {
            let known = schema.columns.iter().find(|column| column.name == **name)?;
            column_of(name, &known.kind)
        };
        table.columns().iter().map(column).collect::<Option<Vec<Column>>>().map(Layout)
    }

    /// One block of all rows of the buffers.
    pub fn block<'a>(&self, buffers: impl Iterator<Item = &'a [u8]>, rows: usize) -> Option<Vec<u8>> {
        let mut gathered: Vec<Gathered> = self.0.iter().map(|column| Gathered::new(column, rows)).collect();
        let mut found = 0;
        for buffer in buffers {
            let mut rest = buffer;
            while !rest.is_empty() {
                for (column, values) in self.0.iter().zip(&mut gathered) {
                    rest = values.take(column, rest)?;
                }
                found += 1;
            }
        }
        (found == rows).then(|| self.written(&gathered, rows))
    }

    fn written(&self, gathered: &[Gathered], rows: usize) -> Vec<u8> {
        let bytes: usize = gathered.iter().map(|values| values.ends.len() + values.bytes.len()).sum();
        let mut block = Vec::with_capacity(bytes + 64 * self.0.len());
        push_varint(&mut block, self.0.len());
        push_varint(&mut block, rows);
        for (column, values) in self.0.iter().zip(gathered) {
            for text in [column.name, column.kind] {
                push_varint(&mut block, text.len());
                block.extend_from_slice(text.as_bytes());
            }
            block.extend_from_slice(&values.ends);
            block.extend_from_slice(&values.bytes);
        }
        block
    }
}

/// The values of a column so far.
struct Gathered {
    /// Of an array: where each row's elements end, as counted from the first row's.
    ends: Vec<u8>,
    elements: u64,
    bytes: Vec<u8>,
}

impl Gathered {
    fn new(column: &Column, rows: usize) -> Self {
        let width = match column.shape {
            Shape::Fixed(width) => width,
            Shape::Text => 16,
        };
        let ends = if column.is_array { Vec::with_capacity(rows * size_of::<u64>()) } else { Vec::new() };
        Gathered { ends, elements: 0, bytes: Vec::with_capacity(rows * width) }
    }

    /// Takes the value of a row off the front, and gives what follows it.
    #[inline]
    fn take<'a>(&mut self, column: &Column, row: &'a [u8]) -> Option<&'a [u8]> {
        if !column.is_array {
            return self.take_one(column.shape, row);
        }
        let (count, head) = varint(row)?;
        let mut rest = row.get(head..)?;
        for _ in 0..count {
            rest = self.take_one(column.shape, rest)?;
        }
        self.elements += count as u64;
        self.ends.extend_from_slice(&self.elements.to_le_bytes());
        Some(rest)
    }

    #[inline]
    fn take_one<'a>(&mut self, shape: Shape, row: &'a [u8]) -> Option<&'a [u8]> {
        let length = match shape {
            Shape::Fixed(width) => width,
            Shape::Text => varint(row).map(|(length, head)| head + length)?,
        };
        let (value, rest) = row.split_at_checked(length)?;
        self.bytes.extend_from_slice(value);
        Some(rest)
    }
}

fn column_of(name: &'static str, kind: &'static str) -> Option<Column> {
    let plain = kind.strip_prefix("LowCardinality(").and_then(|inner| inner.strip_suffix(')')).unwrap_or(kind);
    let element = plain.strip_prefix("Array(").and_then(|inner| inner.strip_suffix(')'));
    let shape = shape_of(element.unwrap_or(plain))?;
    Some(Column { name, kind: plain, shape, is_array: element.is_some() })
}

fn shape_of(kind: &str) -> Option<Shape> {
    Some(match kind.split('(').next()? {
        "String" => Shape::Text,
        "UInt8" | "Int8" | "Bool" => Shape::Fixed(1),
        "UInt16" | "Int16" | "Date" => Shape::Fixed(2),
        "UInt32" | "Int32" | "DateTime" | "Date32" | "Float32" => Shape::Fixed(4),
        "UInt64" | "Int64" | "DateTime64" | "Float64" => Shape::Fixed(8),
        _ => return None,
    })
}

/// A length as LEB128, and how many bytes it takes.
#[inline]
fn varint(bytes: &[u8]) -> Option<(usize, usize)> {
    let first = *bytes.first()?;
    if first < 0x80 {
        return Some((usize::from(first), 1));
    }
    let mut value = 0_usize;
    for (index, byte) in bytes.iter().take(5).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((value, index + 1));
        }
    }
    None
}

fn push_varint(bytes: &mut Vec<u8>, value: usize) {
    let mut rest = value;
    while rest >= 0x80 {
        bytes.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::RowBuffer;

    #[test]
    fn every_table_that_the_pipeline_writes_has_a_layout() {
        for table in Table::ALL {
            assert!(Layout::of(table).is_some(), "{}", table.name());
        }
    }

    #[test]
    fn rows_of_several_buffers_become_one_block() {
        let layout = Layout(vec![
            column_of("name", "LowCardinality(String)").expect("text"),
            column_of("at", "DateTime64(3, 'UTC')").expect("a time"),
            column_of("parts", "Array(String)").expect("an array"),
        ]);
        let long = "x".repeat(300);
        let mut buffers = [RowBuffer::default(), RowBuffer::default()];
        buffers[0].push(|out| {
            out.string("a").i64(-2).length(2).string("p").string("qq");
        });
        buffers[1].push(|out| {
            out.string(&long).i64(7).length(0);
        });
        buffers[1].push(|out| {
            out.string("").i64(8).length(1).string("r");
        });
        let block = layout.block(buffers.iter().map(RowBuffer::bytes), 3).expect("rows");
        let mut expected = vec![3, 3];
        expected.extend_from_slice(b"\x04name\x06String\x01a\xac\x02");
        expected.extend_from_slice(long.as_bytes());
        expected.extend_from_slice(b"\x00\x02at\x14DateTime64(3, 'UTC')");
        expected.extend([-2_i64, 7, 8].into_iter().flat_map(i64::to_le_bytes));
        expected.extend_from_slice(b"\x05parts\x0dArray(String)");
        expected.extend([2_u64, 2, 3].into_iter().flat_map(u64::to_le_bytes));
        expected.extend_from_slice(b"\x01p\x02qq\x01r");
        assert_eq!(block, expected);
    }

    #[test]
    fn what_is_not_understood_is_left_to_rows() {
        assert!(column_of("map", "Map(String, UInt64)").is_none());
        let layout = Layout(vec![column_of("name", "String").expect("text")]);
        assert_eq!(layout.block([b"\x05cut".as_slice()].into_iter(), 1), None);
        assert_eq!(layout.block([b"\x01a\x01b".as_slice()].into_iter(), 1), None, "another number of rows");
    }
}
