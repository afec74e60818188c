//! The rules of acceptance that need the record alone: a wire event becomes an [`Event`], or the first reason against it.
//!
//! One function a reason, called in the order of the closed list. The order is the contract: an event with two faults
//! always gets the same reason, whatever its format.

use std::borrow::Cow;

use super::digital_link::{self, DigitalLink};
use super::wire::{WireBody, WireEnum, WireEvent, WirePurchase, WireScan, WireShare, WireTime, WireVia};
use super::{Rules, rfc3339};
use crate::model::{Body, Event, Purchase, PurchaseKind, Reason, Reject, Role, Scan, ScanPurpose, Share, Stage, Text, Via};

const MOST_BRAND_BYTES: usize = 64;
const MOST_ID_BYTES: usize = 128;
const MOST_CODE_BYTES: usize = 512;
const MOST_TEXT_BYTES: usize = 256;
const MOST_LINES: usize = 1_000;
const MOST_AMOUNT: i64 = 10_000_000_000_000;

/// Judges an event against the rules and the timestamp of its record (Unix milliseconds).
pub(super) fn accept<'a>(event: WireEvent<'a>, record_time_ms: i64, rules: &Rules) -> Result<Event<'a>, Reject> {
    missing_field(&event)?;
    too_long(&event)?;
    bad_brand(&event.brand, rules)?;
    let enums = bad_enum(&event.body)?;
    if let WireBody::Purchase(purchase) = &event.body {
        bad_amount(purchase)?;
        bad_currency(purchase, &event.brand, rules)?;
    }
    bad_region(&event.body)?;
    let time_ms = bad_time(&event.time)?;
    future_time(time_ms, record_time_ms, rules)?;
    too_old(time_ms, record_time_ms, rules)?;
    let body = match event.body {
        WireBody::Scan(scan) => accepted_scan(scan, enums),
        WireBody::Purchase(purchase) => accepted_purchase(purchase, enums, rules.currency_of(&event.brand)),
        WireBody::Share(share) => accepted_share(share),
    };
    let (event_id, brand, customer_id) = (event.event_id, event.brand, event.customer_id);
    Ok(Event { event_id, brand, customer_id, time_ms, via: accepted_via(event.via), body })
}

fn missing_field(event: &WireEvent<'_>) -> Result<(), Reject> {
    let own = match &event.body {
        WireBody::Scan(scan) => ("code", &scan.code),
        WireBody::Purchase(purchase) => ("order_id", &purchase.order_id),
        WireBody::Share(share) => ("share_id", &share.share_id),
    };
    for (field, text) in [("event_id", &event.event_id), ("brand", &event.brand), ("customer_id", &event.customer_id), own] {
        if text.is_empty() {
            return Err(invalid(Reason::MissingField, format!("{field} is empty")));
        }
    }
    if event.time == WireTime::Millis(0) {
        return Err(invalid(Reason::MissingField, "event_time_ms is 0".to_owned()));
    }
    match (event.via.share_id.is_empty(), event.via.sharer_id.is_empty()) {
        (true, false) => Err(invalid(Reason::MissingField, "via has a sharer_id but no share_id".to_owned())),
        (false, true) => Err(invalid(Reason::MissingField, "via has a share_id but no sharer_id".to_owned())),
        _ => Ok(()),
    }
}

fn too_long(event: &WireEvent<'_>) -> Result<(), Reject> {
    at_most(MOST_ID_BYTES, [("event_id", &event.event_id)])?;
    at_most(MOST_BRAND_BYTES, [("brand", &event.brand)])?;
    let via = &event.via;
    at_most(MOST_ID_BYTES, [("customer_id", &event.customer_id), ("via.share_id", &via.share_id), ("via.sharer_id", &via.sharer_id)])?;
    match &event.body {
        WireBody::Scan(scan) => {
            at_most(MOST_CODE_BYTES, [("code", &scan.code)])?;
            at_most(
                MOST_TEXT_BYTES,
                [
                    ("sku", &scan.sku),
                    ("batch", &scan.batch),
                    ("campaign", &scan.campaign),
                    ("channel", &scan.channel),
                    ("device", &scan.device),
                ],
            )
        }
        WireBody::Purchase(purchase) => {
            at_most(MOST_ID_BYTES, [("order_id", &purchase.order_id)])?;
            if purchase.lines.len() > MOST_LINES {
                return Err(invalid(Reason::TooLong, format!("there are {} lines, the limit is {MOST_LINES}", purchase.lines.len())));
            }
            for line in &purchase.lines {
                at_most(MOST_TEXT_BYTES, [("lines.sku", &line.sku)])?;
            }
            at_most(MOST_TEXT_BYTES, [("campaign", &purchase.campaign), ("channel", &purchase.channel), ("store", &purchase.store)])
        }
        WireBody::Share(share) => {
            at_most(MOST_ID_BYTES, [("share_id", &share.share_id)])?;
            at_most(MOST_TEXT_BYTES, [("campaign", &share.campaign), ("sku", &share.sku), ("channel", &share.channel)])
        }
    }
}

