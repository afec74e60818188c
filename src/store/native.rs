//! Columns as ClickHouse's Native format: one block of all rows of an insert.
//!
//! Reading a row column by column is most of what an insert costs the server; a block in Native costs it a third. Types come from the
//! schema as it is shipped; `LowCardinality` is sent plain, which costs the server no more. Promises one block whatever the number of
//! buffers, and the same bytes for the same rows. Pages are sent as they lie, and their memory is used again.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

use bytes::Bytes;

use crate::migrate::schema::tables;
use crate::rows::{Column, RowBuffer, push_varint};

/// The columns of a table.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// What stands before the values of each column: its name and type.
    heads: Vec<Bytes>,
}

impl Layout {
    /// Of the columns that rows of a table are encoded with; `None` if the schema does not have them.
    pub fn of(table: &str, columns: &[&str]) -> Option<Self> {
        let schema = tables().get(table)?;
        let head = |name: &&str| {
            let known = schema.columns.iter().find(|column| column.name == **name)?;
            Some(head_of(name, &known.kind))
        };
        Some(Layout { heads: columns.iter().map(head).collect::<Option<_>>()? })
    }

    /// One block of all rows of the buffers, in parts, one after the other; `None` if there are rows with another number of columns.
    pub fn block(&self, buffers: impl IntoIterator<Item = RowBuffer>) -> Option<Vec<Bytes>> {
        let mut rows = 0;
        let mut gathered: Vec<Vec<Column>> = self.heads.iter().map(|_| Vec::new()).collect();
        for buffer in buffers.into_iter().filter(|buffer| !buffer.is_empty()) {
            rows += buffer.rows() as u64;
            let columns = buffer.into_columns();
            if columns.len() != self.heads.len() {
                return None;
            }
            gathered.iter_mut().zip(columns).for_each(|(column, values)| column.push(values));
        }
        let mut start = Vec::new();
        push_varint(&mut start, self.heads.len() as u64);
        push_varint(&mut start, rows);
        let mut parts = vec![Bytes::from(start)];
        for (head, columns) in self.heads.iter().zip(gathered) {
            parts.push(head.clone());
            let mut elements = 0;
            for column in &columns {
                parts.push(column.ends(elements).into());
                elements += column.elements();
            }
            parts.extend(columns.into_iter().flat_map(Column::into_pages).map(Bytes::from));
        }
        parts.retain(|part| !part.is_empty());
        Some(parts)
    }
}

/// The memory of a block that was sent, for the next rows.
pub(super) fn reclaim(parts: Vec<Bytes>) -> impl Iterator<Item = Vec<u8>> {
    parts.into_iter().filter(Bytes::is_unique).map(Vec::from)
}

fn head_of(name: &str, kind: &str) -> Bytes {
    let plain = kind.strip_prefix("LowCardinality(").and_then(|inner| inner.strip_suffix(')')).unwrap_or(kind);
    let mut head = Vec::new();
    for text in [name, plain] {
        push_varint(&mut head, text.len() as u64);
        head.extend_from_slice(text.as_bytes());
    }
    head.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Table;
    use crate::task::STATE_COLUMNS;

    #[test]
    fn everything_that_the_pipeline_writes_has_a_layout() {
        for table in Table::ALL {
            assert!(Layout::of(table.name(), table.columns()).is_some(), "{}", table.name());
        }
        assert!(Layout::of("task_state", &STATE_COLUMNS).is_some());
        assert!(Layout::of("task_state", &["nothing"]).is_none() && Layout::of("nothing", &[]).is_none());
    }

    #[test]
    fn rows_of_several_buffers_become_one_block() {
        let kinds = [("name", "LowCardinality(String)"), ("at", "DateTime64(3, 'UTC')"), ("parts", "Array(String)")];
        let layout = Layout { heads: kinds.map(|(name, kind)| head_of(name, kind)).into() };
        let long = "x".repeat(300);
        let mut buffers = [RowBuffer::default(), RowBuffer::default(), RowBuffer::default()];
        let mut push = |buffer: usize, name: &str, at: i64, parts: &[&str]| {
            buffers[buffer].push(|out| {
                out.string(name).i64(at).array(parts.iter(), |out, part| {
                    out.string(part);
                });
            });
        };
        push(0, "a", -2, &["p", "qq"]);
        push(2, &long, 7, &[]);
        push(2, "", 8, &["r"]);
        let parts = layout.block(buffers).expect("rows");
        let mut expected = vec![3, 3];
        expected.extend_from_slice(b"\x04name\x06String\x01a\xac\x02");
        expected.extend_from_slice(long.as_bytes());
        expected.extend_from_slice(b"\x00\x02at\x14DateTime64(3, 'UTC')");
        expected.extend([-2_i64, 7, 8].into_iter().flat_map(i64::to_le_bytes));
        expected.extend_from_slice(b"\x05parts\x0dArray(String)");
        expected.extend([2_u64, 2, 3].into_iter().flat_map(u64::to_le_bytes));
        expected.extend_from_slice(b"\x01p\x02qq\x01r");
        assert_eq!(parts.concat(), expected);
        assert!(reclaim(parts).filter(|memory| memory.capacity() >= 4096).count() >= 6, "the pages come back");
    }

    #[test]
    fn rows_of_other_columns_are_no_block() {
        let layout = Layout { heads: vec![head_of("name", "String")] };
        let mut rows = RowBuffer::default();
        rows.push(|out| {
            out.string("a").string("b");
        });
        assert_eq!(layout.block([rows]), None);
    }
}
