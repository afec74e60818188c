//! onecode: scan, purchase and share events from Kafka become exact, live, per-customer tables in ClickHouse.
//!
//! The promise: the tables are a pure function of the *set* of events that producers sent. Order, duplicates, lateness,
//! crashes, rebalances and outages change how soon a table is right, never what it says. `src/DESIGN.md` says why that holds.
//!
//! ```text
//!  scans ─┐                                                      ┌─► ClickHouse serving tables   rows/
//!  purchases ─┼─► worker/ (one consumer, one thread, many tasks) ─┤     (absolute rows, versioned)
//!  shares ─┘      decode/ → task/ (route) → engine/ (apply)       ├─► ClickHouse task_state       store/
//!    ▲                              │                             │     (atomic checkpoints)
//!    │                              └── exchange topic ◄─ relays  └─► dead-letter topic           kafka/
//!  producers
//! ```
//!
//! | module | pure? | owns |
//! |---|---|---|
//! | [`model`] | yes | events, identities, positions, calendar |
//! | [`decode`] | yes | bytes to accepted events, or a reason |
//! | [`engine`] | yes | a task's state: customers, cells, dedup |
//! | [`rows`] | yes | state and events as ClickHouse rows |
//! | [`short`] | yes | short texts and numbers into bytes, for rows, keys and messages |
//! | [`fit`] | yes | models of purchase by maximum likelihood |
//! | [`task`] | yes | life of a task: takeover, cut, checkpoint, relays, positions |
//! | [`worker`] | shell-agnostic | drives the tasks of one consumer; runs over Kafka or in the simulator |
//! | [`kafka`], [`store`], [`cold`] | no | the shells: consumer, producer, inserts, cold state on the local disk |
//! | [`rescale`] | its plan | another number of tasks, while the pipeline is stopped |
//! | [`config`], [`telemetry`], [`commands`], [`migrate`], [`audit`], [`generate`] | no | around it |

pub mod app;
pub mod audit;
pub mod cold;
pub mod commands;
pub mod config;
pub mod decode;
pub mod engine;
pub mod fit;
pub mod generate;
pub mod kafka;
pub mod migrate;
pub mod model;
pub mod rescale;
pub mod rows;
pub mod short;
pub mod store;
pub mod task;
pub mod telemetry;
pub mod worker;

/// Types generated from `proto/onecode/v1`.
pub mod pb {
    #![allow(missing_docs, clippy::all)]
    include!(concat!(env!("OUT_DIR"), "/onecode.v1.rs"));
}
