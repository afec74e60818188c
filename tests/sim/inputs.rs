//! What producers send: events with everything that goes wrong with them, as bytes, and what the rules say of each record.
//!
//! The expected event is built beside the bytes, not by decoding them.

use std::collections::BTreeSet;

use onecode::model::{Body, Event, EventKind, Line, Purchase, PurchaseKind, Reason, Role, Scan, ScanPurpose, Share, Via};
use onecode::pb;
use prost::Message as _;
use serde_json::json;

use super::kafka::Headers;
use super::random::Random;

pub const FUTURE_SKEW_MS: i64 = 10 * 60_000;
/// Largest record.
pub const EVENT_BYTES: usize = 2_048;
/// A brand whose events contradict each other: nothing is expected of it but that it harms nobody.
pub const TWINS: &str = "twins";
const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 86_400_000;
const LINK: &str = "https://id.gs1.org/01/06901234567892/10/LOT7/21/S5";

/// The message as its producer made it.
#[derive(Clone, Debug)]
pub enum Wire {
    Scan(pb::Scan),
    Purchase(pb::Purchase),
    Share(pb::Share),
}

/// An event and its messages.
#[derive(Clone, Debug)]
pub struct Sent {
    pub event: Event<'static>,
    pub wire: Wire,
}

/// What the record alone says: an event, unless its record's time speaks against it; or a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Event(usize),
    Reject(Reason),
    /// Of the brand of contradictions.
    Unknown,
}

/// One record to be produced.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub kind: EventKind,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Headers,
    pub verdict: Verdict,
    /// The partition that its customer's key gives, or any other.
    pub is_misrouted: bool,
    pub customer_id: String,
}

/// Makes events.
#[derive(Clone, Debug)]
pub struct Producer {
    customers: usize,
    max_lateness_ms: i64,
    /// Records of a thousand that arrive in another partition than their customer's.
    misrouted_permille: u32,
    /// Events of a thousand that come through somebody's share.
    via_permille: u32,
    identities: BTreeSet<(String, String, EventKind, String)>,
    serial: usize,
}

fn purpose_of(number: i32) -> ScanPurpose {
    ScanPurpose::from_number(number).expect("a purpose")
}

impl Producer {
    pub fn new(customers: usize, max_lateness_ms: i64, misrouted_permille: u32, via_permille: u32) -> Self {
        Producer { customers, max_lateness_ms, misrouted_permille, via_permille, identities: BTreeSet::new(), serial: 0 }
    }

    /// Makes events as late as that from now on.
    pub fn raise_lateness(&mut self, max_lateness_ms: i64) {
        self.max_lateness_ms = max_lateness_ms;
    }

    /// An event with an identity of its own, made at `now_ms` (Unix milliseconds).
    pub fn event(&mut self, random: &mut Random, now_ms: i64) -> Sent {
        let kind = random.pick(&[EventKind::Scan, EventKind::Scan, EventKind::Purchase, EventKind::Share]);
        let brand = random.pick(&["acme", "bolt"]).to_owned();
        let customer_id = self.customer(random);
        self.serial += 1;
        let mut event_id = if random.chance(300) { format!("e{}", self.serial % 3) } else { format!("e{}", self.serial) };
        if !self.identities.insert((brand.clone(), customer_id.clone(), kind, event_id.clone())) {
            event_id = format!("n{}", self.serial);
        }
        let time_ms = self.time(random, now_ms);
        let via = random.chance(self.via_permille).then(|| (format!("s{}", random.below(3)), self.customer(random)));
        let common = Common { event_id, brand, customer_id, time_ms, via };
        match kind {
            EventKind::Scan => scan(random, self.serial, common),
            EventKind::Purchase => purchase(random, self.serial, common),
            EventKind::Share => share(random, common),
        }
    }

    fn customer(&self, random: &mut Random) -> String {
        format!("c{}", random.below(self.customers))
    }

