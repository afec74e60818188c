//! Goal: who brings whom is right in the views, across tasks and kills.
//! Method: one real broker and one real ClickHouse, topics and a database a test; the real binary.

mod common;

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use common::events::{BRAND, now_ms, payment, purchase_record, refund, scan, scan_record, share, share_record, via};
use common::load::{Load, must_be_exact, options};
use common::{DEADLINE, World, wait_until};
use onecode::model::owner;

const PARTITIONS: u32 = 3;

fn world(test: &str) -> Result<World<'static>> {
    let world = World::new(test)?;
    world.migrate(PARTITIONS as i32)?;
    Ok(world)
}

/// Everybody was brought by the one before, through the one before's share, which passes on the one before that.
fn produce_chain(world: &World<'_>, people: &[&str], now: i64) -> Result<()> {
    let mut scans = Vec::new();
    let mut shares = Vec::new();
    for (number, person) in people.iter().enumerate() {
        let at = now - 100_000 + 1_000 * number as i64;
        let referrer = number.checked_sub(1).and_then(|before| people.get(before)).and_then(|before| via(before, before));
        let mut arrival = scan(&format!("arrival-{person}"), person, at);
        arrival.via.clone_from(&referrer);
        scans.push(scan_record(&arrival));
        let mut passed_on = share(person, person, at + 1);
        passed_on.via = referrer;
        shares.push(share_record(&passed_on));
    }
    scans.reverse();
    shares.reverse();
    world.produce(&world.topic("shares"), shares)?;
    world.produce(&world.topic("scans"), scans)
}

#[test]
fn a_chain_across_tasks_delivered_in_reverse_order_is_right_after_kills() -> Result<()> {
    let world = world("chain")?;
    let people = ["ann", "bob", "cid", "dan", "eve"];
    let tasks: BTreeSet<u32> = people.iter().map(|person| owner(person, PARTITIONS)).collect();
    ensure!(tasks.len() > 1, "the example needs customers of several tasks");
    let now = now_ms();
    let pipeline = world.start()?;
    produce_chain(&world, &people, now)?;
    world.wait_caught_up()?;
    pipeline.kill()?;
    world.produce(
        &world.topic("purchases"),
        [purchase_record(&payment("p", "eve", now, 9_000)), purchase_record(&refund("r", "eve", now, "p", 1_000))],
    )?;
    let pipeline = world.start()?;
    pipeline.kill()?;
    let pipeline = world.start()?;
    world.wait_caught_up()?;
    ensure!(pipeline.terminate()? == 0, "the drain failed: {}", pipeline.log_text());

    let parents = world.rows("SELECT child_id, parent_id, share_id FROM v_referrals ORDER BY child_id")?;
    let expected = [
        ["ann", "", ""],
        ["bob", "ann", "share-ann"],
        ["cid", "bob", "share-bob"],
        ["dan", "cid", "share-cid"],
        ["eve", "dan", "share-dan"],
    ];
    ensure!(parents == expected, "{parents:?}");
    let subtree = world.rows(
        "SELECT level, sum(customers), sum(orders), sum(paid), sum(refunded) FROM v_customer_subtrees WHERE customer_id = 'ann' GROUP BY level ORDER BY level",
    )?;
    let expected = [["1", "1", "0", "0", "0"], ["2", "1", "0", "0", "0"], ["3", "1", "0", "0", "0"], ["4", "1", "1", "9000", "1000"]];
    ensure!(subtree == expected, "{subtree:?}");
    let shares =
        world.rows("SELECT sharer_id, visits, visitors, new_customers, reshares, parent_sharer_id FROM v_shares ORDER BY sharer_id")?;
    let expected = [
        ["ann", "1", "1", "1", "1", ""],
        ["bob", "1", "1", "1", "1", "ann"],
        ["cid", "1", "1", "1", "1", "bob"],
        ["dan", "1", "1", "1", "1", "cid"],
        ["eve", "0", "0", "0", "0", "dan"],
    ];
    ensure!(shares == expected, "{shares:?}");
    let cascade = world.rows("SELECT level, shares, visits, new_customers FROM v_share_cascades WHERE sharer_id = 'ann' ORDER BY level")?;
    let expected = [["0", "1", "1", "1"], ["1", "1", "1", "1"], ["2", "1", "1", "1"], ["3", "1", "1", "1"], ["4", "1", "0", "0"]];
    ensure!(cascade == expected, "{cascade:?}");
    let customers = world.rows(&format!(
        "SELECT customer_id, referrer_id, referred_direct, referred_total, share_visits FROM v_customers WHERE brand = '{BRAND}' AND customer_id IN ('ann', 'eve') ORDER BY customer_id"
    ))?;
    ensure!(customers == [["ann", "", "1", "4", "1"], ["eve", "dan", "0", "0", "0"]], "{customers:?}");
    ensure!(world.number("SELECT sum(referred_customers) FROM v_activity_day")? == 4);
    must_be_exact(&world)
}

