//! The promise, for the engine: the rows are a function of the set of events. Order, repeats, batches, crashes and forgetting
//! change nothing.

mod oracle;
mod row_reader;

use std::collections::BTreeMap;

use onecode::engine::{Applied, Engine, ForgetRule, Live, Mechanisms, Settings, StateRow};
use onecode::model::{
    Body, Calendar, Event, Purchase, PurchaseKind, Reason, Role, Scan, ScanPurpose, Share, Stage, TimeZone, Version, Via,
};
use onecode::rows::ServingRows;
use oracle::{Tables, World, without_zeros};
use proptest::prelude::*;
use row_reader::Served;
use xxhash_rust::xxh3::xxh3_64;

const MS_PER_HOUR: i64 = 3_600_000;
const MS_PER_DAY: i64 = 24 * MS_PER_HOUR;
/// 2026-01-10 00:00 UTC.
const BASE_MS: i64 = 20_463 * MS_PER_DAY;
const TASK: &str = "3";

fn offset_minutes(brand: &str) -> i64 {
    if brand == "bolt" { -210 } else { 480 }
}

const WORLD: World = World { task: |_| TASK.to_owned(), offset_minutes, levels: LEVELS as usize };
const LEVELS: u8 = 3;

fn settings(forget: ForgetRule) -> Settings {
    let zone = |text: &str| text.parse::<TimeZone>().expect("a zone");
    let calendar = Calendar::new(zone("+08:00"), BTreeMap::from([("bolt".to_owned(), zone("-03:30"))]));
    Settings { task: TASK.into(), calendar, forget, levels: LEVELS, mechanisms: Mechanisms::default() }
}

// ---- events ----

/// Instants that meet often: around midnights of both zones, within and across minutes, over several days.
fn any_time() -> impl Strategy<Value = i64> {
    let midnights = prop_oneof![Just(16 * MS_PER_HOUR), Just(3 * MS_PER_HOUR + MS_PER_HOUR / 2), Just(0)];
    (0..4_i64, midnights, prop_oneof![Just(-1_i64), Just(0), Just(1), Just(59_999), Just(60_000), 0..MS_PER_HOUR])
        .prop_map(|(day, midnight_ms, more_ms)| BASE_MS + day * MS_PER_DAY + midnight_ms + more_ms)
}

fn any_text(texts: &'static [&'static str]) -> impl Strategy<Value = &'static str> {
    prop::sample::select(texts)
}

const CUSTOMERS: &[&str] = &["a", "b", "李", "d"];
const REGIONS: &[u32] = &[0, 310_000, 310_115, 440_300];

fn any_via() -> impl Strategy<Value = Option<Via<'static>>> {
    let via = (any_text(&["s1", "s2"]), any_text(CUSTOMERS))
        .prop_map(|(share_id, sharer_id)| Via { share_id: share_id.into(), sharer_id: sharer_id.into() });
    prop::option::of(via)
}

fn any_dimensions() -> impl Strategy<Value = (&'static str, &'static str, &'static str, u32)> {
    (any_text(&["", "spring"]), any_text(&["", "cola"]), any_text(&["feed", "store"]), prop::sample::select(REGIONS))
}

fn any_body() -> impl Strategy<Value = Body<'static>> {
    let purpose = (0..6_i32).prop_map(|purpose| ScanPurpose::from_number(purpose).expect("a purpose"));
    let role = prop_oneof![8 => Just(0), 1 => 1..5_i32].prop_map(|role| Role::from_number(role).expect("a role"));
    let scan = (any_dimensions(), purpose, role).prop_map(|((campaign, sku, channel, region), purpose, role)| {
        Body::Scan(Scan {
            code: "code".into(),
            gtin: "".into(),
            serial: "".into(),
            sku: sku.into(),
            batch: "".into(),
            campaign: campaign.into(),
            region,
            channel: channel.into(),
            device: "".into(),
            purpose,
            role,
        })
    });
    let kind = prop_oneof![3 => Just(PurchaseKind::Payment), 1 => Just(PurchaseKind::Refund)];
    let amount = prop_oneof![1..1_000_i64, Just(10_000_000_000_000)];
    let purchase = (any_dimensions(), kind, amount).prop_map(|((campaign, _, channel, region), kind, amount)| {
        Body::Purchase(Purchase {
            order_id: "order".into(),
            kind,
            amount,
            currency: "CNY".into(),
            lines: Vec::new(),
            campaign: campaign.into(),
            region,
            channel: channel.into(),
            store: "".into(),
        })
    });
    let share =
        (any_dimensions(), any_text(&["s1", "s2"]), any::<bool>()).prop_map(|((campaign, sku, channel, region), share_id, rewarded)| {
            Body::Share(Share {
                share_id: share_id.into(),
                campaign: campaign.into(),
                sku: sku.into(),
                region,
                channel: channel.into(),
                rewarded,
            })
        });
    prop_oneof![3 => scan, 2 => purchase, 1 => share]
}

