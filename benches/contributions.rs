//! Internal messages an input event costs: the generator's default mix, and the worst that chains, rings and stars can do.
//! `cargo bench --bench contributions [-- RECORDS]`; prints a table. Pure: engines in one process, no servers.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use onecode::decode::{Format, RawRecord, Rules, decode};
use onecode::engine::{Engine, ForgetRule, Mechanisms, Settings};
use onecode::generate::{Generator, Options};
use onecode::model::{Body, Calendar, Event, Purchase, PurchaseKind, Share, TimeZone, Version, Via, owner};
use onecode::rows::ServingRows;

const TASKS: u32 = 6;
const LEVELS: u8 = 16;
/// Of a piece, as `onecode run` has it.
const SWEEP_KEYS: usize = 2_000;

/// Tasks that serve together every so many events, and read what the others say before they go on.
struct Pipeline {
    engines: Vec<Engine>,
    exchange: Vec<Vec<(Version, Vec<u8>)>>,
    sequence: u64,
    events: u64,
    contributions: u64,
    records: u64,
    rows: u64,
    rounds: u64,
    /// Of a call that applies one event, takes one contribution, or drains a task.
    longest_one: Duration,
    longest_drain: Duration,
}

/// Runs something, and notes how long it took if that is the longest yet.
fn timed<T>(longest: &mut Duration, work: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = work();
    *longest = (*longest).max(began.elapsed());
    result
}

impl Pipeline {
    fn new() -> Self {
        let engine = |task: u32| {
            let calendar = Calendar::new(TimeZone::UTC, BTreeMap::new());
            Engine::new(Settings {
                task: task.to_string().into(),
                calendar,
                forget: ForgetRule::default(),
                levels: LEVELS,
                mechanisms: Mechanisms::default(),
            })
        };
        Pipeline {
            engines: (0..TASKS).map(engine).collect(),
            exchange: vec![Vec::new(); TASKS as usize],
            sequence: 0,
            events: 0,
            contributions: 0,
            records: 0,
            rows: 0,
            rounds: 0,
            longest_one: Duration::ZERO,
            longest_drain: Duration::ZERO,
        }
    }

    fn apply(&mut self, event: &Event<'_>) {
        let task = owner(&event.customer_id, TASKS) as usize;
        if let Some(engine) = self.engines.get_mut(task).filter(|_| event.is_customers_own()) {
            self.events += 1;
            timed(&mut self.longest_one, || engine.apply(event));
        }
    }

    /// One serving of all tasks: rows and contributions leave, and what the others said last time is read.
    fn serve(&mut self) -> bool {
        let said = std::mem::replace(&mut self.exchange, vec![Vec::new(); TASKS as usize]);
        let mut moved = false;
        for (engine, inbox) in self.engines.iter_mut().zip(&said) {
            for (version, contribution) in inbox {
                timed(&mut self.longest_one, || engine.receive(*version, contribution)).expect("a contribution");
            }
        }
        for engine in &mut self.engines {
            self.sequence += 1;
            let version = Version::new(1, self.sequence);
            let mut rows = ServingRows::default();
            timed(&mut self.longest_drain, || engine.drain_rows(version, &mut rows));
            self.rows += rows.rows() as u64;
            let mut destinations = std::collections::BTreeSet::new();
            engine.drain_contributions(|customer_id, contribution| {
                let destination = owner(customer_id, TASKS) as usize;
                destinations.insert(destination);
                self.contributions += 1;
                self.exchange[destination].push((version, contribution.to_vec()));
            });
            self.records += destinations.len() as u64;
            moved |= !destinations.is_empty();
        }
        self.rounds += u64::from(moved);
        moved
    }

    fn settle(&mut self) {
        while self.serve() {}
    }

    fn print(&self, what: &str) {
        let per_event = |count: u64| count as f64 / self.events.max(1) as f64;
        let bytes: usize = self.engines.iter().map(Engine::state_bytes).sum();
        println!(
            "{what:<46} {:>9} {:>9.3} {:>9.3} {:>8.2} {:>7} {:>9.1} {:>8.2} {:>8.2}",
            self.events,
            per_event(self.contributions),
            per_event(self.records),
            per_event(self.rows),
            self.rounds,
            bytes as f64 / self.events.max(1) as f64,
            self.longest_one.as_secs_f64() * 1_000.0,
            self.longest_drain.as_secs_f64() * 1_000.0,
        );
    }

    /// What a customer takes: alone, with everything, and in rows of state.
    fn print_customers(&self) {
        let mut rows = BTreeMap::new();
        for engine in &self.engines {
            for (kind, keys) in engine.keys().iter() {
                rows.entry(kind as u8).or_insert((kind.name(), 0)).1 += keys;
            }
        }
        let customers = rows.get(&1).map_or(0, |(_, keys)| *keys).max(1) as f64;
        let alone: usize = self.engines.iter().map(Engine::customer_bytes).sum();
        let all: usize = self.engines.iter().map(Engine::state_bytes).sum();
        println!(
            "default mix, {} events of {customers} customers: a customer alone takes {:.0} bytes, with its cells, pairs and shares {:.0}; rows of state:",
            self.events,
            alone as f64 / customers,
            all as f64 / customers
        );
        for (name, keys) in rows.values() {
            println!("    {name:<20} {:.2} a customer", *keys as f64 / customers);
        }
    }
}

