//! How many events and customers there are, so that a figure says what its system's counters are worth.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use anyhow::{Context as _, Result};
use onecode::decode::{Format, RawRecord, Rules, decode};
use onecode::generate::{Generator, Options};
use onecode::model::{Body, Role};

use super::common::servers::Servers;

/// What counters of customers add up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Events by consumers.
    pub events: u64,
    /// Customers with an event of their own.
    pub customers: u64,
}

impl Counted {
    /// The truth: each event once, however often it was sent.
    pub fn of(options: Options) -> Result<Counted> {
        let (rules, hasher) = (Rules::default(), RandomState::new());
        let (mut events, mut customers) = (HashSet::new(), HashSet::new());
        for record in Generator::new(options)? {
            let raw = RawRecord { value: record.value.as_deref(), content_type: None, timestamp_ms: record.due_ms };
            let event =
                decode(record.kind, Format::Protobuf, raw, &rules).ok().context("the generator made a record that is not accepted")?;
            if matches!(&event.body, Body::Scan(scan) if scan.role != Role::Consumer) {
                continue;
            }
            customers.insert(hasher.hash_one((&event.brand, &event.customer_id)));
            events.insert(hasher.hash_one((&event.brand, &event.customer_id, record.kind, &event.event_id)));
        }
        Ok(Counted { events: events.len() as u64, customers: customers.len() as u64 })
    }

    /// What the table `customers` of a database says.
    pub fn in_clickhouse(servers: &Servers, database: &str) -> Result<Counted> {
        let own = format!("SELECT scans + shares + orders + refunds AS own FROM {database}.customers FINAL");
        Ok(Counted {
            events: servers.number(&format!("SELECT sum(own) FROM ({own})"))?,
            customers: servers.number(&format!("SELECT countIf(own > 0) FROM ({own})"))?,
        })
    }
}
