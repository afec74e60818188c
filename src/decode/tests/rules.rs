//! Each reason at its boundaries, and the order between reasons.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message as _;

use super::super::{Format, RawRecord, Rules, decode};
use super::{RECORD_TIME_MS, purchase, scan, share};
use crate::model::{Body, Event, EventKind, Reason, Reject, Role, ScanPurpose, Stage};
use crate::pb;

const MOST_LATENESS_MS: i64 = 35 * 86_400_000;
const SKEW_MS: i64 = 600_000;

enum Message {
    Scan(pb::Scan),
    Purchase(pb::Purchase),
    Share(pb::Share),
}

impl Message {
    fn kind(&self) -> EventKind {
        match self {
            Message::Scan(_) => EventKind::Scan,
            Message::Purchase(_) => EventKind::Purchase,
            Message::Share(_) => EventKind::Share,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Message::Scan(message) => message.encode_to_vec(),
            Message::Purchase(message) => message.encode_to_vec(),
            Message::Share(message) => message.encode_to_vec(),
        }
    }
}

fn judged(message: &Message, rules: &Rules) -> Result<(), Reject> {
    let bytes = message.bytes();
    let record = RawRecord { value: Some(&bytes), content_type: None, timestamp_ms: RECORD_TIME_MS };
    decode(message.kind(), Format::Protobuf, record, rules).map(|_| ())
}

fn scan_with(change: impl FnOnce(&mut pb::Scan)) -> Message {
    let mut message = scan();
    change(&mut message);
    Message::Scan(message)
}

fn purchase_with(change: impl FnOnce(&mut pb::Purchase)) -> Message {
    let mut message = purchase();
    change(&mut message);
    Message::Purchase(message)
}

fn share_with(change: impl FnOnce(&mut pb::Share)) -> Message {
    let mut message = share();
    change(&mut message);
    Message::Share(message)
}

#[track_caller]
fn assert_accepted(message: &Message) {
    if let Err(reject) = judged(message, &Rules::default()) {
        panic!("{reject}");
    }
}

#[track_caller]
fn assert_rejected(message: &Message, reason: Reason, text: &str) {
    let reject = judged(message, &Rules::default()).expect_err("rejected");
    assert_eq!((reject.reason, reject.stage, reject.message.as_str()), (reason, Stage::Validate, text));
}

fn text(bytes: usize) -> String {
    "x".repeat(bytes)
}

#[test]
fn the_plain_events_are_accepted() {
    assert_accepted(&Message::Scan(scan()));
    assert_accepted(&Message::Purchase(purchase()));
    assert_accepted(&Message::Share(share()));
}

#[test]
fn a_tombstone_and_an_empty_value_are_undecodable() {
    for (value, message) in [(None, "value is null"), (Some(&b""[..]), "value is empty")] {
        for format in [Format::Auto, Format::Protobuf, Format::Json] {
            let record = RawRecord { value, content_type: None, timestamp_ms: RECORD_TIME_MS };
            let reject = decode(EventKind::Scan, format, record, &Rules::default()).expect_err("rejected");
            assert_eq!((reject.reason, reject.stage, reject.message.as_str()), (Reason::Undecodable, Stage::Decode, message));
        }
    }
}

#[test]
fn a_record_over_the_limit_is_too_long_before_it_is_anything_else() {
    let rules = Rules { event_bytes: 10, ..Rules::default() };
    let at = |value: &[u8]| {
        let record = RawRecord { value: Some(value), content_type: None, timestamp_ms: RECORD_TIME_MS };
        decode(EventKind::Scan, Format::Auto, record, &rules).map(|_| ()).expect_err("rejected")
    };
    assert_eq!((at(&[0xff; 10]).reason, at(&[0xff; 10]).stage), (Reason::Undecodable, Stage::Decode));
    assert_eq!((at(&[0xff; 11]).reason, at(&[0xff; 11]).stage), (Reason::TooLong, Stage::Decode));
    assert_eq!(at(&[0xff; 11]).message, "value is 11 bytes, the limit is 10 (limits.event_bytes)");
}

