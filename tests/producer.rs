//! What Kafka acknowledges of the exchange is heard at once: checkpoints wait for it, and so does the memory of what was sent.

mod common;

use std::path::Path;

use anyhow::{Result, ensure};
use common::{DEADLINE, World, wait_until};
use onecode::config::Config;
use onecode::kafka::{ExchangeProducer, producer_options};
use onecode::worker::{RunId, Ticket};

const PARTITIONS: u32 = 24;

/// Each partition's batch is acknowledged by a report of its own. A loop that took one of them each time, and waited for records in between, heard of
/// less than was sent: what was not heard of grew until reading stopped, under half of the load that the pipeline can take.
#[test]
fn one_look_hears_all_acknowledgements_that_have_come() -> Result<()> {
    let world = World::new("producer")?;
    let config = Config::from_text(&world.config_toml(0)?, Path::new("world.toml"), [])?;
    let topic = world.topic("exchange");
    world.create_topic(&topic, PARTITIONS as i32, &[])?;
    let mut producer = ExchangeProducer::new(&producer_options(&config), &topic, &config.topics.dead_letter)?;
    let ticket = Ticket { run: RunId(1), epoch: 1 };
    for partition in 0..PARTITIONS {
        producer.exchange(ticket, partition, b"header", None);
    }
    // Read by another client: by then the broker has answered.
    wait_until("all messages are in the log", DEADLINE, || Ok(world.read_topic(&topic)?.len() == PARTITIONS as usize))?;
    let (mut looks, mut heard) = (0, 0);
    wait_until("all acknowledgements", DEADLINE, || {
        let deliveries = producer.poll();
        looks += usize::from(!deliveries.is_empty());
        heard += deliveries.len();
        ensure!(deliveries.iter().all(|(of, outcome)| *of == ticket && outcome.is_ok()), "{deliveries:?}");
        Ok(heard == PARTITIONS as usize)
    })?;
    ensure!(looks <= 4, "{looks} looks for the acknowledgements of {PARTITIONS} partitions, all of which had come");
    ensure!(producer.in_flight() == onecode::worker::InFlight::default(), "{:?}", producer.in_flight());
    Ok(())
}
