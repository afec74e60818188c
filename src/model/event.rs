//! The three events after decoding and acceptance, independent of the wire format they came in.
//!
//! Text is borrowed from the record where the format allows it, so that decoding a protobuf event allocates nothing.

use std::borrow::Cow;

use super::gathered::Gathered;

/// Text of an event: borrowed from the record unless the format had to unescape it.
pub type Text<'a> = Cow<'a, str>;

/// Which of the three input events. The order is the tie-break between events of equal time and id (`rules.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EventKind {
    /// Topic `scans`.
    Scan = 0,
    /// Topic `purchases`.
    Purchase = 1,
    /// Topic `shares`.
    Share = 2,
}

impl EventKind {
    /// All kinds, in their order.
    pub const ALL: [EventKind; 3] = [EventKind::Scan, EventKind::Purchase, EventKind::Share];

    /// The label used in metrics: `scan`, `purchase`, `share`.
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Scan => "scan",
            EventKind::Purchase => "purchase",
            EventKind::Share => "share",
        }
    }
}

/// An accepted event. Identity is (brand, customer, kind, event id).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// Unique within brand, customer and kind.
    pub event_id: Text<'a>,
    /// The tenant.
    pub brand: Text<'a>,
    /// Who did it.
    pub customer_id: Text<'a>,
    /// When it happened, Unix milliseconds UTC; 1 or more.
    pub time_ms: i64,
    /// The share through which the customer came in, as sent (it may name the customer itself).
    pub via: Option<Via<'a>>,
    /// What happened.
    pub body: Body<'a>,
}

/// A customer came in through somebody's share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    /// The share that was opened.
    pub share_id: Text<'a>,
    /// The customer who made that share.
    pub sharer_id: Text<'a>,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// An item's code was scanned.
    Scan(Scan<'a>),
    /// A payment or a refund.
    Purchase(Purchase<'a>),
    /// Something was shared.
    Share(Share<'a>),
}

/// Fields of a scan. `gtin` and `serial` are read from a GS1 Digital Link in `code`, which also fills an empty `sku` and `batch`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan<'a> {
    /// The item's own code, verbatim.
    pub code: Text<'a>,
    /// Fourteen digits, or empty.
    pub gtin: Text<'a>,
    /// Serial number of a Digital Link, or empty.
    pub serial: Text<'a>,
    /// The brand's own sku or a GTIN.
    pub sku: Text<'a>,
    /// Lot.
    pub batch: Text<'a>,
    /// Campaign.
    pub campaign: Text<'a>,
    /// GB/T 2260 six digits; 0 = unknown.
    pub region: u32,
    /// Where the scan came from.
    pub channel: Text<'a>,
    /// Hashed device id.
    pub device: Text<'a>,
    /// What the scan was for.
    pub purpose: ScanPurpose,
    /// Who scanned.
    pub role: Role,
}

/// What a scan was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ScanPurpose {
    /// Not said.
    Unspecified = 0,
    /// Anti-counterfeit check.
    Verify = 1,
    /// Lottery.
    Draw = 2,
    /// Collecting points; counts as a join.
    Points = 3,
    /// Following the official account; counts as a join.
    Follow = 4,
    /// Tracing.
    Trace = 5,
}

impl ScanPurpose {
    /// The short lower-case name that the archive stores.
    pub fn name(self) -> &'static str {
        match self {
            ScanPurpose::Unspecified => "unspecified",
            ScanPurpose::Verify => "verify",
            ScanPurpose::Draw => "draw",
            ScanPurpose::Points => "points",
            ScanPurpose::Follow => "follow",
            ScanPurpose::Trace => "trace",
        }
    }

    /// From the wire number.
    pub fn from_number(number: i32) -> Option<Self> {
        Some(match number {
            0 => ScanPurpose::Unspecified,
            1 => ScanPurpose::Verify,
            2 => ScanPurpose::Draw,
            3 => ScanPurpose::Points,
            4 => ScanPurpose::Follow,
            5 => ScanPurpose::Trace,
            _ => return None,
        })
    }
}

/// Who scanned. Only consumers count as customers; the others reach the archive and the code's record alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// A customer.
    Consumer = 0,
    /// A shop.
    Retailer = 1,
    /// A shop assistant.
    Guide = 2,
    /// A dealer.
    Dealer = 3,
    /// An inspector.
    Inspector = 4,
}

impl Role {
    /// The short lower-case name that the archive stores.
    pub fn name(self) -> &'static str {
        match self {
            Role::Consumer => "consumer",
            Role::Retailer => "retailer",
            Role::Guide => "guide",
            Role::Dealer => "dealer",
            Role::Inspector => "inspector",
        }
    }

    /// From the wire number.
    pub fn from_number(number: i32) -> Option<Self> {
        Some(match number {
            0 => Role::Consumer,
            1 => Role::Retailer,
            2 => Role::Guide,
            3 => Role::Dealer,
            4 => Role::Inspector,
            _ => return None,
        })
    }
}

