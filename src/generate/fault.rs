//! Events with exactly one fault, for each reason of the closed list that a producer alone can cause.
//!
//! Each is rejected under any configuration: no fault leans on a limit that a configuration may raise.

use serde_json::{Map, Value, json};

use super::WireFormat;
use super::dice::Dice;
use super::message::{Message, Spelling};
use crate::model::{EventKind, Reason};
use crate::pb;

/// The reasons that a producer alone can cause, in their order; `conflict` needs another event.
pub(super) const REASONS: [Reason; 11] = [
    Reason::Undecodable,
    Reason::MissingField,
    Reason::TooLong,
    Reason::BadBrand,
    Reason::BadEnum,
    Reason::BadAmount,
    Reason::BadCurrency,
    Reason::BadRegion,
    Reason::BadTime,
    Reason::FutureTime,
    Reason::TooOld,
];

/// The kind of event to put a fault into.
pub(super) fn kind_for(reason: Reason, dice: &mut Dice) -> EventKind {
    match reason {
        Reason::BadAmount | Reason::BadCurrency => EventKind::Purchase,
        Reason::BadEnum => *dice.one_of(&[&EventKind::Scan, &EventKind::Purchase]),
        _ => *dice.one_of(&[&EventKind::Scan, &EventKind::Purchase, &EventKind::Share]),
    }
}

/// A small valid event to put a fault into.
pub(super) fn template(kind: EventKind, event_id: String, brand: &str, customer_id: String, event_time_ms: i64) -> Message {
    let brand = brand.to_owned();
    match kind {
        EventKind::Scan => Message::Scan(pb::Scan {
            event_id,
            brand,
            customer_id,
            event_time_ms,
            code: "MALFORMED".to_owned(),
            campaign: "malformed".to_owned(),
            region: 310_101,
            purpose: 1,
            ..pb::Scan::default()
        }),
        EventKind::Purchase => Message::Purchase(pb::Purchase {
            event_id,
            brand,
            customer_id,
            event_time_ms,
            order_id: "SO-malformed".to_owned(),
            kind: 1,
            amount: 19_900,
            campaign: "malformed".to_owned(),
            lines: vec![pb::OrderLine { sku: "malformed".to_owned(), quantity: 1, amount: 19_900 }],
            ..pb::Purchase::default()
        }),
        EventKind::Share => Message::Share(pb::Share {
            event_id,
            brand,
            customer_id,
            event_time_ms,
            share_id: "s-malformed".to_owned(),
            campaign: "malformed".to_owned(),
            region: 310_101,
            ..pb::Share::default()
        }),
    }
}

/// The value of a record with the fault of a reason; `None` is a tombstone.
pub(super) fn value(reason: Reason, mut message: Message, format: WireFormat, dice: &mut Dice) -> Option<Vec<u8>> {
    match reason {
        Reason::Undecodable => return undecodable(&message, format, dice),
        Reason::MissingField => missing_field(&mut message, dice),
        Reason::TooLong => too_long(&mut message, dice),
        Reason::BadBrand => *message.common().brand = (*dice.one_of(&["Acme", "ac me", "acme.cn", "酒"])).to_owned(),
        Reason::BadEnum => bad_enum(&mut message, dice),
        Reason::BadAmount => bad_amount(&mut message, dice),
        Reason::BadCurrency => {
            if let Message::Purchase(purchase) = &mut message {
                purchase.currency = (*dice.one_of(&["XXX", "xxx", "yuan"])).to_owned();
            }
        }
        Reason::BadRegion => *message.common().region = *dice.one_of(&[&1, &99_999, &1_000_000, &u32::MAX]),
        Reason::BadTime => *message.common().time_ms = *dice.one_of(&[&-1, &-86_400_000, &i64::MIN]),
        // Past 2106, and in 1970: beyond any skew and any lateness.
        Reason::FutureTime => *message.common().time_ms = *dice.one_of(&[&4_294_967_296_000, &i64::MAX]),
        Reason::TooOld => *message.common().time_ms = *dice.one_of(&[&1, &86_400_000]),
        Reason::Conflict => {}
    }
    match format {
        WireFormat::Protobuf | WireFormat::Mixed => Some(message.protobuf()),
        WireFormat::Json => {
            let mut members = message.json(Spelling::thrown(dice));
            say_in_words(reason, &mut members, dice);
            Some(Value::Object(members).to_string().into_bytes())
        }
    }
}

