//! What the decoder promises, rule by rule.

mod agreement;
mod json;
mod rules;

use crate::model::{Event, EventKind, Reject};
use crate::pb;

use super::{Format, RawRecord, Rules, decode};

/// The timestamp of the records in these tests: 2026-08-01T00:00:00Z.
const RECORD_TIME_MS: i64 = 1_785_542_400_000;

fn decode_at<'a>(kind: EventKind, format: Format, value: &'a [u8]) -> Result<Event<'a>, Reject> {
    decode(kind, format, RawRecord { value: Some(value), content_type: None, timestamp_ms: RECORD_TIME_MS }, &Rules::default())
}

fn via() -> Option<pb::Via> {
    Some(pb::Via { share_id: "s1".to_owned(), sharer_id: "c0".to_owned() })
}

fn scan() -> pb::Scan {
    pb::Scan {
        event_id: "e1".to_owned(),
        brand: "acme".to_owned(),
        customer_id: "c1".to_owned(),
        event_time_ms: RECORD_TIME_MS,
        via: via(),
        code: "https://acme.cn/01/09506000134352/10/L1/21/77".to_owned(),
        campaign: "summer".to_owned(),
        region: 310_000,
        channel: "store".to_owned(),
        device: "d1".to_owned(),
        purpose: 2,
        ..pb::Scan::default()
    }
}

fn purchase() -> pb::Purchase {
    pb::Purchase {
        event_id: "e1".to_owned(),
        brand: "acme".to_owned(),
        customer_id: "c1".to_owned(),
        event_time_ms: RECORD_TIME_MS,
        order_id: "o1".to_owned(),
        kind: 1,
        amount: 12_900,
        lines: vec![pb::OrderLine { sku: "milk".to_owned(), quantity: 2, amount: 12_900 }],
        ..pb::Purchase::default()
    }
}

fn share() -> pb::Share {
    pb::Share {
        event_id: "e1".to_owned(),
        brand: "acme".to_owned(),
        customer_id: "c1".to_owned(),
        event_time_ms: RECORD_TIME_MS,
        share_id: "s2".to_owned(),
        rewarded: true,
        ..pb::Share::default()
    }
}
