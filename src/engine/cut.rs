//! What changed since the last cut, as state rows, and the way back.

use super::brands::Brands;
use super::cells::{Cell, CellKey};
use super::customer::{Customer, KeptTimes, PlaceTexts};
use super::graph::Link;
use super::ids::{Ids, MOST_CHUNKS};
use super::kind::{KeyReader, KeyWriter, Live, RowChange, StateKind, StateRows, key_texts, row_hash};
use super::payload;
use super::symbols::Symbols;
use super::{Engine, FORESEEN};
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
    pub(super) kind: StateKind,
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

    fn bad(&self, payload::Fault(what): payload::Fault) -> RestoreError {
        self.bad_value(what)
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
    pub fn cut(&mut self, rows: &mut dyn StateRows) {
        let out = &mut Cutter { rows, bytes: RowBytes::default() };
        self.cut_chunks(out);
        self.cut_customers(out);
        let Engine { brands, symbols, minute_cells, day_cells, active_days, live, .. } = self;
        for (kind, cells) in [(StateKind::MinuteCell, minute_cells), (StateKind::DayCell, day_cells), (StateKind::ActiveDay, active_days)] {
            cells.cut(|cell| cut_cell(kind, cell, brands, symbols, live, out));
        }
        self.cut_graph(out);
    }

    fn cut_chunks(&mut self, out: &mut Cutter<'_>) {
        let Engine { brands, customers, live, live_chunks, .. } = self;
        for (slot, number) in std::mem::take(&mut customers.chunks_to_be_cut) {
            let customer = customers.get(slot);
            out.bytes.key(|key| key.text(brands.name(customer.brand)).text(customer.names.id()).number(number));
            customers.change(slot, |changed| {
                let Some(chunk) = changed.ids.chunk_mut(number) else { return };
                chunk.is_dirty = false;
                let is_kept = !chunk.ids.is_empty();
                *live_chunks -= usize::from(chunk.stored.is_some());
                *live_chunks += usize::from(is_kept);
                payload::encode_ids(&chunk.ids, out.bytes.payload());
                out.row(StateKind::MoreIds, is_kept, &mut chunk.stored, live);
            });
        }
    }

    fn cut_customers(&mut self, out: &mut Cutter<'_>) {
        for slots in std::mem::take(&mut self.customers.to_be_cut).chunks(FORESEEN) {
            self.foresee_names(slots.iter().map(|slot| (*slot, self.customers.get(*slot).link)));
            let Engine { brands, symbols, customers, graph, live, .. } = self;
            for slot in slots {
                customers.change(*slot, |customer| {
                    customer.flags &= !Customer::TO_BE_CUT;
                    out.bytes.key(|key| key.text(brands.name(customer.brand)).text(customer.names.id()));
                    payload::encode_customer(customer, graph.names(customer.link), symbols, out.bytes.payload());
                    out.row(StateKind::Customer, true, &mut customer.stored, live);
                });
            }
        }
    }

    /// Takes back one row that is not deleted; rows may come in any order. After all rows, [`Engine::live`] must equal what was
    /// stored with them. On an error the engine is of no further use.
    pub fn restore(&mut self, kind: u8, key: &[u8], payload: &[u8]) -> Result<(), RestoreError> {
        let kind = StateKind::from_number(kind).ok_or(RestoreError::Kind(kind))?;
        let is_new = self.restore_unless_known(kind, key, payload)?;
        if is_new { Ok(()) } else { Err(Stored { kind, key, payload }.twice()) }
    }

    /// The same, of a key that may have been taken back before: then this row says nothing, and `false` is returned.
    pub fn restore_unless_known(&mut self, kind: StateKind, key: &[u8], payload: &[u8]) -> Result<bool, RestoreError> {
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

    fn restore_customer(&mut self, stored: Stored<'_>) -> Result<bool, RestoreError> {
        let [brand, id] = key_texts(stored.key).ok_or_else(|| stored.bad_key())?;
        let brand_id = self.brands.intern(brand);
        let slot = self.customers.find_or_insert(brand_id, id);
        if self.customers.get(slot).stored.is_some() {
            return Ok(false);
        }
        let known = payload::read_customer(id, stored.payload, &mut self.symbols).map_err(|fault| stored.bad(fault))?;
        let link = known.via.map_or(Link::NONE, |(share, sharer)| self.graph.link(brand_id, share, sharer));
        let live = &mut self.live;
        self.customers.change(slot, |customer| {
            customer.link = link;
            customer.appeared_ms = known.appeared_ms;
            customer.names = known.names;
            (customer.first, customer.first_kind) = (known.first, known.first_kind);
            customer.last = KeptTimes::of(&known.last);
            customer.history = known.history;
            if let Ids::Few(ids) = &mut customer.ids {
                ids.reserve_exact(known.inline_ids.iter().len());
                ids.extend(known.inline_ids.iter());
            }
            live.replace(&mut customer.stored, Some(stored.hash()));
        });
        Ok(true)
    }

    fn restore_chunk(&mut self, stored: Stored<'_>) -> Result<bool, RestoreError> {
        let mut reader = KeyReader(stored.key);
        let (brand, id) = reader.text().zip(reader.text()).ok_or_else(|| stored.bad_key())?;
        let number = reader.number().filter(|number| *number < MOST_CHUNKS).ok_or_else(|| stored.bad_key())?;
        reader.end().ok_or_else(|| stored.bad_key())?;
        let ids = payload::read_ids(stored.payload).map_err(|fault| stored.bad(fault))?;
        let brand_id = self.brands.intern(brand);
        let slot = self.customers.find_or_insert_next(brand_id, id);
        let hash = stored.hash();
        if !self.customers.change(slot, |customer| customer.ids.restore_chunk(number, ids, hash)) {
            return Ok(false);
        }
        self.live.replace(&mut None, Some(hash));
        self.live_chunks += 1;
        Ok(true)
    }

    fn restore_cell(&mut self, stored: Stored<'_>) -> Result<bool, RestoreError> {
        let key = self.read_cell_key(stored).ok_or_else(|| stored.bad_key())?;
        let sums = payload::read_sums(stored.payload).map_err(|fault| stored.bad(fault))?;
        let mut live = self.live;
        let is_new = self.cells_mut(stored.kind).restore(key, &sums, stored.hash(), &mut live);
        self.live = live;
        Ok(is_new)
    }

    /// Makes a cell what a row says, whatever it was; without a payload it goes. `None`: there was nothing to go.
    pub(super) fn restore_latest_cell(
        &mut self,
        kind: StateKind,
        key: &[u8],
        payload: Option<&[u8]>,
    ) -> Result<Option<RowChange>, RestoreError> {
        let stored = Stored { kind, key, payload: payload.unwrap_or_default() };
        let key = self.read_cell_key(stored).ok_or_else(|| stored.bad_key())?;
        let mut live = self.live;
        let cells = self.cells_mut(kind);
        let change = match payload {
            Some(payload) => {
                let sums = payload::read_sums(payload).map_err(|fault| stored.bad(fault))?;
                let is_new = cells.restore_latest(key, &sums, stored.hash(), &mut live);
                Some(if is_new { RowChange::New } else { RowChange::Changed })
            }
            None => cells.take_out(key, &mut live).then_some(RowChange::Gone),
        };
        self.live = live;
        Ok(change)
    }

    /// Visits the cells of a kind in some buckets: key and payload of their rows.
    pub(super) fn visit_cell_rows(&self, kind: StateKind, is_wanted: impl Fn(u32) -> bool, mut visit: impl FnMut(&[u8], &[u8])) {
        let mut row = RowBytes::default();
        for cell in self.cells(kind).iter().filter(|cell| is_wanted(cell.key.bucket)) {
            row.key(|key| write_cell_key(key, kind, &cell.key, &self.brands, &self.symbols));
            payload::encode_sums(&cell.sums(), row.payload());
            visit(&row.key, &row.payload);
        }
    }

    pub(super) fn read_cell_key(&mut self, stored: Stored<'_>) -> Option<CellKey> {
        let CellParts { brand, bucket, texts, region } = CellParts::read(stored.kind, stored.key)?;
        let mut number_of = |text| self.symbols.intern(text);
        let (campaign, sku, channel) = (number_of(texts.campaign), number_of(texts.sku), number_of(texts.channel));
        Some(CellKey { brand: self.brands.intern(brand), bucket, campaign, sku, channel, region })
    }
}

fn cut_cell(kind: StateKind, cell: &mut Cell, brands: &Brands, symbols: &Symbols, live: &mut Live, out: &mut Cutter<'_>) {
    let is_kept = !cell.is_forgotten();
    out.bytes.key(|key| write_cell_key(key, kind, &cell.key, brands, symbols));
    payload::encode_sums(&cell.sums(), out.bytes.payload());
    out.row(kind, is_kept, &mut cell.stored, live);
}

pub(super) fn write_cell_key(writer: KeyWriter, kind: StateKind, key: &CellKey, brands: &Brands, symbols: &Symbols) -> KeyWriter {
    let bucket = writer.text(brands.name(key.brand)).number(key.bucket);
    if kind == StateKind::ActiveDay {
        return bucket;
    }
    let mut place = bucket.text(symbols.text(key.campaign));
    if kind == StateKind::DayCell {
        place = place.text(symbols.text(key.sku));
    }
    place.text(symbols.text(key.channel)).number(key.region)
}

/// The key of a cell, read and not looked up. Dimensions that the kind does not have are empty or 0.
#[derive(Clone, Copy, Debug)]
pub(super) struct CellParts<'a> {
    pub(super) brand: &'a str,
    pub(super) bucket: u32,
    pub(super) texts: PlaceTexts<'a>,
    pub(super) region: u32,
}

