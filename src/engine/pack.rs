//! Packs: the cells of a sixteenth of a day that a cut changed, as one row of `task_state` instead of a row each. Most state rows would be cells of a few bytes.
//!
//! Owns the keys and the encoding of packs, and which cells they leave in the end. Promises that packs read in the order of their keys say what rows of
//! single cells would: the last that names a cell is right. Never decides what goes into a pack, and which packs are still needed: `task/cell_log.rs`.

use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64;

use super::kind::{KeyReader, StateKind};
use super::wire::Writer;
use super::{Engine, RestoreError};
use crate::decode::protobuf::{ProtobufError, Reader};

const MINUTES_A_DAY: u32 = 1_440;

/// A day's cells are told apart by so many slices: one of them is written anew at a time, however many cells a day has.
const SLICES: u64 = 16;

/// Which cells a pack holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackPlace {
    /// Minute cells or day cells.
    pub kind: StateKind,
    /// The UTC day of minutes, the brand's day of days: days since 1970.
    pub day: u32,
    /// Below 16, by the hash of the cell's key.
    pub slice: u8,
}

impl PackPlace {
    /// The place of a cell, by the kind and key of its row; `None`: nothing that goes into packs.
    pub fn of(kind: u8, key: &[u8]) -> Option<Self> {
        let kind = StateKind::from_number(kind).filter(|kind| matches!(kind, StateKind::MinuteCell | StateKind::DayCell))?;
        let mut reader = KeyReader(key);
        reader.bytes()?;
        let day = day_of_bucket(kind, reader.number()?);
        Some(PackPlace { kind, day, slice: (xxh3_64(key) % SLICES) as u8 })
    }
}

/// Which pack: the key of its row is day, slice, sequence and number, big endian, so that packs of a slice are read in the order of their cuts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PackKey {
    /// What it holds.
    pub place: PackPlace,
    /// Of the cut.
    pub sequence: u64,
    /// Among those of one cut.
    pub number: u32,
}

impl PackKey {
    /// The `kind` of its row in `task_state`, beside those of [`StateKind`].
    pub fn row_kind(&self) -> u8 {
        match self.place.kind {
            StateKind::MinuteCell => KIND_MINUTE_PACK,
            _ => KIND_DAY_PACK,
        }
    }

    /// The `key` of its row.
    pub fn row_key(&self) -> Vec<u8> {
        let PackPlace { day, slice, .. } = self.place;
        [&day.to_be_bytes()[..], &[slice], &self.sequence.to_be_bytes(), &self.number.to_be_bytes()].concat()
    }

    /// The pack that a row is; `None`: it is none.
    fn read(row_kind: u8, row_key: &[u8]) -> Option<Self> {
        let (day, rest) = row_key.split_first_chunk()?;
        let (slice, rest) = rest.split_first()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        let place = PackPlace { kind: packed_kind(row_kind)?, day: u32::from_be_bytes(*day), slice: *slice };
        Some(PackKey { place, sequence: u64::from_be_bytes(*sequence), number: u32::from_be_bytes(rest.try_into().ok()?) })
    }
}

/// `task_state.kind` of a pack of minute cells.
const KIND_MINUTE_PACK: u8 = 11;
/// `task_state.kind` of a pack of day cells.
const KIND_DAY_PACK: u8 = 12;

/// Kinds of rows about cells of which packs tell: packs, and rows of one cell.
pub const PACKED_ROW_KINDS: [u8; 4] = [StateKind::MinuteCell as u8, StateKind::DayCell as u8, KIND_MINUTE_PACK, KIND_DAY_PACK];

/// Whether a row is of one of [`PACKED_ROW_KINDS`]: what it says may be outdated.
pub fn is_packed(row_kind: u8) -> bool {
    PACKED_ROW_KINDS.contains(&row_kind)
}

/// What a pack of this row kind holds; `None`: it is no pack.
pub fn packed_kind(row_kind: u8) -> Option<StateKind> {
    match row_kind {
        KIND_MINUTE_PACK => Some(StateKind::MinuteCell),
        KIND_DAY_PACK => Some(StateKind::DayCell),
        _ => None,
    }
}

