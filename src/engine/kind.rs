//! Kinds and keys of state rows.
//!
//! A key is its parts one after the other: texts as LEB128 length and bytes, numbers big endian in four bytes; every key starts
//! with the brand, except those of packs (`pack.rs`, `first_pack.rs`). Stored: numbers of kinds and shapes of keys are for ever.

use std::num::NonZeroU64;

use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use crate::short;

/// What a state row is about. 0 and 255 are the task's own rows: positions, and the mark of a complete generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum StateKind {
    /// Key: brand, customer. `CustomerState`.
    Customer = 1,
    /// Key: brand, customer, chunk number. `RememberedIdsState`.
    MoreIds = 2,
    /// Key: brand, minute, campaign, channel, province. `SumsState`. In packs, as a rule: `pack.rs`.
    MinuteCell = 3,
    /// Key: brand, day, campaign, sku, channel, region. `SumsState`. In packs, as a rule.
    DayCell = 4,
    /// Key: brand, day. `SumsState`: customers by what they did that day.
    ActiveDay = 5,
    /// Key: brand, visitor, share, sharer. `OutboundVisitState`.
    OutboundVisit = 6,
    /// Key: brand, share, sharer, visitor. `InboundVisitState`.
    InboundVisit = 7,
    /// Key: brand, sharer, child. `InboundReferralState`.
    InboundReferral = 8,
    /// Key: brand, sharer, share. `ShareState`.
    Share = 9,
    /// Key: brand, parent share, parent sharer, child share, child sharer. `ChildShareState`.
    ChildShare = 10,
}

impl StateKind {
    /// All kinds, in their order.
    pub const ALL: [StateKind; 10] = [
        StateKind::Customer,
        StateKind::MoreIds,
        StateKind::MinuteCell,
        StateKind::DayCell,
        StateKind::ActiveDay,
        StateKind::OutboundVisit,
        StateKind::InboundVisit,
        StateKind::InboundReferral,
        StateKind::Share,
        StateKind::ChildShare,
    ];

    /// The label in `onecode_state_keys{kind}`.
    pub fn name(self) -> &'static str {
        match self {
            StateKind::Customer => "customer",
            StateKind::MoreIds => "more_ids",
            StateKind::MinuteCell => "minute_cell",
            StateKind::DayCell => "day_cell",
            StateKind::ActiveDay => "active_day",
            StateKind::OutboundVisit => "outbound_visit",
            StateKind::InboundVisit => "inbound_visit",
            StateKind::InboundReferral => "inbound_referral",
            StateKind::Share => "share",
            StateKind::ChildShare => "child_share",
        }
    }

    /// From the stored number.
    pub fn from_number(number: u8) -> Option<Self> {
        StateKind::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// One row of `task_state`, without the task, the generation and the sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRow {
    /// A [`StateKind`].
    pub kind: u8,
    /// Unique within the kind.
    pub key: Vec<u8>,
    /// Protobuf; empty if deleted.
    pub payload: Vec<u8>,
    /// The row is to go.
    pub deleted: bool,
}

/// What a row does to what was stored before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowChange {
    /// Its key had no row.
    New,
    /// It replaces its key's row.
    Changed,
    /// Its key's row is to go.
    Gone,
}

/// Takes the rows of a cut, one by one.
pub trait StateRows {
    /// Takes a row; a row that is to go has no payload.
    fn row(&mut self, kind: u8, key: &[u8], payload: &[u8], change: RowChange);
}

impl StateRows for Vec<StateRow> {
    fn row(&mut self, kind: u8, key: &[u8], payload: &[u8], change: RowChange) {
        self.push(StateRow { kind, key: key.to_vec(), payload: payload.to_vec(), deleted: change == RowChange::Gone });
    }
}

/// What a checkpoint must add up to: the rows that are not deleted, without the positions row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Number of rows.
    pub count: u64,
    /// XOR of [`row_hash`] of each row.
    pub hash: u64,
}

impl Live {
    /// Of rows that both have parts of.
    pub(super) fn and(self, other: Live) -> Live {
        Live { count: self.count + other.count, hash: self.hash ^ other.hash }
    }

    /// Takes the old row out and the new one in.
    pub(super) fn replace(&mut self, stored: &mut Option<NonZeroU64>, row: Option<NonZeroU64>) {
        if let Some(old) = std::mem::replace(stored, row) {
            self.count -= 1;
            self.hash ^= old.get();
        }
        if let Some(new) = row {
            self.count += 1;
            self.hash ^= new.get();
        }
    }
}

/// XXH3 (64 bits) of kind, key and payload, as ClickHouse's `xxh3(concat(char(kind), key, payload))`; 1 instead of 0.
pub fn row_hash(kind: u8, key: &[u8], payload: &[u8]) -> NonZeroU64 {
    let mut row = [0; SHORT_ROW];
    let hash = match write_parts(&mut row, [&[kind], key, payload]) {
        Some(length) => xxh3_64(row.get(..length).unwrap_or_default()),
        None => {
            let mut hasher = Xxh3Default::new();
            hasher.update(&[kind]);
            hasher.update(key);
            hasher.update(payload);
            hasher.digest()
        }
    };
    NonZeroU64::new(hash).unwrap_or(NonZeroU64::MIN)
}

/// Rows of so many bytes are put together and hashed at once: a hasher that is fed in parts is first of all half a kilobyte to be set up.
const SHORT_ROW: usize = 240;

/// Puts parts one behind the other; how many bytes they have, if there is room.
fn write_parts(out: &mut [u8], parts: [&[u8]; 3]) -> Option<usize> {
    let mut length = 0;
    for part in parts {
        let end = length + part.len();
        out.get_mut(length..end)?.copy_from_slice(part);
        length = end;
    }
    Some(length)
}

