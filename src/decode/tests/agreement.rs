//! The hand-written protobuf reader against prost's generated types, and every decoder against arbitrary bytes.
//!
//! These are bolero targets: `cargo test` runs each for a bounded number of inputs, `cargo bolero test` for as long as one likes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use bolero::{TypeGenerator, check};
use prost::Message;

use super::super::wire::{WireBody, WireEnum, WireEvent, WireTime};
use super::super::{Format, RawRecord, Rules, decode, json, protobuf};
use super::{purchase, scan, share};
use crate::model::{EventKind, Text};
use crate::pb;

const ITERATIONS: usize = 20_000;
const MOST_BYTES: usize = 512;

/// A piece of a message, from well-formed to wild. Composing them reaches what random bytes hardly ever do.
#[derive(Clone, Debug, TypeGenerator)]
enum Piece {
    Varint { number: u8, value: u64 },
    SmallVarint { number: u8, value: u8 },
    LongVarint { number: u8, padding: u8, last: u8 },
    Fixed64 { number: u8, value: u64 },
    Fixed32 { number: u8, value: u32 },
    Text { number: u8, text: String },
    Bytes { number: u8, bytes: Vec<u8> },
    WrongLength { number: u8, length: u64 },
    Message { number: u8, inner: Vec<(u8, u8)> },
    Group { number: u8, depth: u8, ends: u8 },
    Tag { tag: u64 },
    Raw { byte: u8 },
}

impl Piece {
    fn write(&self, out: &mut Vec<u8>) {
        // Numbers up to 17: those of the schema and a few beyond.
        let key =
            |out: &mut Vec<u8>, number: &u8, wire_type: u64| prost::encoding::encode_varint(u64::from(number % 18) << 3 | wire_type, out);
        match self {
            Piece::Varint { number, value } => {
                key(out, number, 0);
                prost::encoding::encode_varint(*value, out);
            }
            Piece::SmallVarint { number, value } => {
                key(out, number, 0);
                prost::encoding::encode_varint(u64::from(*value), out);
            }
            Piece::LongVarint { number, padding, last } => {
                key(out, number, 0);
                out.extend(std::iter::repeat_n(0x80, usize::from(padding % 12)));
                out.push(*last);
            }
            Piece::Fixed64 { number, value } => {
                key(out, number, 1);
                out.extend(value.to_le_bytes());
            }
            Piece::Fixed32 { number, value } => {
                key(out, number, 5);
                out.extend(value.to_le_bytes());
            }
            Piece::Text { number, text } => delimited(out, u64::from(number % 18), text.as_bytes()),
            Piece::Bytes { number, bytes } => delimited(out, u64::from(number % 18), bytes),
            Piece::WrongLength { number, length } => {
                key(out, number, 2);
                prost::encoding::encode_varint(*length, out);
            }
            Piece::Message { number, inner } => {
                let mut message = Vec::new();
                for (inner_number, value) in inner {
                    if value % 3 == 0 {
                        key(&mut message, &(inner_number % 5), 0);
                        message.push(value & 0x7f);
                    } else {
                        delimited(&mut message, u64::from(inner_number % 5), &[b'a' + value % 26]);
                    }
                }
                delimited(out, if number % 2 == 0 { 5 } else { 10 }, &message);
            }
            Piece::Group { number, depth, ends } => {
                let depth = depth % 110;
                (0..depth).for_each(|_| key(out, number, 3));
                (0..depth.min(*ends)).for_each(|_| key(out, number, 4));
            }
            Piece::Tag { tag } => prost::encoding::encode_varint(*tag, out),
            Piece::Raw { byte } => out.push(*byte),
        }
    }
}

/// A field as its schema says, and once in a while something else.
#[derive(Clone, Debug, TypeGenerator)]
struct Step {
    dice: u8,
    number: u8,
    value: u64,
    text: String,
    inner: Vec<(u8, u8)>,
    wild: Piece,
}

