//! Reading ahead in memory. Once a state is larger than the caches, most of an event's time is waiting: for the entry of an index, then for the place
//! that it names, then for a text there, one after the other, some hundred instructions' time each.
//!
//! Owns the order in which that is read for many events at once: one step for all of them before the next, so that the processor waits for many lines
//! at the same time and has them when the events are applied. A step decides only by what the steps before it have brought: a decision that waits for
//! memory lets nothing pass. Promises to change nothing, and nothing needs it to be right: an index is asked by hash alone, and its answer is a guess.

use std::hint::black_box;

use smallvec::SmallVec;

use super::cells::CellKey;
use super::customer::{Dimensions, PlaceTexts};
use super::graph::{Contribution, Link, LinkAhead, Parties};
use super::slab::{Slot, SlotIndex};
use super::{Engine, FORESEEN, Place};
use crate::model::{Body, Event};

/// Something that is looked for by its hash.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ahead {
    hash: Option<u64>,
    slot: Option<Slot>,
}

impl Ahead {
    /// Reads the entry that the hash names.
    pub(super) fn begin(index: &SlotIndex, hash: u64) -> (Ahead, u8) {
        (Ahead { hash: Some(hash), slot: None }, index.glance(hash))
    }

    /// The entry is here: the place that it names.
    pub(super) fn guess(&mut self, index: &SlotIndex) -> Option<Slot> {
        self.slot = self.hash.and_then(|hash| index.guess(hash));
        self.slot
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
    via: LinkAhead,
    own_share: LinkAhead,
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
}

impl HeardAhead {
    pub(super) fn receiver(&self) -> Option<Slot> {
        self.receiver.slot()
    }
}

impl Engine {
    /// Reads ahead in memory for these events, of which [`FORESEEN`] at most are worth it: they are applied sooner then. Changes nothing; when one of
    /// them does not come, nothing but this is lost.
    pub fn foresee_events<'a, 'b: 'a>(&self, events: impl Iterator<Item = &'a Event<'b>>) {
        let mut seen = 0;
        let mut all: SmallVec<[EventAhead; FORESEEN]> = events.filter_map(|event| self.begin_event(event, &mut seen)).collect();
        for ahead in &mut all {
            let EventAhead { customer, minute_cell, day_cell, via, own_share } = ahead;
            seen ^= customer.guess(self.customers.index()).map_or(0, |slot| self.customers.get(slot).glance());
            seen ^= minute_cell.guess(self.minute_cells.index()).map_or(0, |slot| self.minute_cells.glance(slot));
            seen ^= day_cell.guess(self.day_cells.index()).map_or(0, |slot| self.day_cells.glance(slot));
            seen ^= self.graph.see_texts(via) ^ self.graph.see_texts(own_share);
        }
        for ahead in &mut all {
            seen ^= ahead.customer.slot().map_or(0, |slot| self.customers.get(slot).glance_beyond());
            seen ^= self.graph.see_link(&mut ahead.via) ^ self.graph.see_link(&mut ahead.own_share);
        }
        for ahead in &mut all {
            seen ^= self.graph.begin_visit(&mut ahead.via, ahead.customer.slot());
        }
        for ahead in &mut all {
            seen ^= self.graph.see_visit(&mut ahead.via);
        }
        black_box(seen);
    }

    /// Begins with everything whose hash the event tells; `None` where it has nothing here.
    fn begin_event(&self, event: &Event<'_>, seen: &mut u8) -> Option<EventAhead> {
        let brand = self.brands.find(&event.brand).filter(|_| event.is_customers_own())?;
        let mut begin = |index: &SlotIndex, hash: u64| {
            let (ahead, byte) = Ahead::begin(index, hash);
            *seen ^= byte;
            ahead
        };
        let mut ahead =
            EventAhead { customer: begin(self.customers.index(), self.customers.hash(brand, &event.customer_id)), ..EventAhead::default() };
        if let Some(place) = self.known_place_of(event) {
            let (minute, day): (CellKey, CellKey) = (place.minute_cell(brand), place.day_cell(brand, self.brands.zone(brand)));
            ahead.minute_cell = begin(self.minute_cells.index(), self.minute_cells.hash(&minute));
            ahead.day_cell = begin(self.day_cells.index(), self.day_cells.hash(&day));
        }
        if let Some(via) = event.counted_via() {
            ahead.via = self.graph.begin_link(brand, &via.share_id, &via.sharer_id, seen);
        }
        if let Body::Share(share) = &event.body {
            ahead.own_share = self.graph.begin_link(brand, &share.share_id, &event.customer_id, seen);
        }
        Some(ahead)
    }

    /// The same for contributions that are heard next.
    pub fn foresee_contributions<'a, 'b: 'a>(&self, contributions: impl Iterator<Item = &'a Contribution<'b>>) {
        let mut seen = 0;
        let mut all: SmallVec<[HeardAhead; FORESEEN]> = contributions.filter_map(|said| self.begin_heard(said, &mut seen)).collect();
        for ahead in &mut all {
            seen ^= ahead.receiver.guess(self.customers.index()).map_or(0, |slot| self.customers.get(slot).glance());
            seen ^= self.graph.see_texts(&mut ahead.share)
                ^ self.graph.see_texts(&mut ahead.child)
                ^ self.graph.see_visitor(&mut ahead.visitor);
        }
        for ahead in &mut all {
            seen ^= ahead
                .receiver
                .slot()
                .map_or(0, |slot| self.customers.get(slot).glance_beyond() ^ self.graph.glance_at_sharer(self.customers.get(slot)));
            seen ^= self.graph.see_link(&mut ahead.share) ^ self.graph.see_link(&mut ahead.child);
        }
        for ahead in &mut all {
            seen ^= self.graph.begin_pair(ahead);
        }
        for ahead in &mut all {
            seen ^= self.graph.see_pair(ahead);
        }
        black_box(seen);
    }

    fn begin_heard(&self, said: &Contribution<'_>, seen: &mut u8) -> Option<HeardAhead> {
        let brand = self.brands.find(said.brand())?;
        let Parties { receiver, share, visitor, child } = said.parties();
        let byte;
        let mut ahead = HeardAhead::default();
        (ahead.receiver, byte) = Ahead::begin(self.customers.index(), self.customers.hash(brand, receiver));
        *seen ^= byte;
        if let Some((share_id, sharer_id)) = share {
            ahead.share = self.graph.begin_link(brand, share_id, sharer_id, seen);
        }
        if let Some((share_id, sharer_id)) = child {
            ahead.child = self.graph.begin_link(brand, share_id, sharer_id, seen);
        }
        if let Some(id) = visitor {
            ahead.visitor = self.graph.begin_text(id, seen);
        }
        Some(ahead)
    }

    /// The same for customers and links that are to be written.
    pub(super) fn foresee_names(&self, pairs: impl Iterator<Item = (Slot, Link)> + Clone) {
        self.customers.glance_at(pairs.clone().map(|(customer, _)| customer));
        self.graph.glance_at_names(pairs.map(|(_, link)| link));
    }

    /// Where an event counts, if all its dimensions were seen before.
    fn known_place_of(&self, event: &Event<'_>) -> Option<Place> {
        let Dimensions { region, texts: PlaceTexts { campaign, sku, channel } } = Dimensions::of(event);
        let (campaign, sku, channel) = (self.symbols.find(campaign)?, self.symbols.find(sku)?, self.symbols.find(channel)?);
        Some(Place { time_ms: event.time_ms, campaign, sku, channel, region })
    }
}
