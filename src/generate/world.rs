//! One brand's synthetic customers: who comes, who comes back, who brings whom, and what they do.
//!
//! The shape is that of real campaigns: most customers are seen once, few come back often; most newcomers are brought by
//! somebody's share; one sharer in a hundred brings most of them; and one share goes viral, into a tree far deeper than the
//! levels that are counted, with more than a tenth of all customers in it.
//!
//! Nobody comes by a share before it was made, and no event but a late one is older than its customer's first, however much
//! delays differ: else the trees of a busy hour would be cut to pieces near their roots.

use std::collections::VecDeque;

use super::catalogue::{self, CAMPAIGNS, CHANNELS, COUNTERFEIT_CODES, REGIONS, SHARE_CHANNELS};
use super::dice::{Dice, mixed};
use super::message::Message;
use crate::model::EventKind;
use crate::pb;

const ONE_TOUCH_PER_MILLION: u32 = 700_000;
const INFLUENCERS_PER_MILLION: u32 = 10_000;
const HUNTERS_PER_MILLION: u32 = 2_000;
const MOST_NEWCOMERS_PER_MILLION: u64 = 300_000;
/// Of the referred newcomers: those of the viral tree, and of the others those brought by influencers.
const VIRAL_PER_MILLION: u32 = 300_000;
const BY_INFLUENCERS_PER_MILLION: u32 = 850_000;
const STAFF_PER_MILLION: u32 = 35_000;
const COUNTERFEIT_PER_MILLION: u32 = 4_000;
const HUNTERS_BURST: usize = 12;
const BURST_STEP_MS: i64 = 20_000;
/// How much earlier than asked for an event may be.
pub(super) const MOST_SPREAD_MS: i64 = HUNTERS_BURST as i64 * BURST_STEP_MS;

/// What tells customers apart for as long as they live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Persona {
    OneTouch,
    Ordinary,
    Influencer,
    /// Draws in bursts, from everywhere, on shared devices, and never buys.
    Hunter,
}

#[derive(Clone, Debug)]
struct Customer {
    persona: Persona,
    /// Who brought them, and by which of their shares.
    parent: Option<(u32, u32)>,
    is_viral: bool,
    shares: u32,
    orders: u32,
    refunds: u32,
    /// When they came; then, when they last shared.
    known_ms: i64,
}

/// What is to happen next, before chance is asked again.
#[derive(Clone, Copy, Debug)]
enum Plan {
    Arrival { sharer: u32 },
    Draw { hunter: u32, delay_ms: i64 },
}

/// How a world is set up.
pub(super) struct Setup {
    pub brand: String,
    pub seed: u64,
    /// At most this many customers.
    pub customers: u32,
    pub codes: u64,
    /// How many events are going to be asked for.
    pub events: u64,
    pub referred_per_million: u32,
}

/// One brand.
pub(super) struct World {
    setup: Setup,
    salt: u64,
    newcomers_per_million: u32,
    customers: Vec<Customer>,
    /// Customers who come back, in the order of their arrival.
    returning: Vec<u32>,
    influencers: Vec<u32>,
    viral: Vec<u32>,
    plans: VecDeque<Plan>,
    made: [u64; 3],
    /// What the event under way must not be older than.
    not_before_ms: i64,
    /// Who comes or shares by the event under way.
    moved: Option<u32>,
}

impl World {
    pub fn new(setup: Setup) -> Self {
        let salt = setup.brand.bytes().fold(mixed(setup.seed), |salt, byte| mixed(salt ^ u64::from(byte)));
        // A tenth more often than needed, so that everybody has come before the end.
        let wanted = u64::from(setup.customers) * 1_100_000 / setup.events.max(1);
        let newcomers_per_million = wanted.clamp(1, MOST_NEWCOMERS_PER_MILLION) as u32;
        World {
            setup,
            salt,
            newcomers_per_million,
            customers: Vec::new(),
            returning: Vec::new(),
            influencers: Vec::new(),
            viral: Vec::new(),
            plans: VecDeque::new(),
            made: [0; 3],
            not_before_ms: 0,
            moved: None,
        }
    }