fn any_event(ids: u32) -> impl Strategy<Value = Event<'static>> {
    (0..ids, any_text(&["acme", "bolt"]), any_text(CUSTOMERS), any_time(), any_via(), any_body()).prop_map(
        |(id, brand, customer_id, time_ms, via, body)| Event {
            event_id: format!("e{id}").into(),
            brand: brand.into(),
            customer_id: customer_id.into(),
            time_ms,
            via,
            body,
        },
    )
}

/// Events of which no two share an identity: conflicts are left out of the promise.
fn any_events(most: usize) -> impl Strategy<Value = Vec<Event<'static>>> {
    prop::collection::vec(any_event(60), 1..most).prop_map(|events| {
        let identity = |event: &Event<'static>| (event.brand.clone(), event.customer_id.clone(), event.kind(), event.event_id.clone());
        let by_identity: BTreeMap<_, _> = events.into_iter().map(|event| (identity(&event), event)).collect();
        by_identity.into_values().collect()
    })
}

/// An arrival order with repeats: positions in the list of events, every one at least once.
fn any_arrival(events: usize) -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0..events, 0..events).prop_map(move |repeats| (0..events).chain(repeats).collect::<Vec<_>>()).prop_shuffle()
}

fn any_events_and_arrivals(most: usize) -> impl Strategy<Value = (Vec<Event<'static>>, Vec<usize>, Vec<usize>)> {
    any_events(most).prop_flat_map(|events| {
        let arrivals = any_arrival(events.len());
        let other_arrivals = any_arrival(events.len());
        (Just(events), arrivals, other_arrivals)
    })
}

// ---- a task around the engine ----

/// What outlives a crash: the served tables, the checkpoint, and a generation.
struct Task {
    engine: Engine,
    forget: ForgetRule,
    served: Served,
    stored: BTreeMap<(u8, Vec<u8>), Vec<u8>>,
    stored_horizon_ms: i64,
    /// What the task says to itself, and how much of it was read: now, and at the checkpoint.
    exchange: Vec<(Version, Vec<u8>)>,
    read: usize,
    stored_read: usize,
    generation: u64,
    sequence: u64,
}

impl Task {
    fn new(forget: ForgetRule) -> Self {
        Task {
            engine: Engine::new(settings(forget)),
            forget,
            served: Served::default(),
            stored: BTreeMap::new(),
            stored_horizon_ms: 0,
            exchange: Vec::new(),
            read: 0,
            stored_read: 0,
            generation: 1,
            sequence: 0,
        }
    }

    fn apply(&mut self, event: &Event<'static>) -> Option<Applied> {
        event.is_customers_own().then(|| self.engine.apply(event))
    }

    fn serve(&mut self) {
        self.sequence += 1;
        let mut rows = ServingRows::default();
        let dirty = self.engine.dirty_rows();
        self.engine.drain_rows(Version::new(self.generation, self.sequence), &mut rows);
        assert_eq!((rows.rows(), self.engine.dirty_rows()), (dirty, 0), "every dirty key is one row");
        self.served.insert(&rows);
        let version = Version::new(self.generation, self.sequence);
        self.engine.drain_contributions(|_, contribution| self.exchange.push((version, contribution.to_vec())));
    }

    /// Serves and listens until nothing is left to be said.
    fn settle(&mut self) {
        self.serve();
        while let Some((version, contribution)) = self.exchange.get(self.read) {
            self.read += 1;
            self.engine.receive(*version, contribution).expect("a contribution");
            if self.read == self.exchange.len() {
                self.serve();
            }
        }
    }

