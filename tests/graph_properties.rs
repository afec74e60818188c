//! Who brings whom, over several tasks: whatever the order, the repeats, the crashes and the zombies, forest, subtrees, shares and
//! cascades end as the oracle counts them from the set of events.

mod graph_world;
mod oracle;
mod row_reader;

use graph_world::{Cluster, Step};
use onecode::model::{Body, Event, Purchase, PurchaseKind, Role, Scan, ScanPurpose, Share, Via};
use onecode::rows::Table;
use oracle::{Value, World};
use proptest::prelude::*;

const MS_PER_HOUR: i64 = 3_600_000;
const MS_PER_DAY: i64 = 24 * MS_PER_HOUR;
/// 2026-01-31 00:00 UTC: the month ends during the events.
const BASE_MS: i64 = 20_484 * MS_PER_DAY;

// ---- events ----

fn via(share_id: &str, sharer_id: &str) -> Option<Via<'static>> {
    Some(Via { share_id: share_id.to_owned().into(), sharer_id: sharer_id.to_owned().into() })
}

fn event(customer_id: &str, event_id: &str, time_ms: i64, via: Option<Via<'static>>, body: Body<'static>) -> Event<'static> {
    Event { event_id: event_id.to_owned().into(), brand: "acme".into(), customer_id: customer_id.to_owned().into(), time_ms, via, body }
}

fn scan() -> Body<'static> {
    Body::Scan(Scan {
        code: "code".into(),
        gtin: "".into(),
        serial: "".into(),
        sku: "".into(),
        batch: "".into(),
        campaign: "spring".into(),
        region: 310_115,
        channel: "feed".into(),
        device: "".into(),
        purpose: ScanPurpose::Verify,
        role: Role::Consumer,
    })
}

fn purchase(kind: PurchaseKind, amount: i64) -> Body<'static> {
    Body::Purchase(Purchase {
        order_id: "order".into(),
        kind,
        amount,
        currency: "CNY".into(),
        lines: Vec::new(),
        campaign: "".into(),
        region: 0,
        channel: "store".into(),
        store: "".into(),
    })
}

fn share(share_id: &str) -> Body<'static> {
    Body::Share(Share {
        share_id: share_id.to_owned().into(),
        campaign: "spring".into(),
        sku: "cola".into(),
        region: 310_115,
        channel: "group".into(),
        rewarded: true,
    })
}

const CUSTOMERS: &[&str] = &["a", "b", "c", "d", "e", "f"];
const SHARES: &[&str] = &["s1", "s2", "s3"];

fn any_event() -> impl Strategy<Value = Event<'static>> {
    let customer = || prop::sample::select(CUSTOMERS);
    let any_via =
        prop_oneof![1 => Just(None), 3 => (prop::sample::select(SHARES), customer()).prop_map(|(share, sharer)| via(share, sharer))];
    let body = prop_oneof![
        3 => Just(scan()),
        2 => (1..1_000_i64).prop_map(|amount| purchase(PurchaseKind::Payment, amount)),
        1 => (1..1_000_i64).prop_map(|amount| purchase(PurchaseKind::Refund, amount)),
        3 => prop::sample::select(SHARES).prop_map(share),
    ];
    // Few instants, so that events meet at the very same one.
    let time = (0..3_i64, 0..8_i64).prop_map(|(day, moment)| BASE_MS + day * 8 * MS_PER_HOUR + moment);
    (0..30_u32, prop::sample::select(&["acme", "acme", "bolt"]), customer(), time, any_via, body).prop_map(
        |(id, brand, customer_id, time_ms, via, body)| Event {
            brand: brand.into(),
            ..event(customer_id, &format!("e{id}"), time_ms, via, body)
        },
    )
}

