//! Packs of the first rows of keys (`engine/first_pack.rs`), as a cut writes them.
//!
//! Owns the packs that are open while a cut goes on: one a kind. Promises as many rows as there were keys at most. Never reads or writes a table, and never looks at cells:
//! `cell_log.rs`.

use std::collections::BTreeMap;

use super::cell_log::PackRule;
use crate::engine::{PackedRow, RowChange, StateRows, first_pack_key, first_pack_kind, first_rows, push_packed};

/// Between a cut and its rows: new ones go into packs.
pub(super) struct FirstRows<'a> {
    rows: &'a mut dyn StateRows,
    /// Of the cut.
    sequence: u64,
    rule: PackRule,
    /// By the packs' kind.
    open: BTreeMap<u8, Open>,
}

/// A pack under way.
#[derive(Default)]
struct Open {
    /// Among those of its kind in the cut.
    number: u32,
    rows: usize,
    bytes: Vec<u8>,
}

impl<'a> FirstRows<'a> {
    /// Hands on to `rows`.
    pub(super) fn new(rows: &'a mut dyn StateRows, sequence: u64, rule: PackRule) -> Self {
        FirstRows { rows, sequence, rule, open: BTreeMap::new() }
    }

    /// All rows of the cut were taken: hands on what is open.
    pub(super) fn finish(self) {
        for (pack_kind, pack) in self.open {
            pack.close(pack_kind, self.sequence, self.rule.least_rows, self.rows);
        }
    }
}

impl StateRows for FirstRows<'_> {
    fn row(&mut self, kind: u8, key: &[u8], payload: &[u8], change: RowChange) {
        let Some(pack_kind) = first_pack_kind(kind).filter(|_| change == RowChange::New) else {
            return self.rows.row(kind, key, payload, change);
        };
        let pack = self.open.entry(pack_kind).or_default();
        push_packed(&mut pack.bytes, &PackedRow { key, payload, is_deleted: false });
        pack.rows += 1;
        if pack.bytes.len() >= self.rule.full_bytes {
            pack.close(pack_kind, self.sequence, self.rule.least_rows, self.rows);
            pack.bytes.clear();
            pack.number += 1;
            pack.rows = 0;
        }
    }
}

impl Open {
    fn close(&self, pack_kind: u8, sequence: u64, least_rows: usize, rows: &mut dyn StateRows) {
        if self.rows >= least_rows {
            return rows.row(pack_kind, &first_pack_key(sequence, self.number), &self.bytes, RowChange::New);
        }
        let Some((kind, mut packed)) = first_rows(pack_kind, &[], &self.bytes) else { return };
        while let Ok(Some(PackedRow { key, payload, .. })) = packed.read() {
            rows.row(kind as u8, key, payload, RowChange::New);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{StateKind, StateRow};

    const CUSTOMER: u8 = StateKind::Customer as u8;
    const SHARE: u8 = StateKind::Share as u8;

    /// Kind and key of the rows of a cut, packs taken apart, and how many rows they were.
    fn rows_of(cut: &[(u8, String, RowChange)], full_bytes: usize) -> (Vec<(u8, String)>, usize) {
        let mut rows: Vec<StateRow> = Vec::new();
        let mut first = FirstRows::new(&mut rows, 7, PackRule { full_bytes, ..PackRule::default() });
        cut.iter().for_each(|(kind, key, change)| first.row(*kind, key.as_bytes(), b"payload", *change));
        first.finish();
        let mut found = Vec::new();
        for row in &rows {
            let text = |key: &[u8]| String::from_utf8(key.to_vec()).expect("a text");
            let Some((kind, mut packed)) = first_rows(row.kind, &row.key, &row.payload) else {
                found.push((row.kind, text(&row.key)));
                continue;
            };
            while let Some(row) = packed.read().expect("readable") {
                assert_eq!(row.payload, b"payload");
                found.push((kind as u8, text(row.key)));
            }
        }
        found.sort();
        let mut keys: Vec<(u8, &[u8])> = rows.iter().map(|row| (row.kind, row.key.as_slice())).collect();
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), rows.len(), "two rows of one key");
        (found, rows.len())
    }

    fn cut(kind: u8, keys: std::ops::Range<u32>, change: RowChange) -> Vec<(u8, String, RowChange)> {
        keys.map(|key| (kind, key.to_string(), change)).collect()
    }

    #[test]
    fn every_row_is_handed_on_once_new_ones_in_packs() {
        let rows = [
            cut(CUSTOMER, 0..1_000, RowChange::New),
            cut(CUSTOMER, 1_000..1_100, RowChange::Changed),
            cut(SHARE, 0..20, RowChange::New),
            cut(StateKind::MoreIds as u8, 0..30, RowChange::New),
            cut(StateKind::MoreIds as u8, 30..40, RowChange::Gone),
        ]
        .concat();
        let mut expected: Vec<(u8, String)> = rows.iter().map(|(kind, key, _)| (*kind, key.clone())).collect();
        expected.sort();
        assert_eq!(rows_of(&rows, 1 << 20), (expected.clone(), 1 + 100 + 1 + 30 + 10));
        let (found, count) = rows_of(&rows, 200);
        assert_eq!(found, expected);
        assert!((150..350).contains(&count), "{count} rows");
    }

    #[test]
    fn few_new_rows_stay_rows() {
        let (found, count) = rows_of(&cut(SHARE, 0..7, RowChange::New), 1 << 20);
        assert_eq!((found.len(), count), (7, 7));
        assert_eq!(rows_of(&cut(SHARE, 0..8, RowChange::New), 1 << 20).1, 1);
        assert_eq!(rows_of(&cut(SHARE, 0..8, RowChange::New), 1).1, 8);
        assert_eq!(rows_of(&[], 1), (Vec::new(), 0));
    }
}