    /// The next event, at about a time; without an event id.
    pub fn event(&mut self, dice: &mut Dice, time_ms: i64) -> Message {
        (self.not_before_ms, self.moved) = (0, None);
        let mut message = self.happening(dice);
        let offset_ms = message.common().time_ms;
        *offset_ms = self.not_before_ms.saturating_sub(time_ms).max(*offset_ms);
        self.at(message, time_ms)
    }

    /// An event that happened long before those around it.
    pub fn late_event(&mut self, dice: &mut Dice, time_ms: i64) -> Message {
        (self.not_before_ms, self.moved) = (0, None);
        let message = self.late_happening(dice);
        self.at(message, time_ms)
    }

    fn at(&mut self, mut message: Message, time_ms: i64) -> Message {
        self.made[message.kind() as usize] += 1;
        let common = message.common();
        common.brand.clone_from(&self.setup.brand);
        *common.time_ms += time_ms;
        let time_ms = *common.time_ms;
        if let Some(customer) = self.moved {
            self.customers[customer as usize].known_ms = time_ms;
        }
        message
    }

    /// The event under way follows what is known of the customer.
    fn after(&mut self, customer: u32) {
        self.not_before_ms = self.not_before_ms.max(self.customers[customer as usize].known_ms + 1);
    }

    /// What happens; its time is how much later than now.
    fn happening(&mut self, dice: &mut Dice) -> Message {
        match self.plans.pop_front() {
            Some(Plan::Arrival { sharer }) => return self.arrival(dice, Some(sharer)),
            Some(Plan::Draw { hunter, delay_ms }) => return self.draw(dice, hunter, delay_ms),
            None => {}
        }
        if self.returning.is_empty() || (self.has_room() && dice.chance(self.newcomers_per_million)) {
            return self.newcomer(dice);
        }
        if dice.chance(STAFF_PER_MILLION) {
            return self.staff_scan(dice);
        }
        self.comeback(dice)
    }

    /// Mostly of somebody whom nobody brought, and never of the viral tree: a late event before the first one takes a customer's
    /// referrer away, and doing that to every busy customer would leave no tree standing.
    fn late_happening(&mut self, dice: &mut Dice) -> Message {
        if self.returning.is_empty() || (self.has_room() && dice.chance(300_000)) {
            return self.arrival(dice, None);
        }
        let mut customer = self.returning[dice.popular_below(self.returning.len() as u64) as usize];
        if dice.chance(900_000) {
            for _ in 0..16 {
                if self.customers[customer as usize].parent.is_none() {
                    break;
                }
                customer = self.returning[dice.popular_below(self.returning.len() as u64) as usize];
            }
        }
        if self.customers[customer as usize].is_viral {
            // The first customer, whom nobody brought.
            customer = 0;
        }
        if dice.chance(150_000) { self.payment(dice, customer, None) } else { self.scan(dice, customer, None) }
    }

    fn has_room(&self) -> bool {
        self.customers.len() < self.setup.customers as usize
    }

    fn newcomer(&mut self, dice: &mut Dice) -> Message {
        let sharer = if dice.chance(self.setup.referred_per_million) { self.sharer(dice) } else { None };
        let Some(sharer) = sharer else { return self.arrival(dice, None) };
        if self.customers[sharer as usize].shares > 0 {
            return self.arrival(dice, Some(sharer));
        }
        self.plans.push_back(Plan::Arrival { sharer });
        self.share(dice, sharer)
    }