/// Events of which no two share an identity, with repeats, in any order.
fn any_arrivals(most: usize) -> impl Strategy<Value = (Vec<Event<'static>>, Vec<Event<'static>>)> {
    prop::collection::vec(any_event(), 1..most).prop_flat_map(|events| {
        let identity = |event: &Event<'static>| (event.brand.clone(), event.customer_id.clone(), event.kind(), event.event_id.clone());
        let distinct: std::collections::BTreeMap<_, _> = events.into_iter().map(|event| (identity(&event), event)).collect();
        let distinct: Vec<Event<'static>> = distinct.into_values().collect();
        let repeats = prop::collection::vec(prop::sample::select(distinct.clone()), 0..distinct.len());
        let all = distinct.clone();
        let arrivals = repeats.prop_map(move |repeats| all.iter().cloned().chain(repeats).collect::<Vec<_>>()).prop_shuffle();
        (Just(distinct), arrivals)
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let number = || any::<usize>();
    prop_oneof![
        12 => (number(), number()).prop_map(|(node, log)| Step::Event { node, log }),
        8 => (number(), 1..4_usize).prop_map(|(node, messages)| Step::Receive { node, messages }),
        5 => (number(), number()).prop_map(|(node, order)| Step::Serve { node, order }),
        2 => (number(), number(), any::<bool>()).prop_map(|(node, order, is_lost)| Step::Checkpoint { node, order, is_lost }),
        2 => (number(), any::<bool>()).prop_map(|(node, leaves_zombie)| Step::Crash { node, leaves_zombie }),
        3 => (number(), number()).prop_map(|(zombie, what)| Step::Zombie { zombie, what }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_tables_of_several_tasks_are_a_function_of_the_set_of_events(
        (events, arrivals) in any_arrivals(40),
        steps in prop::collection::vec(any_step(), 0..160),
        tasks in 1..5_u32,
        levels in 1..4_u8,
    ) {
        let mut cluster = Cluster::new(tasks, levels, &arrivals);
        for step in steps {
            cluster.step(step);
        }
        cluster.settle();
        prop_assert_eq!(cluster.tables(), cluster.world().tables(&events));
        cluster.die_at_rest();
        cluster.settle();
        prop_assert_eq!(cluster.tables(), cluster.world().tables(&events), "after all died at rest");
        prop_assert_eq!(cluster.rows_of_the_state(), cluster.world().tables(&events), "the state itself");
    }
}

// ---- examples ----

fn text(value: &str) -> Value {
    Value::Text(value.to_owned())
}

fn number(value: i128) -> Value {
    Value::Number(value)
}

/// The tables after the events arrived in this order, which must be what the oracle says.
fn settled(tasks: u32, levels: u8, arrivals: &[Event<'static>]) -> oracle::Tables {
    let mut cluster = Cluster::new(tasks, levels, arrivals);
    cluster.settle();
    let world: World = cluster.world();
    let tables = cluster.tables();
    assert_eq!(tables, world.tables(arrivals));
    tables
}

fn parent_of(tables: &oracle::Tables, child: &str) -> String {
    match &tables[&(Table::Referrals, vec![text("acme"), text(child)])][0] {
        Value::Text(parent) => parent.clone(),
        Value::Number(_) => panic!("a parent is a text"),
    }
}

fn subtree(tables: &oracle::Tables, customer: &str) -> Vec<(i128, Vec<Value>)> {
    let mut rows = Vec::new();
    for ((table, key), row) in tables {
        if let (Table::CustomerSubtrees, [_, id, Value::Number(level), _]) = (table, key.as_slice())
            && *id == text(customer)
        {
            rows.push((*level, row.clone()));
        }
    }
    rows
}

#[test]
fn a_chain_of_four_levels_delivered_in_reverse_order_is_right() {
    let mut arrivals: Vec<_> =
        (1..5_i64).map(|depth| event(&format!("c{depth}"), "e", BASE_MS + depth, via("s", &format!("c{}", depth - 1)), scan())).collect();
    arrivals.push(event("c4", "p", BASE_MS + 9, None, purchase(PurchaseKind::Payment, 700)));
    arrivals.push(event("c4", "r", BASE_MS + 10, None, purchase(PurchaseKind::Refund, 200)));
    arrivals.reverse();
    for tasks in [1, 3] {
        let tables = settled(tasks, 16, &arrivals);
        let rows = subtree(&tables, "c0");
        assert_eq!(rows.iter().map(|(level, _)| *level).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(rows[3].1, [1, 1, 700, 200].map(number), "a refund reaches every ancestor");
    }
}

#[test]
fn an_orphan_share_counts_as_soon_as_its_parent_arrives() {
    let child = event("b", "e", BASE_MS + 5, via("s1", "a"), share("s2"));
    let visit = event("c", "e", BASE_MS + 6, via("s2", "b"), scan());
    let parent = event("a", "e", BASE_MS + 1, None, share("s1"));
    let tables = settled(2, 16, &[visit, child, parent]);
    let level = |level| tables[&(Table::ShareCascades, vec![text("acme"), text("a"), text("s1"), number(level)])].clone();
    assert_eq!(level(0)[..2], [number(1), number(0)]);
    assert_eq!(level(1)[..3], [1, 1, 1].map(number), "share, visit, new customer");
}

#[test]
fn a_child_share_that_is_not_younger_than_its_parent_never_counts() {
    let parent = event("a", "m", BASE_MS + 5, None, share("s1"));
    let same_moment = event("b", "a", BASE_MS + 5, via("s1", "a"), share("s2"));
    let tables = settled(2, 16, &[parent, same_moment]);
    assert!(!tables.contains_key(&(Table::ShareCascades, vec![text("acme"), text("a"), text("s1"), number(1)])));
}

#[test]
fn of_a_hundred_new_customers_sixty_name_a_referrer_and_five_of_these_themselves() {
    let arrivals: Vec<_> = (0..100_i64)
        .map(|number| {
            let customer = format!("n{number}");
            let through = match number {
                0..5 => via("s", &customer),
                5..60 => via("s", "star"),
                _ => None,
            };
            event(&customer, "e", BASE_MS + number, through, scan())
        })
        .collect();
    let tables = settled(3, 16, &arrivals);
    let referred = tables.iter().filter(|((table, _), row)| *table == Table::Referrals && row[0] != text("")).count();
    assert_eq!(referred, 55);
    let star = &tables[&(Table::Customers, vec![text("acme"), text("star")])];
    assert_eq!((&star[0], &star[19], &star[21]), (&number(0), &number(55), &number(55)), "known by name only, brought 55, 55 visits");
    let in_cells: i128 = tables
        .iter()
        .filter(|((table, _), _)| *table == Table::ActivityDay)
        .map(|(_, row)| match row.last() {
            Some(Value::Number(referred)) => *referred,
            _ => panic!("a number"),
        })
        .sum();
    assert_eq!(in_cells, 55);
}

#[test]
fn forged_references_end_as_a_forest() {
    let mutual = [event("a", "e", BASE_MS, via("s", "b"), scan()), event("b", "e", BASE_MS, via("s", "a"), scan())];
    let tables = settled(2, 16, &mutual);
    assert_eq!((parent_of(&tables, "a"), parent_of(&tables, "b")), (String::new(), String::new()), "at one moment nobody comes first");
    let ring: Vec<_> =
        (0..5_i64).map(|at| event(&format!("r{at}"), "e", BASE_MS + at, via("s", &format!("r{}", (at + 1) % 5)), scan())).collect();
    for arrivals in [ring.clone(), ring.iter().rev().cloned().collect()] {
        let tables = settled(3, 16, &arrivals);
        let parents: Vec<String> = (0..5).map(|at| parent_of(&tables, &format!("r{at}"))).collect();
        assert_eq!(parents, ["r1", "", "", "", ""], "the others had appeared as sharers before they came");
    }
}

#[test]
fn a_late_first_event_moves_the_edge_and_all_that_hangs_on_it() {
    let arrivals = [
        event("child", "later", BASE_MS + 50, via("s", "b"), scan()),
        event("grandchild", "e", BASE_MS + 60, via("s", "child"), scan()),
        event("grandchild", "p", BASE_MS + 61, None, purchase(PurchaseKind::Payment, 900)),
        event("child", "earlier", BASE_MS + 10, via("s", "a"), scan()),
    ];
    let mut cluster = Cluster::new(3, 16, &[]);
    for (number, arrival) in arrivals.iter().enumerate() {
        cluster.deliver(arrival);
        cluster.settle();
        assert_eq!(cluster.tables(), cluster.world().tables(&arrivals[..=number]));
    }
    let tables = cluster.tables();
    assert_eq!(parent_of(&tables, "child"), "a");
    assert_eq!((subtree(&tables, "a").len(), subtree(&tables, "b").len()), (2, 0));
}

/// The touch rule: the crashed run said "yes, you brought me" because it had read the later event first; the next run reads the
/// earlier one first, and the replay of the later one must say "no".
#[test]
fn a_transient_edge_that_a_crash_made_the_sender_forget_is_taken_back() {
    let later = event("child", "later", BASE_MS + 50, via("s", "b"), scan());
    let earlier = event("child", "earlier", BASE_MS + 10, None, purchase(PurchaseKind::Payment, 5));
    let mut cluster = Cluster::new(2, 16, &[]);
    let node = cluster.owner("child");
    cluster.deliver(&later);
    cluster.step_all_of(node);
    cluster.step(Step::Crash { node, leaves_zombie: false });
    cluster.deliver_first(&earlier);
    cluster.settle();
    let tables = cluster.tables();
    assert_eq!(tables, cluster.world().tables(&[later, earlier]));
    assert_eq!(parent_of(&tables, "child"), "");
}

#[test]
fn a_chain_of_ten_thousand_is_cut_at_the_last_level() {
    let arrivals: Vec<_> = (1..=10_000_i64)
        .map(|depth| event(&format!("c{depth}"), "e", BASE_MS + depth, via("s", &format!("c{}", depth - 1)), scan()))
        .collect();
    let mut cluster = Cluster::new(4, 16, &arrivals);
    cluster.settle();
    let contributions_to_build = cluster.contributions();
    assert!(contributions_to_build <= 10_000 * (2 + 16), "{contributions_to_build}");
    let tables = cluster.tables();
    for (customer, depth) in [("c0", 16), ("c5000", 16), ("c9995", 5), ("c10000", 0)] {
        let rows = subtree(&tables, customer);
        assert_eq!(rows.iter().map(|(level, _)| *level).collect::<Vec<_>>(), (1..=depth).collect::<Vec<_>>(), "{customer}");
        assert!(rows.iter().all(|(_, row)| row[0] == number(1)));
    }
    cluster.deliver(&event("c10000", "p", BASE_MS + 20_000, None, purchase(PurchaseKind::Payment, 7)));
    cluster.settle();
    assert_eq!(cluster.contributions() - contributions_to_build, 16, "one event climbs as many levels as there are");
    let tables = cluster.tables();
    assert_eq!(subtree(&tables, "c9984")[15].1[2], number(7));
    assert_eq!(subtree(&tables, "c9983")[15].1[2], number(0));
}

/// What `src/DESIGN.md` section 5 says of the time that a change takes to the root.
#[test]
fn a_change_climbs_one_level_with_each_serving() {
    const DEPTH: i64 = 6;
    let arrivals: Vec<_> =
        (1..=DEPTH).map(|depth| event(&format!("c{depth}"), "e", BASE_MS + depth, via("s", &format!("c{}", depth - 1)), scan())).collect();
    let mut cluster = Cluster::new(4, 16, &arrivals);
    cluster.settle();
    cluster.deliver_first(&event(&format!("c{DEPTH}"), "p", BASE_MS + 100, None, purchase(PurchaseKind::Payment, 7)));
    for serving in 0..=DEPTH {
        (0..4).for_each(|node| cluster.step(Step::Receive { node, messages: 1_000 }));
        (0..4).for_each(|node| cluster.step(Step::Serve { node, order: 0 }));
        let tables = cluster.tables();
        for above in 1..=DEPTH {
            let has_it = subtree(&tables, &format!("c{}", DEPTH - above)).iter().any(|(_, row)| row[2] == number(7));
            assert_eq!(has_it, above <= serving, "{above} levels above the leaf, after {serving} more servings");
        }
    }
}

/// Quadratic work would not end: every visit of the star changes the same customer, share and layers.
#[test]
fn a_star_of_many_children_costs_each_child_the_same() {
    const CHILDREN: i64 = 200_000;
    let arrivals: Vec<_> =
        (0..CHILDREN).map(|child| event(&format!("n{child}"), "e", BASE_MS + 1 + child, via("s", "star"), scan())).collect();
    let mut cluster = Cluster::new(2, 16, &arrivals);
    cluster.settle();
    let tables = cluster.tables();
    let star = &tables[&(Table::Customers, vec![text("acme"), text("star")])];
    assert_eq!((&star[19], &star[20], &star[21], &star[22]), (&number(200_000), &number(200_000), &number(200_000), &number(200_000)));
    let row = &tables[&(Table::Shares, vec![text("acme"), text("star"), text("s")])];
    assert_eq!(row[8..11], [200_000, 200_000, 200_000].map(number));
    cluster.die_at_rest();
    cluster.deliver(&event("n7", "p", BASE_MS + 9, None, purchase(PurchaseKind::Payment, 7)));
    cluster.settle();
    let paid: Vec<Value> = subtree(&cluster.tables(), "star").iter().map(|(_, row)| row[2].clone()).collect();
    assert_eq!(paid, [number(7)]);
}

#[test]
fn a_block_that_comes_when_the_cell_is_about_to_leave_still_corrects_it() {
    let slow = event("slow", "e", BASE_MS + 5, via("s", "fast"), scan());
    let fast = event("fast", "e", BASE_MS + 5, via("s", "other"), scan());
    let mut cluster = Cluster::new(2, 16, &[]);
    let (fast_node, slow_node) = (cluster.owner("fast"), cluster.owner("slow"));
    assert_ne!(fast_node, slow_node, "the example needs two tasks");
    cluster.deliver(&fast);
    cluster.settle();
    // The fast task is far ahead, and has heard that the slow one may still accept what happened at that moment.
    cluster.raise_horizon(fast_node, BASE_MS + 100 * MS_PER_DAY, BASE_MS + 5);
    cluster.raise_horizon(slow_node, BASE_MS + 5, BASE_MS + 5);
    cluster.deliver(&slow);
    cluster.settle();
    assert_eq!(cluster.tables(), cluster.world().tables(&[slow, fast]));
}