/// Writes a key.
#[derive(Debug, Default)]
pub(super) struct KeyWriter(Vec<u8>);

impl KeyWriter {
    /// In a buffer that is used again.
    pub(super) fn over(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        KeyWriter(buffer)
    }

    pub(super) fn text(mut self, text: &str) -> Self {
        short::push_text(&mut self.0, text.as_bytes());
        self
    }

    pub(super) fn number(mut self, number: u32) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// The texts of a key of nothing else; `None` where it is none. Lengths below 128 are characters too, so that most keys are looked through for what is no UTF-8 once, and
/// not text by text.
pub(super) fn key_texts<const N: usize>(key: &[u8]) -> Option<[&str; N]> {
    let whole = std::str::from_utf8(key).ok();
    let mut reader = KeyReader(key);
    let mut texts = [""; N];
    for text in &mut texts {
        *text = match whole {
            Some(whole) => {
                let length = reader.bytes()?.len();
                let end = key.len() - reader.0.len();
                whole.get(end - length..end)?
            }
            None => reader.text()?,
        };
    }
    reader.end()?;
    Some(texts)
}

/// Brand and customer whom a row is about, by its key: `Some(None)` is a cell, which is about nobody. `None` where it is no key of its kind, as far as that is read.
pub(super) fn owner_of_key(kind: StateKind, key: &[u8]) -> Option<Option<(&str, &str)>> {
    let mut reader = KeyReader(key);
    let texts_between = match kind {
        StateKind::MinuteCell | StateKind::DayCell | StateKind::ActiveDay => return Some(None),
        StateKind::Customer | StateKind::MoreIds | StateKind::OutboundVisit | StateKind::InboundReferral | StateKind::Share => 0,
        StateKind::InboundVisit | StateKind::ChildShare => 1,
    };
    let brand = reader.text()?;
    for _ in 0..texts_between {
        reader.text()?;
    }
    Some(Some((brand, reader.text()?)))
}

/// Reads a key; `None` where it is none.
#[derive(Debug)]
pub(super) struct KeyReader<'a>(pub(super) &'a [u8]);

impl<'a> KeyReader<'a> {
    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// A text of which only the end matters.
    pub(super) fn bytes(&mut self) -> Option<&'a [u8]> {
        let mut length = 0_usize;
        for shift in [0, 7, 14, 21] {
            let (byte, rest) = self.0.split_first()?;
            self.0 = rest;
            length |= usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let (text, rest) = self.0.split_at_checked(length)?;
                self.0 = rest;
                return Some(text);
            }
        }
        None
    }

    pub(super) fn number(&mut self) -> Option<u32> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*bytes))
    }

    /// The key must be used up.
    pub(super) fn end(self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_back_and_nothing_else_is_a_key() {
        let long = "x".repeat(300);
        let key = KeyWriter::default().text("acme").text(&long).number(7).finish();
        let read = |bytes: &[u8]| {
            let mut reader = KeyReader(bytes);
            let parts = (reader.text()?.to_owned(), reader.text()?.to_owned(), reader.number()?);
            reader.end()?;
            Some(parts)
        };
        assert_eq!(read(&key), Some(("acme".to_owned(), long, 7)));
        for length in 0..key.len() {
            assert_eq!(read(key.get(..length).expect("a prefix")), None);
        }
        assert_eq!(read(&[key, vec![0]].concat()), None);
        assert_eq!(read(&[0xff; 12]), None);
    }

    #[test]
    fn a_key_of_texts_is_read_as_its_texts_are_one_by_one() {
        let one_by_one = |key: &[u8]| {
            let mut reader = KeyReader(key);
            let texts = [reader.text()?.to_owned(), reader.text()?.to_owned()];
            reader.end()?;
            Some(texts)
        };
        let long = "ä".repeat(100);
        let mut keys: Vec<Vec<u8>> =
            ["", "c1", "öü", &long].iter().map(|text| KeyWriter::default().text("brand").text(text).finish()).collect();
        // A length that begins as a character of two bytes does, a text that is cut within a character, and one that begins within.
        keys.extend([[&[0xc3, 0xa9, 0x00][..], &[b'x'; 100]].concat(), [&[1, 0xc3, 0xa9, 0x00][..], &[b'x'; 41]].concat()]);
        keys.extend([vec![1, 0xc3, 1, 0xa9], vec![0, 2, 0xa9, 0xc3]]);
        for key in &keys {
            for cut in 0..=key.len() {
                let key = key.get(..cut).expect("a prefix");
                assert_eq!(key_texts(key).map(|texts: [&str; 2]| texts.map(str::to_owned)), one_by_one(key), "{key:x?}");
            }
        }
        assert!(key_texts::<2>(keys.first().expect("a key")).is_some());
    }

    #[test]
    fn a_row_has_the_same_hash_whether_put_together_or_fed_in_parts() {
        for length in [0, 1, 100, SHORT_ROW - 8, SHORT_ROW - 7, 1_000] {
            let payload = vec![7; length];
            let whole = [&[4], &b"the key"[..], &payload].concat();
            assert_eq!(row_hash(4, b"the key", &payload).get(), xxh3_64(&whole), "{length}");
        }
    }

    #[test]
    fn replacing_a_row_takes_the_old_one_out() {
        let (mut live, mut stored) = (Live::default(), None);
        live.replace(&mut stored, Some(row_hash(1, b"key", b"one")));
        live.replace(&mut stored, Some(row_hash(1, b"key", b"two")));
        assert_eq!(live, Live { count: 1, hash: row_hash(1, b"key", b"two").get() });
        live.replace(&mut stored, None);
        assert_eq!(live, Live::default());
    }
}