    /// Somebody who may bring a newcomer.
    fn sharer(&self, dice: &mut Dice) -> Option<u32> {
        let uniform_of = |dice: &mut Dice, group: &[u32]| group.get(dice.below(group.len() as u64) as usize).copied();
        // Uniform attachment makes a tree whose height grows with the logarithm of its size.
        if dice.chance(VIRAL_PER_MILLION) {
            return uniform_of(dice, &self.viral).or_else(|| uniform_of(dice, &self.returning));
        }
        if !self.influencers.is_empty() && dice.chance(BY_INFLUENCERS_PER_MILLION) {
            return self.influencers.get(dice.popular_below(self.influencers.len() as u64) as usize).copied();
        }
        uniform_of(dice, &self.returning)
    }

    /// A customer's first event.
    fn arrival(&mut self, dice: &mut Dice, sharer: Option<u32>) -> Message {
        let number = self.customers.len() as u32;
        let parent = sharer.map(|sharer| {
            let shares = u64::from(self.customers[sharer as usize].shares);
            (sharer, shares.saturating_sub(dice.popular_below(shares)) as u32)
        });
        // The first referred customer roots the viral tree; its members pass the share on whatever else they are.
        let is_viral = sharer.is_some_and(|sharer| self.viral.is_empty() || self.customers[sharer as usize].is_viral);
        let persona = self.persona(dice);
        self.customers.push(Customer { persona, parent, is_viral, shares: 0, orders: 0, refunds: 0, known_ms: 0 });
        self.moved = Some(number);
        if is_viral {
            self.viral.push(number);
        }
        if persona != Persona::OneTouch {
            self.returning.push(number);
        }
        if persona == Persona::Influencer {
            self.influencers.push(number);
        }
        let via = self.via(parent);
        if persona != Persona::Hunter && dice.chance(150_000) { self.payment(dice, number, via) } else { self.scan(dice, number, via) }
    }

    /// The first customer comes back, so that there is always somebody who does.
    fn persona(&self, dice: &mut Dice) -> Persona {
        if self.customers.is_empty() {
            Persona::Influencer
        } else if dice.chance(ONE_TOUCH_PER_MILLION) {
            Persona::OneTouch
        } else if dice.chance(INFLUENCERS_PER_MILLION) {
            Persona::Influencer
        } else if dice.chance(HUNTERS_PER_MILLION) {
            Persona::Hunter
        } else {
            Persona::Ordinary
        }
    }

    fn comeback(&mut self, dice: &mut Dice) -> Message {
        let customer = self.returning[dice.popular_below(self.returning.len() as u64) as usize];
        if self.customers[customer as usize].persona == Persona::Hunter {
            let draws = (1..HUNTERS_BURST).map(|draw| Plan::Draw { hunter: customer, delay_ms: -(draw as i64) * BURST_STEP_MS });
            self.plans.extend(draws);
            return self.draw(dice, customer, 0);
        }
        match self.kind(dice) {
            EventKind::Share => self.share(dice, customer),
            EventKind::Purchase => self.purchase(dice, customer),
            EventKind::Scan => {
                let via = self.occasional_via(dice, customer);
                self.scan(dice, customer, via)
            }
        }
    }

    /// Steers to 75 % scans, 15 % purchases and 10 % shares, whatever the newcomers did.
    fn kind(&self, dice: &mut Dice) -> EventKind {
        let [_, purchases, shares] = self.made;
        let total: u64 = self.made.iter().sum();
        let share_chance = if shares * 100 < total * 10 { 300_000 } else { 10_000 };
        let purchase_chance = if purchases * 100 < total * 15 { 400_000 } else { 20_000 };
        if dice.chance(share_chance) {
            EventKind::Share
        } else if dice.chance(purchase_chance) {
            EventKind::Purchase
        } else {
            EventKind::Scan
        }
    }

    /// One return in six is by a share: mostly the one that first brought the customer.
    fn occasional_via(&mut self, dice: &mut Dice, customer: u32) -> Option<pb::Via> {
        if !dice.chance(160_000) {
            return None;
        }
        if dice.chance(700_000) {
            return self.via(self.customers[customer as usize].parent);
        }
        let sharer = self.returning[dice.below(self.returning.len() as u64) as usize];
        let shares = self.customers[sharer as usize].shares;
        if shares == 0 { None } else { self.via(Some((sharer, shares))) }
    }

