//! The state of one task: customers, the events they remember, cells.
//!
//! Owns what `src/DESIGN.md` section 9 lists, without positions. Promises that the state is a function of the set of applied
//! events: everything is min, max, sum and set union. Pure: no clock, IO, randomness, async, metrics, logs; time is data.
//! Never knows of logs, versions of rows, or who writes them where.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing))]

mod brands;
mod cells;
mod cold;
mod customer;
mod customers;
mod cut;
mod first_pack;
mod foresee;
mod graph;
mod history;
mod ids;
mod kind;
mod pack;
mod packed;
mod payload;
mod prefetch;
mod rehome;
mod restore;
mod serve;
mod slab;
mod slot_index;
mod sweep;
mod symbols;
mod wire;

use brands::{BrandId, Brands};
use cells::{CellKey, Cells};
use cold::Cold;
use customer::{Dimensions, LastTimes, Place, PlaceTexts};
use customers::{Customers, FirstEvent};
use foresee::{CellHashes, PlaceAhead};
use graph::{Graph, Link};
use history::DayBefore;
use ids::{RememberedId, Seen};
use slab::Slot;
use sweep::Sweep;
use symbols::Symbols;

pub use cold::{ColdCounts, ColdError, ColdGroup, Evicted};
pub use first_pack::{OwnRows, OwnRowsFilter, SingleRow, first_pack_key, first_pack_kind, first_rows, is_pack};
pub use foresee::Foreseen;
pub use graph::{Contribution, ContributionError, GraphRestore, GraphRestored};
pub use kind::{Live, RowChange, StateKind, StateRow, StateRows, row_hash};
pub use pack::{CellName, LatestCells, PACKED_ROW_KINDS, PackKey, PackPlace, PackedRow, PackedRows, is_packed, packed_kind, push_packed};
pub use rehome::{Holder, StoredCell, Unplaceable, holder};
pub use restore::{CustomersRestore, Half, Known, Owner, RestoreError, Stored};

pub use crate::rows::ServingRows;

use crate::decode::too_old_by_horizon;
use crate::model::{Body, Calendar, Day, Event, Measure, PurchaseKind, Reason, Reject, ScanPurpose, Stage, Sums, TaskName, Version};

/// So many customers' memory is waited for at the same time. More than the processor waits for at once; all that they touch still lies in its
/// nearest cache when their turn comes.
pub const FORESEEN: usize = 32;

/// What an engine is made for.
#[derive(Clone, Debug)]
pub struct Settings {
    /// In the column `task` of cells.
    pub task: TaskName,
    /// Which day an event belongs to.
    pub calendar: Calendar,
    /// When state goes.
    pub forget: ForgetRule,
    /// All at work but in tests of the tests.
    pub mechanisms: Mechanisms,
    /// How deep subtrees and cascades reach, 1 or more.
    pub levels: u8,
}

/// What the state's exactness rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mechanisms {
    /// An event that is remembered is not counted again.
    pub recognises_repeats: bool,
    /// A contribution is kept only if its version is above that of what the same pair said before.
    pub compares_versions: bool,
    /// A touched pair is said again also when it says what it said before.
    pub repeats_itself: bool,
}

impl Default for Mechanisms {
    fn default() -> Self {
        Mechanisms { recognises_repeats: true, compares_versions: true, repeats_itself: true }
    }
}

/// When state goes that no accepted event can reach any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForgetRule {
    /// How far below the horizon ids, days and cells are still kept, milliseconds.
    pub slack_ms: i64,
    /// How far the horizon rises between two passes of the sweep, milliseconds.
    pub pass_step_ms: i64,
}

impl Default for ForgetRule {
    fn default() -> Self {
        ForgetRule { slack_ms: 2 * 86_400_000, pass_step_ms: 6 * 3_600_000 }
    }
}

/// What became of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It counts.
    Applied,
    /// It counted before; nothing changed.
    Duplicate,
    /// It does not count (conflict, or too old by the horizon); nothing changed.
    Rejected(Reject),
}

/// Number of keys a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Keys([usize; StateKind::ALL.len()]);

