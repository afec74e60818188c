//! Reads the JSON form of the messages: proto3 JSON, with the latitude that the contract's rules give.
//!
//! Members are first collected as raw values and only the last of each is judged, so that an earlier repetition has no
//! effect, whatever it holds. Numbers are read from their text: no integer passes through floating point. Text is borrowed
//! unless it has escapes.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::wire::{WireBody, WireEnum, WireEvent, WirePurchase, WireScan, WireShare, WireTime, WireVia};
use super::{number, rfc3339};
use crate::model::{EventKind, Line, Text};

/// A member's name in the schema and in camelCase.
type Name = (&'static str, &'static str);

const EVENT_ID: Name = ("event_id", "eventId");
const BRAND: Name = ("brand", "brand");
const CUSTOMER_ID: Name = ("customer_id", "customerId");
const EVENT_TIME_MS: Name = ("event_time_ms", "eventTimeMs");
const EVENT_TIME: Name = ("event_time", "eventTime");
const VIA: Name = ("via", "via");
const SHARE_ID: Name = ("share_id", "shareId");
const SHARER_ID: Name = ("sharer_id", "sharerId");
const CODE: Name = ("code", "code");
const SKU: Name = ("sku", "sku");
const BATCH: Name = ("batch", "batch");
const CAMPAIGN: Name = ("campaign", "campaign");
const REGION: Name = ("region", "region");
const CHANNEL: Name = ("channel", "channel");
const DEVICE: Name = ("device", "device");
const PURPOSE: Name = ("purpose", "purpose");
const ROLE: Name = ("role", "role");
const ORDER_ID: Name = ("order_id", "orderId");
const KIND: Name = ("kind", "kind");
const AMOUNT: Name = ("amount", "amount");
const CURRENCY: Name = ("currency", "currency");
const LINES: Name = ("lines", "lines");
const STORE: Name = ("store", "store");
const QUANTITY: Name = ("quantity", "quantity");
const REWARDED: Name = ("rewarded", "rewarded");

const SCAN: &[Name] =
    &[EVENT_ID, BRAND, CUSTOMER_ID, EVENT_TIME_MS, EVENT_TIME, VIA, CODE, SKU, BATCH, CAMPAIGN, REGION, CHANNEL, DEVICE, PURPOSE, ROLE];
const PURCHASE: &[Name] = &[
    EVENT_ID,
    BRAND,
    CUSTOMER_ID,
    EVENT_TIME_MS,
    EVENT_TIME,
    VIA,
    ORDER_ID,
    KIND,
    AMOUNT,
    CURRENCY,
    LINES,
    CAMPAIGN,
    REGION,
    CHANNEL,
    STORE,
];
const SHARE: &[Name] = &[EVENT_ID, BRAND, CUSTOMER_ID, EVENT_TIME_MS, EVENT_TIME, VIA, SHARE_ID, CAMPAIGN, SKU, REGION, CHANNEL, REWARDED];
const LINE: &[Name] = &[SKU, QUANTITY, AMOUNT];
const MOST_MEMBERS: usize = 15;

/// Names of an enum's values in the order of their numbers, without their prefix.
struct EnumNames {
    prefix: &'static str,
    names: &'static [&'static str],
}

const SCAN_PURPOSE: EnumNames =
    EnumNames { prefix: "SCAN_PURPOSE_", names: &["UNSPECIFIED", "VERIFY", "DRAW", "POINTS", "FOLLOW", "TRACE"] };
const ACTOR_ROLE: EnumNames = EnumNames { prefix: "ACTOR_ROLE_", names: &["CONSUMER", "RETAILER", "GUIDE", "DEALER", "INSPECTOR"] };
const PURCHASE_KIND: EnumNames = EnumNames { prefix: "PURCHASE_KIND_", names: &["UNSPECIFIED", "PAYMENT", "REFUND"] };

/// Why text is no event of JSON.
#[derive(Debug, thiserror::Error)]
pub(super) enum JsonError {
    #[error("not UTF-8")]
    Utf8,
    #[error("{0}")]
    Syntax(serde_json::Error),
    #[error("`{member}` is not {expected}")]
    Member { member: &'static str, expected: &'static str },
}