#[test]
fn required_fields_are_named_when_they_are_missing() {
    let cases = [
        (scan_with(|scan| scan.event_id.clear()), "event_id is empty"),
        (scan_with(|scan| scan.brand.clear()), "brand is empty"),
        (scan_with(|scan| scan.customer_id.clear()), "customer_id is empty"),
        (scan_with(|scan| scan.code.clear()), "code is empty"),
        (purchase_with(|purchase| purchase.order_id.clear()), "order_id is empty"),
        (share_with(|share| share.share_id.clear()), "share_id is empty"),
        (share_with(|share| share.event_time_ms = 0), "event_time_ms is 0"),
        (
            scan_with(|scan| scan.via = Some(pb::Via { share_id: "s".to_owned(), ..pb::Via::default() })),
            "via has a share_id but no sharer_id",
        ),
        (
            scan_with(|scan| scan.via = Some(pb::Via { sharer_id: "c".to_owned(), ..pb::Via::default() })),
            "via has a sharer_id but no share_id",
        ),
    ];
    for (message, text) in &cases {
        assert_rejected(message, Reason::MissingField, text);
    }
}

#[test]
fn an_empty_via_is_no_via() {
    let bytes = scan_with(|scan| scan.via = Some(pb::Via::default())).bytes();
    let event = super::decode_at(EventKind::Scan, Format::Protobuf, &bytes).expect("accepted");
    assert_eq!(event.via, None);
}

/// Puts a text into a message.
type Fill = fn(String) -> Message;

#[test]
fn texts_may_be_as_long_as_their_limit_and_no_longer() {
    let cases: [(&str, usize, Fill); 19] = [
        ("event_id", 128, |text| scan_with(|scan| scan.event_id = text)),
        ("brand", 64, |text| scan_with(|scan| scan.brand = text)),
        ("customer_id", 128, |text| scan_with(|scan| scan.customer_id = text)),
        ("via.share_id", 128, |text| scan_with(|scan| scan.via.as_mut().expect("a via").share_id = text)),
        ("via.sharer_id", 128, |text| scan_with(|scan| scan.via.as_mut().expect("a via").sharer_id = text)),
        ("code", 512, |text| scan_with(|scan| scan.code = text)),
        ("sku", 256, |text| scan_with(|scan| scan.sku = text)),
        ("batch", 256, |text| scan_with(|scan| scan.batch = text)),
        ("campaign", 256, |text| scan_with(|scan| scan.campaign = text)),
        ("channel", 256, |text| scan_with(|scan| scan.channel = text)),
        ("device", 256, |text| scan_with(|scan| scan.device = text)),
        ("order_id", 128, |text| purchase_with(|purchase| purchase.order_id = text)),
        ("lines.sku", 256, |text| purchase_with(|purchase| purchase.lines[0].sku = text)),
        ("campaign", 256, |text| purchase_with(|purchase| purchase.campaign = text)),
        ("channel", 256, |text| purchase_with(|purchase| purchase.channel = text)),
        ("store", 256, |text| purchase_with(|purchase| purchase.store = text)),
        ("share_id", 128, |text| share_with(|share| share.share_id = text)),
        ("campaign", 256, |text| share_with(|share| share.campaign = text)),
        ("sku", 256, |text| share_with(|share| share.sku = text)),
    ];
    for (field, limit, fill) in cases {
        assert_accepted(&fill(text(limit)));
        let expected = format!("{field} is {} bytes, the limit is {limit}", limit + 1);
        assert_rejected(&fill(text(limit + 1)), Reason::TooLong, &expected);
    }
}

#[test]
fn a_thousand_lines_are_the_most() {
    let with_lines = |count| purchase_with(|purchase| purchase.lines = vec![pb::OrderLine::default(); count]);
    assert_accepted(&with_lines(1_000));
    assert_rejected(&with_lines(1_001), Reason::TooLong, "there are 1001 lines, the limit is 1000");
}

