//! Small valid events for tests, as protobuf records keyed by customer. Change a field with struct update:
//! `Scan { region: 310000, ..scan("s-1", "ann", now) }`.

use onecode::pb::{Purchase, PurchaseKind, Scan, ScanPurpose, Share, Via};
use prost::Message as _;

use super::Record;

/// The brand of all events here.
pub const BRAND: &str = "acme";

/// The present as Unix milliseconds: the broker's clock is this machine's.
pub fn now_ms() -> i64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// A consumer's check of the code `code-<event id>`.
pub fn scan(event_id: &str, customer: &str, event_time_ms: i64) -> Scan {
    Scan {
        event_id: event_id.to_owned(),
        brand: BRAND.to_owned(),
        customer_id: customer.to_owned(),
        event_time_ms,
        code: format!("code-{event_id}"),
        purpose: ScanPurpose::Verify.into(),
        ..Scan::default()
    }
}

/// A payment in minor units for the order `order-<event id>`.
pub fn payment(event_id: &str, customer: &str, event_time_ms: i64, amount: i64) -> Purchase {
    Purchase {
        event_id: event_id.to_owned(),
        brand: BRAND.to_owned(),
        customer_id: customer.to_owned(),
        event_time_ms,
        order_id: format!("order-{event_id}"),
        kind: PurchaseKind::Payment.into(),
        amount,
        ..Purchase::default()
    }
}

/// A refund in minor units of the order `order-<paid event id>`.
pub fn refund(event_id: &str, customer: &str, event_time_ms: i64, paid_event_id: &str, amount: i64) -> Purchase {
    Purchase {
        order_id: format!("order-{paid_event_id}"),
        kind: PurchaseKind::Refund.into(),
        ..payment(event_id, customer, event_time_ms, amount)
    }
}

/// A share with the id `share-<event id>`.
pub fn share(event_id: &str, customer: &str, event_time_ms: i64) -> Share {
    Share {
        event_id: event_id.to_owned(),
        brand: BRAND.to_owned(),
        customer_id: customer.to_owned(),
        event_time_ms,
        share_id: format!("share-{event_id}"),
        ..Share::default()
    }
}

/// The share of `sharer` whose event id is `share_event_id`, as others come in through it.
pub fn via(share_event_id: &str, sharer: &str) -> Option<Via> {
    Some(Via { share_id: format!("share-{share_event_id}"), sharer_id: sharer.to_owned() })
}

/// The record of a scan.
pub fn scan_record(event: &Scan) -> Record {
    Record::new(event.customer_id.as_bytes(), event.encode_to_vec())
}

/// The record of a purchase.
pub fn purchase_record(event: &Purchase) -> Record {
    Record::new(event.customer_id.as_bytes(), event.encode_to_vec())
}

/// The record of a share.
pub fn share_record(event: &Share) -> Record {
    Record::new(event.customer_id.as_bytes(), event.encode_to_vec())
}
