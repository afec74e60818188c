//! One customer, compactly: first event, last times, days, remembered ids.

use std::num::NonZeroU64;

use super::brands::BrandId;
use super::cells::CellKey;
use super::graph::Link;
use super::history::History;
use super::ids::Ids;
use super::prefetch::{prefetch, prefetch_all};
use super::slab::Slot;
use super::symbols::{Symbol, Symbols};
use crate::model::{Body, Event, EventKind, TimeZone};

/// Last times, Unix milliseconds; 0 = never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LastTimes {
    pub(super) event_ms: i64,
    pub(super) scan_ms: i64,
    /// Of a payment.
    pub(super) purchase_ms: i64,
    pub(super) share_ms: i64,
}

impl LastTimes {
    pub(super) fn raise(&mut self, others: &LastTimes) {
        self.event_ms = self.event_ms.max(others.event_ms);
        self.scan_ms = self.scan_ms.max(others.scan_ms);
        self.purchase_ms = self.purchase_ms.max(others.purchase_ms);
        self.share_ms = self.share_ms.max(others.share_ms);
    }
}

/// [`LastTimes`] as customers keep them: six bytes each, enough for times up to [`KeptTimes::MOST_MS`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeptTimes {
    low: [u32; 4],
    high: [u16; 4],
}

impl KeptTimes {
    /// Events after 2106 are refused; this is in the year 10889.
    pub(super) const MOST_MS: i64 = (1 << 48) - 1;

    /// Times outside of 0 to [`KeptTimes::MOST_MS`] become the nearest in it.
    pub(super) fn of(times: &LastTimes) -> Self {
        let times = [times.event_ms, times.scan_ms, times.purchase_ms, times.share_ms].map(|time_ms| time_ms.clamp(0, Self::MOST_MS));
        KeptTimes { low: times.map(|time_ms| time_ms as u32), high: times.map(|time_ms| (time_ms >> 32) as u16) }
    }

    pub(super) fn read(&self) -> LastTimes {
        let mut times = [0; 4];
        for (time_ms, (low, high)) in times.iter_mut().zip(self.low.iter().zip(&self.high)) {
            *time_ms = (i64::from(*high) << 32) | i64::from(*low);
        }
        let [event_ms, scan_ms, purchase_ms, share_ms] = times;
        LastTimes { event_ms, scan_ms, purchase_ms, share_ms }
    }
}

#[derive(Debug)]
pub(super) struct Customer {
    pub(super) names: Names,
    pub(super) first: Place,
    pub(super) last: KeptTimes,
    pub(super) history: History,
    pub(super) ids: Ids,
    /// Earliest event by somebody else through a share of this customer, Unix milliseconds; 0 = none. Only ever falls: whatever was
    /// said about it was said about an event that counts.
    pub(super) appeared_ms: i64,
    /// The first event's via.
    pub(super) link: Link,
    /// The part that only sharers have, or [`Customer::NO_SHARER`].
    pub(super) sharer: Slot,
    /// Hash of its row as of the last cut; `None` = no row.
    pub(super) stored: Option<NonZeroU64>,
    pub(super) brand: BrandId,
    pub(super) flags: u8,
    /// Of the first event; beside the place it would take eight bytes.
    pub(super) first_kind: EventKind,
}

impl Customer {
    /// Waits to be served.
    pub(super) const TO_BE_SERVED: u8 = 1;
    /// Waits for the next cut.
    pub(super) const TO_BE_CUT: u8 = 2;
    /// Its row of `referrals` waits to be served.
    pub(super) const REFERRAL_TO_BE_SERVED: u8 = 4;
    /// Layers of its subtree wait to be served.
    pub(super) const SUBTREE_TO_BE_SERVED: u8 = 8;
    /// Was looked at since the last search for cold ones.
    pub(super) const TOUCHED: u8 = 16;
    /// A free place.
    pub(super) const VACANT: u8 = 32;
    /// Nobody named it as a sharer.
    pub(super) const NO_SHARER: Slot = Slot::MAX;

    pub(super) fn new(brand: BrandId, id: &str) -> Self {
        Customer {
            names: Names::new(id, ""),
            first: Place::NONE,
            last: KeptTimes::default(),
            history: History::default(),
            ids: Ids::default(),
            appeared_ms: 0,
            link: Link::NONE,
            sharer: Customer::NO_SHARER,
            stored: None,
            brand,
            flags: 0,
            first_kind: EventKind::Scan,
        }
    }

    /// Whether an event comes before the first one known.
    pub(super) fn is_first(&self, event: &Event<'_>) -> bool {
        if !self.first.is_known() {
            return true;
        }
        let known = (self.first.time_ms, self.names.first_event_id(), self.first_kind);
        (event.time_ms, &*event.event_id, event.kind()) < known
    }

    /// Asks for the memory of the customer itself, which has several lines (`engine/foresee.rs`).
    pub(super) fn prefetch(&self) {
        prefetch(&self.flags);
        prefetch(&self.first);
        prefetch(&self.appeared_ms);
        prefetch(&self.last);
        prefetch(&self.names);
        prefetch(&self.link);
    }

    /// The same of its parts elsewhere, once the customer itself is here.
    pub(super) fn prefetch_beyond(&self) {
        prefetch_all(self.names.texts.as_bytes());
        self.history.prefetch();
        self.ids.prefetch();
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.names.texts.len() + self.history.heap_bytes() + self.ids.heap_bytes()
    }
}

