//! Goal: measures are as much a function of the set of events as the facts are.
//! Method: the real pipeline over duplicates, late and misrouted events; then all input again into an empty database by another group.

mod common;

use anyhow::Result;
use common::{DEADLINE, World, wait_until};

/// Everything that the definition says of everybody, and a few numbers that show that there is something.
fn measures(world: &World<'_>, as_of: &str) -> Result<String> {
    world.query(&format!(
        "SELECT count(), sum(cityHash64(*)), countIf(member), countIf(influence > 0), uniqExact(lifecycle) FROM v_segments_at(as_of = '{as_of}') FORMAT CSV"
    ))
}

#[test]
fn measures_are_equal_after_a_replay_of_all_input() -> Result<()> {
    let mut world = World::new("replayed")?;
    world.migrate(2)?;
    let pipeline = world.start()?;
    let generate = "generate --count 6000 --customers 800 --span-days 20 --duplicates 0.05 --late 0.1 --misrouted 0.1 --seed 7";
    world.must(&generate.split(' ').collect::<Vec<_>>())?;
    world.wait_caught_up()?;
    let as_of = world.query("SELECT now64(3, 'UTC')")?.trim().to_owned();
    let before = measures(&world, &as_of)?;
    let counts: Vec<i64> = before.trim().split(',').map(|number| number.parse().unwrap_or(-1)).collect();
    assert!(counts.len() == 5 && counts[0] > 300 && counts[2] > 50 && counts[3] > 20, "{before}");
    assert_eq!(pipeline.terminate()?, 0);
    for (key, value) in
        [("kafka.group", "replayed_again"), ("clickhouse.database", "replayed_again"), ("topics.exchange.name", "replayed_again.exchange")]
    {
        world.set_text(key, value);
    }
    world.must(&["migrate"])?;
    let _again = world.start()?;
    wait_until("the same measures in the other database", DEADLINE, || {
        let sql = "SELECT count(), sum(cityHash64(*)), countIf(member), countIf(influence > 0), uniqExact(lifecycle)";
        let after =
            world.stack.clickhouse.query_in("replayed_again", &format!("{sql} FROM v_segments_at(as_of = '{as_of}') FORMAT CSV"))?;
        Ok(after == before)
    })
}
