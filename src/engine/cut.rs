//! What changed since the last cut, as state rows, and the way back.

use super::Engine;
use super::brands::Brands;
use super::cells::{Cell, CellKey};
use super::customer::Customer;
use super::graph::Link;
use super::ids::{Ids, MOST_CHUNKS};
use super::kind::{KeyReader, KeyWriter, Live, StateKind, StateRow, row_hash};
use super::payload;
use super::symbols::{Symbol, Symbols};
use crate::model::Day;

/// A stored row that cannot be taken back. The checkpoint is damaged, or was written by a newer version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Not one of [`StateKind`].
    #[error("state kind {0} is unknown: the checkpoint was written by a newer version, or is damaged")]
    Kind(u8),
    /// Not the shape of the kind's keys.
    #[error("key {key} is no key of a {kind}: the checkpoint is damaged")]
    Key {
        /// Kind.
        kind: &'static str,
        /// Hexadecimal.
        key: String,
    },
    /// Not protobuf of the kind's message.
    #[error("the payload of {kind} {key} is not readable: the checkpoint is damaged")]
    Payload {
        /// Kind.
        kind: &'static str,
        /// Hexadecimal.
        key: String,
        /// What protobuf says.
        source: prost::DecodeError,
    },
    /// Readable, but nothing a cut can have written.
    #[error("{kind} {key} has {what}: the checkpoint is damaged")]
    Value {
        /// Kind.
        kind: &'static str,
        /// Hexadecimal.
        key: String,
        /// What is impossible.
        what: &'static str,
    },
    /// The key was restored before.
    #[error("{kind} {key} is there twice: the checkpoint was read without `FINAL`, or is damaged")]
    Twice {
        /// Kind.
        kind: &'static str,
        /// Hexadecimal.
        key: String,
    },
}

/// A row under restoration: what its errors name.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    kind: StateKind,
    pub(super) key: &'a [u8],
    pub(super) payload: &'a [u8],
}

impl Stored<'_> {
    fn key_text(&self) -> String {
        self.key.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn bad_key(&self) -> RestoreError {
        RestoreError::Key { kind: self.kind.name(), key: self.key_text() }
    }

    pub(super) fn bad_payload(&self, source: prost::DecodeError) -> RestoreError {
        RestoreError::Payload { kind: self.kind.name(), key: self.key_text(), source }
    }

    pub(super) fn bad_value(&self, what: &'static str) -> RestoreError {
        RestoreError::Value { kind: self.kind.name(), key: self.key_text(), what }
    }

    pub(super) fn twice(&self) -> RestoreError {
        RestoreError::Twice { kind: self.kind.name(), key: self.key_text() }
    }

    pub(super) fn hash(&self) -> std::num::NonZeroU64 {
        row_hash(self.kind as u8, self.key, self.payload)
    }
}

impl Engine {
    /// Keys that wait for the next cut.
    pub fn dirty_state(&self) -> usize {
        let cells = [&self.minute_cells, &self.day_cells, &self.active_days];
        self.customers.dirty_state() + self.graph.dirty_state() + cells.iter().map(|cells| cells.dirty_state()).sum::<usize>()
    }

    /// Adds a row for every key that changed since the last cut. Each key at most once.
    pub fn cut(&mut self, out: &mut Vec<StateRow>) {
        self.cut_chunks(out);
        self.cut_customers(out);
        let Engine { brands, symbols, minute_cells, day_cells, active_days, live, .. } = self;
        for (kind, cells) in [(StateKind::MinuteCell, minute_cells), (StateKind::DayCell, day_cells), (StateKind::ActiveDay, active_days)] {
            cells.cut(|cell| out.extend(cut_cell(kind, cell, brands, symbols, live)));
        }
        self.cut_graph(out);
    }

