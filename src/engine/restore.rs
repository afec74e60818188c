//! Back from state rows: what a checkpoint holds, in any order.
//!
//! Owns the half of it that customers, their ids and all cells are; the graph is the other half (`graph/restore.rs`) and knows customers by number alone. So two threads can
//! share a restore: this half says of each row that concerns the graph whose it is ([`Owner`]), the other takes the same rows with these, and what it has to say of customers
//! ([`GraphRestored`]) is put in when both are done. Promises that the state is the same however rows are parted and whoever takes them. What comes back is judged like any
//! input: a row that no cut can have written is an error, never a panic.

use std::num::NonZeroU64;

use smallvec::SmallVec;

use super::brands::{BrandId, Brands};
use super::cells::{CellKey, Cells};
use super::customer::KeptTimes;
use super::customers::Customers;
use super::cut::CellParts;
use super::first_pack::{OwnRowsFilter, first_packed_kind};
use super::foresee::{Ahead, see_cell};
use super::graph::{GraphRestore, GraphRestored, concerns_graph};
use super::ids::{Ids, MOST_CHUNKS};
use super::kind::{KeyReader, Live, RowChange, StateKind, key_texts, owner_of_key, row_hash};
use super::pack::PackedRow;
use super::payload;
use super::slab::Slot;
use super::symbols::Symbols;
use super::{Engine, FORESEEN};

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

/// A row under restoration.
#[derive(Clone, Copy, Debug)]
pub struct Stored<'a> {
    /// What it is about.
    pub kind: StateKind,
    /// Unique within the kind.
    pub key: &'a [u8],
    /// Protobuf.
    pub payload: &'a [u8],
}

impl Stored<'_> {
    fn key_text(&self) -> String {
        self.key.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn bad_key(&self) -> RestoreError {
        RestoreError::Key { kind: self.kind.name(), key: self.key_text() }
    }

    pub(super) fn bad(&self, payload::Fault(what): payload::Fault) -> RestoreError {
        self.bad_value(what)
    }

    pub(super) fn bad_value(&self, what: &'static str) -> RestoreError {
        RestoreError::Value { kind: self.kind.name(), key: self.key_text(), what }
    }

    /// `Ok` if the row was new, or need not be.
    pub(super) fn new_or(&self, is_new: bool, known: Known) -> Result<(), RestoreError> {
        if is_new || known == Known::IsSkipped {
            return Ok(());
        }
        Err(RestoreError::Twice { kind: self.kind.name(), key: self.key_text() })
    }

    pub(super) fn hash(&self) -> NonZeroU64 {
        row_hash(self.kind as u8, self.key, self.payload)
    }
}

/// What becomes of a row whose key was taken back before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It says nothing: it is outdated.
    IsSkipped,
    /// The checkpoint is damaged.
    IsAnError,
}

/// Which half of a state has most to do with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Half {
    /// Customers, their ids, all cells, and the task's own rows.
    Customers,
    /// Visits, referrals, shares.
    Graph,
}

impl Half {
    /// Of a row of `task_state`, by its kind.
    pub fn of(row_kind: u8) -> Half {
        let of_keys = first_packed_kind(row_kind).or_else(|| StateKind::from_number(row_kind));
        let is_graph = of_keys.is_some_and(|kind| concerns_graph(kind) && kind != StateKind::Customer);
        if is_graph { Half::Graph } else { Half::Customers }
    }
}

/// Whose a row is that concerns the graph: all that the graph's half has to know of customers.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    pub(super) brand: BrandId,
    pub(super) customer: Slot,
    /// The part of the graph that the customer has as a sharer, as far as this half knows, or [`super::customer::Customer::NO_SHARER`].
    pub(super) sharer: Slot,
    /// The row says something: it is no outdated one of a customer.
    pub(super) counts: bool,
}

impl Engine {
    /// The state in two halves, for rows that both are to take, the customers' half first.
    pub fn restoring(&mut self) -> (CustomersRestore<'_>, GraphRestore<'_>) {
        let Engine { brands, symbols, customers, minute_cells, day_cells, active_days, graph, live, live_chunks, .. } = self;
        let customers = CustomersRestore { brands, symbols, customers, minute_cells, day_cells, active_days, live, live_chunks };
        (customers, GraphRestore::new(graph))
    }

    /// Both halves have taken the same rows.
    pub fn restored(&mut self, graph: GraphRestored) {
        self.live = self.live.and(graph.live);
        for (customer, sharer) in graph.sharers {
            self.customers.change(customer, |changed| changed.sharer = sharer);
        }
        for (customer, link) in graph.links {
            self.customers.change(customer, |changed| changed.link = link);
        }
    }

    /// How many entries the indices have: a hint for [`Engine::reserve`].
    pub fn sizes(&self) -> Vec<u64> {
        let indices = [self.customers.index(), self.minute_cells.index(), self.day_cells.index()];
        indices.into_iter().chain(self.graph.indices()).map(|index| index.len() as u64).collect()
    }