    /// Mostly around the present, sometimes as late as the rules allow, and sometimes by a clock that is far off. Equal times are frequent.
    fn time(&self, random: &mut Random, now_ms: i64) -> i64 {
        let lateness_ms = self.max_lateness_ms;
        let time_ms = match random.below(20) {
            0..8 => now_ms - random.between(0, 5 * MINUTE_MS.min(lateness_ms / 20)),
            8..14 => now_ms / MINUTE_MS * MINUTE_MS - random.between(0, 3) * (lateness_ms / 12),
            14..17 => now_ms - random.between(0, lateness_ms),
            17 => now_ms - lateness_ms + random.between(-2 * MINUTE_MS, 2 * MINUTE_MS),
            18 => now_ms + FUTURE_SKEW_MS + random.between(-2 * MINUTE_MS, 2 * MINUTE_MS),
            _ => now_ms / DAY_MS * DAY_MS + random.pick(&[-1, 0, 1]),
        };
        time_ms.max(1)
    }

    /// A record of an event: in either format, keyed or not, where it belongs or elsewhere.
    pub fn record(&mut self, random: &mut Random, index: usize, sent: &Sent) -> Arrival {
        let (value, headers) = encode(random, &sent.wire);
        let verdict = if sent.event.brand == TWINS { Verdict::Unknown } else { Verdict::Event(index) };
        self.arrival(random, sent, Some(value), headers, verdict)
    }

    /// A record that nobody accepts, under the identity of a valid event: it must leave no trace.
    pub fn invalid(&mut self, random: &mut Random, sent: &Sent) -> Arrival {
        let mut broken = sent.clone();
        let (reason, value) = match random.below(8) {
            0 => (Reason::Undecodable, None),
            1 => (Reason::Undecodable, Some(b"\x0a\xff\xff".to_vec())),
            2 => (Reason::Undecodable, Some(b"{\"event_id\": 1.5}".to_vec())),
            3 => (Reason::TooLong, Some(vec![b'{'; EVENT_BYTES + 1])),
            4 => {
                on_common(&mut broken.wire, |common| common.event_id.clear());
                (Reason::MissingField, Some(protobuf(&broken.wire)))
            }
            5 => {
                on_common(&mut broken.wire, |common| common.brand.push('!'));
                (Reason::BadBrand, Some(protobuf(&broken.wire)))
            }
            6 => {
                on_common(&mut broken.wire, |common| *common.region = 7);
                (Reason::BadRegion, Some(protobuf(&broken.wire)))
            }
            _ => {
                on_common(&mut broken.wire, |common| *common.time_ms = -5);
                (Reason::BadTime, Some(protobuf(&broken.wire)))
            }
        };
        self.arrival(random, sent, value, Vec::new(), Verdict::Reject(reason))
    }

    fn arrival(&self, random: &mut Random, sent: &Sent, value: Option<Vec<u8>>, headers: Headers, verdict: Verdict) -> Arrival {
        let is_misrouted = random.chance(self.misrouted_permille);
        let customer_id = sent.event.customer_id.to_string();
        let mut headers = headers;
        // A producer's own header of the name that relays use says nothing.
        if random.chance(20) {
            headers.push((random.pick(&["onecode.exchange", "Onecode.Exchange"]).to_owned(), Some(b"forged".to_vec())));
        }
        let key = (!is_misrouted || random.chance(500)).then(|| customer_id.clone().into_bytes());
        Arrival { kind: sent.event.kind(), key, value, headers, verdict, is_misrouted, customer_id }
    }

    /// Two events with one identity.
    pub fn twins(&mut self, random: &mut Random, now_ms: i64) -> [Sent; 2] {
        self.serial += 1;
        let common = Common {
            event_id: format!("t{}", self.serial),
            brand: TWINS.to_owned(),
            customer_id: self.customer(random),
            time_ms: now_ms - random.between(0, MINUTE_MS),
            via: None,
        };
        let other = Common { time_ms: common.time_ms - 1, ..common.clone() };
        [purchase(random, self.serial, common), purchase(random, self.serial, other)]
    }
}

#[derive(Clone)]
struct Common {
    event_id: String,
    brand: String,
    customer_id: String,
    time_ms: i64,
    via: Option<(String, String)>,
}

