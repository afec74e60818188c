//! First packs: the first rows of keys that a cut found to be new, many in one row of `task_state`. Most keys never change after their first cut (seven of ten customers
//! come once), and a row costs ClickHouse about as much whatever is in it.
//!
//! Owns which kinds have such packs, their keys, and which rows outrank what they say. Promises that a key is in one pack at most: what it says later is a row of its own,
//! which is right whenever it is there. So these kinds must have no keys that go: nothing would tell that what the pack says is gone. Never decides what goes into a pack:
//! `task/first_rows.rs`.

use hashbrown::HashSet;
use smallvec::SmallVec;
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

use super::RestoreError;
use super::kind::StateKind;
use super::pack::{PackedRows, packed_kind};

/// `task_state.kind` of a pack of rows of a kind: so much more than the kind's own.
const FIRST_PACK: u8 = 20;

/// The `kind` of packs of first rows of this kind; `None`: it has none.
pub fn first_pack_kind(kind: u8) -> Option<u8> {
    let kind = StateKind::from_number(kind)?;
    has_first_packs(kind).then_some(FIRST_PACK + kind as u8)
}

/// What a pack of this row kind holds; `None`: it is no pack of first rows.
pub(super) fn first_packed_kind(row_kind: u8) -> Option<StateKind> {
    StateKind::from_number(row_kind.checked_sub(FIRST_PACK)?).filter(|kind| has_first_packs(*kind))
}

/// Whether a row of `task_state` is a pack, of whatever.
pub fn is_pack(row_kind: u8) -> bool {
    first_packed_kind(row_kind).is_some() || packed_kind(row_kind).is_some()
}

/// Whether keys of a kind never go.
fn has_first_packs(kind: StateKind) -> bool {
    match kind {
        StateKind::Customer
        | StateKind::OutboundVisit
        | StateKind::InboundVisit
        | StateKind::InboundReferral
        | StateKind::Share
        | StateKind::ChildShare => true,
        StateKind::MoreIds | StateKind::MinuteCell | StateKind::DayCell | StateKind::ActiveDay => false,
    }
}

/// The `key` of a pack's row: sequence of the cut and number of the pack among those of its kind in the cut, big endian.
pub fn first_pack_key(sequence: u64, number: u32) -> [u8; 12] {
    let mut key = [0; 12];
    let (of_cut, in_cut) = key.split_at_mut(8);
    of_cut.copy_from_slice(&sequence.to_be_bytes());
    in_cut.copy_from_slice(&number.to_be_bytes());
    key
}

/// The rows of a pack; `None`: the row is no pack of first rows. They come behind all rows of single keys.
pub fn first_rows<'a>(row_kind: u8, row_key: &'a [u8], payload: &'a [u8]) -> Option<(StateKind, PackedRows<'a>)> {
    let kind = first_packed_kind(row_kind)?;
    Some((kind, PackedRows::of_kind(kind, row_key, payload)))
}

/// Which keys may have rows of their own, in two bytes a key: one in a hundred keys that have none is taken for one that has.
#[derive(Debug, Default)]
pub struct OwnRowsFilter(Vec<u64>);

impl OwnRowsFilter {
    /// Memory is taken for so many keys: with more the filter says yes more often.
    pub const MOST_KEYS: u64 = 1 << 26;

    /// For so many keys.
    pub fn new(keys: u64) -> Self {
        OwnRowsFilter(vec![0; keys.clamp(64, Self::MOST_KEYS).div_ceil(4) as usize])
    }

    /// A row of a single key was read.
    pub fn note(&mut self, kind: u8, key: &[u8]) {
        if first_pack_kind(kind).is_some() {
            let (place, bits) = self.place(kind, key);
            if let Some(word) = self.0.get_mut(place) {
                *word |= bits;
            }
        }
    }

    /// Whether a key may have a row of its own: never `false` if it has one.
    pub fn may_have(&self, kind: StateKind, key: &[u8]) -> bool {
        let (place, bits) = self.place(kind as u8, key);
        self.0.get(place).is_none_or(|word| word & bits == bits)
    }

    /// Four bits of one word.
    fn place(&self, kind: u8, key: &[u8]) -> (usize, u64) {
        let hash = xxh3_64_with_seed(key, kind.into());
        let place = ((hash >> 32) * self.0.len() as u64) >> 32;
        (place as usize, [0, 6, 12, 18].iter().fold(0, |bits, shift| bits | 1 << (hash >> shift & 63)))
    }

    /// Memory, bytes.
    pub fn allocated_bytes(&self) -> usize {
        self.0.capacity() * size_of::<u64>()
    }
}

/// Kind, key and payload of a row of a single key, or of a pack of cells.
pub type SingleRow<'a> = (u8, &'a [u8], &'a [u8]);

/// Keys that have rows of their own, for whoever reads state without an engine: what a first pack says of them is outdated. Some twenty bytes for each.
#[derive(Debug, Default)]
pub struct OwnRows(HashSet<u128, foldhash::quality::FixedState>);