fn purchase(customer: &str, id: u64, via: Option<(&str, &str)>) -> Event<'static> {
    Event {
        event_id: format!("e{id}").into(),
        brand: "acme".into(),
        customer_id: customer.to_owned().into(),
        time_ms: 1_785_538_800_000 + id as i64,
        via: via.map(|(share, sharer)| Via { share_id: share.to_owned().into(), sharer_id: sharer.to_owned().into() }),
        body: Body::Purchase(Purchase {
            order_id: "order".into(),
            kind: PurchaseKind::Payment,
            amount: 100,
            currency: "CNY".into(),
            lines: Vec::new(),
            campaign: "".into(),
            region: 0,
            channel: "".into(),
            store: "".into(),
        }),
    }
}

/// The generator's mix; a serving every `per_serving` records.
fn default_mix(records: u64, per_serving: u64) -> Pipeline {
    let options = Options { count: records, customers: (records / 5).max(1) as u32, ..Options::default() };
    let rules = Rules::default();
    let mut pipeline = Pipeline::new();
    for (number, record) in (1_u64..).zip(Generator::new(options).expect("options")) {
        let raw = RawRecord { value: record.value.as_deref(), content_type: None, timestamp_ms: record.due_ms };
        if let Ok(event) = decode(record.kind, Format::Protobuf, raw, &rules) {
            pipeline.apply(&event);
        }
        if number % per_serving == 0 {
            pipeline.serve();
        }
    }
    pipeline.settle();
    pipeline
}

/// Everybody is brought by the one before; each arrives when all is quiet, or all at once.
fn chain(length: u64, one_by_one: bool) -> Pipeline {
    let mut pipeline = Pipeline::new();
    for depth in 1..=length {
        let before = format!("c{}", depth - 1);
        pipeline.apply(&purchase(&format!("c{depth}"), depth, Some(("s", &before))));
        if one_by_one {
            pipeline.settle();
        }
    }
    pipeline.settle();
    pipeline
}

/// Everybody names the next one in a ring, again and again.
fn ring(size: u64, events: u64) -> Pipeline {
    let mut pipeline = Pipeline::new();
    for id in (1..=events).rev() {
        let next = format!("r{}", (id + 1) % size);
        pipeline.apply(&purchase(&format!("r{}", id % size), id, Some(("s", &next))));
        pipeline.settle();
    }
    pipeline
}

/// Everybody comes through one share.
fn star(children: u64, per_serving: u64) -> Pipeline {
    let mut pipeline = Pipeline::new();
    for id in 1..=children {
        pipeline.apply(&purchase(&format!("n{id}"), id, Some(("s", "star"))));
        if id % per_serving == 0 {
            pipeline.serve();
        }
    }
    pipeline.settle();
    pipeline
}

/// Children name a share as their parent; its own event comes last.
fn late_share(children: u64) -> Pipeline {
    let mut pipeline = Pipeline::new();
    let share = |customer: &str, id: u64, via| Event {
        body: Body::Share(Share {
            share_id: format!("s-{customer}").into(),
            campaign: "".into(),
            sku: "".into(),
            region: 0,
            channel: "".into(),
            rewarded: false,
        }),
        ..purchase(customer, id, via)
    };
    for id in 1..=children {
        pipeline.apply(&share(&format!("n{id}"), id, Some(("s-star", "star"))));
        if id % 10_000 == 0 {
            pipeline.serve();
        }
    }
    pipeline.settle();
    pipeline.apply(&share("star", 0, None));
    pipeline.settle();
    pipeline
}

/// A task whose horizon rises beyond everything that it knows.
fn longest_piece_of_forgetting(records: u64) -> (usize, Duration) {
    let mut pipeline = default_mix(records, 10_000);
    let mut longest = Duration::ZERO;
    let mut keys = 0;
    for engine in &mut pipeline.engines {
        keys += engine.keys().total();
        engine.raise_horizon(i64::MAX / 2);
        engine.raise_reach(i64::MAX / 2);
        while timed(&mut longest, || engine.sweep(SWEEP_KEYS)) == SWEEP_KEYS {}
    }
    (keys, longest)
}

fn main() {
    let records: u64 = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(200_000);
    println!("{TASKS} tasks, {LEVELS} levels; an event costs at most {LEVELS} messages up its chain, and two for the share it names");
    println!(
        "{:<46} {:>9} {:>9} {:>9} {:>8} {:>7} {:>9} {:>8} {:>8}",
        "", "events", "contr./ev", "recs/ev", "rows/ev", "rounds", "bytes/ev", "one, ms", "drain,ms"
    );
    let [.., mixed] = [100, 1_000, 10_000].map(|per_serving| {
        let mix = default_mix(records, per_serving);
        mix.print(&format!("default mix, {per_serving} records a serving"));
        mix
    });
    chain(10_000, true).print("chain of 10,000, one by one");
    chain(10_000, false).print("chain of 10,000, all at once");
    for size in [2, 8, 100] {
        ring(size, 1_000).print(&format!("forged ring of {size}, ever earlier events"));
    }
    star(records, 1_000).print("star, 1,000 arrivals a serving");
    star(5 * records, 10_000).print("star, 10,000 arrivals a serving");
    late_share(records).print("share that comes after all its children");
    mixed.print_customers();
    let (keys, longest) = longest_piece_of_forgetting(records);
    println!("the longest of the pieces that forget {keys} keys, {SWEEP_KEYS} at a time: {:.2} ms", longest.as_secs_f64() * 1_000.0);
}