/// The texts among the dimensions of a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlaceTexts<'a> {
    pub(super) campaign: &'a str,
    pub(super) sku: &'a str,
    pub(super) channel: &'a str,
}

impl<'a> PlaceTexts<'a> {
    /// Of a place or of a cell.
    pub(super) fn of(campaign: Symbol, sku: Symbol, channel: Symbol, symbols: &'a Symbols) -> Self {
        PlaceTexts { campaign: symbols.text(campaign), sku: symbols.text(sku), channel: symbols.text(channel) }
    }
}

/// The dimensions of an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dimensions<'a> {
    pub(super) region: u32,
    pub(super) texts: PlaceTexts<'a>,
}

impl<'a> Dimensions<'a> {
    /// An order has no sku: its lines do.
    pub(super) fn of(event: &'a Event<'_>) -> Self {
        let (campaign, sku, channel, region) = match &event.body {
            Body::Scan(scan) => (&scan.campaign, &*scan.sku, &scan.channel, scan.region),
            Body::Purchase(purchase) => (&purchase.campaign, "", &purchase.channel, purchase.region),
            Body::Share(share) => (&share.campaign, &*share.sku, &share.channel, share.region),
        };
        Dimensions { region, texts: PlaceTexts { campaign, sku, channel } }
    }
}

/// Where an event counts: its time and dimensions. A customer keeps those of its first event, which count the new customer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Unix milliseconds; 0 = no event.
    pub(super) time_ms: i64,
    pub(super) campaign: Symbol,
    pub(super) sku: Symbol,
    pub(super) channel: Symbol,
    pub(super) region: u32,
}

impl Place {
    pub(super) const NONE: Place = Place { time_ms: 0, campaign: Symbol::EMPTY, sku: Symbol::EMPTY, channel: Symbol::EMPTY, region: 0 };

    pub(super) fn is_known(&self) -> bool {
        self.time_ms > 0
    }

    /// Whether it has dimensions to forget.
    pub(super) fn has_dimensions(&self) -> bool {
        let is_named = [self.campaign, self.sku, self.channel].iter().any(|symbol| *symbol != Symbol::EMPTY);
        is_named || self.region != 0
    }

    /// Forgets the dimensions.
    pub(super) fn without_dimensions(&self) -> Place {
        Place { time_ms: self.time_ms, ..Place::NONE }
    }

    /// The event's minute cell.
    pub(super) fn minute_cell(&self, brand: BrandId) -> CellKey {
        let minute = self.time_ms.div_euclid(60_000).clamp(0, i64::from(u32::MAX / 60)) as u32;
        let province = self.region / 10_000 * 10_000;
        CellKey { brand, bucket: minute, campaign: self.campaign, sku: Symbol::EMPTY, channel: self.channel, region: province }
    }

    /// The event's day cell.
    pub(super) fn day_cell(&self, brand: BrandId, zone: TimeZone) -> CellKey {
        let day = u32::from(zone.day(self.time_ms));
        CellKey { brand, bucket: day, campaign: self.campaign, sku: self.sku, channel: self.channel, region: self.region }
    }
}

/// The texts of a customer in one allocation: its id, and its first event's id. Before them a character whose number is the id's length: accepted
/// texts have at most 128 bytes, and a length beside the allocation would take eight.
#[derive(Clone, Debug)]
pub(super) struct Names {
    texts: Box<str>,
}

impl Names {
    pub(super) fn new(id: &str, first_event_id: &str) -> Self {
        let length = u32::try_from(id.len()).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER);
        let mut texts = String::with_capacity(length.len_utf8() + id.len() + first_event_id.len());
        texts.push(length);
        texts.push_str(id);
        texts.push_str(first_event_id);
        Names { texts: texts.into_boxed_str() }
    }

    fn parts(&self) -> (&str, &str) {
        let mut rest = self.texts.chars();
        let length = rest.next().map_or(0, |length| length as usize);
        rest.as_str().split_at_checked(length).unwrap_or_default()
    }

    pub(super) fn id(&self) -> &str {
        self.parts().0
    }

    pub(super) fn first_event_id(&self) -> &str {
        self.parts().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let names = Names::new("李", "event");
        assert_eq!((names.id(), names.first_event_id()), ("李", "event"));
        assert_eq!(Names::new("李", "").id(), "李");
        let longest = "x".repeat(128);
        let names = Names::new(&longest, &longest);
        assert_eq!((names.id(), names.first_event_id()), (&*longest, &*longest));
    }

    #[test]
    fn times_are_kept() {
        let times = LastTimes { event_ms: KeptTimes::MOST_MS, scan_ms: 1, purchase_ms: 0, share_ms: 1 << 32 };
        assert_eq!(KeptTimes::of(&times).read(), times);
        let beyond = LastTimes { event_ms: i64::MAX, scan_ms: -1, ..times };
        assert_eq!(KeptTimes::of(&beyond).read(), LastTimes { event_ms: KeptTimes::MOST_MS, scan_ms: 0, ..times });
    }

    #[test]
    fn a_customer_is_small() {
        assert!(size_of::<Customer>() <= 152, "{}", size_of::<Customer>());
    }
}
