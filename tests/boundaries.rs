//! Goal: wherever between two of its steps the process dies, nothing is lost and nothing counted twice.
//! Method: the real binary is told at which boundary of takeover, flush, checkpoint, revoke and drain to die; it dies at each of them,
//! one after the other, with records waiting each time; then it runs once more, and the audit recomputes every table.

mod common;

use anyhow::{Context as _, Result, ensure};
use common::load::{must_be_exact, options};
use common::{Pipeline, Record, World};
use onecode::generate::Generator;
use onecode::kafka::DIES_AT_VARIABLE;
use onecode::worker::Boundary;

const PARTITIONS: u32 = 3;
/// Waiting at each start.
const RECORDS: usize = 300;
/// 128 and SIGABRT.
const DIED: i32 = 134;

fn world() -> Result<World<'static>> {
    let mut world = World::new("boundaries")?;
    world.set("pipeline.workers", 1);
    world.set("pipeline.archive_interval_ms", 500);
    world.set("kafka.session_timeout_ms", 6_000);
    world.migrate(PARTITIONS as i32)?;
    Ok(world)
}

/// Sends the next generated records.
fn produce(world: &World<'_>, generator: &mut Generator) -> Result<()> {
    let records: Vec<_> = generator.take(RECORDS).collect();
    for topic in ["scans", "purchases", "shares"] {
        let of_topic = records.iter().filter(|record| topic.starts_with(record.kind.name())).map(|record| Record {
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect(),
            partition: i32::try_from(record.partition).ok(),
            timestamp_ms: None,
        });
        world.produce(&world.topic(topic), of_topic)?;
    }
    Ok(())
}

fn end_well(pipeline: &Pipeline) -> Result<()> {
    ensure!(pipeline.terminate()? == 0, "the drain failed: {}", pipeline.log_text());
    Ok(())
}

/// Starts the process and brings it to the boundary where it dies.
fn die_at(world: &World<'_>, boundary: Boundary) -> Result<()> {
    let victim = world.spawn_with(0, &[], &[(DIES_AT_VARIABLE, boundary.name())])?;
    let mut other = None;
    match boundary {
        Boundary::DrainBegun | Boundary::Closed | Boundary::Drained => {
            victim.wait_ready()?;
            victim.request_end()?;
        }
        Boundary::Revoked => {
            victim.wait_ready()?;
            other = Some(world.spawn(1, &["--dynamic"])?);
        }
        _ => {}
    }
    let code = victim.wait_for_exit().with_context(|| format!("boundary {}: {}", boundary.name(), victim.log_text()))?;
    ensure!(code == DIED, "boundary {}: exit code {code}: {}", boundary.name(), victim.log_text());
    if let Some(other) = other {
        end_well(&other)?;
    }
    Ok(())
}

#[test]
fn dying_at_every_boundary_loses_and_repeats_nothing() -> Result<()> {
    let world = world()?;
    let mut generator = Generator::new(options((RECORDS * (Boundary::ALL.len() + 1)) as u64, PARTITIONS))?;
    produce(&world, &mut generator)?;
    let first = world.start()?;
    world.wait_caught_up()?;
    end_well(&first)?;
    for boundary in Boundary::ALL {
        produce(&world, &mut generator)?;
        die_at(&world, boundary)?;
    }
    ensure!(generator.next().is_none(), "not everything was sent");
    let last = world.start()?;
    world.wait_caught_up()?;
    end_well(&last)?;
    must_be_exact(&world)
}