/// Reads an event of a kind from an object.
pub(super) fn read(kind: EventKind, bytes: &[u8]) -> Result<WireEvent<'_>, JsonError> {
    let text = std::str::from_utf8(bytes).map_err(|_| JsonError::Utf8)?;
    let names = match kind {
        EventKind::Scan => SCAN,
        EventKind::Purchase => PURCHASE,
        EventKind::Share => SHARE,
    };
    let members = Members::read(text, names).map_err(JsonError::Syntax)?;
    let body = match kind {
        EventKind::Scan => WireBody::Scan(scan(&members)?),
        EventKind::Purchase => WireBody::Purchase(purchase(&members)?),
        EventKind::Share => WireBody::Share(share(&members)?),
    };
    Ok(WireEvent {
        event_id: members.text(EVENT_ID)?,
        brand: members.text(BRAND)?,
        customer_id: members.text(CUSTOMER_ID)?,
        time: time(&members)?,
        via: via(&members)?,
        body,
    })
}

fn scan<'a>(members: &Members<'a>) -> Result<WireScan<'a>, JsonError> {
    Ok(WireScan {
        code: members.text(CODE)?,
        sku: members.text(SKU)?,
        batch: members.text(BATCH)?,
        campaign: members.text(CAMPAIGN)?,
        region: members.unsigned(REGION)?,
        channel: members.text(CHANNEL)?,
        device: members.text(DEVICE)?,
        purpose: members.one_of(PURPOSE, &SCAN_PURPOSE)?,
        role: members.one_of(ROLE, &ACTOR_ROLE)?,
    })
}

fn purchase<'a>(members: &Members<'a>) -> Result<WirePurchase<'a>, JsonError> {
    Ok(WirePurchase {
        order_id: members.text(ORDER_ID)?,
        kind: members.one_of(KIND, &PURCHASE_KIND)?,
        amount: members.long(AMOUNT)?,
        currency: members.text(CURRENCY)?,
        lines: lines(members)?,
        campaign: members.text(CAMPAIGN)?,
        region: members.unsigned(REGION)?,
        channel: members.text(CHANNEL)?,
        store: members.text(STORE)?,
    })
}

fn share<'a>(members: &Members<'a>) -> Result<WireShare<'a>, JsonError> {
    Ok(WireShare {
        share_id: members.text(SHARE_ID)?,
        campaign: members.text(CAMPAIGN)?,
        sku: members.text(SKU)?,
        region: members.unsigned(REGION)?,
        channel: members.text(CHANNEL)?,
        rewarded: members.truth(REWARDED)?,
    })
}

/// `event_time_ms` wins over `event_time` when both are given; null is not given.
fn time<'a>(members: &Members<'a>) -> Result<WireTime<'a>, JsonError> {
    let written = members.text(EVENT_TIME)?;
    if members.get(EVENT_TIME_MS).is_some() || members.get(EVENT_TIME).is_none() {
        return Ok(WireTime::Millis(members.long(EVENT_TIME_MS)?));
    }
    Ok(rfc3339::read(&written).map_or(WireTime::NoTime(written), WireTime::Millis))
}

fn via<'a>(members: &Members<'a>) -> Result<WireVia<'a>, JsonError> {
    let Some(raw) = members.get(VIA) else { return Ok(WireVia::default()) };
    let inner = Members::nested(raw, VIA, &[SHARE_ID, SHARER_ID])?;
    Ok(WireVia { share_id: inner.text(SHARE_ID)?, sharer_id: inner.text(SHARER_ID)? })
}

fn lines<'a>(members: &Members<'a>) -> Result<Vec<Line<'a>>, JsonError> {
    let Some(raw) = members.get(LINES) else { return Ok(Vec::new()) };
    if !raw.starts_with('[') {
        return Err(JsonError::Member { member: LINES.0, expected: "an array" });
    }
    let mut found = Vec::new();
    let push = |raw_line| {
        let line = Members::nested(raw_line, LINES, LINE)?;
        found.push(Line { sku: line.text(SKU)?, quantity: line.unsigned(QUANTITY)?, amount: line.long(AMOUNT)? });
        Ok(())
    };
    each_element(raw, push)?;
    Ok(found)
}

/// The raw values of an object's known members: the last of each, null as absent.
struct Members<'a> {
    names: &'static [Name],
    values: [Option<&'a str>; MOST_MEMBERS],
}

impl<'a> Members<'a> {
    fn read(text: &'a str, names: &'static [Name]) -> Result<Self, serde_json::Error> {
        let mut members = Members { names, values: [None; MOST_MEMBERS] };
        let mut deserializer = serde_json::Deserializer::from_str(text);
        deserializer.deserialize_map(ObjectVisitor(&mut members))?;
        deserializer.end()?;
        Ok(members)
    }

    /// Of a raw value that has to be an object.
    fn nested(raw: &'a str, name: Name, names: &'static [Name]) -> Result<Self, JsonError> {
        if !raw.starts_with('{') {
            return Err(JsonError::Member { member: name.0, expected: "an object" });
        }
        Members::read(raw, names).map_err(JsonError::Syntax)
    }