impl OwnRows {
    /// What a row of `task_state` says: itself, or those rows of a first pack that are not outdated. Rows of a task come in the order of their kinds.
    ///
    /// # Errors
    /// When it is a pack that cannot be read.
    pub fn rows_of<'a>(&mut self, kind: u8, key: &'a [u8], payload: &'a [u8]) -> Result<SmallVec<[SingleRow<'a>; 1]>, RestoreError> {
        let mut rows = SmallVec::new();
        let Some((kind, mut first)) = first_rows(kind, key, payload) else {
            self.note(kind, key);
            rows.push((kind, key, payload));
            return Ok(rows);
        };
        while let Some(row) = first.read()? {
            if !self.0.contains(&name(kind as u8, row.key)) {
                rows.push((kind as u8, row.key, row.payload));
            }
        }
        Ok(rows)
    }

    fn note(&mut self, kind: u8, key: &[u8]) {
        if first_pack_kind(kind).is_some() {
            self.0.insert(name(kind, key));
        }
    }
}

/// 128 bits: no two keys of a state have the same.
fn name(kind: u8, key: &[u8]) -> u128 {
    xxh3_128_with_seed(key, kind.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{PackedRow, push_packed};

    #[test]
    fn kinds_of_first_packs_are_no_other_kinds() {
        for kind in StateKind::ALL {
            let Some(row_kind) = first_pack_kind(kind as u8) else { continue };
            assert_eq!(first_packed_kind(row_kind), Some(kind));
            assert!(StateKind::from_number(row_kind).is_none() && !crate::engine::is_packed(row_kind));
        }
        // Stored: for ever.
        let packed: Vec<u8> = (0..=255).filter(|row_kind| first_packed_kind(*row_kind).is_some()).collect();
        assert_eq!(packed, [21, 26, 27, 28, 29, 30]);
        // The task's own rows.
        assert_eq!((first_pack_kind(0), first_pack_kind(255)), (None, None));
    }

    #[test]
    fn rows_of_a_pack_are_read_in_their_order_and_packs_in_that_of_their_cuts() {
        let mut pack = Vec::new();
        for key in [&b"b"[..], b"a"] {
            push_packed(&mut pack, &PackedRow { key, payload: b"1", is_deleted: false });
        }
        let key = first_pack_key(1 << 39, 2);
        assert!(key > first_pack_key(1 << 39, 1) && key > first_pack_key(1, 70_000));
        let (kind, mut rows) = first_rows(29, &key, &pack).expect("a pack");
        assert_eq!(kind, StateKind::Share);
        let keys: Vec<&[u8]> = std::iter::from_fn(|| rows.read().expect("readable")).map(|row| row.key).collect();
        assert_eq!(keys, [b"b", b"a"]);
        assert!(first_rows(9, &key, &pack).is_none());
        let (_, mut rows) = first_rows(29, &key, pack.get(..pack.len() - 1).expect("a prefix")).expect("a pack");
        assert!(rows.read().is_ok() && rows.read().is_err());
    }

    #[test]
    fn a_key_has_a_row_of_its_own_by_its_kind() {
        let mut pack = Vec::new();
        push_packed(&mut pack, &PackedRow { key: b"key", payload: b"1", is_deleted: false });
        push_packed(&mut pack, &PackedRow { key: b"kez", payload: b"1", is_deleted: false });
        let mut own = OwnRows::default();
        for kind in [StateKind::Customer, StateKind::DayCell].map(|kind| kind as u8) {
            assert_eq!(own.rows_of(kind, b"key", b"2").expect("a row").as_slice(), [(kind, &b"key"[..], &b"2"[..])]);
        }
        let mut keys_of = |pack_kind| -> Vec<Vec<u8>> {
            own.rows_of(pack_kind, b"", &pack).expect("a pack").iter().map(|(_, key, _)| key.to_vec()).collect()
        };
        assert_eq!((keys_of(21), keys_of(29)), (vec![b"kez".to_vec()], vec![b"key".to_vec(), b"kez".to_vec()]));
        assert!(!own.0.contains(&name(StateKind::DayCell as u8, b"key")), "cells have no first packs");
        assert!(own.rows_of(21, b"", pack.get(1..).expect("a part")).is_err());
    }

    #[test]
    fn a_filter_never_forgets_a_key_and_seldom_takes_another_for_one() {
        const KEYS: u64 = 100_000;
        let mut filter = OwnRowsFilter::new(KEYS);
        let key = |number: u64| number.to_be_bytes();
        (0..KEYS).for_each(|number| filter.note(StateKind::Share as u8, &key(number)));
        assert!((0..KEYS).all(|number| filter.may_have(StateKind::Share, &key(number))));
        let wrong = (KEYS..2 * KEYS).filter(|number| filter.may_have(StateKind::Share, &key(*number))).count();
        assert!(wrong < 2_000, "{wrong} of {KEYS}");
        assert!((0..100).filter(|number| filter.may_have(StateKind::Customer, &key(*number))).count() < 20);
        assert_eq!(filter.allocated_bytes(), 200_000);
        // What was never sized says yes, and a size that no state has takes little.
        assert!(OwnRowsFilter::default().may_have(StateKind::Share, b"key"));
        assert_eq!(OwnRowsFilter::new(u64::MAX).allocated_bytes(), 128 << 20);
    }
}