fn day_of_bucket(kind: StateKind, bucket: u32) -> u32 {
    if kind == StateKind::MinuteCell { bucket / MINUTES_A_DAY } else { bucket }
}

/// A row in a pack, of a cell as a rule: the key and the payload of its state row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PackedRow<'a> {
    /// As in a row of its own.
    pub key: &'a [u8],
    /// Empty if deleted.
    pub payload: &'a [u8],
    /// The row is to go.
    pub is_deleted: bool,
}

/// Adds a row to a pack.
pub fn push_packed(pack: &mut Vec<u8>, row: &PackedRow<'_>) {
    Writer(pack).message(1, |entry| {
        entry.bytes(1, row.key).bytes(2, row.payload).number(3, row.is_deleted);
    });
}

/// Reads the rows of a pack one after the other.
#[derive(Debug)]
pub struct PackedRows<'a> {
    pack: Reader<'a>,
    row: (StateKind, &'a [u8]),
}

impl<'a> PackedRows<'a> {
    /// Of a pack of rows of this kind; the key of its own row is for errors.
    pub(super) fn of_kind(kind: StateKind, row_key: &'a [u8], payload: &'a [u8]) -> Self {
        PackedRows { pack: Reader::new(payload), row: (kind, row_key) }
    }

    /// Of a row that is a pack of cells.
    ///
    /// # Errors
    /// When its key is no pack's.
    pub fn of_row(row_kind: u8, row_key: &'a [u8], payload: &'a [u8]) -> Result<(PackKey, Self), RestoreError> {
        let kind = packed_kind(row_kind).ok_or(RestoreError::Kind(row_kind))?;
        let at = PackKey::read(row_kind, row_key).ok_or_else(|| unreadable(kind, row_key))?;
        Ok((at, PackedRows::of_kind(kind, row_key, payload)))
    }

    /// The next row; `None` at the end.
    ///
    /// # Errors
    /// When the payload is no pack.
    pub fn read(&mut self) -> Result<Option<PackedRow<'a>>, RestoreError> {
        self.next_row().map_err(|_| unreadable(self.row.0, self.row.1))
    }

    fn next_row(&mut self) -> Result<Option<PackedRow<'a>>, ProtobufError> {
        while let Some(field) = self.pack.field()? {
            if field.number != 1 {
                self.pack.skip(field)?;
                continue;
            }
            let mut entry = self.pack.message(field)?;
            let mut row = PackedRow::default();
            while let Some(field) = entry.field()? {
                match field.number {
                    1 => row.key = entry.message(field)?.rest(),
                    2 => row.payload = entry.message(field)?.rest(),
                    3 => row.is_deleted = entry.integer(field)? != 0,
                    _ => entry.skip(field)?,
                }
            }
            return Ok(Some(row));
        }
        Ok(None)
    }
}

fn unreadable(kind: StateKind, row_key: &[u8]) -> RestoreError {
    let key = row_key.iter().map(|byte| format!("{byte:02x}")).collect();
    RestoreError::Value { kind: kind.name(), key, what: "a pack that cannot be read" }
}

/// Kind and key of a cell.
pub type CellName = (u8, Vec<u8>);

/// The cells that rows of a task leave: for whoever reads state without an engine.
#[derive(Debug, Default)]
pub struct LatestCells(BTreeMap<CellName, Vec<u8>>);

impl LatestCells {
    /// Takes a row, in the order of kinds and keys; whether it is about such cells.
    ///
    /// # Errors
    /// When it is a pack that cannot be read.
    pub fn take(&mut self, kind: u8, key: &[u8], payload: &[u8]) -> Result<bool, RestoreError> {
        if packed_kind(kind).is_none() {
            if is_packed(kind) {
                self.0.insert((kind, key.to_vec()), payload.to_vec());
            }
            return Ok(is_packed(kind));
        }
        let (at, mut cells) = PackedRows::of_row(kind, key, payload)?;
        while let Some(cell) = cells.read()? {
            let name = (at.place.kind as u8, cell.key.to_vec());
            if cell.is_deleted {
                self.0.remove(&name);
            } else {
                self.0.insert(name, cell.payload.to_vec());
            }
        }
        Ok(true)
    }

