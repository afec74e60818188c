//! The words of the domain as plain values: events, identities, positions, the business calendar, ownership.
//!
//! Owns no state and no rules of acceptance (those are in [`crate::decode`]); promises that nothing in here reads a
//! clock, draws a random number, or performs IO; never depends on Kafka's or ClickHouse's client.

mod calendar;
mod event;
mod gathered;
mod owner;
mod position;
mod reason;
mod sums;

pub use calendar::{Calendar, Day, Month, TimeZone, TimeZoneError};
pub use event::{Body, Event, EventKind, Line, Purchase, PurchaseKind, Role, Scan, ScanPurpose, Share, Text, Via};
pub use owner::{murmur2, owner};
pub use position::{Offset, TaskName, TopicPartition, Version};
pub use reason::{Reason, Reject, Stage};
pub use sums::{Measure, Sums};