    fn via(&mut self, share: Option<(u32, u32)>) -> Option<pb::Via> {
        let (sharer, number) = share?;
        self.after(sharer);
        Some(pb::Via { share_id: share_id(sharer, number), sharer_id: self.customer_id(sharer) })
    }

    fn customer_id(&self, number: u32) -> String {
        format!("o{:016x}", mixed(self.salt ^ u64::from(number)))
    }

    fn home(&self, customer: u32) -> u32 {
        *REGIONS[(mixed(self.salt ^ 0x686f_6d65 ^ (u64::from(customer) << 32)) % REGIONS.len() as u64) as usize]
    }

    fn region(&self, dice: &mut Dice, customer: u32) -> u32 {
        if dice.chance(950_000) {
            self.home(customer)
        } else if dice.chance(200_000) {
            0
        } else {
            *dice.one_of(REGIONS)
        }
    }

    fn scan(&mut self, dice: &mut Dice, customer: u32, via: Option<pb::Via>) -> Message {
        self.after(customer);
        let is_counterfeit = dice.chance(COUNTERFEIT_PER_MILLION);
        let number = if is_counterfeit { dice.below(COUNTERFEIT_CODES.min(self.setup.codes)) } else { dice.below(self.setup.codes) };
        let item = catalogue::item(&self.setup.brand, self.salt, number);
        let region = if is_counterfeit { *dice.one_of(REGIONS) } else { self.region(dice, customer) };
        let channel = if via.is_some() { dice.one_of(SHARE_CHANNELS) } else { dice.one_of(CHANNELS) };
        // Verify, draw, points, follow, trace, unspecified.
        let purpose = *dice.one_of(&[&1, &1, &1, &1, &1, &1, &1, &1, &2, &2, &2, &2, &2, &3, &3, &3, &4, &5, &5, &0]);
        Message::Scan(pb::Scan {
            customer_id: self.customer_id(customer),
            via,
            code: item.code,
            sku: item.sku,
            batch: item.batch,
            campaign: dice.one_of(CAMPAIGNS).to_owned(),
            region,
            channel: channel.to_owned(),
            device: format!("d{:012x}", mixed(self.salt ^ u64::from(customer)) >> 16),
            purpose,
            ..pb::Scan::default()
        })
    }

    /// One of a lottery hunter's.
    fn draw(&mut self, dice: &mut Dice, hunter: u32, delay_ms: i64) -> Message {
        self.after(hunter);
        let item = catalogue::item(&self.setup.brand, self.salt, dice.below(self.setup.codes));
        Message::Scan(pb::Scan {
            customer_id: self.customer_id(hunter),
            event_time_ms: delay_ms,
            code: item.code,
            sku: item.sku,
            batch: item.batch,
            campaign: "open-and-win".to_owned(),
            region: *dice.one_of(REGIONS),
            channel: "feed".to_owned(),
            device: format!("dfarm{}", hunter % 3),
            purpose: pb::ScanPurpose::Draw.into(),
            ..pb::Scan::default()
        })
    }

    /// By a retailer, or more rarely a guide, a dealer or an inspector.
    fn staff_scan(&mut self, dice: &mut Dice) -> Message {
        let role = *dice.one_of(&[&1, &1, &1, &1, &1, &1, &2, &3, &4]);
        let person = dice.popular_below(500);
        let item = catalogue::item(&self.setup.brand, self.salt, dice.below(self.setup.codes));
        Message::Scan(pb::Scan {
            customer_id: format!("staff{role}-{person:03}"),
            code: item.code,
            sku: item.sku,
            batch: item.batch,
            region: self.home(person as u32),
            channel: "store".to_owned(),
            device: format!("dstaff{person:03}"),
            purpose: pb::ScanPurpose::Trace.into(),
            role,
            ..pb::Scan::default()
        })
    }