    fn cut_chunks(&mut self, out: &mut Vec<StateRow>) {
        let Engine { brands, customers, live, live_chunks, .. } = self;
        for (slot, number) in std::mem::take(&mut customers.chunks_to_be_cut) {
            let customer = customers.get(slot);
            let key = KeyWriter::default().text(brands.name(customer.brand)).text(customer.names.id()).number(number).finish();
            let row = customers.change(slot, |changed| {
                let chunk = changed.ids.chunk_mut(number)?;
                chunk.is_dirty = false;
                let payload = (!chunk.ids.is_empty()).then(|| payload::encode_ids(&chunk.ids));
                *live_chunks -= usize::from(chunk.stored.is_some());
                *live_chunks += usize::from(payload.is_some());
                state_row(StateKind::MoreIds, key, payload, &mut chunk.stored, live)
            });
            out.extend(row);
        }
    }

    fn cut_customers(&mut self, out: &mut Vec<StateRow>) {
        let Engine { brands, symbols, customers, graph, live, .. } = self;
        for slot in std::mem::take(&mut customers.to_be_cut) {
            let row = customers.change(slot, |customer| {
                customer.flags &= !Customer::TO_BE_CUT;
                let key = KeyWriter::default().text(brands.name(customer.brand)).text(customer.names.id()).finish();
                let payload = payload::encode_customer(customer, graph.names(customer.link), symbols);
                state_row(StateKind::Customer, key, Some(payload), &mut customer.stored, live)
            });
            out.extend(row);
        }
    }

    /// Takes back one row that is not deleted; rows may come in any order. After all rows, [`Engine::live`] must equal what was
    /// stored with them. On an error the engine is of no further use.
    pub fn restore(&mut self, kind: u8, key: &[u8], payload: &[u8]) -> Result<(), RestoreError> {
        let kind = StateKind::from_number(kind).ok_or(RestoreError::Kind(kind))?;
        let stored = Stored { kind, key, payload };
        match kind {
            StateKind::Customer => self.restore_customer(stored),
            StateKind::MoreIds => self.restore_chunk(stored),
            StateKind::MinuteCell | StateKind::DayCell | StateKind::ActiveDay => self.restore_cell(stored),
            StateKind::OutboundVisit => self.restore_outbound_visit(stored),
            StateKind::InboundVisit => self.restore_inbound_visit(stored),
            StateKind::InboundReferral => self.restore_inbound_referral(stored),
            StateKind::Share => self.restore_share(stored),
            StateKind::ChildShare => self.restore_child_share(stored),
        }
    }

    fn restore_customer(&mut self, stored: Stored<'_>) -> Result<(), RestoreError> {
        let mut reader = KeyReader(stored.key);
        let (brand, id) = reader.text().zip(reader.text()).ok_or_else(|| stored.bad_key())?;
        reader.end().ok_or_else(|| stored.bad_key())?;
        let decoded = payload::decode_customer(id, stored.payload, &mut self.symbols).map_err(|source| stored.bad_payload(source))?;
        let known = decoded.map_err(|what| stored.bad_value(what))?;
        let brand_id = self.brands.intern(brand);
        let slot = self.customers.find_or_insert(brand_id, id);
        if self.customers.get(slot).stored.is_some() {
            return Err(stored.twice());
        }
        let link = known.via.map_or(Link::NONE, |via| self.graph.link(brand_id, &via.share_id, &via.sharer_id));
        let live = &mut self.live;
        self.customers.change(slot, |customer| {
            customer.link = link;
            customer.appeared_ms = known.appeared_ms;
            customer.names = known.names;
            customer.first = known.first;
            customer.last = known.last;
            customer.history = known.history;
            if let Ids::Few(ids) = &mut customer.ids {
                ids.extend(known.inline_ids);
            }
            live.replace(&mut customer.stored, Some(stored.hash()));
        });
        Ok(())
    }