impl Step {
    fn write(&self, kind: EventKind, out: &mut Vec<u8>) {
        if self.dice.is_multiple_of(16) {
            return self.wild.write(out);
        }
        let number = 1 + self.number % 15;
        let (varints, messages): (&[u8], &[u8]) = match kind {
            EventKind::Scan => (&[4, 10, 13, 14, 15], &[5]),
            EventKind::Purchase => (&[4, 7, 8, 12, 15], &[5, 10]),
            EventKind::Share => (&[4, 9, 11, 12], &[5]),
        };
        if messages.contains(&number) {
            let mut message = Vec::new();
            for (inner_number, value) in &self.inner {
                // Fields 2 and 3 of a line are numbers; those of a via are text or unknown.
                if number == 10 && inner_number % 3 > 0 {
                    Piece::SmallVarint { number: 1 + inner_number % 3, value: *value }.write(&mut message);
                } else {
                    delimited(&mut message, 1 + u64::from(inner_number % 3), &[b'a' + value % 26]);
                }
            }
            delimited(out, u64::from(number), &message);
        } else if varints.contains(&number) {
            Piece::Varint { number, value: self.value >> (self.dice % 64) }.write(out);
        } else {
            delimited(out, u64::from(number), self.text.as_bytes());
        }
    }
}

fn delimited(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    prost::encoding::encode_varint(number << 3 | 2, out);
    prost::encoding::encode_varint(bytes.len() as u64, out);
    out.extend(bytes);
}

/// What the reader found, as prost's own type.
trait FromWire: Message + Default + PartialEq + fmt::Debug {
    const KIND: EventKind;
    fn from_wire(event: WireEvent<'_>) -> Self;
    fn via_mut(&mut self) -> &mut Option<pb::Via>;
}

fn millis(time: &WireTime<'_>) -> i64 {
    match time {
        WireTime::Millis(time_ms) => *time_ms,
        WireTime::NoTime(text) => panic!("protobuf has no {text}"),
    }
}

fn number(value: &WireEnum<'_>) -> i32 {
    match value {
        WireEnum::Number(number) => *number,
        WireEnum::UnknownName(name) => panic!("protobuf has no {name}"),
    }
}

fn via(event: &WireEvent<'_>) -> Option<pb::Via> {
    let via = pb::Via { share_id: owned(&event.via.share_id), sharer_id: owned(&event.via.sharer_id) };
    (via != pb::Via::default()).then_some(via)
}

fn owned(text: &Text<'_>) -> String {
    text.clone().into_owned()
}

impl FromWire for pb::Scan {
    const KIND: EventKind = EventKind::Scan;

    fn via_mut(&mut self) -> &mut Option<pb::Via> {
        &mut self.via
    }

    fn from_wire(event: WireEvent<'_>) -> Self {
        let WireBody::Scan(scan) = &event.body else { panic!("no scan: {event:?}") };
        pb::Scan {
            event_id: owned(&event.event_id),
            brand: owned(&event.brand),
            customer_id: owned(&event.customer_id),
            event_time_ms: millis(&event.time),
            via: via(&event),
            code: owned(&scan.code),
            sku: owned(&scan.sku),
            batch: owned(&scan.batch),
            campaign: owned(&scan.campaign),
            region: scan.region,
            channel: owned(&scan.channel),
            device: owned(&scan.device),
            purpose: number(&scan.purpose),
            role: number(&scan.role),
        }
    }
}

impl FromWire for pb::Purchase {
    const KIND: EventKind = EventKind::Purchase;

    fn via_mut(&mut self) -> &mut Option<pb::Via> {
        &mut self.via
    }

    fn from_wire(event: WireEvent<'_>) -> Self {
        let WireBody::Purchase(purchase) = &event.body else { panic!("no purchase: {event:?}") };
        let lines = purchase.lines.iter().map(|line| pb::OrderLine { sku: owned(&line.sku), quantity: line.quantity, amount: line.amount });
        pb::Purchase {
            event_id: owned(&event.event_id),
            brand: owned(&event.brand),
            customer_id: owned(&event.customer_id),
            event_time_ms: millis(&event.time),
            via: via(&event),
            order_id: owned(&purchase.order_id),
            kind: number(&purchase.kind),
            amount: purchase.amount,
            currency: owned(&purchase.currency),
            lines: lines.collect(),
            campaign: owned(&purchase.campaign),
            region: purchase.region,
            channel: owned(&purchase.channel),
            store: owned(&purchase.store),
        }
    }
}

impl FromWire for pb::Share {
    const KIND: EventKind = EventKind::Share;