    /// Makes room for as many entries as [`Engine::sizes`] said of a state with so many rows: a restore would move each of them three times else.
    pub fn reserve(&mut self, sizes: &[u64], live_rows: u64) {
        // A row names five texts at most, and a damaged checkpoint anything.
        let most = live_rows.saturating_mul(5).min(OwnRowsFilter::MOST_KEYS) as usize;
        let indices = [self.customers.index_mut(), self.minute_cells.index_mut(), self.day_cells.index_mut()];
        for (index, size) in indices.into_iter().chain(self.graph.indices_mut()).zip(sizes) {
            index.reserve(usize::try_from(*size).unwrap_or(most).min(most));
        }
    }

    /// Takes back one row that is not deleted; rows may come in any order. After all rows, [`Engine::live`] must equal what was
    /// stored with them. On an error the engine is of no further use.
    pub fn restore(&mut self, kind: u8, key: &[u8], payload: &[u8]) -> Result<(), RestoreError> {
        let kind = StateKind::from_number(kind).ok_or(RestoreError::Kind(kind))?;
        self.restore_rows(&[Stored { kind, key, payload }], Known::IsAnError)
    }

    /// The same of several, of which [`FORESEEN`] at a time are worth it.
    pub fn restore_rows(&mut self, rows: &[Stored<'_>], known: Known) -> Result<(), RestoreError> {
        let (mut customers, mut graph) = self.restoring();
        let mut owners = Vec::with_capacity(rows.len());
        customers.take(rows, known, &mut owners)?;
        graph.take(rows, known, &mut owners.into_iter())?;
        let restored = graph.finish();
        self.restored(restored);
        Ok(())
    }

    pub(super) fn read_cell_key(&mut self, stored: Stored<'_>) -> Option<CellKey> {
        CellParts::read(stored.kind, stored.key).map(|parts| parts.intern(&mut self.brands, &mut self.symbols))
    }
}

/// The half of a state that customers, their ids and cells are, while rows are taken back.
#[derive(Debug)]
pub struct CustomersRestore<'e> {
    brands: &'e mut Brands,
    symbols: &'e mut Symbols,
    customers: &'e mut Customers,
    minute_cells: &'e mut Cells,
    day_cells: &'e mut Cells,
    active_days: &'e mut Cells,
    live: &'e mut Live,
    live_chunks: &'e mut usize,
}

/// A row and whom it is about, read and looked ahead for; cells are about nobody.
struct Whose<'a> {
    row: Stored<'a>,
    brand: BrandId,
    id: &'a str,
    hash: u64,
    ahead: Ahead,
}