#[test]
fn of_a_hundred_new_customers_sixty_name_a_referrer_and_five_of_these_themselves() -> Result<()> {
    let world = world("sixty")?;
    let now = now_ms();
    let arrivals = (0..100_i64).map(|number| {
        let customer = format!("new-{number}");
        let mut arrival = scan(&format!("e{number}"), &customer, now - number);
        arrival.via = match number {
            0..5 => via("own", &customer),
            5..60 => via("star", "star"),
            _ => None,
        };
        scan_record(&arrival)
    });
    world.produce(&world.topic("scans"), arrivals)?;
    let pipeline = world.start()?;
    world.wait_caught_up()?;
    ensure!(pipeline.terminate()? == 0, "the drain failed: {}", pipeline.log_text());
    ensure!(world.number("SELECT count() FROM v_referrals WHERE parent_id != ''")? == 55);
    ensure!(world.number("SELECT sum(referred_customers) FROM v_activity_minute")? == 55);
    let star = world.rows(
        "SELECT toUnixTimestamp(first_event_time), scans, referred_direct, referred_total, share_visits, share_visitors FROM v_customers WHERE customer_id = 'star'",
    )?;
    ensure!(star == [["0", "0", "55", "55", "55", "55"]], "known by name only: {star:?}");
    let share = world.rows("SELECT toUnixTimestamp(time), visits, visitors, new_customers FROM v_shares")?;
    ensure!(share == [["0", "55", "55", "55"]], "{share:?}");
    must_be_exact(&world)
}

#[test]
fn generated_trees_are_exact_after_a_kill_in_the_middle() -> Result<()> {
    let world = world("trees")?;
    let load = Load::start(&world, options(40_000, PARTITIONS), 8_000)?;
    let first = world.start()?;
    wait_until("progress", DEADLINE, || Ok(first.metric("onecode_consumed_records_total", &[])? >= 15_000.0))?;
    first.kill()?;
    let second = world.start()?;
    load.finish()?;
    world.wait_caught_up()?;
    ensure!(second.terminate()? == 0, "the drain failed: {}", second.log_text());
    ensure!(world.number("SELECT max(level) FROM v_customer_subtrees WHERE customers > 0")? >= 3, "the trees are too low to show anything");
    ensure!(world.number("SELECT max(level) FROM v_share_cascades WHERE shares > 0")? >= 2, "the cascades are too low to show anything");
    the_listed_tree_is_the_counted_one(&world)?;
    must_be_exact(&world)
}

/// The largest tree, customer by customer along the edges, against what its root's rows say.
fn the_listed_tree_is_the_counted_one(world: &World<'_>) -> Result<()> {
    let root =
        world.query("SELECT customer_id FROM v_customers WHERE referrer_id = '' ORDER BY referred_total DESC, customer_id LIMIT 1")?;
    let root = root.trim();
    let listed = world.rows(&format!(
        "SELECT level, count(), sum(orders), sum(net) FROM v_referral_tree(brand = '{BRAND}', customer = '{root}') WHERE level > 0 GROUP BY level ORDER BY level"
    ))?;
    let counted = world.rows(&format!(
        "SELECT level, sum(customers), sum(orders), sum(paid - refunded) FROM v_customer_subtrees WHERE brand = '{BRAND}' AND customer_id = '{root}' \
         GROUP BY level HAVING sum(customers) > 0 ORDER BY level"
    ))?;
    ensure!(listed == counted && !listed.is_empty(), "the tree of {root}: listed {listed:?}, counted {counted:?}");
    Ok(())
}