    fn set(&mut self, key: &str, raw: &'a str) {
        let known = self.names.iter().zip(&mut self.values).find(|((snake, camel), _)| *snake == key || *camel == key);
        if let Some((_, value)) = known {
            *value = (raw != "null").then_some(raw);
        }
    }

    fn get(&self, name: Name) -> Option<&'a str> {
        self.names.iter().zip(&self.values).find(|(known, _)| **known == name).and_then(|(_, value)| *value)
    }

    fn text(&self, name: Name) -> Result<Text<'a>, JsonError> {
        let Some(raw) = self.get(name) else { return Ok(Cow::Borrowed("")) };
        let error = JsonError::Member { member: name.0, expected: "a string" };
        if !raw.starts_with('"') {
            return Err(error);
        }
        // Only escapes can be wrong in a string that was already skipped over as one.
        unescaped(raw).ok_or(error)
    }

    fn integer(&self, name: Name, expected: &'static str) -> Result<i128, JsonError> {
        let error = || JsonError::Member { member: name.0, expected };
        match self.get(name) {
            None => Ok(0),
            Some(raw) if raw.starts_with('"') => unescaped(raw).and_then(|text| number::integer(&text)).ok_or_else(error),
            Some(raw) => number::integer(raw).ok_or_else(error),
        }
    }

    fn long(&self, name: Name) -> Result<i64, JsonError> {
        let expected = "a 64-bit integer";
        i64::try_from(self.integer(name, expected)?).map_err(|_| JsonError::Member { member: name.0, expected })
    }

    fn unsigned(&self, name: Name) -> Result<u32, JsonError> {
        let expected = "an unsigned 32-bit integer";
        u32::try_from(self.integer(name, expected)?).map_err(|_| JsonError::Member { member: name.0, expected })
    }

    fn truth(&self, name: Name) -> Result<bool, JsonError> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(JsonError::Member { member: name.0, expected: "true or false" }),
        }
    }

    /// A string is a name, in upper case, with or without its prefix; anything else has to be a number.
    fn one_of(&self, name: Name, names: &EnumNames) -> Result<WireEnum<'a>, JsonError> {
        let is_name = self.get(name).is_some_and(|raw| raw.starts_with('"'));
        if !is_name {
            let expected = "a name or a 32-bit integer";
            let number = i32::try_from(self.integer(name, expected)?).map_err(|_| JsonError::Member { member: name.0, expected })?;
            return Ok(WireEnum::Number(number));
        }
        let text = self.text(name)?;
        let short = text.strip_prefix(names.prefix).unwrap_or(&text);
        let known = (0_i32..).zip(names.names).find(|(_, known)| **known == short);
        Ok(known.map_or(WireEnum::UnknownName(text), |(number, _)| WireEnum::Number(number)))
    }
}

/// The content of a raw string.
fn unescaped(raw: &str) -> Option<Text<'_>> {
    match raw.strip_prefix('"')?.strip_suffix('"')? {
        plain if !plain.contains('\\') => Some(Cow::Borrowed(plain)),
        _ => serde_json::from_str::<String>(raw).ok().map(Cow::Owned),
    }
}

struct ObjectVisitor<'m, 'a>(&'m mut Members<'a>);

impl<'a> Visitor<'a> for ObjectVisitor<'_, 'a> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            let value: &RawValue = map.next_value()?;
            self.0.set(&key, value.get());
        }
        Ok(())
    }
}

/// A member's name, borrowed unless it has escapes (`Cow` itself would always be owned).
#[derive(serde::Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Calls `visit` with each raw element of an array.
fn each_element<'a>(raw: &'a str, visit: impl FnMut(&'a str) -> Result<(), JsonError>) -> Result<(), JsonError> {
    struct ArrayVisitor<V>(V);

    impl<'a, V: FnMut(&'a str) -> Result<(), JsonError>> Visitor<'a> for ArrayVisitor<V> {
        type Value = Result<(), JsonError>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'a>>(mut self, mut elements: A) -> Result<Self::Value, A::Error> {
            // Every element is read, also after an error, or the reader would complain of an unread rest.
            let mut outcome = Ok(());
            while let Some(element) = elements.next_element::<&RawValue>()? {
                if outcome.is_ok() {
                    outcome = (self.0)(element.get());
                }
            }
            Ok(outcome)
        }
    }

    serde_json::Deserializer::from_str(raw).deserialize_seq(ArrayVisitor(visit)).map_err(JsonError::Syntax)?
}
