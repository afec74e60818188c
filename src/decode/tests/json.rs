//! The latitude of JSON, and where it ends.

use prost::Message as _;
use serde_json::{Value, json};

use super::super::Format;
use super::{decode_at, purchase, scan, share};
use crate::model::{Body, Event, EventKind, Reason, Stage};

/// A purchase with one member set as raw JSON text.
fn purchase_text(member: &str, value: &str) -> String {
    format!(
        r#"{{"event_id":"e1","brand":"acme","customer_id":"c1","event_time_ms":1785542400000,"order_id":"o1","kind":1,"amount":12900,"{member}":{value}}}"#
    )
}

fn judged(text: &str) -> Result<Event<'_>, Reason> {
    decode_at(EventKind::Purchase, Format::Json, text.as_bytes()).map_err(|reject| {
        assert_eq!(reject.stage == Stage::Decode, reject.reason == Reason::Undecodable, "{reject}");
        reject.reason
    })
}

#[track_caller]
fn amount(value: &str) -> Result<i64, Reason> {
    judged(&purchase_text("amount", value)).map(|event| match event.body {
        Body::Purchase(purchase) => purchase.amount,
        other => panic!("no purchase: {other:?}"),
    })
}

#[test]
fn both_spellings_of_names_are_read() {
    let snake = json!({"event_id": "e1", "brand": "acme", "customer_id": "c1", "event_time_ms": 1_785_542_400_000_i64,
        "via": {"share_id": "s1", "sharer_id": "c0"}, "code": "https://acme.cn/01/09506000134352/10/L1/21/77",
        "campaign": "summer", "region": 310_000, "channel": "store", "device": "d1", "purpose": "DRAW", "role": "CONSUMER"});
    let camel = json!({"eventId": "e1", "brand": "acme", "customerId": "c1", "eventTimeMs": "1785542400000",
        "via": {"shareId": "s1", "sharerId": "c0"}, "code": "https://acme.cn/01/09506000134352/10/L1/21/77",
        "campaign": "summer", "region": "310000", "channel": "store", "device": "d1", "purpose": "SCAN_PURPOSE_DRAW", "role": 0});
    let protobuf = scan().encode_to_vec();
    let expected = decode_at(EventKind::Scan, Format::Protobuf, &protobuf).expect("accepted");
    for value in [snake, camel] {
        let text = value.to_string();
        assert_eq!(decode_at(EventKind::Scan, Format::Auto, text.as_bytes()).as_ref(), Ok(&expected), "{text}");
    }
}

#[test]
fn purchases_and_shares_are_the_same_events_in_both_formats() {
    let text = json!({"event_id": "e1", "brand": "acme", "customer_id": "c1", "event_time": "2026-08-01T08:00:00+08:00", "order_id": "o1",
        "kind": "PAYMENT", "amount": "12900", "currency": "CNY", "lines": [{"sku": "milk", "quantity": 2, "amount": 12_900, "note": [1]}], "store": ""});
    let (protobuf, text) = (purchase().encode_to_vec(), text.to_string());
    let expected = decode_at(EventKind::Purchase, Format::Auto, &protobuf).expect("accepted");
    assert_eq!(decode_at(EventKind::Purchase, Format::Auto, text.as_bytes()), Ok(expected));

    let text = json!({"eventId": "e1", "brand": "acme", "customerId": "c1", "eventTime": "2026-08-01T00:00:00.0009Z", "shareId": "s2", "rewarded": true});
    let (protobuf, text) = (share().encode_to_vec(), text.to_string());
    let expected = decode_at(EventKind::Share, Format::Auto, &protobuf).expect("accepted");
    assert_eq!(decode_at(EventKind::Share, Format::Auto, text.as_bytes()), Ok(expected));
}