    /// Name and payload of each.
    pub fn iter(&self) -> impl Iterator<Item = (&CellName, &[u8])> {
        self.0.iter().map(|(name, payload)| (name, payload.as_slice()))
    }
}

impl Engine {
    /// Visits the cells of some days that are in memory, right after a cut: key and payload of their rows.
    pub fn visit_cells(&self, kind: StateKind, is_wanted: impl Fn(u32) -> bool, mut visit: impl FnMut(PackPlace, &PackedRow<'_>)) {
        let is_bucket_wanted = |bucket| is_wanted(day_of_bucket(kind, bucket));
        self.visit_cell_rows(kind, is_bucket_wanted, |key, payload| {
            if let Some(place) = PackPlace::of(kind as u8, key) {
                visit(place, &PackedRow { key, payload, is_deleted: false });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::pb;

    #[test]
    fn a_pack_is_what_its_schema_says() {
        let generated = pb::RowPack {
            rows: vec![
                pb::PackedRow { key: b"one".to_vec(), payload: vec![8, 1], is_deleted: false },
                pb::PackedRow { key: vec![7; 300], payload: Vec::new(), is_deleted: true },
            ],
        };
        let mut written = Vec::new();
        for row in &generated.rows {
            push_packed(&mut written, &PackedRow { key: &row.key, payload: &row.payload, is_deleted: row.is_deleted });
        }
        assert_eq!(written, generated.encode_to_vec());
        let place = PackPlace { kind: StateKind::DayCell, day: 20_000, slice: 3 };
        let at = PackKey { place, sequence: 1 << 39, number: 2 };
        let key = at.row_key();
        let (read, mut cells) = PackedRows::of_row(at.row_kind(), &key, &written).expect("a pack");
        assert_eq!(read, at);
        for row in &generated.rows {
            let expected = PackedRow { key: &row.key, payload: &row.payload, is_deleted: row.is_deleted };
            assert_eq!(cells.read(), Ok(Some(expected)));
        }
        assert_eq!(cells.read(), Ok(None));
        let cut_short = written.get(..written.len() - 1).expect("a prefix");
        let (_, mut cells) = PackedRows::of_row(at.row_kind(), &key, cut_short).expect("a pack");
        assert!(cells.read().is_ok());
        assert!(cells.read().is_err());
        assert!(PackedRows::of_row(at.row_kind(), b"short", &written).is_err());
        assert!(PackedRows::of_row(1, &key, &written).is_err());
    }

    #[test]
    fn the_last_pack_that_names_a_cell_is_right() {
        let pack = |cells: &[(&[u8], &[u8], bool)]| {
            let mut bytes = Vec::new();
            for (key, payload, is_deleted) in cells {
                push_packed(&mut bytes, &PackedRow { key, payload, is_deleted: *is_deleted });
            }
            bytes
        };
        let place = PackPlace { kind: StateKind::MinuteCell, day: 1, slice: 0 };
        let key = |sequence| PackKey { place, sequence, number: 0 }.row_key();
        let mut latest = LatestCells::default();
        assert_eq!(latest.take(StateKind::MinuteCell as u8, b"a", b"0"), Ok(true));
        assert_eq!(latest.take(StateKind::Customer as u8, b"a", b"0"), Ok(false));
        assert_eq!(latest.take(KIND_MINUTE_PACK, &key(1), &pack(&[(b"a", b"1", false), (b"b", b"1", false)])), Ok(true));
        assert_eq!(latest.take(KIND_MINUTE_PACK, &key(2), &pack(&[(b"b", b"", true), (b"c", b"2", false)])), Ok(true));
        let left: Vec<(&[u8], &[u8])> = latest.iter().map(|((_, key), payload)| (key.as_slice(), payload)).collect();
        assert_eq!(left, [(&b"a"[..], &b"1"[..]), (b"c", b"2")]);
        assert!(key(2) > key(1) && key(1 << 33) > key(2));
    }
}