impl<'a> CellParts<'a> {
    pub(super) fn read(kind: StateKind, key: &'a [u8]) -> Option<Self> {
        let mut reader = KeyReader(key);
        let (brand, bucket) = (reader.text()?, reader.number()?);
        let mut parts = CellParts { brand, bucket, texts: PlaceTexts { campaign: "", sku: "", channel: "" }, region: 0 };
        if kind != StateKind::MinuteCell {
            Day::try_from(bucket).ok()?;
        }
        if kind != StateKind::ActiveDay {
            parts.texts.campaign = reader.text()?;
            if kind == StateKind::DayCell {
                parts.texts.sku = reader.text()?;
            }
            parts.texts.channel = reader.text()?;
            parts.region = reader.number()?;
        }
        reader.end()?;
        Some(parts)
    }
}

/// Hands on row by row what a cut finds, out of two buffers that are used again for every row.
pub(super) struct Cutter<'a> {
    rows: &'a mut dyn StateRows,
    pub(super) bytes: RowBytes,
}

/// Key and payload of one row.
#[derive(Debug, Default)]
pub(super) struct RowBytes {
    pub(super) key: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

impl RowBytes {
    /// Writes the next row's key.
    pub(super) fn key(&mut self, write: impl FnOnce(KeyWriter) -> KeyWriter) {
        self.key = write(KeyWriter::over(std::mem::take(&mut self.key))).finish();
    }

    /// Where the next row's payload is to be written.
    pub(super) fn payload(&mut self) -> &mut Vec<u8> {
        self.payload.clear();
        &mut self.payload
    }
}

impl Cutter<'_> {
    /// The row of a key that changed: its payload, or its deletion if it was stored; nothing for a key that came and went between cuts.
    pub(super) fn row(&mut self, kind: StateKind, is_kept: bool, stored: &mut Option<std::num::NonZeroU64>, live: &mut Live) {
        let change = match (stored.is_some(), is_kept) {
            (false, false) => return,
            (false, true) => RowChange::New,
            (true, true) => RowChange::Changed,
            (true, false) => RowChange::Gone,
        };
        let RowBytes { key, payload } = &mut self.bytes;
        if !is_kept {
            payload.clear();
        }
        live.replace(stored, is_kept.then(|| row_hash(kind as u8, key, payload)));
        self.rows.row(kind as u8, key, payload, change);
    }
}
