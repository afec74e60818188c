//! Memory of rows that became columns, for the next rows of the same table: megabytes that come and go are zeroed by the kernel each time,
//! which took a fifth of the processor's time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::rows::Table;

/// A larger buffer is given back: after a backlog nobody needs it any more.
pub(super) const MOST_KEPT_BYTES: usize = 16 << 20;

/// Buffers by table, as many as there are workers.
#[derive(Debug)]
pub(super) struct Spares {
    kept: Mutex<BTreeMap<Table, Vec<Vec<u8>>>>,
    most: usize,
}

impl Spares {
    pub fn new(workers: usize) -> Self {
        Spares { kept: Mutex::default(), most: workers }
    }

    /// A buffer; empty, and without memory if none is kept.
    pub fn take(&self, table: Table) -> Vec<u8> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get_mut(&table).and_then(Vec::pop).unwrap_or_default()
    }

    /// Keeps a buffer for the next rows.
    pub fn put(&self, table: Table, mut buffer: Vec<u8>) {
        if buffer.capacity() > MOST_KEPT_BYTES {
            return;
        }
        buffer.clear();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let buffers = kept.entry(table).or_default();
        if buffers.len() < self.most {
            buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_empty_and_only_so_many_are_kept() {
        let spares = Spares::new(2);
        assert_eq!(spares.take(Table::Customers).capacity(), 0);
        for _ in 0..3 {
            spares.put(Table::Customers, b"rows".to_vec());
        }
        spares.put(Table::Shares, Vec::with_capacity(MOST_KEPT_BYTES + 1));
        let taken: Vec<(usize, bool)> =
            (0..3).map(|_| spares.take(Table::Customers)).map(|buffer| (buffer.len(), buffer.capacity() > 0)).collect();
        assert_eq!(taken, [(0, true), (0, true), (0, false)]);
        assert_eq!(spares.take(Table::Shares).capacity(), 0);
    }
}