#[test]
fn limits_count_bytes_and_not_characters() {
    assert_accepted(&share_with(|share| share.campaign = "酒".repeat(85)));
    assert_rejected(&share_with(|share| share.campaign = "酒".repeat(86)), Reason::TooLong, "campaign is 258 bytes, the limit is 256");
}

#[test]
fn brands_are_lower_case_words_and_may_be_closed() {
    assert_accepted(&share_with(|share| share.brand = "a-z_09".to_owned()));
    for brand in ["Acme", "acme ", "ac.me", "酒", "a\n"] {
        let expected = format!("brand {brand:?} has characters other than a-z, 0-9, _ and -");
        assert_rejected(&share_with(|share| share.brand = brand.to_owned()), Reason::BadBrand, &expected);
    }
    let closed = Rules { brands: Some(BTreeSet::from(["other".to_owned()])), ..Rules::default() };
    let reject = judged(&Message::Share(share()), &closed).expect_err("rejected");
    assert_eq!(reject.to_string(), "bad_brand: brand \"acme\" has no section in the configuration, and brands are closed");
    let open_to_acme = Rules { brands: Some(BTreeSet::from(["acme".to_owned()])), ..Rules::default() };
    assert_eq!(judged(&Message::Share(share()), &open_to_acme), Ok(()));
}

#[test]
fn enums_are_known_numbers() {
    for number in 0..=5 {
        assert_accepted(&scan_with(|scan| scan.purpose = number));
    }
    for number in 0..=4 {
        assert_accepted(&scan_with(|scan| scan.role = number));
    }
    for number in [1, 2] {
        assert_accepted(&purchase_with(|purchase| purchase.kind = number));
    }
    for number in [6, -1, i32::MAX] {
        assert_rejected(&scan_with(|scan| scan.purpose = number), Reason::BadEnum, &format!("purpose {number} is not known"));
    }
    for number in [5, -1] {
        assert_rejected(&scan_with(|scan| scan.role = number), Reason::BadEnum, &format!("role {number} is not known"));
    }
    for number in [0, 3, -1] {
        assert_rejected(&purchase_with(|purchase| purchase.kind = number), Reason::BadEnum, &format!("kind {number} is not known"));
    }
}

#[test]
fn amounts_are_positive_and_at_most_ten_to_the_thirteenth() {
    for amount in [1, 10_000_000_000_000] {
        assert_accepted(&purchase_with(|purchase| purchase.amount = amount));
    }
    for amount in [0, -1, 10_000_000_000_001, i64::MIN] {
        let expected = format!("amount is {amount}, it must be 1 to 10000000000000");
        assert_rejected(&purchase_with(|purchase| purchase.amount = amount), Reason::BadAmount, &expected);
    }
    for amount in [0, i64::MAX] {
        assert_accepted(&purchase_with(|purchase| purchase.lines[0].amount = amount));
    }
    let negative_line = purchase_with(|purchase| purchase.lines[0].amount = -1);
    assert_rejected(&negative_line, Reason::BadAmount, "lines.amount is -1, it must not be negative");
}

#[test]
fn the_currency_is_the_brands() {
    assert_accepted(&purchase_with(|purchase| purchase.currency = "CNY".to_owned()));
    for currency in ["USD", "cny", "CNY "] {
        let expected = format!("currency is {currency:?}, the brand's is CNY");
        assert_rejected(&purchase_with(|purchase| purchase.currency = currency.to_owned()), Reason::BadCurrency, &expected);
    }
    let own = Rules { brand_currencies: BTreeMap::from([("acme".to_owned(), "JPY".to_owned())]), ..Rules::default() };
    assert_eq!(judged(&purchase_with(|purchase| purchase.currency = "JPY".to_owned()), &own), Ok(()));
    let reject = judged(&purchase_with(|purchase| purchase.currency = "CNY".to_owned()), &own).expect_err("rejected");
    assert_eq!(reject.to_string(), "bad_currency: currency is \"CNY\", the brand's is JPY");
}