fn at_most<const COUNT: usize>(limit: usize, texts: [(&str, &Text<'_>); COUNT]) -> Result<(), Reject> {
    match texts.into_iter().find(|(_, text)| text.len() > limit) {
        Some((field, text)) => Err(invalid(Reason::TooLong, format!("{field} is {} bytes, the limit is {limit}", text.len()))),
        None => Ok(()),
    }
}

fn bad_brand(brand: &str, rules: &Rules) -> Result<(), Reject> {
    if !brand.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-')) {
        return Err(invalid(Reason::BadBrand, format!("brand {brand:?} has characters other than a-z, 0-9, _ and -")));
    }
    if rules.brands.as_ref().is_some_and(|brands| !brands.contains(brand)) {
        return Err(invalid(Reason::BadBrand, format!("brand {brand:?} has no section in the configuration, and brands are closed")));
    }
    Ok(())
}

/// The enums of any body; those that a body does not have are at their first value.
#[derive(Clone, Copy)]
struct Enums {
    purpose: ScanPurpose,
    role: Role,
    kind: PurchaseKind,
}

fn bad_enum(body: &WireBody<'_>) -> Result<Enums, Reject> {
    let mut enums = Enums { purpose: ScanPurpose::Unspecified, role: Role::Consumer, kind: PurchaseKind::Payment };
    match body {
        WireBody::Scan(scan) => {
            enums.purpose = known("purpose", &scan.purpose, ScanPurpose::from_number)?;
            enums.role = known("role", &scan.role, Role::from_number)?;
        }
        WireBody::Purchase(purchase) => enums.kind = known("kind", &purchase.kind, purchase_kind)?,
        WireBody::Share(_) => {}
    }
    Ok(enums)
}

fn known<T>(field: &str, value: &WireEnum<'_>, from_number: impl Fn(i32) -> Option<T>) -> Result<T, Reject> {
    match value {
        WireEnum::Number(number) => from_number(*number).ok_or_else(|| invalid(Reason::BadEnum, format!("{field} {number} is not known"))),
        WireEnum::UnknownName(name) => Err(invalid(Reason::BadEnum, format!("{field} {} is not known", shortened(name)))),
    }
}

fn purchase_kind(number: i32) -> Option<PurchaseKind> {
    match number {
        1 => Some(PurchaseKind::Payment),
        2 => Some(PurchaseKind::Refund),
        _ => None,
    }
}

fn bad_amount(purchase: &WirePurchase<'_>) -> Result<(), Reject> {
    if !(1..=MOST_AMOUNT).contains(&purchase.amount) {
        return Err(invalid(Reason::BadAmount, format!("amount is {}, it must be 1 to {MOST_AMOUNT}", purchase.amount)));
    }
    match purchase.lines.iter().find(|line| line.amount < 0) {
        Some(line) => Err(invalid(Reason::BadAmount, format!("lines.amount is {}, it must not be negative", line.amount))),
        None => Ok(()),
    }
}

fn bad_currency(purchase: &WirePurchase<'_>, brand: &str, rules: &Rules) -> Result<(), Reject> {
    let expected = rules.currency_of(brand);
    if purchase.currency.is_empty() || purchase.currency == expected {
        return Ok(());
    }
    Err(invalid(Reason::BadCurrency, format!("currency is {}, the brand's is {expected}", shortened(&purchase.currency))))
}

fn bad_region(body: &WireBody<'_>) -> Result<(), Reject> {
    let region = match body {
        WireBody::Scan(scan) => scan.region,
        WireBody::Purchase(purchase) => purchase.region,
        WireBody::Share(share) => share.region,
    };
    match region {
        0 | 100_000..=999_999 => Ok(()),
        _ => Err(invalid(Reason::BadRegion, format!("region is {region}, it must be 0 or have six digits"))),
    }
}

fn bad_time(time: &WireTime<'_>) -> Result<i64, Reject> {
    match time {
        WireTime::Millis(time_ms) if *time_ms >= 0 => Ok(*time_ms),
        WireTime::Millis(time_ms) => Err(invalid(Reason::BadTime, format!("event_time_ms is {time_ms}, it must not be negative"))),
        WireTime::NoTime(text) => {
            let message = format!("event_time {} is no time of RFC 3339, such as 2026-08-01T12:34:56.789+08:00", shortened(text));
            Err(invalid(Reason::BadTime, message))
        }
    }
}

/// Also whatever is beyond 2106, where the tables' times end.
fn future_time(time_ms: i64, record_time_ms: i64, rules: &Rules) -> Result<(), Reject> {
    let limit_ms = rules.future_skew_ms;
    let ahead_ms = time_ms.saturating_sub(record_time_ms);
    if ahead_ms <= limit_ms && time_ms / 1_000 <= i64::from(u32::MAX) {
        return Ok(());
    }
    let written = rfc3339::written(time_ms);
    let message = format!("event time {written} is {ahead_ms} ms after the record's timestamp, the limit is {limit_ms} ms");
    Err(invalid(Reason::FutureTime, message))
}

fn too_old(time_ms: i64, record_time_ms: i64, rules: &Rules) -> Result<(), Reject> {
    let limit_ms = rules.max_lateness_ms;
    let behind_ms = record_time_ms.saturating_sub(time_ms);
    if behind_ms <= limit_ms {
        return Ok(());
    }
    let written = rfc3339::written(time_ms);
    let message =
        format!("event time {written} is {behind_ms} ms before the record's timestamp, the limit is {limit_ms} ms (max_lateness)");
    Err(invalid(Reason::TooOld, message))
}

fn invalid(reason: Reason, message: String) -> Reject {
    Reject { reason, stage: Stage::Validate, message }
}

/// Quoted, and cut: text without a limit of its own must not swell a header.
fn shortened(text: &str) -> String {
    const MOST_CHARS: usize = 40;
    match text.char_indices().nth(MOST_CHARS).and_then(|(end, _)| text.get(..end)) {
        Some(start) => format!("{start:?}..."),
        None => format!("{text:?}"),
    }
}

fn accepted_via(via: WireVia<'_>) -> Option<Via<'_>> {
    if via.share_id.is_empty() { None } else { Some(Via { share_id: via.share_id, sharer_id: via.sharer_id }) }
}

fn accepted_scan<'a>(scan: WireScan<'a>, enums: Enums) -> Body<'a> {
    let link: DigitalLink<'a> = match &scan.code {
        Cow::Borrowed(code) => digital_link::read(code),
        Cow::Owned(code) => digital_link::read(code).into_owned(),
    };
    let or_from_link = |sent: Text<'a>, linked: Text<'a>| if sent.is_empty() { linked } else { sent };
    Body::Scan(Scan {
        sku: or_from_link(scan.sku, link.gtin.clone()),
        batch: or_from_link(scan.batch, link.batch),
        gtin: link.gtin,
        serial: link.serial,
        code: scan.code,
        campaign: scan.campaign,
        region: scan.region,
        channel: scan.channel,
        device: scan.device,
        purpose: enums.purpose,
        role: enums.role,
    })
}

fn accepted_purchase<'a>(purchase: WirePurchase<'a>, enums: Enums, brand_currency: &str) -> Body<'a> {
    let currency = if purchase.currency.is_empty() { Cow::Owned(brand_currency.to_owned()) } else { purchase.currency };
    Body::Purchase(Purchase {
        order_id: purchase.order_id,
        kind: enums.kind,
        amount: purchase.amount,
        currency,
        lines: purchase.lines,
        campaign: purchase.campaign,
        region: purchase.region,
        channel: purchase.channel,
        store: purchase.store,
    })
}

fn accepted_share(share: WireShare<'_>) -> Body<'_> {
    Body::Share(Share {
        share_id: share.share_id,
        campaign: share.campaign,
        sku: share.sku,
        region: share.region,
        channel: share.channel,
        rewarded: share.rewarded,
    })
}
