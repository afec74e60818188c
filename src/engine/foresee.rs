//! Reading ahead in memory. Once a state is larger than the caches, most of an event's time is waiting: for the entry of an index, then for the place
//! that it names, then for a text there, one after the other, some hundred instructions' time each.
//!
//! Owns the order in which that is asked for, for many events at once: one step for all of them before the next, so that the processor fetches many lines
//! at the same time (`prefetch.rs`) and has them when the events are applied. A step decides only by what the steps before it have brought. Promises to change nothing, and
//! nothing needs it to be right: an index is asked by hash alone, and its answer is a guess.

use smallvec::SmallVec;

use super::brands::BrandId;
use super::cells::Cells;
use super::customer::{Dimensions, PlaceTexts};
use super::graph::{Contribution, Link, LinkAhead, LinkHashes, Parties};
use super::slab::Slot;
use super::slot_index::SlotIndex;
use super::{Engine, FORESEEN, Place};
use crate::model::{Body, Event};

/// Something that is looked for by its hash.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ahead {
    hash: Option<u64>,
    slot: Option<Slot>,
}

impl Ahead {
    /// Asks for the entry that the hash names.
    pub(super) fn begin(index: &SlotIndex, hash: u64) -> Ahead {
        index.prefetch(hash);
        Ahead { hash: Some(hash), slot: None }
    }

    /// The entry is here: the place that it names.
    pub(super) fn guess(&mut self, index: &SlotIndex) -> Option<Slot> {
        self.slot = self.hash.and_then(|hash| index.guess(hash));
        self.slot
    }

    /// Something that is found already.
    fn found(slot: Slot) -> Ahead {
        Ahead { hash: None, slot: Some(slot) }
    }

    /// What [`Ahead::guess`] said.
    pub(super) fn slot(&self) -> Option<Slot> {
        self.slot
    }
}

/// Where an event's state will be looked for.
#[derive(Clone, Copy, Debug, Default)]
struct EventAhead {
    customer: Ahead,
    minute_cell: Ahead,
    day_cell: Ahead,
    /// Of the customer's first event so far, if this one is earlier: its cells lose a customer.
    first_minute_cell: Ahead,
    first_day_cell: Ahead,
    via: LinkAhead,
    own_share: LinkAhead,
    time_ms: i64,
}

/// Where what a contribution touches will be looked for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct HeardAhead {
    receiver: Ahead,
    pub(super) share: LinkAhead,
    pub(super) child: LinkAhead,
    pub(super) visitor: Ahead,
    /// Of the receiver, or of its share, with whoever says it.
    pub(super) pair: Ahead,
    /// The receiver is a visitor of the share, and it is about what it did there.
    pub(super) is_own_visit: bool,
}

impl HeardAhead {
    /// Of a receiver that was found before.
    pub(super) fn of_found(receiver: Slot) -> Self {
        HeardAhead { receiver: Ahead::found(receiver), ..HeardAhead::default() }
    }

    pub(super) fn receiver(&self) -> Option<Slot> {
        self.receiver.slot()
    }
}

/// What reading ahead for an event has found out on the way, so that applying it need not again: hashes, and numbers of texts. Only for the same event
/// and engine, however much later.
#[derive(Clone, Copy, Debug, Default)]
pub struct Foreseen {
    /// The customer's brand, and what the customer is found by.
    pub(super) customer: Option<(BrandId, u64)>,
    pub(super) place: Option<PlaceAhead>,
    pub(super) via: Option<LinkHashes>,
}

/// Where an event counts, as long as no text has lost its number.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlaceAhead {
    /// [`super::symbols::Symbols::losses`] then.
    pub(super) losses: u64,
    pub(super) place: Place,
    pub(super) cells: CellHashes,
}

/// What the cells of an event are found by.
#[derive(Clone, Copy, Debug)]
pub(super) struct CellHashes {
    pub(super) minute: u64,
    pub(super) day: u64,
}