impl Keys {
    /// Kinds and their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (StateKind, usize)> {
        StateKind::ALL.into_iter().zip(self.0)
    }

    /// All kinds together.
    pub fn total(&self) -> usize {
        self.0.iter().sum()
    }
}

/// The state of one task.
#[derive(Debug)]
pub struct Engine {
    task: TaskName,
    brands: Brands,
    symbols: Symbols,
    customers: Customers,
    minute_cells: Cells,
    day_cells: Cells,
    active_days: Cells,
    graph: Graph,
    cold: Cold,
    horizon_ms: i64,
    /// No contribution that is still to come tells of an event before this.
    reach_ms: i64,
    sweep: Sweep,
    recognises_repeats: bool,
    live: Live,
    /// Rows of chunks among `live`.
    live_chunks: usize,
    /// To check that versions rise.
    last_version: Option<Version>,
}

impl Engine {
    /// An empty state.
    pub fn new(settings: Settings) -> Self {
        Engine {
            task: settings.task,
            brands: Brands::new(settings.calendar),
            symbols: Symbols::new(),
            customers: Customers::new(),
            minute_cells: Cells::new(),
            day_cells: Cells::new(),
            active_days: Cells::new(),
            graph: Graph::new(settings.levels, settings.mechanisms),
            cold: Cold::default(),
            horizon_ms: 0,
            reach_ms: 0,
            sweep: Sweep::new(settings.forget),
            recognises_repeats: settings.mechanisms.recognises_repeats,
            live: Live::default(),
            live_chunks: 0,
            last_version: None,
        }
    }

    /// Applies an accepted event that is a customer's own ([`Event::is_customers_own`]) and belongs to this task.
    pub fn apply(&mut self, event: &Event<'_>) -> Applied {
        self.apply_foreseen(event, &Foreseen::default())
    }

    /// The same of an event that was read ahead for.
    pub fn apply_foreseen(&mut self, event: &Event<'_>, foreseen: &Foreseen) -> Applied {
        debug_assert!(event.is_customers_own(), "scans by others than consumers go to the archive alone");
        if event.time_ms < self.horizon_ms {
            return Applied::Rejected(too_old_by_horizon(event.time_ms, self.horizon_ms));
        }
        debug_assert!(self.is_in_memory(event), "state of {} that is not in memory", event.customer_id);
        let (brand, slot) = self.customer_of(event, foreseen);
        match self.customers.remember(slot, RememberedId::of(event)) {
            Seen::Before if self.recognises_repeats => return Applied::Duplicate,
            Seen::WithOtherContent => return Applied::Rejected(conflict(event)),
            Seen::Before | Seen::Never { .. } => {}
        }
        let (place, cells) = self.place_of(brand, event, foreseen);
        let amounts = amounts_of(event);
        let day = self.brands.zone(brand).day(event.time_ms);
        let day_before = self.customers.add(slot, day, &amounts, &times_of(event));
        let link = event.counted_via().map_or(Link::NONE, |via| {
            let hashes = foreseen.via.unwrap_or_else(|| self.graph.link_hashes(&via.share_id, &via.sharer_id));
            self.graph.link_hashed(hashes, brand, &via.share_id, &via.sharer_id)
        });
        let (edge_before, link_before) = (self.edge(slot), self.customers.get(slot).link);
        let first_event = self.customers.settle_first(slot, event, place, link);
        let is_referred = [edge_before.is_some(), self.edge(slot).is_some()];
        self.count_in_cells(brand, (&place, cells), &amounts, first_event, is_referred);
        self.count_in_active_day(brand, day, &day_before, &amounts);
        self.note_own_event(slot, event, &amounts, link, (first_event, link_before));
        Applied::Applied
    }

    /// Events older than this are refused, Unix milliseconds.
    pub fn horizon_ms(&self) -> i64 {
        self.horizon_ms
    }

    /// Raises the horizon; a lower one is ignored. What it makes unreachable goes by and by ([`Engine::sweep`]).
    pub fn raise_horizon(&mut self, horizon_ms: i64) {
        self.horizon_ms = self.horizon_ms.max(horizon_ms);
    }

    /// No contribution that is still to come tells of an event before this, Unix milliseconds: raises it; a lower one is ignored. Cells
    /// are kept until both this and the horizon have passed them.
    pub fn raise_reach(&mut self, reach_ms: i64) {
        self.reach_ms = self.reach_ms.max(reach_ms);
    }