#[test]
fn an_endless_currency_does_not_reach_the_message() {
    let message = purchase_with(|purchase| purchase.currency = "\u{1F37A}".repeat(10_000));
    let reject = judged(&message, &Rules::default()).expect_err("rejected");
    assert_eq!(reject.message, format!("currency is \"{}\"..., the brand's is CNY", "\u{1F37A}".repeat(40)));
}

#[test]
fn an_empty_currency_and_the_brands_are_one_content() {
    let bytes =
        [Message::Purchase(purchase()), purchase_with(|purchase| purchase.currency = "CNY".to_owned())].map(|message| message.bytes());
    let [filled, sent] = bytes.each_ref().map(|bytes| super::decode_at(EventKind::Purchase, Format::Protobuf, bytes).expect("accepted"));
    assert_eq!(filled, sent);
    assert_eq!(filled.content_hash(), sent.content_hash());
}

#[test]
fn regions_are_zero_or_six_digits() {
    for region in [0, 100_000, 999_999] {
        assert_accepted(&share_with(|share| share.region = region));
    }
    for region in [1, 99_999, 1_000_000, u32::MAX] {
        let expected = format!("region is {region}, it must be 0 or have six digits");
        assert_rejected(&share_with(|share| share.region = region), Reason::BadRegion, &expected);
        assert_rejected(&scan_with(|scan| scan.region = region), Reason::BadRegion, &expected);
        assert_rejected(&purchase_with(|purchase| purchase.region = region), Reason::BadRegion, &expected);
    }
}

#[test]
fn times_lie_within_the_skew_and_the_lateness_of_the_record() {
    for time_ms in [RECORD_TIME_MS + SKEW_MS, RECORD_TIME_MS - MOST_LATENESS_MS] {
        assert_accepted(&share_with(|share| share.event_time_ms = time_ms));
    }
    assert_rejected(&share_with(|share| share.event_time_ms = -1), Reason::BadTime, "event_time_ms is -1, it must not be negative");
    assert_rejected(
        &share_with(|share| share.event_time_ms = RECORD_TIME_MS + SKEW_MS + 1),
        Reason::FutureTime,
        "event time 2026-08-01T00:10:00.001Z is 600001 ms after the record's timestamp, the limit is 600000 ms",
    );
    assert_rejected(
        &share_with(|share| share.event_time_ms = RECORD_TIME_MS - MOST_LATENESS_MS - 1),
        Reason::TooOld,
        "event time 2026-06-26T23:59:59.999Z is 3024000001 ms before the record's timestamp, the limit is 3024000000 ms (max_lateness)",
    );
}

#[test]
fn times_past_2106_are_in_the_future_of_any_record() {
    let last_ms = i64::from(u32::MAX) * 1_000 + 999;
    let at = |time_ms| {
        let bytes = share_with(|share| share.event_time_ms = time_ms).bytes();
        let record = RawRecord { value: Some(&bytes), content_type: None, timestamp_ms: time_ms };
        decode(EventKind::Share, Format::Auto, record, &Rules::default()).map(|event| event.time_ms).map_err(|reject| reject.reason)
    };
    assert_eq!(at(last_ms), Ok(last_ms));
    assert_eq!(at(last_ms + 1), Err(Reason::FutureTime));
    assert_eq!(at(i64::MAX), Err(Reason::FutureTime));
}

#[test]
fn extreme_timestamps_of_records_do_not_overflow() {
    let bytes = Message::Share(share()).bytes();
    for (timestamp_ms, reason) in [(i64::MAX, Reason::TooOld), (i64::MIN, Reason::FutureTime), (-1, Reason::FutureTime)] {
        let record = RawRecord { value: Some(&bytes), content_type: None, timestamp_ms };
        assert_eq!(decode(EventKind::Share, Format::Auto, record, &Rules::default()).map_err(|reject| reject.reason), Err(reason));
    }
}

#[test]
fn an_event_before_the_horizon_is_too_old_on_applying() {
    let reject = super::super::too_old_by_horizon(RECORD_TIME_MS - 1, RECORD_TIME_MS);
    assert_eq!((reject.reason, reject.stage), (Reason::TooOld, Stage::Apply));
    assert!(reject.message.starts_with("event time 2026-07-31T23:59:59.999Z is before 2026-08-01T00:00:00Z"), "{}", reject.message);
}

