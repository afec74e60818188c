//! An event as it stood on the wire, after its format and before any rule: what both formats decode to.
//!
//! Absent and default are one, as in proto3. Values that only one format can get wrong (an enum by an unknown name, a time
//! that is no time) are kept as they are, because the order of the reasons decides when they count.

use crate::model::{EventKind, Line, Text};

/// Any of the three messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WireEvent<'a> {
    pub event_id: Text<'a>,
    pub brand: Text<'a>,
    pub customer_id: Text<'a>,
    pub time: WireTime<'a>,
    pub via: WireVia<'a>,
    pub body: WireBody<'a>,
}

/// `event_time_ms`, or the text that JSON may give instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WireTime<'a> {
    /// Unix milliseconds.
    Millis(i64),
    /// Text that is no time.
    NoTime(Text<'a>),
}

impl Default for WireTime<'_> {
    fn default() -> Self {
        WireTime::Millis(0)
    }
}

/// An enum by number, or by a name that is none of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WireEnum<'a> {
    Number(i32),
    UnknownName(Text<'a>),
}

impl Default for WireEnum<'_> {
    fn default() -> Self {
        WireEnum::Number(0)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WireVia<'a> {
    pub share_id: Text<'a>,
    pub sharer_id: Text<'a>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum WireBody<'a> {
    Scan(WireScan<'a>),
    Purchase(WirePurchase<'a>),
    Share(WireShare<'a>),
}

impl WireBody<'_> {
    /// The empty body of a kind.
    pub fn empty(kind: EventKind) -> Self {
        match kind {
            EventKind::Scan => WireBody::Scan(WireScan::default()),
            EventKind::Purchase => WireBody::Purchase(WirePurchase::default()),
            EventKind::Share => WireBody::Share(WireShare::default()),
        }
    }
}

impl Default for WireBody<'_> {
    fn default() -> Self {
        WireBody::empty(EventKind::Scan)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WireScan<'a> {
    pub code: Text<'a>,
    pub sku: Text<'a>,
    pub batch: Text<'a>,
    pub campaign: Text<'a>,
    pub region: u32,
    pub channel: Text<'a>,
    pub device: Text<'a>,
    pub purpose: WireEnum<'a>,
    pub role: WireEnum<'a>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WirePurchase<'a> {
    pub order_id: Text<'a>,
    pub kind: WireEnum<'a>,
    pub amount: i64,
    pub currency: Text<'a>,
    pub lines: Vec<Line<'a>>,
    pub campaign: Text<'a>,
    pub region: u32,
    pub channel: Text<'a>,
    pub store: Text<'a>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct WireShare<'a> {
    pub share_id: Text<'a>,
    pub campaign: Text<'a>,
    pub sku: Text<'a>,
    pub region: u32,
    pub channel: Text<'a>,
    pub rewarded: bool,
}