impl Engine {
    /// Reads ahead in memory for these events, of which [`FORESEEN`] at most are worth it: they are applied sooner then. Changes nothing in the engine; when
    /// one of them does not come, nothing but this is lost. What was found out is for [`Engine::apply_foreseen`].
    pub fn foresee_events<'a, 'b: 'a>(&self, events: impl Iterator<Item = (&'a Event<'b>, &'a mut Foreseen)>) {
        let mut all: SmallVec<[EventAhead; FORESEEN]> = events.filter_map(|(event, foreseen)| self.begin_event(event, foreseen)).collect();
        for ahead in &mut all {
            self.see_customer(&mut ahead.customer);
            see_cell(&self.minute_cells, &mut ahead.minute_cell);
            see_cell(&self.day_cells, &mut ahead.day_cell);
            self.graph.see_texts(&mut ahead.via);
            self.graph.see_texts(&mut ahead.own_share);
        }
        for ahead in &mut all {
            self.see_beyond(&ahead.customer);
            self.begin_first_cells(ahead);
            if let Some(slot) = ahead.minute_cell.slot() {
                self.minute_cells.prefetch_beyond(slot);
            }
            if let Some(slot) = ahead.day_cell.slot() {
                self.day_cells.prefetch_beyond(slot);
            }
            self.graph.see_link(&mut ahead.via);
            self.graph.see_link(&mut ahead.own_share);
        }
        for ahead in &mut all {
            see_cell(&self.minute_cells, &mut ahead.first_minute_cell);
            see_cell(&self.day_cells, &mut ahead.first_day_cell);
            self.graph.begin_visit(&mut ahead.via, ahead.customer.slot());
            if let Some(slot) = ahead.customer.slot() {
                self.customers.get(slot).ids.prefetch_open();
            }
        }
        for ahead in &mut all {
            self.graph.see_visit(&mut ahead.via);
            if let Some(slot) = ahead.customer.slot() {
                self.customers.get(slot).ids.prefetch_newest();
            }
        }
    }

    /// Begins with everything whose hash the event tells; `None` where it has nothing here.
    fn begin_event(&self, event: &Event<'_>, foreseen: &mut Foreseen) -> Option<EventAhead> {
        let brand = self.brands.find(&event.brand).filter(|_| event.is_customers_own())?;
        let hash = self.customers.hash(brand, &event.customer_id);
        let customer = Ahead::begin(self.customers.index(), hash);
        let mut ahead = EventAhead { customer, time_ms: event.time_ms, ..EventAhead::default() };
        *foreseen = Foreseen { customer: Some((brand, hash)), ..Foreseen::default() };
        if let Some(place) = self.known_place_of(event) {
            let cells = self.cell_hashes(brand, &place);
            ahead.minute_cell = Ahead::begin(self.minute_cells.index(), cells.minute);
            ahead.day_cell = Ahead::begin(self.day_cells.index(), cells.day);
            foreseen.place = Some(PlaceAhead { losses: self.symbols.losses(), place, cells });
        }
        if let Some(via) = event.counted_via() {
            let hashes = self.graph.link_hashes(&via.share_id, &via.sharer_id);
            ahead.via = self.graph.begin_link(brand, hashes);
            foreseen.via = Some(hashes);
        }
        if let Body::Share(share) = &event.body {
            ahead.own_share = self.graph.begin_link(brand, self.graph.link_hashes(&share.share_id, &event.customer_id));
        }
        Some(ahead)
    }

    /// The customer is here: whether the event will be its first, and where that was until now.
    fn begin_first_cells(&self, ahead: &mut EventAhead) {
        let Some(customer) = ahead.customer.slot().map(|slot| self.customers.get(slot)) else { return };
        if customer.first.is_known() && ahead.time_ms <= customer.first.time_ms {
            let cells = self.cell_hashes(customer.brand, &customer.first);
            ahead.first_minute_cell = Ahead::begin(self.minute_cells.index(), cells.minute);
            ahead.first_day_cell = Ahead::begin(self.day_cells.index(), cells.day);
        }
    }

    /// What the cells of a place are found by.
    pub(super) fn cell_hashes(&self, brand: BrandId, place: &Place) -> CellHashes {
        let day = place.day_cell(brand, self.brands.zone(brand));
        CellHashes { minute: self.minute_cells.hash(&place.minute_cell(brand)), day: self.day_cells.hash(&day) }
    }

    fn see_customer(&self, ahead: &mut Ahead) {
        if let Some(slot) = ahead.guess(self.customers.index()) {
            self.customers.get(slot).prefetch();
        }
    }

    fn see_beyond(&self, ahead: &Ahead) {
        if let Some(slot) = ahead.slot() {
            self.customers.get(slot).prefetch_beyond();
        }
    }

    /// The same for contributions that are heard next.
    pub fn foresee_contributions<'a, 'b: 'a>(&self, contributions: impl Iterator<Item = &'a Contribution<'b>>) {
        let begin = |said: &Contribution<'_>| Some(self.begin_heard(self.brands.find(said.brand())?, &said.parties()));
        self.foresee_heard(&mut contributions.filter_map(begin).collect());
    }

    /// All steps behind the first.
    fn foresee_heard(&self, all: &mut SmallVec<[HeardAhead; FORESEEN]>) {
        for ahead in &mut *all {
            self.see_customer(&mut ahead.receiver);
            self.graph.see_names(ahead);
        }
        for ahead in &mut *all {
            self.see_beyond(&ahead.receiver);
            if let Some(slot) = ahead.receiver() {
                self.graph.see_sharer(self.customers.get(slot).sharer);
            }
            self.graph.see_links(ahead);
        }
        self.graph.see_pairs(all);
    }

    fn begin_heard(&self, brand: BrandId, parties: &Parties<'_>) -> HeardAhead {
        let Parties { receiver, share, visitor, child } = *parties;
        let link = |(share_id, sharer_id)| self.graph.begin_link(brand, self.graph.link_hashes(share_id, sharer_id));
        HeardAhead {
            receiver: Ahead::begin(self.customers.index(), self.customers.hash(brand, receiver)),
            share: share.map(link).unwrap_or_default(),
            child: child.map(link).unwrap_or_default(),
            visitor: visitor.map(|id| self.graph.begin_text(id)).unwrap_or_default(),
            ..HeardAhead::default()
        }
    }

    /// The same for what only sharers have of customers that are to be written.
    pub(super) fn foresee_sharers(&self, customers: &[Slot]) {
        customers.iter().for_each(|slot| self.graph.see_sharer(self.customers.get(*slot).sharer));
    }

    /// The same for customers and links that are to be written.
    pub(super) fn foresee_names(&self, pairs: impl Iterator<Item = (Slot, Link)> + Clone) {
        self.customers.prefetch(pairs.clone().map(|(customer, _)| customer));
        self.graph.prefetch_names(pairs.map(|(_, link)| link));
    }

    /// Where an event counts, if all its dimensions were seen before.
    fn known_place_of(&self, event: &Event<'_>) -> Option<Place> {
        let Dimensions { region, texts: PlaceTexts { campaign, sku, channel } } = Dimensions::of(event);
        let (campaign, sku, channel) = (self.symbols.find(campaign)?, self.symbols.find(sku)?, self.symbols.find(channel)?);
        Some(Place { time_ms: event.time_ms, campaign, sku, channel, region })
    }
}

