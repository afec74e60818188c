//! Columns as ClickHouse's Native format: one block of all rows of an insert.
//!
//! Reading a row column by column is most of what an insert costs the server; a block in Native costs it a third. Types come from the
//! schema as it is shipped, except that numbers are sent as the narrowest type that has room for all of them: the server converts them, which
//! takes it no measurable time. `LowCardinality` is sent plain: dictionaries save the server a tenth of an insert, and cost this side as much.
//! Promises one block whatever the number of buffers. Pages are sent as they lie, and their memory is used again.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

use bytes::Bytes;

use crate::migrate::schema::tables;
use crate::rows::{Column, RowBuffer};
use crate::short;

/// The columns of a table.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    columns: Vec<Head>,
}

/// What stands before the values of a column.
#[derive(Clone, Debug)]
struct Head {
    name: String,
    /// Its name and the table's type, as they are sent.
    whole: Bytes,
}

impl Head {
    fn of(name: &str, kind: &str) -> Head {
        let plain = kind.strip_prefix("LowCardinality(").and_then(|inner| inner.strip_suffix(')')).unwrap_or(kind);
        Head { name: name.to_owned(), whole: name_and_type(name, plain) }
    }

    fn before(&self, columns: &[Column]) -> Bytes {
        match columns.first().and_then(Column::own_type) {
            Some(own) => name_and_type(&self.name, own),
            None => self.whole.clone(),
        }
    }
}

impl Layout {
    /// Of the columns that rows of a table are encoded with; `None` if the schema does not have them.
    pub fn of(table: &str, columns: &[&str]) -> Option<Self> {
        let schema = tables().get(table)?;
        let head = |name: &&str| {
            let known = schema.columns.iter().find(|column| column.name == **name)?;
            Some(Head::of(name, &known.kind))
        };
        Some(Layout { columns: columns.iter().map(head).collect::<Option<_>>()? })
    }

    /// One block of all rows of the buffers, in parts, one after the other; `None` if there are rows with another number of columns.
    pub fn block(&self, buffers: impl IntoIterator<Item = RowBuffer>) -> Option<Vec<Bytes>> {
        let mut rows = 0;
        let mut gathered: Vec<Vec<Column>> = self.columns.iter().map(|_| Vec::new()).collect();
        for buffer in buffers.into_iter().filter(|buffer| !buffer.is_empty()) {
            rows += buffer.rows() as u64;
            let columns = buffer.into_columns();
            if columns.len() != self.columns.len() {
                return None;
            }
            gathered.iter_mut().zip(columns).for_each(|(column, values)| column.push(values));
        }
        let mut start = Vec::new();
        short::push_number(&mut start, self.columns.len() as u64);
        short::push_number(&mut start, rows);
        let mut parts = vec![Bytes::from(start)];
        for (head, mut columns) in self.columns.iter().zip(gathered) {
            Column::join(&mut columns);
            parts.push(head.before(&columns));
            parts.push(Column::ends(&columns).into());
            parts.extend(columns.into_iter().flat_map(Column::into_pages).map(Bytes::from));
        }
        parts.retain(|part| !part.is_empty());
        Some(parts)
    }
}

/// The memory of a block that was sent, for the next rows.
pub(super) fn reclaim(parts: Vec<Bytes>) -> impl Iterator<Item = Vec<u8>> {
    parts.into_iter().filter(Bytes::is_unique).map(|mut part| {
        // What is left of it is moved within its own memory. Nothing at all would leave the memory behind.
        part.truncate(1);
        Vec::from(part)
    })
}

fn name_and_type(name: &str, kind: &str) -> Bytes {
    let mut head = Vec::new();
    for text in [name, kind] {
        short::push_text(&mut head, text.as_bytes());
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
        let layout = Layout { columns: kinds.map(|(name, kind)| Head::of(name, kind)).into() };
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
    fn numbers_of_several_buffers_are_sent_in_as_few_bytes_as_all_of_them_need() {
        let kinds = [("brand", "LowCardinality(String)"), ("scans", "UInt64"), ("paid", "Int64"), ("days", "UInt32")];
        let layout = Layout { columns: kinds.map(|(name, kind)| Head::of(name, kind)).into() };
        let mut buffers = [RowBuffer::default(), RowBuffer::default()];
        let rows =
            [(0, "acme", 1, -1, 3), (0, "", 255, 5, 0), (0, "acme", 2, 127, 9), (1, "bravo", 256, -129, 70_000), (1, "acme", 0, 0, 1)];
        for (buffer, brand, scans, paid, days) in rows {
            buffers[buffer].push(|out| {
                out.string(brand).count(scans).amount(paid).count32(days);
            });
        }
        let mut expected = vec![4, 5];
        expected.extend_from_slice(b"\x05brand\x06String\x04acme\x00\x04acme\x05bravo\x04acme");
        expected.extend_from_slice(b"\x05scans\x06UInt16");
        expected.extend([1_u16, 255, 2, 256, 0].into_iter().flat_map(u16::to_le_bytes));
        expected.extend_from_slice(b"\x04paid\x05Int16");
        expected.extend([-1_i16, 5, 127, -129, 0].into_iter().flat_map(i16::to_le_bytes));
        expected.extend_from_slice(b"\x04days\x06UInt32");
        expected.extend([3_u32, 0, 9, 70_000, 1].into_iter().flat_map(u32::to_le_bytes));
        assert_eq!(layout.block(buffers).expect("rows").concat(), expected);
    }

    #[test]
    fn rows_of_other_columns_are_no_block() {
        let layout = Layout { columns: vec![Head::of("name", "String")] };
        let mut rows = RowBuffer::default();
        rows.push(|out| {
            out.string("a").string("b");
        });
        assert_eq!(layout.block([rows]), None);
    }
}
