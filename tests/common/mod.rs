//! What the tests with real servers share: the servers, a world of names for each test, records, and the running binary.
//!
//! ```text
//!  Stack   Kafka + ClickHouse; one for all tests of a program, or one of its own for a test that kills servers
//!  World   one test's topics, database, group and configuration on a stack
//!  Pipeline   a running `onecode run` of a world, to be killed, frozen, asked
//! ```
//!
//! A test reads: make a [`World`], create topics, produce, start, [`wait_until`], kill, start again, compare. Nothing is skipped
//! when a server is missing: it is installed and started, or the test fails.

#![allow(dead_code, unused_imports, reason = "every test program uses a part of it")]

pub mod clock;
pub mod disk;
pub mod events;
pub mod facts;
pub mod load;
pub mod pipeline;
pub mod proxy;
pub mod stack;
pub mod topics;
pub mod world;

use std::time::Duration;

pub use clock::Clock;
pub use disk::SmallDisk;
pub use facts::Facts;
pub use load::Load;
pub use pipeline::{Finished, Pipeline};
pub use proxy::Proxy;
pub use stack::Stack;
pub use topics::{Record, StoredRecord};
pub use world::World;

/// How long a test waits for what takes a second or two on an idle machine.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Waits until `condition` holds. An error counts as "not yet", since servers may be down meanwhile; the last one is shown when
/// the deadline passes.
///
/// # Errors
/// When the condition did not hold within `deadline`.
pub fn wait_until(what: &str, deadline: Duration, mut condition: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let mut last_error = None;
    let outcome = onecode_local::wait_for(what, deadline, || {
        let holds = condition();
        last_error = None;
        match holds {
            Ok(holds) => Ok(holds.then_some(())),
            Err(error) => {
                last_error = Some(error);
                Ok(None)
            }
        }
    });
    match (outcome, last_error) {
        (Err(timeout), Some(error)) => Err(error.context(timeout)),
        (outcome, _) => outcome,
    }
}
