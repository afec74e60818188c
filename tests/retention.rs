//! Input that is gone before it was read stops the pipeline, which says so: the tables would lack it for ever.

mod common;

use anyhow::{Result, ensure};
use common::{World, events, topics};

const SAYS: &str = "were removed by retention before they were read";

#[test]
fn retention_that_overtakes_a_running_pipeline_stops_it_with_the_loss() -> Result<()> {
    let world = World::new("overtaken")?;
    world.migrate(1)?;
    let scans = world.topic("scans");
    let scan = |number: usize| events::scan_record(&events::scan(&format!("e{number}"), "ann", events::now_ms()));
    world.produce(&scans, [scan(0)])?;
    let pipeline = world.start()?;
    world.wait_caught_up()?;
    pipeline.pause()?;
    // The first of these is the answer to the fetch that waits at the broker; the others are never fetched.
    world.produce(&scans, [scan(1)])?;
    world.produce(&scans, (2..20).map(scan))?;
    topics::remove_all(&world.stack.kafka.bootstrap(), &scans)?;
    pipeline.resume()?;
    let code = pipeline.wait_for_exit()?;
    ensure!(code == 1, "exit code {code}: {}", pipeline.log_text());
    ensure!(pipeline.log_text().contains(SAYS), "{}", pipeline.log_text());
    Ok(())
}
