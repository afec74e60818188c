//! Where state rows belong when the number of tasks changes.
//!
//! Owns what of a row's key says whom it is about, and how the cells of a task that ends are added to those of one that stays.
//! Never reads or writes a log or a table. Payloads of rows that only move are never looked into.

use super::customer::PlaceTexts;
use super::cut::CellParts;
use super::kind::{StateKind, owner_of_key};
use crate::model::{Day, Sums, Version};
use crate::rows::ServingRows;
use crate::rows::serving::CellRow;

/// A state row that has no place under another number of tasks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a state row of kind {kind} has a key or a payload that cannot be read: {key:02x?}")]
pub struct Unplaceable {
    /// Its kind.
    pub kind: u8,
    /// Its key.
    pub key: Vec<u8>,
}

/// What decides which task holds a state row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder<'a> {
    /// The owner of a customer.
    OwnerOf(&'a str),
    /// Whoever counted it: cells are summed over tasks.
    Anyone,
}

/// Reads from a row's key who has to hold it.
///
/// # Errors
/// [`Unplaceable`], also for a kind that this release does not know.
pub fn holder(kind: u8, key: &[u8]) -> Result<Holder<'_>, Unplaceable> {
    let unplaceable = || Unplaceable { kind, key: key.to_vec() };
    let kind = StateKind::from_number(kind).ok_or_else(unplaceable)?;
    let owner = owner_of_key(kind, key).ok_or_else(unplaceable)?;
    Ok(owner.map_or(Holder::Anyone, |(_, customer)| Holder::OwnerOf(customer)))
}

/// A cell of a task, read from its state row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCell {
    kind: StateKind,
    key: Vec<u8>,
    sums: Sums,
}

impl StoredCell {
    /// Reads a row whose holder is [`Holder::Anyone`].
    ///
    /// # Errors
    /// [`Unplaceable`].
    pub fn read(kind: u8, key: &[u8], payload: &[u8]) -> Result<StoredCell, Unplaceable> {
        let unplaceable = || Unplaceable { kind, key: key.to_vec() };
        let sums = super::payload::read_sums(payload).map_err(|_| unplaceable())?;
        let cell = StoredCell { kind: StateKind::from_number(kind).ok_or_else(unplaceable)?, key: key.to_vec(), sums };
        cell.place().ok_or_else(unplaceable)?;
        Ok(cell)
    }

    /// Kind and key: equal in cells that are to be added.
    pub fn identity(&self) -> (u8, &[u8]) {
        (self.kind as u8, &self.key)
    }

    /// Adds the same cell of another task.
    pub fn add(&mut self, other: &StoredCell) {
        self.sums.add_all(&other.sums);
    }

    /// The payload of its state row.
    pub fn payload(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        super::payload::encode_sums(&self.sums, &mut payload);
        payload
    }

    /// Adds its serving row, as a cell of `task`.
    pub fn push_row(&self, task: &str, version: Version, out: &mut ServingRows) {
        let Some(CellParts { brand, bucket, texts: PlaceTexts { campaign, sku, channel }, region }) = self.place() else { return };
        let cell = CellRow { brand, campaign, sku, channel, region, task };
        match self.kind {
            StateKind::MinuteCell => out.push_minute_cell(&cell, bucket, &self.sums, version),
            StateKind::DayCell => out.push_day_cell(&cell, bucket as Day, &self.sums, version),
            _ => out.push_active_day(brand, bucket as Day, task, &self.sums, version),
        }
    }

    fn place(&self) -> Option<CellParts<'_>> {
        CellParts::read(self.kind, &self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kind::KeyWriter;
    use crate::model::Measure;

    fn key(texts: &[&str]) -> Vec<u8> {
        texts.iter().fold(KeyWriter::default(), |writer, text| writer.text(text)).finish()
    }

    #[test]
    fn a_row_goes_to_the_owner_of_the_customer_that_it_is_about() {
        let held_by = |kind: StateKind, texts: &[&str]| match holder(kind as u8, &key(texts)) {
            Ok(Holder::OwnerOf(customer)) => customer.to_owned(),
            other => format!("{other:?}"),
        };
        assert_eq!(held_by(StateKind::Customer, &["acme", "c1"]), "c1");
        assert_eq!(held_by(StateKind::OutboundVisit, &["acme", "visitor", "share", "sharer"]), "visitor");
        assert_eq!(held_by(StateKind::InboundVisit, &["acme", "share", "sharer", "visitor"]), "sharer");
        assert_eq!(held_by(StateKind::InboundReferral, &["acme", "sharer", "child"]), "sharer");
        assert_eq!(held_by(StateKind::Share, &["acme", "sharer", "share"]), "sharer");
        assert_eq!(held_by(StateKind::ChildShare, &["acme", "parent", "parent-sharer", "child", "sharer"]), "parent-sharer");
        assert_eq!(holder(StateKind::DayCell as u8, b""), Ok(Holder::Anyone));
        assert!(holder(StateKind::Customer as u8, &key(&["acme"])).is_err());
        assert!(holder(99, &key(&["acme", "c1"])).is_err());
    }

    #[test]
    fn cells_are_read_and_added() {
        let mut sums = Sums::default();
        sums.add(Measure::Scans, 3);
        let key = KeyWriter::default().text("acme").number(20_000).text("spring").text("sku").text("store").number(110_101).finish();
        let mut payload = Vec::new();
        super::super::payload::encode_sums(&sums, &mut payload);
        let mut cell = StoredCell::read(StateKind::DayCell as u8, &key, &payload).expect("a cell");
        let other = cell.clone();
        cell.add(&other);
        assert_eq!(StoredCell::read(StateKind::DayCell as u8, &key, &cell.payload()), Ok(cell.clone()));
        assert_eq!(cell.sums.get(Measure::Scans), 6);
        let mut rows = ServingRows::default();
        cell.push_row("2", Version::new(1, 1), &mut rows);
        assert_eq!(rows.rows(), 1);
        assert!(StoredCell::read(StateKind::MinuteCell as u8, &key, &cell.payload()).is_err(), "a day's key is no minute's");
    }
}