    fn restore_chunk(&mut self, stored: Stored<'_>) -> Result<(), RestoreError> {
        let mut reader = KeyReader(stored.key);
        let (brand, id) = reader.text().zip(reader.text()).ok_or_else(|| stored.bad_key())?;
        let number = reader.number().filter(|number| *number < MOST_CHUNKS).ok_or_else(|| stored.bad_key())?;
        reader.end().ok_or_else(|| stored.bad_key())?;
        let decoded = payload::decode_ids(stored.payload).map_err(|source| stored.bad_payload(source))?;
        let ids = decoded.ok_or_else(|| stored.bad_value("remembered ids of unequal lengths, or too many"))?;
        let brand_id = self.brands.intern(brand);
        let slot = self.customers.find_or_insert(brand_id, id);
        let hash = stored.hash();
        if !self.customers.change(slot, |customer| customer.ids.restore_chunk(number, ids, hash)) {
            return Err(stored.twice());
        }
        self.live.replace(&mut None, Some(hash));
        self.live_chunks += 1;
        Ok(())
    }

    fn restore_cell(&mut self, stored: Stored<'_>) -> Result<(), RestoreError> {
        let key = self.read_cell_key(stored).ok_or_else(|| stored.bad_key())?;
        let sums = payload::decode_sums(stored.payload).map_err(|source| stored.bad_payload(source))?;
        let cells = match stored.kind {
            StateKind::MinuteCell => &mut self.minute_cells,
            StateKind::DayCell => &mut self.day_cells,
            _ => &mut self.active_days,
        };
        if !cells.restore(key, &sums, stored.hash(), &mut self.live) {
            return Err(stored.twice());
        }
        Ok(())
    }

    fn read_cell_key(&mut self, stored: Stored<'_>) -> Option<CellKey> {
        let mut reader = KeyReader(stored.key);
        let brand = self.brands.intern(reader.text()?);
        let bucket = reader.number()?;
        let mut key = CellKey { brand, bucket, campaign: Symbol::EMPTY, sku: Symbol::EMPTY, channel: Symbol::EMPTY, region: 0 };
        if stored.kind != StateKind::MinuteCell {
            Day::try_from(bucket).ok()?;
        }
        if stored.kind != StateKind::ActiveDay {
            key.campaign = self.symbols.intern(reader.text()?);
            if stored.kind == StateKind::DayCell {
                key.sku = self.symbols.intern(reader.text()?);
            }
            key.channel = self.symbols.intern(reader.text()?);
            key.region = reader.number()?;
        }
        reader.end()?;
        Some(key)
    }
}

fn cut_cell(kind: StateKind, cell: &mut Cell, brands: &Brands, symbols: &Symbols, live: &mut Live) -> Option<StateRow> {
    let key = write_cell_key(kind, &cell.key, brands, symbols);
    let payload = (!cell.is_forgotten()).then(|| payload::encode_sums(&cell.sums()));
    state_row(kind, key, payload, &mut cell.stored, live)
}

fn write_cell_key(kind: StateKind, key: &CellKey, brands: &Brands, symbols: &Symbols) -> Vec<u8> {
    let mut writer = KeyWriter::default().text(brands.name(key.brand)).number(key.bucket);
    if kind == StateKind::ActiveDay {
        return writer.finish();
    }
    writer = writer.text(symbols.text(key.campaign));
    if kind == StateKind::DayCell {
        writer = writer.text(symbols.text(key.sku));
    }
    writer.text(symbols.text(key.channel)).number(key.region).finish()
}

/// The row of a key that changed: its payload, or its deletion if it was stored; nothing for a key that came and went between cuts.
pub(super) fn state_row(
    kind: StateKind,
    key: Vec<u8>,
    payload: Option<Vec<u8>>,
    stored: &mut Option<std::num::NonZeroU64>,
    live: &mut Live,
) -> Option<StateRow> {
    let was_stored = stored.is_some();
    live.replace(stored, payload.as_deref().map(|bytes| row_hash(kind as u8, &key, bytes)));
    let deleted = payload.is_none();
    (was_stored || !deleted).then(|| StateRow { kind: kind as u8, key, payload: payload.unwrap_or_default(), deleted })
}