    fn checkpoint(&mut self) {
        self.serve();
        let mut rows = Vec::new();
        self.engine.cut(&mut rows);
        assert_eq!(self.engine.dirty_state(), 0);
        let keys: std::collections::BTreeSet<_> = rows.iter().map(|row| (row.kind, &row.key)).collect();
        assert_eq!(keys.len(), rows.len(), "each key at most once");
        for StateRow { kind, key, payload, deleted } in rows {
            if deleted {
                assert!(self.stored.remove(&(kind, key)).is_some(), "only stored rows are deleted");
            } else {
                self.stored.insert((kind, key), payload);
            }
        }
        self.stored_horizon_ms = self.engine.horizon_ms();
        self.stored_read = self.read;
        assert_eq!(self.engine.live(), live_of(&self.stored));
        assert_eq!(self.engine.keys().total() as u64, self.engine.live().count);
    }

    /// A state made from the checkpoint alone.
    fn restored(&self) -> Engine {
        let mut engine = Engine::new(settings(self.forget));
        for ((kind, key), payload) in self.stored.iter().rev() {
            engine.restore(*kind, key, payload).expect("a restorable row");
        }
        engine.raise_horizon(self.stored_horizon_ms);
        assert_eq!(engine.live(), live_of(&self.stored));
        assert_eq!((engine.dirty_rows(), engine.dirty_state(), engine.dirty_contributions()), (0, 0, 0));
        engine
    }

    fn tables(&self) -> Tables {
        without_zeros(self.served.tables())
    }

    fn crash(&mut self) {
        self.engine = self.restored();
        self.read = self.stored_read;
        self.generation += 1;
        self.sequence = 0;
    }
}

fn live_of(stored: &BTreeMap<(u8, Vec<u8>), Vec<u8>>) -> Live {
    let hash = |((kind, key), payload): (&(u8, Vec<u8>), &Vec<u8>)| xxh3_64(&[&[*kind], key.as_slice(), payload].concat());
    Live { count: stored.len() as u64, hash: stored.iter().map(hash).fold(0, |all, one| all ^ one) }
}

/// All rows of a state.
fn all_rows(mut engine: Engine) -> Tables {
    engine.mark_everything_for_serving();
    let mut rows = ServingRows::default();
    engine.drain_rows(Version::new(1_000, 1), &mut rows);
    let mut served = Served::default();
    served.insert(&rows);
    without_zeros(served.tables())
}

// ---- the properties ----

/// What happens between two events.
#[derive(Clone, Copy, Debug)]
enum Between {
    Nothing,
    Serve,
    Checkpoint,
    /// The engine is lost and restored; what was applied since the checkpoint comes again, in the same order or another.
    Crash {
        reversed: bool,
    },
}

