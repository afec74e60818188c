//! State that has gone cold: what leaves memory, and what has to be back before something happens.
//!
//! Owns the index of all that is not in memory. What leaves goes as a group: one customer with all that hangs on it, or neighbouring
//! cells. A group is the state rows of the last cut, word for word, so taking it back is what restoring is; whoever holds this engine
//! keeps the groups' bytes, asks what an event or a contribution needs, and takes it back first. Promises that results are the same
//! as if nothing had ever left. Never reads or writes a file or a table.

mod index;
mod leave;
mod missing;

use std::num::NonZeroU64;

use hashbrown::HashMap;
use smallvec::SmallVec;

use self::index::ColdIndex;
use super::brands::BrandId;
use super::customer::{Customer, PlaceTexts};
use super::cut::RowBytes;
use super::kind::{KeyReader, StateKind, row_hash};
use super::restore::{Known, RestoreError, Stored};
use super::slab::Slot;
use super::{Engine, FORESEEN};

/// A group that is not in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ColdGroup {
    /// Unique in its engine, ascending: where the bytes are.
    pub number: u64,
    hash: u32,
}

/// A group that has just left memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evicted {
    /// Which.
    pub group: ColdGroup,
    /// What [`Engine::take_back`] needs.
    pub rows: Vec<u8>,
}

/// Bytes of a group that are none: what kept them has damaged them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ColdError {
    /// Cut short.
    #[error("a group of cold state is cut short")]
    Torn,
    /// A row that cannot be taken back.
    #[error("a group of cold state is damaged: {0}")]
    Row(#[from] RestoreError),
}

/// How much of a state is not in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ColdCounts {
    /// State rows.
    pub keys: usize,
    /// Groups.
    pub groups: usize,
    /// Their bytes, wherever they are.
    pub bytes: u64,
}

/// What is not in memory.
#[derive(Debug, Default)]
pub(super) struct Cold {
    index: ColdIndex,
    bytes: u64,
    keys: [usize; StateKind::ALL.len()],
    /// Where the search for cold customers continues.
    hand: Slot,
}

impl Cold {
    pub(super) fn is_empty(&self) -> bool {
        self.index.len() == 0
    }

    fn insert(&mut self, rows: &GroupRows) -> ColdGroup {
        self.bytes += rows.bytes.len() as u64;
        self.index.insert(short(rows.hash), rows.due_ms)
    }

    /// Adds the groups of a hash.
    fn find(&self, hash: u64, out: &mut Vec<ColdGroup>) {
        self.index.find(short(hash), out);
    }

    /// A pass of the sweep begins: what may be forgotten before `limit_ms` is wanted back.
    pub(super) fn begin_pass(&mut self, limit_ms: i64) {
        self.index.begin_pass(limit_ms);
    }

    pub(super) fn keys(&self, kind: StateKind) -> usize {
        self.keys.get(kind as usize - 1).copied().unwrap_or_default()
    }

    fn count(&mut self, kind: StateKind, change: impl FnOnce(&mut usize)) {
        if let Some(keys) = self.keys.get_mut(kind as usize - 1) {
            change(keys);
        }
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.index.allocated_bytes()
    }
}

/// The half of a hash that the index keeps.
fn short(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// Longer, and one event brings back many cells that nobody needs; shorter, and the index of what is away takes more memory.
const MINUTES_A_GROUP: u32 = 10;

/// What a group is made of, before it leaves.
#[derive(Debug)]
pub(super) struct GroupRows {
    hash: u64,
    bytes: Vec<u8>,
    due_ms: i64,
}

/// Customers that are leaving, numbered.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Numbers by place.
    pub(super) by_slot: HashMap<Slot, u32, foldhash::quality::FixedState>,
    /// Numbers by brand and number of the id among the graph's texts.
    pub(super) by_name: HashMap<(BrandId, Slot), u32, foldhash::quality::FixedState>,
    groups: Vec<GroupRows>,
    kinds: Vec<StateKind>,
}

impl Leaving {
    /// Adds a row to a customer's group.
    pub(super) fn row(&mut self, number: u32, kind: StateKind, row: &RowBytes, stored: NonZeroU64) {
        let RowBytes { key, payload } = row;
        debug_assert_eq!(row_hash(kind as u8, key, payload), stored, "a {} that changed since the cut", kind.name());
        if let Some(group) = self.groups.get_mut(number as usize) {
            push_row(&mut group.bytes, kind, key, payload);
            self.kinds.push(kind);
        }
    }
}

fn push_row(bytes: &mut Vec<u8>, kind: StateKind, key: &[u8], payload: &[u8]) {
    bytes.push(kind as u8);
    for part in [key, payload] {
        bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
        bytes.extend_from_slice(part);
    }
}

/// Kind, key, payload.
type Row<'a> = (u8, &'a [u8], &'a [u8]);

fn read_row(bytes: &[u8]) -> Option<(Row<'_>, &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let (key, rest) = read_part(rest)?;
    let (payload, rest) = read_part(rest)?;
    Some(((*kind, key, payload), rest))
}

