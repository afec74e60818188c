//! An event as a producer holds it, and its two wire formats.

use prost::Message as _;
use serde_json::{Map, Value, json};

use super::dice::Dice;
use crate::model::EventKind;
use crate::pb;

/// One of the three messages.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Message {
    Scan(pb::Scan),
    Purchase(pb::Purchase),
    Share(pb::Share),
}

/// The fields that every event has.
pub(super) struct Common<'m> {
    pub event_id: &'m mut String,
    pub brand: &'m mut String,
    pub customer_id: &'m mut String,
    pub time_ms: &'m mut i64,
    pub via: &'m mut Option<pb::Via>,
    pub region: &'m mut u32,
    pub campaign: &'m mut String,
}

macro_rules! common_fields {
    ($message:expr) => {
        Common {
            event_id: &mut $message.event_id,
            brand: &mut $message.brand,
            customer_id: &mut $message.customer_id,
            time_ms: &mut $message.event_time_ms,
            via: &mut $message.via,
            region: &mut $message.region,
            campaign: &mut $message.campaign,
        }
    };
}

impl Message {
    pub fn kind(&self) -> EventKind {
        match self {
            Message::Scan(_) => EventKind::Scan,
            Message::Purchase(_) => EventKind::Purchase,
            Message::Share(_) => EventKind::Share,
        }
    }

    pub fn customer_id(&self) -> &str {
        match self {
            Message::Scan(scan) => &scan.customer_id,
            Message::Purchase(purchase) => &purchase.customer_id,
            Message::Share(share) => &share.customer_id,
        }
    }

    pub fn common(&mut self) -> Common<'_> {
        match self {
            Message::Scan(scan) => common_fields!(scan),
            Message::Purchase(purchase) => common_fields!(purchase),
            Message::Share(share) => common_fields!(share),
        }
    }

    /// Whether the event is a customer's own (a scan by a retailer is not).
    pub fn is_customers_own(&self) -> bool {
        !matches!(self, Message::Scan(scan) if scan.role != 0)
    }

    pub fn protobuf(&self) -> Vec<u8> {
        match self {
            Message::Scan(scan) => scan.encode_to_vec(),
            Message::Purchase(purchase) => purchase.encode_to_vec(),
            Message::Share(share) => share.encode_to_vec(),
        }
    }

    /// Proto3 JSON in one of its spellings.
    pub fn json(&self, spelling: Spelling) -> Map<String, Value> {
        let mut members = Members { map: Map::new(), spelling };
        match self {
            Message::Scan(scan) => {
                members.common(&scan.event_id, &scan.brand, &scan.customer_id, scan.event_time_ms, scan.via.as_ref());
                members.text("code", &scan.code);
                members.text("sku", &scan.sku);
                members.text("batch", &scan.batch);
                members.text("campaign", &scan.campaign);
                members.small("region", scan.region);
                members.text("channel", &scan.channel);
                members.text("device", &scan.device);
                members.one_of("purpose", scan.purpose, pb::ScanPurpose::try_from(scan.purpose).map(|value| value.as_str_name()));
                members.one_of("role", scan.role, pb::ActorRole::try_from(scan.role).map(|value| value.as_str_name()));
            }
            Message::Purchase(purchase) => {
                members.common(&purchase.event_id, &purchase.brand, &purchase.customer_id, purchase.event_time_ms, purchase.via.as_ref());
                members.text("order_id", &purchase.order_id);
                members.one_of("kind", purchase.kind, pb::PurchaseKind::try_from(purchase.kind).map(|value| value.as_str_name()));
                members.long("amount", purchase.amount);
                members.text("currency", &purchase.currency);
                members.lines(&purchase.lines);
                members.text("campaign", &purchase.campaign);
                members.small("region", purchase.region);
                members.text("channel", &purchase.channel);
                members.text("store", &purchase.store);
            }
            Message::Share(share) => {
                members.common(&share.event_id, &share.brand, &share.customer_id, share.event_time_ms, share.via.as_ref());
                members.text("share_id", &share.share_id);
                members.text("campaign", &share.campaign);
                members.text("sku", &share.sku);
                members.small("region", share.region);
                members.text("channel", &share.channel);
                members.truth("rewarded", share.rewarded);
            }
        }
        members.map
    }
}

/// The liberties that proto3 JSON leaves to a producer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spelling {
    camel_case: bool,
    integers_as_strings: bool,
    time_as_text: bool,
    enums_as_numbers: bool,
    defaults_spelled_out: bool,
}

impl Spelling {
    pub fn thrown(dice: &mut Dice) -> Self {
        let bits = dice.below(32);
        let bit = |place: u32| bits >> place & 1 == 1;
        Spelling {
            camel_case: bit(0),
            integers_as_strings: bit(1),
            time_as_text: bit(2),
            enums_as_numbers: bit(3),
            defaults_spelled_out: bit(4),
        }
    }
}

struct Members {
    map: Map<String, Value>,
    spelling: Spelling,
}

impl Members {
    fn set(&mut self, name: &str, value: Value) {
        self.map.insert(self.spelled(name), value);
    }

    fn spelled(&self, name: &str) -> String {
        if !self.spelling.camel_case {
            return name.to_owned();
        }
        let mut words = name.split('_');
        let mut spelled = words.next().unwrap_or_default().to_owned();
        for word in words {
            let (first, rest) = word.split_at(1);
            spelled.push_str(&first.to_ascii_uppercase());
            spelled.push_str(rest);
        }
        spelled
    }

    fn common(&mut self, event_id: &str, brand: &str, customer_id: &str, time_ms: i64, via: Option<&pb::Via>) {
        self.text("event_id", event_id);
        self.text("brand", brand);
        self.text("customer_id", customer_id);
        match jiff::Timestamp::from_millisecond(time_ms) {
            Ok(timestamp) if self.spelling.time_as_text && time_ms != 0 => self.set("event_time", json!(timestamp.to_string())),
            _ => self.long("event_time_ms", time_ms),
        }
        if let Some(via) = via {
            let mut inner = Members { map: Map::new(), spelling: self.spelling };
            inner.text("share_id", &via.share_id);
            inner.text("sharer_id", &via.sharer_id);
            self.set("via", Value::Object(inner.map));
        }
    }

    fn text(&mut self, name: &str, text: &str) {
        if !text.is_empty() || self.spelling.defaults_spelled_out {
            self.set(name, json!(text));
        }
    }

    fn long(&mut self, name: &str, number: i64) {
        let value = if self.spelling.integers_as_strings { json!(number.to_string()) } else { json!(number) };
        self.set(name, value);
    }

    fn small(&mut self, name: &str, number: u32) {
        if number != 0 || self.spelling.defaults_spelled_out {
            self.set(name, json!(number));
        }
    }

    fn truth(&mut self, name: &str, truth: bool) {
        if truth || self.spelling.defaults_spelled_out {
            self.set(name, json!(truth));
        }
    }

    /// By name, unless it has none or the spelling asks for numbers.
    fn one_of<E>(&mut self, name: &str, number: i32, known: Result<&str, E>) {
        match known {
            Ok(text) if !self.spelling.enums_as_numbers => self.set(name, json!(text)),
            _ => self.set(name, json!(number)),
        }
    }

    fn lines(&mut self, lines: &[pb::OrderLine]) {
        let spelled = lines.iter().map(|line| {
            let mut inner = Members { map: Map::new(), spelling: self.spelling };
            inner.text("sku", &line.sku);
            inner.small("quantity", line.quantity);
            inner.long("amount", line.amount);
            Value::Object(inner.map)
        });
        let array = spelled.collect();
        self.set("lines", Value::Array(array));
    }
}