fn any_between() -> impl Strategy<Value = Between> {
    prop_oneof![
        6 => Just(Between::Nothing),
        2 => Just(Between::Serve),
        2 => Just(Between::Checkpoint),
        1 => any::<bool>().prop_map(|reversed| Between::Crash { reversed }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_are_a_function_of_the_set_of_events((events, arrival, other_arrival) in any_events_and_arrivals(60)) {
        let expected = WORLD.tables(&events);
        for order in [arrival, other_arrival] {
            let mut task = Task::new(ForgetRule::default());
            for index in order {
                task.apply(&events[index]);
            }
            task.settle();
            prop_assert_eq!(task.tables(), expected.clone());
        }
    }

    #[test]
    fn batches_checkpoints_and_crashes_change_nothing(
        (events, arrival, _) in any_events_and_arrivals(40),
        between in prop::collection::vec(any_between(), 1..40),
    ) {
        let mut task = Task::new(ForgetRule::default());
        let mut since_checkpoint = Vec::new();
        for (index, what) in arrival.into_iter().zip(between.into_iter().cycle()) {
            task.apply(&events[index]);
            since_checkpoint.push(index);
            match what {
                Between::Nothing => {}
                Between::Serve => task.serve(),
                Between::Checkpoint => {
                    task.settle();
                    task.checkpoint();
                    since_checkpoint.clear();
                    prop_assert_eq!(all_rows(task.restored()), task.tables(), "restoring is the identity");
                }
                Between::Crash { reversed } => {
                    task.crash();
                    if reversed {
                        since_checkpoint.reverse();
                    }
                    for again in &since_checkpoint {
                        task.apply(&events[*again]);
                    }
                }
            }
        }
        task.settle();
        prop_assert_eq!(task.tables(), WORLD.tables(&events));
        task.checkpoint();
        prop_assert_eq!(all_rows(task.restored()), WORLD.tables(&events));
    }

    #[test]
    fn forgetting_changes_nothing_for_events_that_are_accepted(
        (events, arrival, _) in any_events_and_arrivals(60),
        steps in prop::collection::vec((0..8 * MS_PER_HOUR, 0..20_usize, any_between()), 1..60),
        slack_days in 0..3_i64,
    ) {
        let mut task = Task::new(ForgetRule { slack_ms: slack_days * MS_PER_DAY, pass_step_ms: 1 });
        let mut accepted = Vec::new();
        let mut horizon_ms = BASE_MS - MS_PER_DAY;
        for (index, (rise_ms, most_keys, what)) in arrival.into_iter().zip(steps.into_iter().cycle()) {
            let event = &events[index];
            match task.apply(event) {
                None | Some(Applied::Duplicate) => {}
                Some(Applied::Applied) => {
                    prop_assert!(event.time_ms >= horizon_ms, "too old to be recognised as a repeat");
                    prop_assert!(!accepted.contains(event), "counted twice");
                    accepted.push(event.clone());
                }
                Some(Applied::Rejected(reject)) => {
                    prop_assert_eq!((reject.reason, reject.stage), (Reason::TooOld, Stage::Apply));
                    prop_assert!(event.time_ms < horizon_ms);
                }
            }
            match what {
                Between::Nothing => {}
                Between::Serve => task.serve(),
                Between::Checkpoint => task.checkpoint(),
                Between::Crash { .. } => {
                    task.checkpoint();
                    task.crash();
                }
            }
            if most_keys % 3 == 0 {
                task.settle();
                task.engine.raise_reach(horizon_ms);
            }
            horizon_ms += rise_ms;
            task.engine.raise_horizon(horizon_ms);
            prop_assert!(task.engine.sweep(most_keys) <= most_keys);
        }
        task.settle();
        prop_assert_eq!(task.tables(), WORLD.tables(&accepted));
    }
}

// ---- examples ----

fn scan_at(customer_id: &'static str, event_id: String, time_ms: i64) -> Event<'static> {
    let scan = Scan {
        code: "code".into(),
        gtin: "".into(),
        serial: "".into(),
        sku: "cola".into(),
        batch: "".into(),
        campaign: "spring".into(),
        region: 310_115,
        channel: "feed".into(),
        device: "".into(),
        purpose: ScanPurpose::Verify,
        role: Role::Consumer,
    };
    Event { event_id: event_id.into(), brand: "acme".into(), customer_id: customer_id.into(), time_ms, via: None, body: Body::Scan(scan) }
}

#[test]
fn a_busy_customer_writes_its_newest_ids_only_and_forgets_in_chunks() {
    let mut task = Task::new(ForgetRule { slack_ms: 0, pass_step_ms: 1 });
    let events: Vec<_> = (0..2_000_i64).map(|number| scan_at("hot", format!("e{number}"), BASE_MS + number * 600_000)).collect();
    for (number, event) in events.iter().enumerate() {
        assert_eq!(task.apply(event), Some(Applied::Applied));
        assert_eq!(task.apply(&events[number / 2]), Some(Applied::Duplicate));
        if number % 100 == 99 {
            let mut rows = Vec::new();
            task.serve();
            let before = task.stored.clone();
            task.checkpoint();
            rows.extend(task.stored.iter().filter(|(key, payload)| before.get(*key) != Some(*payload)).map(|((kind, _), _)| *kind));
            assert!(
                rows.iter().filter(|kind| **kind == 2).count() <= 3,
                "the chunks of a hundred ids: one gone on with, one filled, one begun"
            );
        }
    }
    assert_eq!(task.tables(), WORLD.tables(&events));
    task.crash();
    assert!(events.iter().all(|event| task.apply(event) == Some(Applied::Duplicate)));
    assert_eq!(task.engine.dirty_rows() + task.engine.dirty_state(), 0, "a repeat has no other effect");

    let chunks = |task: &Task| task.stored.keys().filter(|(kind, _)| *kind == 2).count();
    let one_more = scan_at("hot", "one more".to_owned(), events[1_999].time_ms);
    task.apply(&one_more);
    task.checkpoint();
    assert_eq!(chunks(&task), 32, "a restored customer goes on with the chunk it had begun");
    task.engine.raise_horizon(events[1_104].time_ms);
    task.engine.raise_reach(events[1_104].time_ms);
    while task.engine.sweep(3) == 3 {}
    task.checkpoint();
    assert_eq!(chunks(&task), 15, "seventeen chunks are wholly older than the horizon");
    assert!(matches!(task.apply(&events[1_103]), Some(Applied::Rejected(_))));
    assert!(events[1_104..].iter().all(|event| task.apply(event) == Some(Applied::Duplicate)));

    task.engine.raise_horizon(events[1_999].time_ms + 10 * MS_PER_DAY);
    task.engine.raise_reach(events[1_999].time_ms + 10 * MS_PER_DAY);
    while task.engine.sweep(100) == 100 {}
    task.checkpoint();
    let kinds: Vec<u8> = task.stored.keys().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [1], "the customer alone is kept for ever");
    let late = scan_at("hot", "new".to_owned(), events[1_999].time_ms + 20 * MS_PER_DAY);
    assert_eq!(task.apply(&late), Some(Applied::Applied));
    task.serve();
    assert_eq!(task.tables(), WORLD.tables(&[events, vec![one_more, late]].concat()));
}

#[test]
fn a_conflict_is_refused_and_leaves_no_trace() {
    let mut task = Task::new(ForgetRule::default());
    assert_eq!(task.apply(&scan_at("a", "e".to_owned(), BASE_MS)), Some(Applied::Applied));
    task.checkpoint();
    let Some(Applied::Rejected(reject)) = task.apply(&scan_at("a", "e".to_owned(), BASE_MS + 1)) else { panic!("not refused") };
    assert_eq!((reject.reason, reject.stage), (Reason::Conflict, Stage::Apply));
    assert_eq!(task.engine.dirty_rows() + task.engine.dirty_state(), 0);
    assert_eq!(task.apply(&scan_at("b", "e".to_owned(), BASE_MS + 1)), Some(Applied::Applied), "another customer's event");
}

/// An earlier first event is itself newer than the horizon, so the cell that it takes the new customer from is too, slack or not.
#[test]
fn a_first_event_moves_between_cells_at_the_very_edge_of_the_horizon() {
    for slack_ms in [0, 2 * MS_PER_DAY] {
        let horizon_ms = BASE_MS + 16 * MS_PER_HOUR - 1;
        let mut task = Task::new(ForgetRule { slack_ms, pass_step_ms: 1 });
        let older = scan_at("other", "e0".to_owned(), horizon_ms - 3 * MS_PER_DAY);
        let later = scan_at("a", "e1".to_owned(), horizon_ms + 1);
        let earlier = scan_at("a", "e2".to_owned(), horizon_ms);
        task.apply(&older);
        task.apply(&later);
        task.checkpoint();
        let keys_before = task.engine.keys().total();
        task.engine.raise_horizon(horizon_ms);
        task.engine.raise_reach(horizon_ms);
        while task.engine.sweep(10) == 10 {}
        task.checkpoint();
        assert_eq!(task.engine.keys().total(), keys_before - 3, "the cells of the older day are gone");
        assert_eq!(task.apply(&earlier), Some(Applied::Applied));
        task.serve();
        assert_eq!(task.tables(), WORLD.tables(&[older, later, earlier]));
    }
}

#[test]
fn damaged_checkpoints_are_refused_with_the_key() {
    let mut task = Task::new(ForgetRule::default());
    task.apply(&scan_at("a", "e".to_owned(), BASE_MS));
    task.checkpoint();
    for ((kind, key), payload) in &task.stored {
        let mut engine = Engine::new(settings(task.forget));
        assert!(engine.restore(*kind, &key[1..], payload).is_err(), "kind {kind}");
        assert!(engine.restore(*kind, &[key.as_slice(), &[0]].concat(), payload).is_err(), "kind {kind}");
        let error = Engine::new(settings(task.forget)).restore(*kind, key, &[0xff; 3]).expect_err("no protobuf");
        assert!(error.to_string().contains("61636d65"), "{error} names the key");
        let mut twice = Engine::new(settings(task.forget));
        twice.restore(*kind, key, payload).expect("a row");
        assert!(twice.restore(*kind, key, payload).is_err());
        assert!(twice.restore(77, key, payload).is_err());
    }
}