    fn via_mut(&mut self) -> &mut Option<pb::Via> {
        &mut self.via
    }

    fn from_wire(event: WireEvent<'_>) -> Self {
        let WireBody::Share(share) = &event.body else { panic!("no share: {event:?}") };
        pb::Share {
            event_id: owned(&event.event_id),
            brand: owned(&event.brand),
            customer_id: owned(&event.customer_id),
            event_time_ms: millis(&event.time),
            via: via(&event),
            share_id: owned(&share.share_id),
            campaign: owned(&share.campaign),
            sku: owned(&share.sku),
            region: share.region,
            channel: owned(&share.channel),
            rewarded: share.rewarded,
        }
    }
}

/// Panics unless both readers find the same, or both find nothing. Says whether it was a message.
fn assert_agreement<M: FromWire>(bytes: &[u8]) -> bool {
    let theirs = M::decode(bytes).map(|mut message| {
        // An absent via and one of defaults are told apart by prost alone; they mean the same.
        message.via_mut().take_if(|via| *via == pb::Via::default());
        message
    });
    let ours = protobuf::read(M::KIND, bytes).map(M::from_wire);
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => {
            assert_eq!(ours, theirs, "{bytes:02x?}");
            true
        }
        (Err(_), Err(_)) => false,
        (ours, theirs) => panic!("ours {ours:?}, theirs {theirs:?}, of {bytes:02x?}"),
    }
}

#[test]
fn composed_messages_are_read_as_prost_reads_them() {
    let (messages, others) = (AtomicU64::new(0), AtomicU64::new(0));
    check!().with_iterations(ITERATIONS).with_max_len(4 * MOST_BYTES).with_type::<(u8, Vec<Step>)>().for_each(|(dice, steps)| {
        let kind = EventKind::ALL[usize::from(dice % 3)];
        let mut bytes = Vec::new();
        steps.iter().for_each(|step| step.write(kind, &mut bytes));
        if dice.is_multiple_of(16) {
            bytes.pop();
        }
        let is_message = match kind {
            EventKind::Scan => assert_agreement::<pb::Scan>(&bytes),
            EventKind::Purchase => assert_agreement::<pb::Purchase>(&bytes),
            EventKind::Share => assert_agreement::<pb::Share>(&bytes),
        };
        let outcome = if is_message { &messages } else { &others };
        outcome.fetch_add(1, Ordering::Relaxed);
    });
    let (messages, others) = (messages.into_inner(), others.into_inner());
    assert!(messages > others / 10 && others > messages / 10, "{messages} messages and {others} others: the pieces reach too little");
}

#[test]
fn mutated_messages_are_read_as_prost_reads_them() {
    check!().with_iterations(ITERATIONS).with_type::<(u16, u8, u8)>().for_each(|(place, byte, operation)| {
        for (kind, mut bytes) in [(0, scan().encode_to_vec()), (1, purchase().encode_to_vec()), (2, share().encode_to_vec())] {
            let at = usize::from(*place) % bytes.len();
            match operation % 4 {
                0 => bytes[at] = *byte,
                1 => bytes.insert(at, *byte),
                2 => drop(bytes.remove(at)),
                _ => bytes.truncate(at),
            }
            match kind {
                0 => assert_agreement::<pb::Scan>(&bytes),
                1 => assert_agreement::<pb::Purchase>(&bytes),
                _ => assert_agreement::<pb::Share>(&bytes),
            };
        }
    });
}

#[test]
fn arbitrary_bytes_are_read_as_prost_reads_them() {
    check!().with_iterations(ITERATIONS).with_max_len(MOST_BYTES).for_each(|bytes: &[u8]| {
        assert_agreement::<pb::Scan>(bytes);
        assert_agreement::<pb::Purchase>(bytes);
        assert_agreement::<pb::Share>(bytes);
    });
}