/// Puts one fault into a purchase.
type Fault = fn(&mut pb::Purchase);

/// One fault each, in the order of the reasons, each put into one and the same purchase.
const FAULTS: [(Reason, Fault); 10] = [
    (Reason::MissingField, |purchase| purchase.order_id.clear()),
    (Reason::TooLong, |purchase| purchase.store = "x".repeat(257)),
    (Reason::BadBrand, |purchase| purchase.brand = "Acme".to_owned()),
    (Reason::BadEnum, |purchase| purchase.kind = 0),
    (Reason::BadAmount, |purchase| purchase.amount = 0),
    (Reason::BadCurrency, |purchase| purchase.currency = "USD".to_owned()),
    (Reason::BadRegion, |purchase| purchase.region = 1),
    (Reason::BadTime, |purchase| purchase.event_time_ms = -1),
    (Reason::FutureTime, |purchase| purchase.event_time_ms = i64::MAX),
    (Reason::TooOld, |purchase| purchase.event_time_ms = 1),
];

#[test]
fn of_two_faults_the_one_of_the_first_reason_is_named() {
    for (first, (reason, first_fault)) in FAULTS.into_iter().enumerate() {
        for (second_reason, second_fault) in FAULTS.into_iter().skip(first) {
            // The three faults of time share a field and exclude each other.
            if reason >= Reason::BadTime && second_reason != reason {
                continue;
            }
            let message = purchase_with(|purchase| {
                second_fault(purchase);
                first_fault(purchase);
            });
            assert_eq!(
                judged(&message, &Rules::default()).map_err(|reject| reject.reason),
                Err(reason),
                "{reason:?} before {second_reason:?}"
            );
        }
    }
}

#[test]
fn bytes_that_are_no_message_are_undecodable_whatever_else_is_wrong_with_them() {
    let mut bytes = purchase_with(|purchase| FAULTS.into_iter().for_each(|(_, fault)| fault(purchase))).bytes();
    bytes.push(0x07);
    let reject = super::decode_at(EventKind::Purchase, Format::Protobuf, &bytes).expect_err("rejected");
    assert_eq!((reject.reason, reject.stage), (Reason::Undecodable, Stage::Decode));
    assert_eq!(reject.message, "protobuf: a field's tag is not valid");
}

#[test]
fn a_digital_link_fills_what_was_not_sent() {
    let fields = |message: Message| {
        let bytes = message.bytes();
        match super::decode_at(EventKind::Scan, Format::Protobuf, &bytes).expect("accepted") {
            Event { body: Body::Scan(scan), .. } => [scan.gtin, scan.serial, scan.sku, scan.batch].map(|text| text.into_owned()),
            other => panic!("no scan: {other:?}"),
        }
    };
    assert_eq!(fields(Message::Scan(scan())), ["09506000134352", "77", "09506000134352", "L1"]);
    let sent = scan_with(|scan| {
        scan.sku = "own".to_owned();
        scan.batch = "B2".to_owned();
    });
    assert_eq!(fields(sent), ["09506000134352", "77", "own", "B2"]);
    assert_eq!(fields(scan_with(|scan| scan.code = "opaque".to_owned())), ["", "", "", ""]);
}

#[test]
fn text_of_a_protobuf_event_is_borrowed() {
    let bytes = Message::Scan(scan()).bytes();
    let event = super::decode_at(EventKind::Scan, Format::Auto, &bytes).expect("accepted");
    let Event { body: Body::Scan(scan), .. } = &event else { panic!("no scan: {event:?}") };
    for text in [&event.event_id, &event.customer_id, &scan.code, &scan.gtin, &scan.sku, &scan.batch, &scan.serial] {
        assert!(matches!(text, std::borrow::Cow::Borrowed(_)), "{text}");
    }
    assert_eq!((scan.purpose, scan.role), (ScanPurpose::Draw, Role::Consumer));
}
