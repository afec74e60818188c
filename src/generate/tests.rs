//! The stream's promises: repeatable, acceptable where it should be, rejected where it should be, and of the shape described.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::decode::{Format, RawRecord, Rules, decode};
use crate::model::{Body, Event, PurchaseKind, Reject, owner};

fn judged<'r>(record: &'r GeneratedRecord, rules: &Rules) -> Result<Event<'r>, Reject> {
    let raw = RawRecord { value: record.value.as_deref(), content_type: None, timestamp_ms: record.due_ms };
    decode(record.kind, Format::Auto, raw, rules)
}

fn stream(options: Options) -> Vec<GeneratedRecord> {
    Generator::new(options).expect("options that make sense").collect()
}

/// Rules under which hardly anything is too late, too early or too large.
fn lenient_rules() -> Rules {
    let fifty_years_ms = 50 * 365 * 86_400_000;
    Rules { event_bytes: 1 << 30, future_skew_ms: fifty_years_ms, max_lateness_ms: fifty_years_ms, ..Rules::default() }
}

fn any_options() -> impl Strategy<Value = Options> {
    let formats = prop_oneof![Just(WireFormat::Protobuf), Just(WireFormat::Json), Just(WireFormat::Mixed)];
    let shares = [0.0..0.19, 0.0..0.19, 0.0..0.19, 0.0..0.19, 0.0..0.19];
    (any::<u64>(), 1_u64..400, formats, shares, 1_u32..300, [1_u32..9, 1..9, 1..9], 1_usize..4, 0.0..1.0).prop_map(
        |(seed, count, format, [duplicates, late, misrouted, malformed, conflicts], customers, partitions, brands, referred)| Options {
            seed,
            count,
            format,
            duplicates,
            late,
            misrouted,
            malformed,
            conflicts,
            customers,
            partitions,
            referred,
            brands: ["acme", "bravo-2", "c_c"].into_iter().take(brands).map(str::to_owned).collect(),
            ..Options::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_same_options_give_the_same_records(options in any_options()) {
        prop_assert_eq!(stream(options.clone()), stream(options.clone()));
        let other = Options { seed: options.seed ^ 1, ..options.clone() };
        prop_assert_ne!(stream(options), stream(other));
    }

    #[test]
    fn what_is_malformed_is_rejected_for_its_reason_and_all_else_is_accepted(options in any_options()) {
        for record in stream(options) {
            for rules in [Rules::default(), lenient_rules()] {
                let found = judged(&record, &rules).err().map(|reject| reject.reason);
                let expected = match record.class {
                    Class::Malformed(reason) => Some(reason),
                    _ => None,
                };
                prop_assert_eq!(found, expected, "{:?}", record);
            }
        }
    }

    #[test]
    fn identities_are_new_but_for_duplicates_and_conflicts(options in any_options()) {
        let mut contents = HashMap::new();
        let records = stream(options);
        for record in &records {
            let Ok(event) = judged(record, &Rules::default()) else { continue };
            let identity = (event.brand.to_string(), event.customer_id.to_string(), event.kind(), event.event_id.to_string());
            match (record.class, contents.get(&identity)) {
                (Class::Duplicate, Some(first)) => prop_assert_eq!(&event, first),
                (Class::Conflict, Some(first)) => prop_assert_ne!(event.content_hash(), first.content_hash()),
                (Class::Plain | Class::Late | Class::Misrouted, None) => drop(contents.insert(identity, event)),
                (class, earlier) => prop_assert!(false, "{:?} of {:?}, earlier {:?}", class, event, earlier),
            }
        }
    }

    #[test]
    fn records_go_where_their_class_says(options in any_options()) {
        let partitions = options.partitions;
        for record in stream(options) {
            let partitions = partitions[record.kind as usize];
            prop_assert!(record.partition < partitions);
            let name = record.headers.iter().find(|(name, _)| *name == CLASS_HEADER).map_or("plain", |(_, value)| *value);
            prop_assert_eq!(name, record.class.name());
            let Ok(event) = judged(&record, &Rules::default()) else { continue };
            let is_owners = record.partition == owner(&event.customer_id, partitions);
            match record.class {
                Class::Plain | Class::Late | Class::Conflict => prop_assert!(is_owners && record.key.is_some()),
                Class::Misrouted => prop_assert!(!is_owners || partitions == 1),
                Class::Duplicate | Class::Malformed(_) => {}
            }
            if let Some(key) = &record.key {
                prop_assert_eq!(key.as_slice(), event.customer_id.as_bytes());
            }
        }
    }
}

/// What the tests of shape look at.
struct Shape {
    records: Vec<GeneratedRecord>,
    /// Own events by customer, first ones first.
    events: HashMap<String, Vec<(i64, EventKind)>>,
    /// Who brought whom.
    parents: HashMap<String, String>,
}

/// The referral forest is recounted here from the rules alone: the sharer whom the first own event names, unless the customer had been
/// named as a sharer at that moment or before.
fn shape(options: Options) -> Shape {
    let records = stream(options);
    let mut events: HashMap<String, Vec<(i64, EventKind)>> = HashMap::new();
    let mut firsts: HashMap<String, (i64, String, EventKind, Option<String>)> = HashMap::new();
    let mut named: HashMap<String, i64> = HashMap::new();
    for record in records.iter().filter(|record| matches!(record.class, Class::Plain | Class::Late | Class::Misrouted)) {
        let event = judged(record, &Rules::default()).expect("accepted");
        if !event.is_customers_own() {
            continue;
        }
        let customer = event.customer_id.to_string();
        events.entry(customer.clone()).or_default().push((event.time_ms, event.kind()));
        let sharer = event.via.as_ref().map(|via| via.sharer_id.to_string()).filter(|sharer| *sharer != customer);
        if let Some(sharer) = &sharer {
            let earliest = named.entry(sharer.clone()).or_insert(event.time_ms);
            *earliest = event.time_ms.min(*earliest);
        }
        let this = (event.time_ms, event.event_id.to_string(), event.kind(), sharer);
        let first = firsts.entry(customer).or_insert_with(|| this.clone());
        if (this.0, &this.1, this.2 as usize) < (first.0, &first.1, first.2 as usize) {
            *first = this;
        }
    }
    let edge = |(customer, (time_ms, _, _, sharer)): (String, (i64, String, EventKind, Option<String>))| {
        let is_blocked = named.get(&customer).is_some_and(|named_ms| *named_ms <= time_ms);
        Some((customer, sharer.filter(|_| !is_blocked)?))
    };
    Shape { records, events, parents: firsts.into_iter().filter_map(edge).collect() }
}

impl Shape {
    /// Size and depth of every tree, the largest first. Without circles, or the test does not end well.
    fn trees(&self) -> Vec<(usize, usize)> {
        let mut trees: HashMap<&str, (usize, usize)> = HashMap::new();
        for mut customer in self.parents.keys() {
            let mut depth = 0;
            while let Some(parent) = self.parents.get(customer) {
                depth += 1;
                customer = parent;
                assert!(depth <= self.parents.len(), "a circle at {customer}");
            }
            let (size, deepest) = trees.entry(customer).or_default();
            *size += 1;
            *deepest = depth.max(*deepest);
        }
        let mut trees: Vec<(usize, usize)> = trees.into_values().collect();
        trees.sort_unstable_by(|left, right| right.cmp(left));
        trees
    }
}

fn share_of(part: usize, whole: usize) -> f64 {
    part as f64 / whole as f64
}

#[track_caller]
fn assert_near(found: f64, expected: f64, tolerance: f64) {
    assert!((found - expected).abs() <= tolerance, "{found} is not within {tolerance} of {expected}");
}

#[test]
fn the_shape_is_that_of_a_campaign() {
    let Shape { records, events, parents } = shape(Options { count: 120_000, customers: 30_000, ..Options::default() });
    let of_kind = |kind| records.iter().filter(|record| record.kind == kind).count();
    assert_near(share_of(of_kind(EventKind::Scan), records.len()), 0.75, 0.03);
    assert_near(share_of(of_kind(EventKind::Purchase), records.len()), 0.15, 0.02);
    assert_near(share_of(of_kind(EventKind::Share), records.len()), 0.10, 0.02);

    let customers = events.len();
    assert!(customers > 25_000, "{customers}");
    let one_touch = events.values().filter(|events| events.len() == 1).count();
    assert_near(share_of(one_touch, customers), 0.70, 0.05);
    let busiest = events.values().map(Vec::len).max().expect("customers");
    assert!(busiest > 200, "{busiest}");
    assert_near(share_of(parents.len(), customers), 0.6, 0.06);

    let mut brought: HashMap<&str, usize> = HashMap::new();
    for parent in parents.values() {
        *brought.entry(parent).or_default() += 1;
    }
    let mut counts: Vec<usize> = brought.into_values().collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    let sharers = events.values().filter(|events| events.iter().any(|(_, kind)| *kind == EventKind::Share)).count();
    let top: usize = counts.iter().take(sharers.div_ceil(100)).sum();
    assert!(top * 2 > parents.len(), "one sharer in a hundred brought {top} of {}", parents.len());
}

/// More than one customer in ten, whatever their number: tens of thousands in a run with 200,000 of them.
#[test]
fn one_tree_has_a_tenth_of_all_customers_and_at_least_12_levels() {
    for customers in [5_000, 200_000] {
        let shape = shape(Options { count: u64::from(customers) * 4, customers, ..Options::default() });
        let trees = shape.trees();
        let [(size, depth), (next, _), ..] = trees.as_slice() else { panic!("{trees:?}") };
        assert!(*size * 10 > shape.events.len() && *depth >= 12, "{size} of {} customers, {depth} levels", shape.events.len());
        assert!(size > next, "no tree stands out: {size}, {next}");
        assert!(customers < 200_000 || *size > 20_000, "{size}");
    }
}

#[test]
fn as_many_newcomers_are_brought_as_asked_for() {
    for referred in [0.0, 0.25, 0.9] {
        let shape = shape(Options { count: 40_000, customers: 10_000, referred, ..Options::default() });
        assert_near(share_of(shape.parents.len(), shape.events.len()), referred, 0.07);
    }
}

#[test]
fn classes_have_the_shares_asked_for_and_reasons_come_evenly() {
    let options = Options { count: 60_000, malformed: 0.11, conflicts: 0.01, ..Options::default() };
    let mut counts: HashMap<Class, usize> = HashMap::new();
    for record in stream(options.clone()) {
        *counts.entry(record.class).or_default() += 1;
    }
    let share = |class| share_of(counts.get(&class).copied().unwrap_or_default(), 60_000);
    for reason in fault::REASONS {
        assert_near(share(Class::Malformed(reason)), options.malformed / 11.0, 0.001);
    }
    assert_near(share(Class::Duplicate), options.duplicates, 0.002);
    assert_near(share(Class::Late), options.late, 0.003);
    assert_near(share(Class::Misrouted), options.misrouted, 0.006);
    assert_near(share(Class::Conflict), options.conflicts, 0.002);
}

#[test]
fn refunds_follow_the_payment_of_their_order_and_stay_within_it() {
    let mut paid: HashMap<(String, String), i64> = HashMap::new();
    let mut refunds = 0;
    for record in stream(Options { count: 50_000, duplicates: 0.0, malformed: 0.0, ..Options::default() }) {
        let event = judged(&record, &Rules::default()).expect("accepted");
        let Body::Purchase(purchase) = &event.body else { continue };
        let order = (event.customer_id.to_string(), purchase.order_id.to_string());
        if purchase.kind == PurchaseKind::Payment {
            assert_eq!(purchase.amount, purchase.lines.iter().map(|line| line.amount).sum::<i64>());
            assert_eq!(paid.insert(order, purchase.amount), None, "an order is paid once");
        } else {
            refunds += 1;
            assert!(purchase.amount <= paid[&order], "{event:?}");
        }
    }
    assert!(refunds > 100, "{refunds}");
}

#[test]
fn due_times_rise_evenly_over_the_span() {
    let options = Options { count: 1_000, start_ms: 1_000_000_000_000, span_ms: 10_000, late_max_ms: 0, ..Options::default() };
    let due: Vec<i64> = stream(options).iter().map(|record| record.due_ms - 1_000_000_000_000).collect();
    assert!(due.is_sorted());
    assert_eq!((due[0], due[500], due[999]), (0, 5_000, 9_990));
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let refused = |options: Options| Generator::new(options).map(|_| ()).expect_err("refused").to_string();
    assert!(refused(Options { duplicates: -0.1, ..Options::default() }).contains("`duplicates` is -0.1"));
    assert!(refused(Options { referred: f64::NAN, ..Options::default() }).contains("`referred` is NaN"));
    assert!(refused(Options { late: 0.6, misrouted: 0.6, ..Options::default() }).contains("`sum` is"));
    assert_eq!(refused(Options { partitions: [6, 0, 6], ..Options::default() }), "`partitions` must be at least 1");
    assert_eq!(refused(Options { brands: Vec::new(), ..Options::default() }), "`brands` must be at least 1");
    assert!(refused(Options { brands: vec!["Acme".to_owned()], ..Options::default() }).contains("`Acme`"));
    assert!(refused(Options { start_ms: 5, ..Options::default() }).contains("between 1970 and 2106"));
    assert!(refused(Options { start_ms: i64::MAX, span_ms: i64::MAX, ..Options::default() }).contains("between 1970 and 2106"));
}

/// Fails when a seed gives other records than it did: then every recorded run with that seed has lost its meaning.
#[test]
fn a_seed_gives_the_records_it_always_gave() {
    let fingerprint = |format| {
        let mut hasher = xxhash_rust::xxh3::Xxh3Default::new();
        for record in stream(Options { count: 20_000, format, malformed: 0.02, conflicts: 0.01, ..Options::default() }) {
            hasher.update(format!("{record:?}").as_bytes());
        }
        hasher.digest()
    };
    let fingerprints = [WireFormat::Protobuf, WireFormat::Mixed].map(fingerprint);
    assert_eq!(fingerprints, [12_461_820_110_895_582_370, 4_556_955_234_407_226_070]);
}