    /// What a checkpoint must add up to, as of the last cut or after restoring.
    pub fn live(&self) -> Live {
        self.live
    }

    /// Number of keys a kind, in memory or not.
    pub fn keys(&self) -> Keys {
        let [outbound_visits, inbound_visits, inbound_referrals, shares, child_shares] = self.graph.keys();
        let with_cold = |kind: StateKind, in_memory: usize| in_memory + self.cold.keys(kind);
        Keys([
            with_cold(StateKind::Customer, self.customers.len()),
            self.live_chunks,
            with_cold(StateKind::MinuteCell, self.minute_cells.len()),
            with_cold(StateKind::DayCell, self.day_cells.len()),
            self.active_days.len(),
            with_cold(StateKind::OutboundVisit, outbound_visits),
            with_cold(StateKind::InboundVisit, inbound_visits),
            with_cold(StateKind::InboundReferral, inbound_referrals),
            with_cold(StateKind::Share, shares),
            with_cold(StateKind::ChildShare, child_shares),
        ])
    }

    fn is_in_memory(&self, event: &Event<'_>) -> bool {
        let mut missing = Vec::new();
        self.missing_for_event(event, &mut missing);
        missing.is_empty()
    }

    fn cells(&self, kind: StateKind) -> &Cells {
        match kind {
            StateKind::MinuteCell => &self.minute_cells,
            StateKind::DayCell => &self.day_cells,
            _ => &self.active_days,
        }
    }

    fn cells_mut(&mut self, kind: StateKind) -> &mut Cells {
        match kind {
            StateKind::MinuteCell => &mut self.minute_cells,
            StateKind::DayCell => &mut self.day_cells,
            _ => &mut self.active_days,
        }
    }

    /// Bytes of memory, nearly: what the state has allocated, without the allocator's own overhead.
    pub fn state_bytes(&self) -> usize {
        let cells = [&self.minute_cells, &self.day_cells, &self.active_days];
        let cell_bytes: usize = cells.iter().map(|cells| cells.allocated_bytes()).sum();
        self.customers.allocated_bytes()
            + self.graph.allocated_bytes()
            + cell_bytes
            + self.symbols.allocated_bytes()
            + self.cold.allocated_bytes()
    }

    /// Of these, the bytes of customers alone: themselves, the ids that they remember and their index, without cells and graph.
    pub fn customer_bytes(&self) -> usize {
        self.customers.allocated_bytes()
    }

    /// Counts an event in its cells, and a new customer in those of its first event. `is_referred`: whether somebody brought the
    /// customer, before the event and after it.
    fn count_in_cells(
        &mut self,
        brand: BrandId,
        (place, hashes): (&Place, CellHashes),
        amounts: &Sums,
        first_event: FirstEvent,
        is_referred: [bool; 2],
    ) {
        let zone = self.brands.zone(brand);
        let [was_referred, is_now_referred] = is_referred;
        let mut added = *amounts;
        added.set(Measure::Joins, 0);
        if !matches!(first_event, FirstEvent::Stays) {
            added.add(Measure::NewCustomers, 1);
            added.add(Measure::ReferredCustomers, is_now_referred.into());
        }
        let minute = self.minute_cells.seek_hashed(hashes.minute, place.minute_cell(brand));
        let day = self.day_cells.seek_hashed(hashes.day, place.day_cell(brand, zone));
        self.minute_cells.change_sought(minute, |sums| sums.add_all(&added));
        self.day_cells.change_sought(day, |sums| sums.add_all(&added));
        if let FirstEvent::MovesFrom(old_place) = first_event {
            let take_back = |sums: &mut Sums| {
                sums.take_one(Measure::NewCustomers);
                if was_referred {
                    sums.take_one(Measure::ReferredCustomers);
                }
            };
            self.minute_cells.change(old_place.minute_cell(brand), take_back);
            self.day_cells.change(old_place.day_cell(brand, zone), take_back);
        }
    }

