//! Pages of rows that are in, for the next rows of the same table: megabytes that come and go are zeroed by the kernel each time,
//! which took a fifth of the processor's time.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::rows::Table;

/// Smaller memory is not worth keeping.
const LEAST_PAGE: usize = 4 << 10;

/// Pages by table; `None` is `task_state`.
#[derive(Debug)]
pub(super) struct Spares {
    kept: Mutex<BTreeMap<Option<Table>, Kept>>,
    workers: usize,
    /// Of all tables: what a backlog needs beyond that is given back.
    most_bytes: usize,
}

#[derive(Debug, Default)]
struct Kept {
    pages: Vec<Vec<u8>>,
    bytes: usize,
    /// Pages of one worker's part of the last insert.
    share: usize,
}

impl Spares {
    pub fn new(workers: usize, most_bytes: usize) -> Self {
        Spares { kept: Mutex::default(), workers: workers.max(1), most_bytes }
    }

    /// A worker's share of the pages that are kept; none if none are.
    pub fn take(&self, table: Option<Table>) -> Vec<Vec<u8>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of_table) = kept.get_mut(&table) else { return Vec::new() };
        let first = of_table.pages.len().saturating_sub(of_table.share);
        let taken = of_table.pages.split_off(first);
        of_table.bytes -= taken.iter().map(Vec::capacity).sum::<usize>();
        taken
    }

    /// Keeps pages for the next rows.
    pub fn put(&self, table: Option<Table>, pages: impl Iterator<Item = Vec<u8>>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut room = self.most_bytes.saturating_sub(kept.values().map(|of_table| of_table.bytes).sum());
        let of_table = kept.entry(table).or_default();
        let before = of_table.pages.len();
        for mut page in pages.filter(|page| page.capacity() >= LEAST_PAGE) {
            let Some(left) = room.checked_sub(page.capacity()) else { break };
            room = left;
            page.clear();
            of_table.bytes += page.capacity();
            of_table.pages.push(page);
        }
        of_table.share = (of_table.pages.len() - before).div_ceil(self.workers);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_come_back_empty_to_each_worker_and_only_so_many_are_kept() {
        let page_of = |bytes: usize| {
            let mut page = Vec::with_capacity(bytes);
            page.push(1);
            page
        };
        let spares = Spares::new(2, 32 << 20);
        assert!(spares.take(Some(Table::Customers)).is_empty());
        spares.put(Some(Table::Customers), (0..40).map(|_| page_of(1 << 20)));
        spares.put(None, std::iter::once(page_of(100)));
        assert!(spares.take(None).is_empty(), "too small");
        let taken = [(); 3].map(|()| spares.take(Some(Table::Customers)));
        assert_eq!(taken.each_ref().map(Vec::len), [16, 16, 0]);
        assert!(taken.iter().flatten().all(|page| page.is_empty() && page.capacity() >= 1 << 20));
        spares.put(Some(Table::Customers), (0..20).map(|_| page_of(1 << 20)));
        spares.put(Some(Table::Shares), (0..20).map(|_| page_of(1 << 20)));
        assert_eq!(spares.take(Some(Table::Shares)).len(), 6, "half of what the other table left room for");
    }
}
