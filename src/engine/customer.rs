//! One customer, compactly: first event, last times, days, remembered ids.

use std::num::NonZeroU64;

use super::brands::BrandId;
use super::cells::CellKey;
use super::history::History;
use super::ids::Ids;
use super::symbols::Symbol;
use crate::model::{Event, EventKind, TimeZone, Via};

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

#[derive(Debug)]
pub(super) struct Customer {
    pub(super) names: Names,
    pub(super) first: Place,
    pub(super) last: LastTimes,
    pub(super) history: History,
    pub(super) ids: Ids,
    /// Hash of its row as of the last cut; `None` = no row.
    pub(super) stored: Option<NonZeroU64>,
    pub(super) brand: BrandId,
    pub(super) flags: u8,
}

impl Customer {
    /// Waits to be served.
    pub(super) const TO_BE_SERVED: u8 = 1;
    /// Waits for the next cut.
    pub(super) const TO_BE_CUT: u8 = 2;

    pub(super) fn new(brand: BrandId, id: &str) -> Self {
        Customer {
            names: Names::new(id, "", None),
            first: Place::NONE,
            last: LastTimes::default(),
            history: History::default(),
            ids: Ids::default(),
            stored: None,
            brand,
            flags: 0,
        }
    }

    /// Whether an event comes before the first one known.
    pub(super) fn is_first(&self, event: &Event<'_>) -> bool {
        if !self.first.is_known() {
            return true;
        }
        let known = (self.first.time_ms, self.names.first_event_id(), self.first.kind);
        (event.time_ms, &*event.event_id, event.kind()) < known
    }

    pub(super) fn heap_bytes(&self) -> usize {
        self.names.texts.len() + self.history.heap_bytes() + self.ids.heap_bytes()
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
    pub(super) kind: EventKind,
}

impl Place {
    pub(super) const NONE: Place =
        Place { time_ms: 0, campaign: Symbol::EMPTY, sku: Symbol::EMPTY, channel: Symbol::EMPTY, region: 0, kind: EventKind::Scan };

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
        Place { time_ms: self.time_ms, kind: self.kind, ..Place::NONE }
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

/// The texts of a customer in one allocation: its id, its first event's id, and that event's via.
#[derive(Clone, Debug)]
pub(super) struct Names {
    texts: Box<str>,
    /// Ends of all but the last. Accepted texts have at most 128 bytes.
    ends: [u16; 3],
}

impl Names {
    pub(super) fn new(id: &str, first_event_id: &str, via: Option<&Via<'_>>) -> Self {
        let (share, sharer) = via.map_or(("", ""), |known| (&known.share_id, &known.sharer_id));
        let end = |length: usize| u16::try_from(length).unwrap_or(u16::MAX);
        let (id_end, event_end) = (id.len(), id.len() + first_event_id.len());
        Names {
            texts: [id, first_event_id, share, sharer].concat().into_boxed_str(),
            ends: [end(id_end), end(event_end), end(event_end + share.len())],
        }
    }

    pub(super) fn id(&self) -> &str {
        let [id_end, _, _] = self.ends;
        self.texts.get(..usize::from(id_end)).unwrap_or_default()
    }

    pub(super) fn first_event_id(&self) -> &str {
        let [id_end, event_end, _] = self.ends;
        self.texts.get(usize::from(id_end)..usize::from(event_end)).unwrap_or_default()
    }

    /// The first event's via as sent: share and sharer.
    pub(super) fn via(&self) -> Option<(&str, &str)> {
        let [_, event_end, share_end] = self.ends;
        let share = self.texts.get(usize::from(event_end)..usize::from(share_end))?;
        let sharer = self.texts.get(usize::from(share_end)..)?;
        (!share.is_empty()).then_some((share, sharer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        let via = Via { share_id: "share".into(), sharer_id: "王".into() };
        let names = Names::new("李", "event", Some(&via));
        assert_eq!((names.id(), names.first_event_id(), names.via()), ("李", "event", Some(("share", "王"))));
        let bare = Names::new("李", "other", None);
        assert_eq!((bare.id(), bare.first_event_id(), bare.via()), ("李", "other", None));
    }

    #[test]
    fn a_customer_is_small() {
        assert!(size_of::<Customer>() <= 160, "{}", size_of::<Customer>());
    }
}