    /// Counts a customer among those of a day, once for each thing that it does there.
    fn count_in_active_day(&mut self, brand: BrandId, day: Day, before: &DayBefore, amounts: &Sums) {
        let mut customers = Sums::default();
        customers.add(Measure::Active, before.is_new.into());
        for measure in [Measure::Scans, Measure::Orders, Measure::Shares] {
            customers.add(measure, u64::from(before.sums.get(measure) == 0 && amounts.get(measure) > 0));
        }
        // Most events are not their customer's first of the day.
        if customers != Sums::default() {
            self.active_days.change(CellKey::of_day(brand, day), |sums| sums.add_all(&customers));
        }
    }

    /// Whose event it is.
    fn customer_of(&mut self, event: &Event<'_>, foreseen: &Foreseen) -> (BrandId, Slot) {
        let (brand, hash) = foreseen.customer.unwrap_or_else(|| {
            let brand = self.brands.intern(&event.brand);
            (brand, self.customers.hash(brand, &event.customer_id))
        });
        debug_assert_eq!(self.brands.name(brand), event.brand, "read ahead for another event");
        (brand, self.customers.find_or_insert_hashed(hash, brand, &event.customer_id))
    }

    /// Where an event counts.
    fn place_of(&mut self, brand: BrandId, event: &Event<'_>, foreseen: &Foreseen) -> (Place, CellHashes) {
        let Dimensions { region, texts: PlaceTexts { campaign, sku, channel } } = Dimensions::of(event);
        let symbols = &mut self.symbols;
        if let Some(PlaceAhead { place, cells, .. }) = foreseen.place.filter(|ahead| ahead.losses == symbols.losses()) {
            [place.campaign, place.sku, place.channel].into_iter().for_each(|symbol| symbols.keep(symbol));
            debug_assert_eq!((place.time_ms, place.region), (event.time_ms, region), "read ahead for another event");
            debug_assert_eq!([place.campaign, place.sku, place.channel].map(|symbol| symbols.text(symbol)), [campaign, sku, channel]);
            return (place, cells);
        }
        let (campaign, sku, channel) = (symbols.intern(campaign), symbols.intern(sku), symbols.intern(channel));
        let place = Place { time_ms: event.time_ms, campaign, sku, channel, region };
        (place, self.cell_hashes(brand, &place))
    }
}

fn conflict(event: &Event<'_>) -> Reject {
    let message = format!(
        "{} event_id {:?} of customer {:?} arrived before with other content; the first to arrive counts",
        event.kind().name(),
        event.event_id,
        event.customer_id
    );
    Reject { reason: Reason::Conflict, stage: Stage::Apply, message }
}

/// What an event adds to its customer's day.
fn amounts_of(event: &Event<'_>) -> Sums {
    let mut amounts = Sums::default();
    match &event.body {
        Body::Scan(scan) => {
            amounts.add(Measure::Scans, 1);
            amounts.add(Measure::Visits, u64::from(event.counted_via().is_some()));
            match scan.purpose {
                ScanPurpose::Verify => amounts.add(Measure::Verifies, 1),
                ScanPurpose::Draw => amounts.add(Measure::Draws, 1),
                ScanPurpose::Points | ScanPurpose::Follow => amounts.add(Measure::Joins, 1),
                ScanPurpose::Unspecified | ScanPurpose::Trace => {}
            }
        }
        Body::Purchase(purchase) => {
            let amount = u64::try_from(purchase.amount).unwrap_or_default();
            let (count, money) = match purchase.kind {
                PurchaseKind::Payment => (Measure::Orders, Measure::Paid),
                PurchaseKind::Refund => (Measure::Refunds, Measure::Refunded),
            };
            amounts.add(count, 1);
            amounts.add(money, amount);
        }
        Body::Share(_) => amounts.add(Measure::Shares, 1),
    }
    amounts
}

/// The last times that an event alone would give.
fn times_of(event: &Event<'_>) -> LastTimes {
    let mut times = LastTimes { event_ms: event.time_ms, ..LastTimes::default() };
    match &event.body {
        Body::Scan(_) => times.scan_ms = event.time_ms,
        Body::Purchase(purchase) if purchase.kind == PurchaseKind::Payment => times.purchase_ms = event.time_ms,
        Body::Purchase(_) => {}
        Body::Share(_) => times.share_ms = event.time_ms,
    }
    times
}