fn read_part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

impl Engine {
    /// How much is not in memory.
    pub fn cold(&self) -> ColdCounts {
        ColdCounts { keys: self.cold.keys.iter().sum(), groups: self.cold.index.len(), bytes: self.cold.bytes }
    }

    /// Bytes of memory in use: [`Engine::state_bytes`] without the places that left free.
    pub fn used_bytes(&self) -> usize {
        self.state_bytes().saturating_sub(self.vacant_bytes())
    }

    /// Bytes of places that left free: what comes next takes them before any new memory.
    pub fn vacant_bytes(&self) -> usize {
        let cells = [&self.minute_cells, &self.day_cells, &self.active_days];
        let of_cells: usize = cells.iter().map(|cells| cells.vacant_bytes()).sum();
        self.customers.vacant_bytes() + self.graph.vacant_bytes() + of_cells + self.symbols.vacant_bytes()
    }

    /// Puts a group that left back into memory; one that is back already is left alone.
    ///
    /// # Errors
    /// [`ColdError`]: the engine is of no further use.
    pub fn take_back(&mut self, group: ColdGroup, rows: &[u8]) -> Result<(), ColdError> {
        if !self.cold.index.remove(group) {
            return Ok(());
        }
        self.cold.bytes = self.cold.bytes.saturating_sub(rows.len() as u64);
        // What is in memory or not makes no difference to what a checkpoint adds up to.
        let (live, live_chunks) = (self.live, self.live_chunks);
        let mut rest = rows;
        while !rest.is_empty() {
            let mut some: SmallVec<[Stored<'_>; FORESEEN]> = SmallVec::new();
            while some.len() < FORESEEN && !rest.is_empty() {
                let ((number, key, payload), after) = read_row(rest).ok_or(ColdError::Torn)?;
                let kind = StateKind::from_number(number).ok_or(RestoreError::Kind(number))?;
                some.push(Stored { kind, key, payload });
                rest = after;
            }
            self.restore_rows(&some, Known::IsAnError)?;
            some.iter().for_each(|row| self.cold.count(row.kind, |keys| *keys -= 1));
        }
        (self.live, self.live_chunks) = (live, live_chunks);
        self.sweep_again(rows);
        Ok(())
    }

    /// A pass of the sweep may have gone over the place where a group came back.
    fn sweep_again(&mut self, rows: &[u8]) {
        let mut rest = rows;
        while let Some(((number, key, _), after)) = read_row(rest) {
            rest = after;
            match StateKind::from_number(number) {
                Some(StateKind::Customer) => {
                    let mut reader = KeyReader(key);
                    let Some((brand, id)) = reader.text().zip(reader.text()) else { continue };
                    if let Some(slot) = self.brands.find(brand).and_then(|brand| self.customers.find(brand, id)) {
                        self.sweep_customer(slot);
                    }
                }
                Some(kind @ (StateKind::MinuteCell | StateKind::DayCell)) => self.sweep_cell_of(kind, key),
                _ => {}
            }
        }
    }

    /// Groups that the sweep's pass under way wants back, no more than `most`: what may be forgotten of them is.
    pub fn due_groups(&mut self, most: usize) -> Vec<ColdGroup> {
        std::iter::from_fn(|| self.cold.index.next_due()).take(most).collect()
    }

    /// Which cells leave and come back together: one event needs one cell of each kind, so its group has few others: of one channel for minutes, of one
    /// sku for days. Texts instead of their numbers: those may be another text's by the time the cells come back.
    fn cell_group(&self, kind: StateKind, (brand, bucket, region): (BrandId, u32, u32), texts: PlaceTexts<'_>) -> u64 {
        let (span, text) = if kind == StateKind::MinuteCell { (bucket / MINUTES_A_GROUP, texts.channel) } else { (bucket, texts.sku) };
        self.customers.hash_cells((kind as u8, brand, span, region, texts.campaign, text))
    }
}

/// When the first thing of a customer may be forgotten, Unix milliseconds.
fn due_of(customer: &Customer) -> i64 {
    let first = Some(customer.first.time_ms).filter(|_| customer.first.has_dimensions());
    let oldest_day = customer.history.days().next().map(|(day, _)| i64::from(day) * 86_400_000);
    [customer.ids.oldest_ms(), first, oldest_day].into_iter().flatten().min().unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_back_and_torn_ones_are_none() {
        let mut bytes = Vec::new();
        push_row(&mut bytes, StateKind::Share, b"key", b"payload");
        push_row(&mut bytes, StateKind::Customer, b"", b"");
        let (first, rest) = read_row(&bytes).expect("a row");
        assert_eq!(first, (9, &b"key"[..], &b"payload"[..]));
        assert_eq!(read_row(rest), Some(((1, &b""[..], &b""[..]), &b""[..])));
        for length in 0..rest.len() {
            assert_eq!(read_row(rest.get(..length).expect("a prefix")), None);
        }
    }
}