/// Fields of a payment or refund.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purchase<'a> {
    /// A refund names the order that it refunds.
    pub order_id: Text<'a>,
    /// Payment or refund.
    pub kind: PurchaseKind,
    /// Minor units, 1 to 10^13.
    pub amount: i64,
    /// ISO 4217; filled with the brand's on acceptance, never empty.
    pub currency: Text<'a>,
    /// Order lines.
    pub lines: Vec<Line<'a>>,
    /// Campaign.
    pub campaign: Text<'a>,
    /// GB/T 2260 six digits; 0 = unknown.
    pub region: u32,
    /// Channel.
    pub channel: Text<'a>,
    /// Store.
    pub store: Text<'a>,
}

/// Payment or refund.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PurchaseKind {
    /// Money came in; an order.
    Payment = 1,
    /// Money went back.
    Refund = 2,
}

impl PurchaseKind {
    /// The short lower-case name that the archive stores.
    pub fn name(self) -> &'static str {
        match self {
            PurchaseKind::Payment => "payment",
            PurchaseKind::Refund => "refund",
        }
    }
}

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Sku.
    pub sku: Text<'a>,
    /// Pieces.
    pub quantity: u32,
    /// Minor units of the whole line, 0 or more.
    pub amount: i64,
}

/// Fields of a share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share<'a> {
    /// Names this share together with its sharer.
    pub share_id: Text<'a>,
    /// Campaign.
    pub campaign: Text<'a>,
    /// Sku.
    pub sku: Text<'a>,
    /// GB/T 2260 six digits; 0 = unknown.
    pub region: u32,
    /// Friend, group, moments...
    pub channel: Text<'a>,
    /// Whether the sharer was rewarded.
    pub rewarded: bool,
}

impl Event<'_> {
    /// Which event this is.
    pub fn kind(&self) -> EventKind {
        match self.body {
            Body::Scan(_) => EventKind::Scan,
            Body::Purchase(_) => EventKind::Purchase,
            Body::Share(_) => EventKind::Share,
        }
    }

    /// The via that counts: one that names the customer itself does not (`rules.md`, Identity).
    pub fn counted_via(&self) -> Option<&Via<'_>> {
        self.via.as_ref().filter(|via| via.sharer_id != self.customer_id)
    }

    /// Whether the event is a customer's own: everything but scans by retailers, guides, dealers and inspectors.
    pub fn is_customers_own(&self) -> bool {
        !matches!(&self.body, Body::Scan(scan) if scan.role != Role::Consumer)
    }

    /// 64-bit hash of (kind, event id): what a customer remembers of an event.
    pub fn id_hash(&self) -> u64 {
        let mut identity = Gathered::<136>::new();
        identity.bytes(&[self.kind() as u8]);
        identity.bytes(self.event_id.as_bytes());
        identity.hash()
    }

    /// 32-bit hash of the decoded fields other than the identity: tells a repeat from a conflict. Stored: never change it.
    pub fn content_hash(&self) -> u32 {
        let mut content = Gathered::<512>::new();
        content.number(self.time_ms as u64);
        gather_via(&mut content, self.via.as_ref());
        match &self.body {
            Body::Scan(scan) => {
                for text in [&scan.code, &scan.sku, &scan.batch, &scan.campaign, &scan.channel, &scan.device] {
                    content.text(text);
                }
                content.number(u64::from(scan.region));
                content.number(scan.purpose as u64);
                content.number(scan.role as u64);
            }
            Body::Purchase(purchase) => {
                for text in [&purchase.order_id, &purchase.currency, &purchase.campaign, &purchase.channel, &purchase.store] {
                    content.text(text);
                }
                content.number(purchase.kind as u64);
                content.number(purchase.amount as u64);
                content.number(u64::from(purchase.region));
                for line in &purchase.lines {
                    content.text(&line.sku);
                    content.number(u64::from(line.quantity));
                    content.number(line.amount as u64);
                }
            }
            Body::Share(share) => {
                for text in [&share.share_id, &share.campaign, &share.sku, &share.channel] {
                    content.text(text);
                }
                content.number(u64::from(share.region));
                content.number(u64::from(share.rewarded));
            }
        }
        (content.hash() >> 32) as u32
    }
}

fn gather_via<const SHORT: usize>(content: &mut Gathered<SHORT>, via: Option<&Via<'_>>) {
    match via {
        None => content.number(0),
        Some(via) => {
            content.number(1);
            content.text(&via.share_id);
            content.text(&via.sharer_id);
        }
    }
}