impl Common {
    fn wire_via(&self) -> Option<pb::Via> {
        self.via.clone().map(|(share_id, sharer_id)| pb::Via { share_id, sharer_id })
    }

    fn event(self, body: Body<'static>) -> Event<'static> {
        let via = self.via.map(|(share_id, sharer_id)| Via { share_id: share_id.into(), sharer_id: sharer_id.into() });
        Event {
            event_id: self.event_id.into(),
            brand: self.brand.into(),
            customer_id: self.customer_id.into(),
            time_ms: self.time_ms,
            via,
            body,
        }
    }
}

fn any_campaign(random: &mut Random) -> String {
    random.pick(&["spring", "autumn", ""]).to_owned()
}

fn any_region(random: &mut Random) -> u32 {
    random.pick(&[0, 310_000, 310_115, 440_300])
}

fn scan(random: &mut Random, serial: usize, common: Common) -> Sent {
    let is_link = random.chance(300);
    let role = if random.chance(150) { random.between(1, 4) as i32 } else { 0 };
    let wire = pb::Scan {
        event_id: common.event_id.clone(),
        brand: common.brand.clone(),
        customer_id: common.customer_id.clone(),
        event_time_ms: common.time_ms,
        via: common.wire_via(),
        // The archive tells scans apart by their codes too.
        code: if is_link { LINK.to_owned() } else { format!("code-{serial}") },
        sku: if random.chance(500) { "cola".to_owned() } else { String::new() },
        batch: String::new(),
        campaign: any_campaign(random),
        region: any_region(random),
        channel: random.pick(&["feed", "store"]).to_owned(),
        device: format!("d{}", random.below(3)),
        purpose: random.between(0, 5) as i32,
        role,
    };
    let linked = |text: &str| if is_link { text.to_owned().into() } else { "".into() };
    let scan = Scan {
        code: wire.code.clone().into(),
        gtin: linked("06901234567892"),
        serial: linked("S5"),
        sku: if wire.sku.is_empty() { linked("06901234567892") } else { wire.sku.clone().into() },
        batch: linked("LOT7"),
        campaign: wire.campaign.clone().into(),
        region: wire.region,
        channel: wire.channel.clone().into(),
        device: wire.device.clone().into(),
        purpose: purpose_of(wire.purpose),
        role: Role::from_number(role).expect("a role"),
    };
    Sent { event: common.event(Body::Scan(scan)), wire: Wire::Scan(wire) }
}

fn purchase(random: &mut Random, serial: usize, common: Common) -> Sent {
    let is_payment = random.chance(700);
    let wire = pb::Purchase {
        event_id: common.event_id.clone(),
        brand: common.brand.clone(),
        customer_id: common.customer_id.clone(),
        event_time_ms: common.time_ms,
        via: common.wire_via(),
        order_id: format!("o{serial}"),
        kind: if is_payment { 1 } else { 2 },
        amount: random.between(1, 100_000),
        currency: if random.chance(500) { "CNY".to_owned() } else { String::new() },
        lines: (0..random.between(0, 2)).map(|line| pb::OrderLine { sku: format!("k{line}"), quantity: 2, amount: line }).collect(),
        campaign: any_campaign(random),
        region: any_region(random),
        channel: random.pick(&["feed", "store"]).to_owned(),
        store: "No. 7".to_owned(),
    };
    let purchase = Purchase {
        order_id: wire.order_id.clone().into(),
        kind: if is_payment { PurchaseKind::Payment } else { PurchaseKind::Refund },
        amount: wire.amount,
        currency: "CNY".into(),
        lines: wire.lines.iter().map(|line| Line { sku: line.sku.clone().into(), quantity: 2, amount: line.amount }).collect(),
        campaign: wire.campaign.clone().into(),
        region: wire.region,
        channel: wire.channel.clone().into(),
        store: wire.store.clone().into(),
    };
    Sent { event: common.event(Body::Purchase(purchase)), wire: Wire::Purchase(wire) }
}

fn share(random: &mut Random, common: Common) -> Sent {
    let wire = pb::Share {
        event_id: common.event_id.clone(),
        brand: common.brand.clone(),
        customer_id: common.customer_id.clone(),
        event_time_ms: common.time_ms,
        via: common.wire_via(),
        share_id: format!("s{}", random.below(3)),
        campaign: any_campaign(random),
        sku: "cola".to_owned(),
        region: any_region(random),
        channel: "moments".to_owned(),
        rewarded: random.chance(500),
    };
    let share = Share {
        share_id: wire.share_id.clone().into(),
        campaign: wire.campaign.clone().into(),
        sku: "cola".into(),
        region: wire.region,
        channel: "moments".into(),
        rewarded: wire.rewarded,
    };
    Sent { event: common.event(Body::Share(share)), wire: Wire::Share(wire) }
}

fn protobuf(wire: &Wire) -> Vec<u8> {
    match wire {
        Wire::Scan(scan) => scan.encode_to_vec(),
        Wire::Purchase(purchase) => purchase.encode_to_vec(),
        Wire::Share(share) => share.encode_to_vec(),
    }
}

fn encode(random: &mut Random, wire: &Wire) -> (Vec<u8>, Headers) {
    if random.chance(600) {
        return (protobuf(wire), vec![("trace-id".to_owned(), None)]);
    }
    let headers = if random.chance(500) { vec![("Content-Type".to_owned(), Some(b"application/json".to_vec()))] } else { Vec::new() };
    (json_of(wire).to_string().into_bytes(), headers)
}

fn json_of(wire: &Wire) -> serde_json::Value {
    let via = |via: &Option<pb::Via>| via.as_ref().map(|via| json!({"share_id": via.share_id, "sharer_id": via.sharer_id}));
    match wire {
        Wire::Scan(scan) => json!({
            "event_id": scan.event_id, "brand": scan.brand, "customer_id": scan.customer_id, "event_time_ms": scan.event_time_ms,
            "via": via(&scan.via), "code": scan.code, "sku": scan.sku, "batch": scan.batch, "campaign": scan.campaign,
            "region": scan.region, "channel": scan.channel, "device": scan.device, "role": scan.role,
            "purpose": scan.purpose().as_str_name(),
        }),
        Wire::Purchase(purchase) => json!({
            "event_id": purchase.event_id, "brand": purchase.brand, "customer_id": purchase.customer_id,
            "event_time_ms": purchase.event_time_ms.to_string(), "via": via(&purchase.via), "order_id": purchase.order_id,
            "kind": purchase.kind, "amount": purchase.amount, "currency": purchase.currency, "campaign": purchase.campaign,
            "region": purchase.region, "channel": purchase.channel, "store": purchase.store,
            "lines": purchase.lines.iter()
                .map(|line| json!({"sku": line.sku, "quantity": line.quantity, "amount": line.amount}))
                .collect::<Vec<_>>(),
        }),
        Wire::Share(share) => json!({
            "event_id": share.event_id, "brand": share.brand, "customer_id": share.customer_id, "event_time_ms": share.event_time_ms,
            "via": via(&share.via), "share_id": share.share_id, "campaign": share.campaign, "sku": share.sku,
            "region": share.region, "channel": share.channel, "rewarded": share.rewarded, "unknown": {"to": "us"},
        }),
    }
}

/// The fields that all messages have and that an invalid record breaks.
struct Breakable<'a> {
    event_id: &'a mut String,
    brand: &'a mut String,
    time_ms: &'a mut i64,
    region: &'a mut u32,
}

fn on_common(wire: &mut Wire, change: impl FnOnce(Breakable<'_>)) {
    match wire {
        Wire::Scan(pb::Scan { event_id, brand, event_time_ms, region, .. })
        | Wire::Purchase(pb::Purchase { event_id, brand, event_time_ms, region, .. })
        | Wire::Share(pb::Share { event_id, brand, event_time_ms, region, .. }) => {
            change(Breakable { event_id, brand, time_ms: event_time_ms, region });
        }
    }
}
