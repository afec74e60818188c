//! How inserts and queries fare: what is on its way, and what has failed since it last went well.
//!
//! Promises that a table that fails is seen however well others go. Never times anything: that is `events.rs`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// They may fail for this long before the process is not ready.
pub(super) const GRACE: Duration = Duration::from_secs(60);

/// What the process asks of ClickHouse again and again until it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Request {
    /// Rows of a table.
    Insert(&'static str),
    /// A question about a table.
    Query(&'static str),
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Request::Insert(table) => write!(f, "inserts into `{table}`"),
            Request::Query(table) => write!(f, "queries of `{table}`"),
        }
    }
}

/// Of the whole process.
#[derive(Debug, Default)]
pub(super) struct Inserts {
    pub in_flight: usize,
    /// Since when, and the first error.
    failing: BTreeMap<Request, (Instant, String)>,
}

impl Inserts {
    pub fn failed(&mut self, request: Request, error: &str, now: Instant) {
        self.failing.entry(request).or_insert_with(|| (now, error.to_owned()));
    }

    pub fn succeeded(&mut self, request: Request) {
        self.failing.remove(&request);
    }

    /// What has failed for the longest time.
    fn worst(&self) -> Option<(Request, Instant, &str)> {
        let failing = self.failing.iter().map(|(request, (since, error))| (*request, *since, error.as_str()));
        failing.min_by_key(|(_, since, _)| *since)
    }

    /// Its first error.
    pub fn error(&self) -> Option<String> {
        self.worst().map(|(request, _, error)| format!("{request}: {error}"))
    }

    /// Why the process is not ready, if something has failed for too long.
    pub fn not_ready(&self, now: Instant) -> Option<String> {
        let (request, since, error) = self.worst()?;
        let failing = now.duration_since(since);
        (failing > GRACE).then(|| format!("{request} have failed for {} s: {error}", failing.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_seen_however_well_others_go() {
        let (began, mut inserts) = (Instant::now(), Inserts::default());
        let (scans, state) = (Request::Insert("scans"), Request::Query("task_state"));
        inserts.failed(scans, "refused", began);
        inserts.failed(scans, "refused again", began + GRACE);
        inserts.failed(state, "no answer", began + GRACE);
        inserts.succeeded(Request::Insert("customers"));
        let later = began + GRACE + Duration::from_secs(1);
        assert_eq!(inserts.not_ready(began + GRACE), None);
        assert_eq!(inserts.not_ready(later).as_deref(), Some("inserts into `scans` have failed for 61 s: refused"));
        assert_eq!(inserts.error().as_deref(), Some("inserts into `scans`: refused"));
        inserts.succeeded(scans);
        assert_eq!(inserts.not_ready(later), None);
        assert_eq!(inserts.error().as_deref(), Some("queries of `task_state`: no answer"));
        inserts.succeeded(state);
        assert_eq!(inserts.error(), None);
    }
}
