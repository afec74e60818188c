//! From rows to columns: encoded rows become one block of ClickHouse's Native format.
//!
//! Reading a row column by column is most of what an insert costs the server; a block in Native costs it a third. Types come from the
//! schema as it is shipped; `LowCardinality` is sent plain, which costs the server no more. Promises one block whatever the number of
//! buffers, and the same bytes for the same rows. What it does not know, a type or a broken row, is `None`: then rows are sent. The columns
//! are sent as they lie, and their memory is used again.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

use bytes::Bytes;

use super::spares::MOST_KEPT_BYTES;
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

    /// One block of all rows of the buffers, in parts, one after the other. `spare` is what [`reclaim`] gave of an earlier block.
    pub fn block<'a>(&self, buffers: impl Iterator<Item = &'a [u8]>, rows: usize, spare: &mut Vec<Vec<u8>>) -> Option<Vec<Bytes>> {
        let mut memory = std::mem::take(spare).into_iter();
        let mut next = || memory.next().unwrap_or_default();
        let mut head = next();
        let mut gathered: Vec<Gathered> =
            self.0.iter().map(|_| Gathered { head: next(), ends: next(), elements: 0, bytes: next() }).collect();
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
        if found != rows {
            return None;
        }
        push_varint(&mut head, self.0.len());
        push_varint(&mut head, rows);
        let columns = self.0.iter().zip(gathered).flat_map(|(column, values)| values.into_parts(column));
        Some(std::iter::once(head).chain(columns).map(Bytes::from).collect())
    }
}

/// The memory of a block that was sent, empty, for the next one.
pub(super) fn reclaim(parts: Vec<Bytes>) -> Vec<Vec<u8>> {
    let memory_of = |part: Bytes| {
        let mut memory = if part.is_unique() && part.len() <= MOST_KEPT_BYTES { Vec::from(part) } else { Vec::new() };
        memory.clear();
        memory
    };
    parts.into_iter().map(memory_of).collect()
}

/// The values of a column so far.
struct Gathered {
    /// The column's name and type, at last.
    head: Vec<u8>,
    /// Of an array: where each row's elements end, as counted from the first row's.
    ends: Vec<u8>,
    elements: u64,
    bytes: Vec<u8>,
}

impl Gathered {
    fn into_parts(mut self, column: &Column) -> [Vec<u8>; 3] {
        for text in [column.name, column.kind] {
            push_varint(&mut self.head, text.len());
            self.head.extend_from_slice(text.as_bytes());
        }
        [self.head, self.ends, self.bytes]
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
        let mut spare = Vec::new();
        let parts = layout.block(buffers.iter().map(RowBuffer::bytes), 3, &mut spare).expect("rows");
        let mut expected = vec![3, 3];
        expected.extend_from_slice(b"\x04name\x06String\x01a\xac\x02");
        expected.extend_from_slice(long.as_bytes());
        expected.extend_from_slice(b"\x00\x02at\x14DateTime64(3, 'UTC')");
        expected.extend([-2_i64, 7, 8].into_iter().flat_map(i64::to_le_bytes));
        expected.extend_from_slice(b"\x05parts\x0dArray(String)");
        expected.extend([2_u64, 2, 3].into_iter().flat_map(u64::to_le_bytes));
        expected.extend_from_slice(b"\x01p\x02qq\x01r");
        assert_eq!(parts.concat(), expected);
        spare = reclaim(parts);
        assert!(spare.iter().any(|memory| memory.capacity() >= 300) && spare.iter().all(Vec::is_empty));
        assert_eq!(layout.block(buffers.iter().map(RowBuffer::bytes), 3, &mut spare).expect("rows").concat(), expected, "over used memory");
    }

    #[test]
    fn what_is_not_understood_is_left_to_rows() {
        assert!(column_of("map", "Map(String, UInt64)").is_none());
        let layout = Layout(vec![column_of("name", "String").expect("text")]);
        assert_eq!(layout.block([b"\x05cut".as_slice()].into_iter(), 1, &mut Vec::new()), None);
        assert_eq!(layout.block([b"\x01a\x01b".as_slice()].into_iter(), 1, &mut Vec::new()), None, "another number of rows");
    }
}
