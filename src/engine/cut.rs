//! What changed since the last cut, as state rows. The way back: `restore.rs`.

use super::brands::Brands;
use super::cells::{Cell, CellKey};
use super::customer::{Customer, PlaceTexts};
use super::kind::{KeyReader, KeyWriter, Live, RowChange, StateKind, StateRows, row_hash};
use super::payload;
use super::symbols::Symbols;
use super::{Engine, FORESEEN};
use crate::model::Day;

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

    /// Visits the cells of a kind in some buckets: key and payload of their rows.
    pub(super) fn visit_cell_rows(&self, kind: StateKind, is_wanted: impl Fn(u32) -> bool, mut visit: impl FnMut(&[u8], &[u8])) {
        let mut row = RowBytes::default();
        for cell in self.cells(kind).iter().filter(|cell| is_wanted(cell.key.bucket)) {
            row.key(|key| write_cell_key(key, kind, &cell.key, &self.brands, &self.symbols));
            payload::encode_sums(&cell.sums(), row.payload());
            visit(&row.key, &row.payload);
        }
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

    /// Its key in the state, where all its texts have numbers then.
    pub(super) fn intern(&self, brands: &mut Brands, symbols: &mut Symbols) -> CellKey {
        let PlaceTexts { campaign, sku, channel } = self.texts;
        let [campaign, sku, channel] = [campaign, sku, channel].map(|text| symbols.intern(text));
        CellKey { brand: brands.intern(self.brand), bucket: self.bucket, campaign, sku, channel, region: self.region }
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