fn undecodable(message: &Message, format: WireFormat, dice: &mut Dice) -> Option<Vec<u8>> {
    let form = dice.below(5);
    match form {
        0 => return None,
        1 => return Some(Vec::new()),
        // No tag of protobuf, no JSON, and no Confluent framing.
        2 => return Some(vec![0xff; 24]),
        // Confluent framing that is cut off.
        3 => return Some(vec![0, 0, 0]),
        _ => {}
    }
    let mut bytes = match format {
        WireFormat::Protobuf | WireFormat::Mixed => message.protobuf(),
        WireFormat::Json => Value::Object(message.json(Spelling::thrown(dice))).to_string().into_bytes(),
    };
    // A tag of wire type 7 where another field would begin; garbage behind the object.
    bytes.push(0x07);
    Some(bytes)
}

fn missing_field(message: &mut Message, dice: &mut Dice) {
    let field = dice.below(6);
    let common = message.common();
    match field {
        0 => common.event_id.clear(),
        1 => common.brand.clear(),
        2 => common.customer_id.clear(),
        3 => *common.time_ms = 0,
        4 => *common.via = Some(pb::Via { share_id: "s-malformed".to_owned(), ..pb::Via::default() }),
        _ => match message {
            Message::Scan(scan) => scan.code.clear(),
            Message::Purchase(purchase) => purchase.order_id.clear(),
            Message::Share(share) => share.share_id.clear(),
        },
    }
}

/// Over a limit that no configuration changes; once in a while the whole record is over its limit, too.
fn too_long(message: &mut Message, dice: &mut Dice) {
    let field = dice.below(8);
    let common = message.common();
    match field {
        0 => *common.event_id = "e".repeat(129),
        1 => *common.brand = "b".repeat(65),
        2 => *common.customer_id = "c".repeat(129),
        3 => *common.campaign = "x".repeat(300_000),
        4 => *common.via = Some(pb::Via { share_id: "s".repeat(129), sharer_id: "c".to_owned() }),
        5 => *common.campaign = "x".repeat(257),
        _ => match message {
            Message::Scan(scan) => scan.code = "x".repeat(513),
            Message::Purchase(purchase) => purchase.lines = vec![pb::OrderLine::default(); 1_001],
            Message::Share(share) => share.share_id = "s".repeat(129),
        },
    }
}

fn bad_enum(message: &mut Message, dice: &mut Dice) {
    let first = dice.chance(500_000);
    match message {
        Message::Scan(scan) if first => scan.purpose = 6,
        Message::Scan(scan) => scan.role = 99,
        Message::Purchase(purchase) => purchase.kind = if first { 0 } else { 3 },
        Message::Share(_) => {}
    }
}

fn bad_amount(message: &mut Message, dice: &mut Dice) {
    let form = dice.below(4);
    if let Message::Purchase(purchase) = message {
        match form {
            0 => purchase.amount = 0,
            1 => purchase.amount = -19_900,
            2 => purchase.amount = 10_000_000_000_001,
            _ => purchase.lines[0].amount = -1,
        }
    }
}

/// Faults that only text can have.
fn say_in_words(reason: Reason, members: &mut Map<String, Value>, dice: &mut Dice) {
    if dice.chance(500_000) {
        return;
    }
    if reason == Reason::BadTime {
        members.retain(|name, _| !matches!(name.as_str(), "event_time_ms" | "eventTimeMs" | "eventTime"));
        members.insert("event_time".to_owned(), json!("yesterday"));
    }
    if reason == Reason::BadEnum {
        let member = if members.contains_key("kind") { "kind" } else { "purpose" };
        members.insert(member.to_owned(), json!("GIFT"));
    }
}