/// Asks for where a cell is, once the index has said it.
pub(super) fn see_cell(cells: &Cells, ahead: &mut Ahead) {
    if let Some(slot) = ahead.guess(cells.index()) {
        cells.prefetch(slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Format, RawRecord, Rules, decode};
    use crate::engine::{ForgetRule, Mechanisms, Settings, StateRow};
    use crate::generate::{GeneratedRecord, Generator, Options};
    use crate::model::{Calendar, TimeZone, Version};
    use crate::rows::ServingRows;

    fn engine() -> Engine {
        Engine::new(Settings {
            task: "0".into(),
            calendar: Calendar::new(TimeZone::UTC, Default::default()),
            forget: ForgetRule { slack_ms: 0, pass_step_ms: 1 },
            mechanisms: Mechanisms::default(),
            levels: 3,
        })
    }

    fn accepted(record: &GeneratedRecord) -> Option<Event<'_>> {
        let raw = RawRecord { value: record.value.as_deref(), content_type: None, timestamp_ms: record.due_ms };
        decode(record.kind, Format::Auto, raw, &Rules::default()).ok()
    }

    /// All rows of both kinds.
    fn rows_of(engine: &mut Engine, sequence: u64) -> (ServingRows, Vec<StateRow>) {
        let (mut rows, mut state) = (ServingRows::default(), Vec::new());
        engine.drain_rows(Version::new(1, sequence), &mut rows);
        engine.cut(&mut state);
        (rows, state)
    }

    #[test]
    fn what_was_foreseen_changes_no_result() {
        const DAY_MS: i64 = 86_400_000;
        let options = Options { count: 6_000, customers: 300, span_ms: 40 * DAY_MS, malformed: 0.0, duplicates: 0.1, ..Options::default() };
        let start_ms = options.start_ms;
        let records: Vec<GeneratedRecord> = Generator::new(options).expect("options").collect();
        let (mut plain, mut foreseeing) = (engine(), engine());
        let mut used = 0;
        for (number, run) in records.chunks(FORESEEN).enumerate() {
            let events: Vec<Event<'_>> = run.iter().filter_map(accepted).filter(Event::is_customers_own).collect();
            let mut foreseen = vec![Foreseen::default(); events.len()];
            foreseeing.foresee_events(events.iter().zip(&mut foreseen));
            // In every third run texts lose their numbers meanwhile.
            if number % 3 == 0 {
                for engine in [&mut plain, &mut foreseeing] {
                    engine.raise_horizon(start_ms + number as i64 * DAY_MS / 6);
                    engine.raise_reach(start_ms + number as i64 * DAY_MS / 6);
                    while engine.sweep(100) == 100 {}
                }
            }
            used += foreseen.iter().filter(|foreseen| foreseen.place.is_some() && foreseen.via.is_some()).count();
            for (event, foreseen) in events.iter().zip(&foreseen) {
                assert_eq!(plain.apply(event), foreseeing.apply_foreseen(event, foreseen));
            }
            if number % 5 == 0 {
                let sequence = number as u64 + 1;
                assert_eq!(rows_of(&mut plain, sequence), rows_of(&mut foreseeing, sequence));
            }
        }
        assert!(used > 500, "{used}");
        assert_eq!(plain.live(), foreseeing.live());
    }
}