#[test]
fn integers_may_be_numbers_or_strings_in_any_spelling() {
    for value in ["1000", "\"1000\"", "1000.0", "1e3", "\"1E3\"", "\"1000.000\"", "100000e-2", "\"\\u0031000\""] {
        assert_eq!(amount(value), Ok(1_000), "{value}");
    }
    for value in [
        "1.5",
        "\"1.5\"",
        "\"\"",
        "\"abc\"",
        "\" 1\"",
        "\"0x10\"",
        "true",
        "[1]",
        "{}",
        "9223372036854775808",
        "1e19",
        "\"1e400\"",
        "1e400",
    ] {
        assert_eq!(amount(value), Err(Reason::Undecodable), "{value}");
    }
    for value in ["0", "-0", "null", "-1", "9223372036854775807", "1e18", "0.0"] {
        assert_eq!(amount(value), Err(Reason::BadAmount), "{value}");
    }
}

#[test]
fn no_digit_of_a_64_bit_integer_is_lost() {
    for value in ["9007199254740993", "\"9007199254740993\"", "9007199254740993.0", "9.007199254740993e15"] {
        let text = purchase_text("lines", &format!(r#"[{{"amount":{value}}}]"#));
        let event = judged(&text).expect("accepted");
        let Body::Purchase(purchase) = &event.body else { panic!("no purchase: {event:?}") };
        assert_eq!(purchase.lines[0].amount, 9_007_199_254_740_993, "{value}");
    }
}

#[test]
fn numbers_out_of_their_types_range_are_undecodable() {
    for (member, value) in [
        ("region", "-1"),
        ("region", "4294967296"),
        ("region", "310000.5"),
        ("kind", "2147483648"),
        ("kind", "1.5"),
        ("event_time_ms", "1e19"),
    ] {
        assert_eq!(judged(&purchase_text(member, value)), Err(Reason::Undecodable), "{member} {value}");
    }
    for value in [
        "[{\"quantity\":-1}]",
        "[{\"quantity\":4294967296}]",
        "[{\"amount\":\"x\"}]",
        "[{\"sku\":1}]",
        "[null]",
        "[[]]",
        "[1]",
        "{}",
        "\"\"",
        "1",
    ] {
        assert_eq!(judged(&purchase_text("lines", value)), Err(Reason::Undecodable), "{value}");
    }
}

#[test]
fn a_value_of_another_type_is_undecodable() {
    for (member, value) in [
        ("order_id", "1"),
        ("order_id", "true"),
        ("store", "[]"),
        ("store", "{}"),
        ("via", "[]"),
        ("via", "\"s\""),
        ("via", "{\"share_id\":1}"),
        ("kind", "true"),
        ("kind", "{}"),
        ("event_time", "1785542400000"),
        ("store", r#""\ud800""#),
        ("order_id", "\"a\u{1}\""),
        ("unknown", "\"a\u{1}\""),
        ("unknown", "nul"),
        ("unknown", "[1,]"),
    ] {
        assert_eq!(judged(&purchase_text(member, value)), Err(Reason::Undecodable), "{member} {value}");
    }
    let share_with = |rewarded: Value| {
        json!({"event_id": "e", "brand": "b", "customer_id": "c", "event_time_ms": 1_785_542_400_000_i64, "share_id": "s", "rewarded": rewarded}).to_string()
    };
    for (rewarded, reason) in
        [(json!(1), Some(Reason::Undecodable)), (json!("true"), Some(Reason::Undecodable)), (json!(null), None), (json!(false), None)]
    {
        let text = share_with(rewarded);
        assert_eq!(decode_at(EventKind::Share, Format::Json, text.as_bytes()).err().map(|reject| reject.reason), reason, "{text}");
    }
}

#[test]
fn enum_names_are_upper_case_and_an_unknown_one_ranks_as_bad_enum() {
    for value in ["\"PAYMENT\"", "\"PURCHASE_KIND_PAYMENT\"", "1", "1.0", "\"\\u0050AYMENT\""] {
        assert!(judged(&purchase_text("kind", value)).is_ok(), "{value}");
    }
    for value in
        ["\"payment\"", "\"\"", "\"GIFT\"", "\"1\"", "\"PURCHASE_KIND_\"", "\"SCAN_PURPOSE_DRAW\"", "\"UNSPECIFIED\"", "3", "-1", "null"]
    {
        assert_eq!(judged(&purchase_text("kind", value)), Err(Reason::BadEnum), "{value}");
    }
    let both_faults = purchase_text("kind", "\"GIFT\",\"order_id\":\"\"");
    assert_eq!(judged(&both_faults), Err(Reason::MissingField));
    let undecodable_too = purchase_text("kind", "\"GIFT\",\"amount\":1.5");
    assert_eq!(judged(&undecodable_too), Err(Reason::Undecodable));
}

#[test]
fn every_enum_name_has_its_number() {
    let at = |member: &str, value: &str| {
        let text = format!(
            r#"{{"event_id":"e1","brand":"acme","customer_id":"c1","event_time_ms":1785542400000,"code":"x","{member}":"{value}"}}"#
        );
        match decode_at(EventKind::Scan, Format::Json, text.as_bytes()).expect("accepted").body {
            Body::Scan(scan) => (scan.purpose.name(), scan.role.name()),
            other => panic!("no scan: {other:?}"),
        }
    };
    for (name, short) in [
        ("UNSPECIFIED", "unspecified"),
        ("VERIFY", "verify"),
        ("DRAW", "draw"),
        ("POINTS", "points"),
        ("FOLLOW", "follow"),
        ("TRACE", "trace"),
    ] {
        assert_eq!(at("purpose", name), (short, "consumer"));
        assert_eq!(at("purpose", &format!("SCAN_PURPOSE_{name}")), (short, "consumer"));
    }
    for (name, short) in
        [("CONSUMER", "consumer"), ("RETAILER", "retailer"), ("GUIDE", "guide"), ("DEALER", "dealer"), ("INSPECTOR", "inspector")]
    {
        assert_eq!(at("role", name), ("unspecified", short));
        assert_eq!(at("role", &format!("ACTOR_ROLE_{name}")), ("unspecified", short));
    }
}

fn time_of(members: &str) -> Result<i64, Reason> {
    let text = format!(r#"{{"event_id":"e1","brand":"acme","customer_id":"c1","order_id":"o1","kind":1,"amount":1{members}}}"#);
    judged(&text).map(|event| event.time_ms)
}

#[test]
fn the_time_may_be_given_as_text() {
    assert_eq!(time_of(r#","event_time":"2026-08-01T00:00:00.0019Z""#), Ok(1_785_542_400_001));
    assert_eq!(time_of(r#","eventTime":"2026-08-01T00:00:00Z","event_time_ms":1785542400007"#), Ok(1_785_542_400_007));
    assert_eq!(time_of(r#","eventTime":"tomorrow","event_time_ms":1785542400007"#), Ok(1_785_542_400_007));
    assert_eq!(time_of(r#","eventTime":"2026-08-01T00:00:00Z","event_time_ms":null"#), Ok(1_785_542_400_000));
    assert_eq!(time_of(r#","eventTime":"2026-08-01T00:00:00Z","event_time_ms":0"#), Err(Reason::MissingField));
    assert_eq!(time_of(r#","eventTime":null"#), Err(Reason::MissingField));
    assert_eq!(time_of(""), Err(Reason::MissingField));
    assert_eq!(time_of(r#","event_time":"1970-01-01T00:00:00.0001Z""#), Err(Reason::MissingField));
    assert_eq!(time_of(r#","event_time":"1969-12-31T23:59:59Z""#), Err(Reason::BadTime));
    assert_eq!(time_of(r#","event_time":"2300-01-01T00:00:00Z""#), Err(Reason::FutureTime));
    assert_eq!(time_of(r#","event_time":"2026-01-01T00:00:00Z""#), Err(Reason::TooOld));
}

#[test]
fn text_that_is_no_time_ranks_as_bad_time() {
    for text in ["", "tomorrow", "2026-08-01", "2026-08-01T00:00:00"] {
        assert_eq!(time_of(&format!(r#","event_time":"{text}""#)), Err(Reason::BadTime), "{text}");
        assert_eq!(time_of(&format!(r#","event_time":"{text}","region":1"#)), Err(Reason::BadRegion), "{text}");
    }
}

#[test]
fn the_last_of_a_repeated_member_wins_across_its_spellings() {
    for (members, expected) in [
        (r#""amount":1,"amount":2"#, Ok(2)),
        (r#""amount":{"not":"a number"},"amount":2"#, Ok(2)),
        (r#""amount":2,"amount":null"#, Err(Reason::BadAmount)),
        (r#""amount":2,"amount":1.5"#, Err(Reason::Undecodable)),
        (r#""order_id":5,"amount":2,"orderId":"o""#, Ok(2)),
        (r#""orderId":"o","amount":2,"order_id":"""#, Err(Reason::MissingField)),
        (r#""via":{"share_id":"s"},"amount":2,"via":{"sharer_id":"c"}"#, Err(Reason::MissingField)),
        (r#""via":{"share_id":"s"},"amount":2,"via":{}"#, Ok(2)),
        (r#""amount":2,"\u0061mount":3"#, Ok(3)),
        (r#""event_time_ms":null,"eventTimeMs":1785542400000,"amount":4"#, Ok(4)),
    ] {
        let found = match judged(&purchase_text("x", &format!("0,{members}"))) {
            Ok(Event { body: Body::Purchase(purchase), .. }) => Ok(purchase.amount),
            Ok(other) => panic!("no purchase: {other:?}"),
            Err(reason) => Err(reason),
        };
        assert_eq!(found, expected, "{members}");
    }
}

#[test]
fn null_is_the_default_and_unknown_members_are_ignored() {
    let text = purchase_text(
        "extra",
        r#"{"deep":[[[[{"a":null}]]]],"number":1e999},"via":null,"lines":null,"store":null,"region":null,"currency":null,"eventtimems":5,"KIND":9"#,
    );
    assert!(judged(&text).is_ok(), "{text}");
    let depth = 50_000;
    let deep = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(judged(&purchase_text("extra", &deep)).is_ok(), "depth costs no stack");
}

#[test]
fn white_space_and_a_byte_order_mark_may_lead() {
    let text = purchase_text("x", "0");
    for lead in ["", " \t\r\n", "\u{feff}", "\u{feff}\n "] {
        assert!(judged(&format!("{lead}{text} \n")).is_ok(), "{lead:?}");
    }
    for lead in ["\u{feff}\u{feff}", " \u{feff}", "\u{b}", "\u{a0}"] {
        assert_eq!(judged(&format!("{lead}{text}")), Err(Reason::Undecodable), "{lead:?}");
    }
}

#[test]
fn what_is_not_one_object_is_undecodable() {
    let text = purchase_text("x", "0");
    for broken in [&text[1..], &text[..text.len() - 1], "[]", "null", "\"\"", "1", "{", "{]", " ", "\u{feff}"] {
        assert_eq!(judged(broken), Err(Reason::Undecodable), "{broken}");
    }
    for garbage in ["{}", "x", ",", "\0", "}"] {
        assert_eq!(judged(&format!("{text}{garbage}")), Err(Reason::Undecodable), "{garbage}");
    }
    let mut not_utf8 = text.clone().into_bytes();
    not_utf8.splice(1..1, *b"\"x\":\"\xff\",");
    let reject = decode_at(EventKind::Purchase, Format::Json, &not_utf8).expect_err("rejected");
    assert_eq!(reject.to_string(), "undecodable: json: not UTF-8");
}

#[test]
fn a_digital_link_with_escaped_slashes_is_read() {
    let text = r#"{"event_id":"e","brand":"b","customer_id":"c","event_time_ms":1785542400000,"code":"https:\/\/a.cn\/01\/09506000134352\/10\/L1"}"#;
    let event = decode_at(EventKind::Scan, Format::Auto, text.as_bytes()).expect("accepted");
    let Body::Scan(scan) = &event.body else { panic!("no scan: {event:?}") };
    assert_eq!((&*scan.gtin, &*scan.batch, &*scan.code), ("09506000134352", "L1", "https://a.cn/01/09506000134352/10/L1"));
}