    fn purchase(&mut self, dice: &mut Dice, customer: u32) -> Message {
        let has_order_to_refund = self.customers[customer as usize].refunds < self.customers[customer as usize].orders;
        if has_order_to_refund && dice.chance(80_000) {
            return self.refund(dice, customer);
        }
        let via = self.occasional_via(dice, customer);
        self.payment(dice, customer, via)
    }

    fn payment(&mut self, dice: &mut Dice, customer: u32, via: Option<pb::Via>) -> Message {
        self.after(customer);
        self.customers[customer as usize].orders += 1;
        let order = self.customers[customer as usize].orders;
        let lines: Vec<pb::OrderLine> = order_lines(self.salt, customer, order)
            .map(|(quantity, amount)| pb::OrderLine { sku: catalogue::sku(self.salt, dice), quantity, amount })
            .collect();
        Message::Purchase(pb::Purchase {
            customer_id: self.customer_id(customer),
            via,
            order_id: order_id(customer, order),
            kind: pb::PurchaseKind::Payment.into(),
            amount: lines.iter().map(|line| line.amount).sum(),
            lines,
            campaign: dice.one_of(CAMPAIGNS).to_owned(),
            region: self.region(dice, customer),
            channel: dice.one_of(CHANNELS).to_owned(),
            store: format!("store-{:03}", self.home(customer) % 400),
            ..pb::Purchase::default()
        })
    }

    /// Of the oldest order that was not refunded yet: the whole, or its first line.
    fn refund(&mut self, dice: &mut Dice, customer: u32) -> Message {
        self.after(customer);
        self.customers[customer as usize].refunds += 1;
        let order = self.customers[customer as usize].refunds;
        let taken = if dice.chance(500_000) { usize::MAX } else { 1 };
        let amount = order_lines(self.salt, customer, order).take(taken).map(|(_, amount)| amount).sum();
        Message::Purchase(pb::Purchase {
            customer_id: self.customer_id(customer),
            order_id: order_id(customer, order),
            kind: pb::PurchaseKind::Refund.into(),
            amount,
            region: self.region(dice, customer),
            channel: "service".to_owned(),
            ..pb::Purchase::default()
        })
    }

    /// A share; customers who were brought often pass on the share that brought them.
    fn share(&mut self, dice: &mut Dice, customer: u32) -> Message {
        self.after(customer);
        self.moved = Some(customer);
        let sharer = &mut self.customers[customer as usize];
        sharer.shares += 1;
        let (number, parent) = (sharer.shares, sharer.parent);
        let passes_on = dice.chance(if sharer.is_viral { 800_000 } else { 400_000 });
        Message::Share(pb::Share {
            customer_id: self.customer_id(customer),
            via: if passes_on { self.via(parent) } else { None },
            share_id: share_id(customer, number),
            campaign: dice.one_of(CAMPAIGNS).to_owned(),
            sku: if dice.chance(600_000) { catalogue::sku(self.salt, dice) } else { String::new() },
            region: self.region(dice, customer),
            channel: dice.one_of(SHARE_CHANNELS).to_owned(),
            rewarded: dice.chance(300_000),
            ..pb::Share::default()
        })
    }
}

fn share_id(sharer: u32, number: u32) -> String {
    format!("s{sharer:x}-{number}")
}

fn order_id(customer: u32, number: u32) -> String {
    format!("SO{customer:07}-{number}")
}

/// Quantities and amounts (fen) of an order's lines, without memory, so that a refund can name them again.
fn order_lines(salt: u64, customer: u32, order: u32) -> impl Iterator<Item = (u32, i64)> {
    let content = mixed(salt ^ (u64::from(customer) << 32 | u64::from(order)));
    (0..1 + content % 3).map(move |line| {
        let chance = mixed(content ^ line);
        let quantity = 1 + (chance % 4) as u32;
        let price = 590 + 100 * (chance >> 8 & 0x1ff) as i64;
        (quantity, price * i64::from(quantity))
    })
}