#[test]
fn groups_nest_exactly_as_deep_as_in_prost() {
    let nested = |depth: usize, inside: &[u8]| [&[0x7b].repeat(depth)[..], inside, &[0x7c].repeat(depth)].concat();
    for depth in [1, 98, 99, 100, 101] {
        for inside in [&[][..], &[0x78, 1]] {
            let bytes = nested(depth, inside);
            let is_message = assert_agreement::<pb::Scan>(&bytes);
            assert_eq!(is_message, depth + usize::from(!inside.is_empty()) <= 100, "{depth} {inside:?}");
            let mut within_via = Vec::new();
            delimited(&mut within_via, 5, &bytes);
            let is_message = assert_agreement::<pb::Scan>(&within_via);
            assert_eq!(is_message, depth + usize::from(!inside.is_empty()) <= 99, "{depth} {inside:?} in via");
        }
    }
}

#[test]
fn occurrences_of_via_merge_and_the_last_scalar_wins() {
    let mut bytes = Vec::new();
    for inner in [&b"\x0a\x01a\x12\x01b"[..], b"\x0a\x01c"] {
        delimited(&mut bytes, 5, inner);
    }
    for id in [b"1", b"2"] {
        delimited(&mut bytes, 1, id);
    }
    assert!(assert_agreement::<pb::Share>(&bytes));
    let event = protobuf::read(EventKind::Share, &bytes).expect("a message");
    assert_eq!((&*event.event_id, &*event.via.share_id, &*event.via.sharer_id), ("2", "c", "b"));
}

#[test]
fn any_record_has_an_outcome() {
    check!().with_iterations(ITERATIONS).with_max_len(MOST_BYTES).with_type::<(Vec<u8>, Option<Vec<u8>>, i64, u8)>().for_each(
        |(value, content_type, timestamp_ms, choice)| {
            let kind = EventKind::ALL[usize::from(choice % 3)];
            let format = [Format::Auto, Format::Protobuf, Format::Json][usize::from(choice / 3 % 3)];
            let record = RawRecord { value: Some(value), content_type: content_type.as_deref(), timestamp_ms: *timestamp_ms };
            if let Err(reject) = decode(kind, format, record, &Rules::default()) {
                assert!(!reject.message.is_empty() && reject.message.len() < 1_000, "{reject}");
            }
        },
    );
}

/// A piece of a JSON text, so that composing them often gives an object.
#[derive(Clone, Copy, Debug, TypeGenerator)]
enum Token {
    Member(u8),
    Text(u8),
    Number(i32),
    Other(u8),
    Byte(u8),
}

impl Token {
    fn write(self, out: &mut Vec<u8>) {
        const NAMES: [&str; 12] = [
            "event_id",
            "eventId",
            "brand",
            "customerId",
            "event_time_ms",
            "eventTime",
            "via",
            "share_id",
            "order_id",
            "lines",
            "kind",
            "amount",
        ];
        const OTHERS: [&str; 11] =
            ["null", "true", "{}", "[]", "{\"share_id\":\"s\"}", "[{\"amount\":1}]", "1e3", "1.5", "\"\\n\"", ",", "}"];
        match self {
            Token::Member(name) => out.extend(format!(",\"{}\":", NAMES[usize::from(name) % NAMES.len()]).as_bytes()),
            Token::Text(text) => out.extend(format!("\"{}\"", text % 20).as_bytes()),
            Token::Number(number) => out.extend(number.to_string().as_bytes()),
            Token::Other(other) => out.extend(OTHERS[usize::from(other) % OTHERS.len()].as_bytes()),
            Token::Byte(byte) => out.push(byte),
        }
    }
}

#[test]
fn any_json_has_an_outcome_and_only_what_serde_json_takes_is_read() {
    check!().with_iterations(ITERATIONS).with_max_len(MOST_BYTES).with_type::<(u8, Vec<(Token, Token)>)>().for_each(|(kind, members)| {
        let mut text = b"{\"x\":0".to_vec();
        for (name, value) in members {
            name.write(&mut text);
            value.write(&mut text);
        }
        text.push(b'}');
        let is_read = json::read(EventKind::ALL[usize::from(kind % 3)], &text).is_ok();
        // Not `Value`, which refuses a number that no f64 holds: in a member that nobody knows it is good JSON.
        let is_object = serde_json::from_slice::<BTreeMap<String, serde::de::IgnoredAny>>(&text).is_ok();
        assert!(is_object || !is_read, "{}", String::from_utf8_lossy(&text));
    });
}