impl CustomersRestore<'_> {
    /// Takes some rows, at most [`FORESEEN`] of which are looked ahead for, and adds whose they are for each that concerns the graph.
    ///
    /// # Errors
    /// On an error the engine is of no further use.
    pub fn take(&mut self, rows: &[Stored<'_>], known: Known, owners: &mut Vec<Owner>) -> Result<(), RestoreError> {
        for rows in rows.chunks(FORESEEN) {
            let mut all: SmallVec<[Option<Whose<'_>>; FORESEEN]> = SmallVec::new();
            for row in rows {
                all.push(self.whose(*row)?);
            }
            self.foresee(&mut all);
            for (row, whose) in rows.iter().zip(&all) {
                match whose {
                    Some(whose) => owners.extend(self.take_owned(whose, known)?),
                    None => self.restore_cell(*row, known)?,
                }
            }
        }
        Ok(())
    }

    /// Asks for where the customers will be looked for.
    fn foresee(&self, all: &mut [Option<Whose<'_>>]) {
        let slots: SmallVec<[Slot; FORESEEN]> =
            all.iter_mut().flatten().filter_map(|whose| whose.ahead.guess(self.customers.index())).collect();
        self.customers.prefetch(slots.iter().copied());
    }

    /// Reads whom a row is about; `None`: about nobody.
    fn whose<'a>(&mut self, row: Stored<'a>) -> Result<Option<Whose<'a>>, RestoreError> {
        let Some((brand, id)) = owner_of(row).ok_or_else(|| row.bad_key())? else { return Ok(None) };
        let brand = self.brands.intern(brand);
        let hash = self.customers.hash(brand, id);
        Ok(Some(Whose { row, brand, id, hash, ahead: Ahead::begin(self.customers.index(), hash) }))
    }

    fn take_owned(&mut self, whose: &Whose<'_>, known: Known) -> Result<Option<Owner>, RestoreError> {
        let Whose { row, brand, id, hash, .. } = *whose;
        let (customer, counts) = match row.kind {
            StateKind::Customer => {
                let slot = self.customers.find_or_insert_hashed(hash, brand, id);
                let is_new = self.restore_customer(slot, id, row)?;
                row.new_or(is_new, known)?;
                (slot, is_new)
            }
            StateKind::MoreIds => {
                let slot = self.customers.find_or_insert_next(hash, brand, id);
                let is_new = self.restore_chunk(slot, row)?;
                row.new_or(is_new, known)?;
                return Ok(None);
            }
            // Shares leave memory with whoever made them, so that their maker has to be in it, if only by name: a customer's own row may have left again.
            StateKind::InboundVisit | StateKind::ChildShare => (self.customers.find_or_insert_hashed(hash, brand, id), true),
            _ => (self.customers.find_or_insert_next(hash, brand, id), true),
        };
        Ok(Some(Owner { brand, customer, sharer: self.customers.get(customer).sharer, counts }))
    }

    fn restore_customer(&mut self, slot: Slot, id: &str, row: Stored<'_>) -> Result<bool, RestoreError> {
        if self.customers.get(slot).stored.is_some() {
            return Ok(false);
        }
        let known = payload::read_customer(id, row.payload, self.symbols).map_err(|fault| row.bad(fault))?;
        let live = &mut *self.live;
        self.customers.change(slot, |customer| {
            customer.appeared_ms = known.appeared_ms;
            customer.names = known.names;
            (customer.first, customer.first_kind) = (known.first, known.first_kind);
            customer.last = KeptTimes::of(&known.last);
            customer.history = known.history;
            if let Ids::Few(ids) = &mut customer.ids {
                ids.reserve_exact(known.inline_ids.iter().len());
                ids.extend(known.inline_ids.iter());
            }
            live.replace(&mut customer.stored, Some(row.hash()));
        });
        Ok(true)
    }

    fn restore_chunk(&mut self, slot: Slot, row: Stored<'_>) -> Result<bool, RestoreError> {
        let number = chunk_of(row.key).ok_or_else(|| row.bad_key())?;
        let ids = payload::read_ids(row.payload).map_err(|fault| row.bad(fault))?;
        let hash = row.hash();
        if !self.customers.change(slot, |customer| customer.ids.restore_chunk(number, ids, hash)) {
            return Ok(false);
        }
        self.live.replace(&mut None, Some(hash));
        *self.live_chunks += 1;
        Ok(true)
    }

    fn restore_cell(&mut self, row: Stored<'_>, known: Known) -> Result<(), RestoreError> {
        let parts = CellParts::read(row.kind, row.key).ok_or_else(|| row.bad_key())?;
        let key = parts.intern(self.brands, self.symbols);
        let sums = payload::read_sums(row.payload).map_err(|fault| row.bad(fault))?;
        let (cells, live) = self.cells(row.kind);
        let is_new = cells.restore(key, &sums, row.hash(), live);
        row.new_or(is_new, known)
    }

    /// Makes cells what a pack says, whatever they were: packs come in the order of their keys, behind rows of single cells. What that did to each; `None`: there was
    /// nothing to go. At most [`FORESEEN`] of them are looked ahead for.
    ///
    /// # Errors
    /// On an error the engine is of no further use.
    pub fn take_packed(
        &mut self,
        kind: StateKind,
        rows: &[PackedRow<'_>],
        mut did: impl FnMut(Option<RowChange>),
    ) -> Result<(), RestoreError> {
        for rows in rows.chunks(FORESEEN) {
            let mut all: SmallVec<[(CellKey, Ahead, u64); FORESEEN]> = SmallVec::new();
            for row in rows {
                let parts = CellParts::read(kind, row.key).ok_or_else(|| stored(kind, row).bad_key())?;
                let key = parts.intern(self.brands, self.symbols);
                let cells = self.cells(kind).0;
                let hash = cells.hash(&key);
                all.push((key, Ahead::begin(cells.index(), hash), hash));
            }
            let (cells, live) = self.cells(kind);
            all.iter_mut().for_each(|(_, ahead, _)| see_cell(cells, ahead));
            for (row, (key, _, hash)) in rows.iter().zip(&all) {
                let stored = stored(kind, row);
                if row.is_deleted {
                    did(cells.take_out(*key, live).then_some(RowChange::Gone));
                    continue;
                }
                let sums = payload::read_sums(row.payload).map_err(|fault| stored.bad(fault))?;
                let is_new = cells.restore_latest((*key, *hash), &sums, stored.hash(), live);
                did(Some(if is_new { RowChange::New } else { RowChange::Changed }));
            }
        }
        Ok(())
    }

    fn cells(&mut self, kind: StateKind) -> (&mut Cells, &mut Live) {
        let cells = match kind {
            StateKind::MinuteCell => &mut *self.minute_cells,
            StateKind::DayCell => &mut *self.day_cells,
            _ => &mut *self.active_days,
        };
        (cells, self.live)
    }
}

fn stored<'a>(kind: StateKind, row: &PackedRow<'a>) -> Stored<'a> {
    Stored { kind, key: row.key, payload: row.payload }
}

/// Brand and customer that a row is about, as far as this half reads its key: `Some(None)` is a cell, `None` no key of its kind.
fn owner_of(row: Stored<'_>) -> Option<Option<(&str, &str)>> {
    if row.kind == StateKind::Customer {
        return key_texts(row.key).map(|[brand, id]| Some((brand, id)));
    }
    owner_of_key(row.kind, row.key)
}

/// The number of a chunk.
fn chunk_of(key: &[u8]) -> Option<u32> {
    let mut reader = KeyReader(key);
    reader.bytes()?;
    reader.bytes()?;
    let number = reader.number().filter(|number| *number < MOST_CHUNKS)?;
    reader.end()?;
    Some(number)
}
