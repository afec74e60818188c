//! One insert, tried until it is in: what may pass is waited out with the same bytes, what an operator has to mend is not.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clickhouse::{Client, Compression};
use tokio::sync::{Mutex, Semaphore};

use crate::config::Config;
use crate::store::admin::error_code;
use crate::telemetry::{Request, Status, events};

/// Bytes handed to the connection at once.
const PIECE_BYTES: usize = 1 << 20;
/// First pause after a failure; doubles up to `limits.retry_backoff_max_ms`.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// How often in a row the server may name a fault of the schema before it is believed.
const BELIEVED_AFTER: u32 = 3;

/// ClickHouse error codes that waiting does not mend: unknown table, database or column, types, permissions.
const FAULTS: [u32; 9] = [8, 16, 47, 53, 60, 81, 164, 497, 48];

/// ClickHouse, with the limits on talking to it.
#[derive(Debug)]
pub(super) struct Server {
    pub client: ClientBox,
    pub rows_per_insert: usize,
    pub workers: usize,
    pub restore_piece_bytes: usize,
    pub insert_timeout: Duration,
    pub query_timeout: Duration,
    send_timeout: Duration,
    backoff_max: Duration,
    in_flight: Semaphore,
    pace: Mutex<Instant>,
    pause_between_inserts: Duration,
    pub status: Arc<Status>,
}

/// The client, kept out of `Debug`: it holds the password.
pub(super) struct ClientBox(pub Client);

impl std::fmt::Debug for ClientBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

/// Failures so far of something that is asked for until it is done.
#[derive(Debug)]
pub(super) struct Attempts {
    request: Request,
    failures: u32,
    /// In a row.
    faults: u32,
}

impl Server {
    pub fn new(config: &Config, status: Arc<Status>, optional_settings: &[(&str, &str)]) -> Self {
        let mut client = Client::default()
            .with_url(&config.clickhouse.url)
            .with_user(&config.clickhouse.user)
            .with_database(&config.clickhouse.database)
            .with_compression(compression(&config.clickhouse.url));
        if !config.clickhouse.password.is_empty() {
            client = client.with_password(config.clickhouse.password.expose());
        }
        // Nothing is inserted later than it is acknowledged, and nothing is dropped because it looks like something before.
        for (name, value) in [("async_insert", "0"), ("insert_deduplicate", "0"), ("max_partitions_per_insert_block", "0")] {
            client = client.with_setting(name, value);
        }
        // Rows of one insert have keys of their own: looking for equal ones takes ClickHouse 40 % of its time. FINAL and merges would see them.
        client = client.with_setting("optimize_on_insert", "0");
        // Numbers are sent as the narrowest type that has room for them (`native.rs`). The server's own default.
        client = client.with_setting("input_format_native_allow_types_conversion", "1");
        for (name, value) in optional_settings {
            client = client.with_setting(*name, *value);
        }
        let per_second = config.limits.inserts_per_second.max(1);
        Server {
            client: ClientBox(client),
            rows_per_insert: config.limits.rows_per_insert,
            workers: config.pipeline.workers,
            restore_piece_bytes: config.limits.restore_piece_bytes(config.pipeline.workers),
            insert_timeout: config.clickhouse.insert_timeout,
            query_timeout: config.clickhouse.query_timeout,
            send_timeout: config.clickhouse.send_timeout,
            backoff_max: config.limits.retry_backoff_max,
            in_flight: Semaphore::new(config.limits.in_flight_inserts),
            pace: Mutex::new(Instant::now()),
            pause_between_inserts: Duration::from_secs(1) / per_second,
            status,
        }
    }

    /// Inserts until it is in. An error is something that an operator has to mend.
    pub async fn insert_until_done(&self, statement: &str, parts: &[Bytes], table: &'static str) -> Result<(), String> {
        let attempt = || async {
            self.wait_for_turn().await;
            // Held no longer than the attempt: others may go while this one waits after a failure. Nobody closes it, so that there is always a permit.
            let _permit = self.in_flight.acquire().await;
            self.status.insert_started();
            let outcome = self.insert_once(statement, parts).await;
            self.status.insert_ended();
            outcome.map_err(|error| {
                events::insert_retried(table);
                error.to_string()
            })
        };
        self.until_done(Request::Insert(table), attempt).await
    }

    /// Repeats a query about a table until it is answered. An error is something that an operator has to mend.
    pub async fn query_until_done<T, F>(&self, table: &'static str, mut query: impl FnMut() -> F) -> Result<T, String>
    where
        F: Future<Output = Result<T, clickhouse::error::Error>>,
    {
        let attempt = || {
            let asked = tokio::time::timeout(self.query_timeout, query());
            async { asked.await.map_err(|_| format!("no answer within {:?}", self.query_timeout))?.map_err(|error| error.to_string()) }
        };
        self.until_done(Request::Query(table), attempt).await
    }

    async fn until_done<T, F: Future<Output = Result<T, String>>>(
        &self,
        request: Request,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T, String> {
        let mut attempts = Attempts::of(request);
        loop {
            let error = match attempt().await {
                Ok(done) => {
                    self.status.request_succeeded(request);
                    return Ok(done);
                }
                Err(error) => error,
            };
            self.status.request_failed(request, &error);
            let pause = attempts.failed(&error, self.backoff_max)?;
            tokio::time::sleep(pause).await;
        }
    }

    /// Keeps `limits.inserts_per_second`.
    async fn wait_for_turn(&self) {
        let turn = {
            let mut next = self.pace.lock().await;
            let turn = (*next).max(Instant::now());
            *next = turn + self.pause_between_inserts;
            turn
        };
        tokio::time::sleep_until(turn.into()).await;
    }

    async fn insert_once(&self, statement: &str, parts: &[Bytes]) -> Result<(), clickhouse::error::Error> {
        let mut insert = self.client.0.insert_formatted_with(statement).with_timeouts(Some(self.send_timeout), Some(self.insert_timeout));
        for part in parts {
            let mut rest = part.clone();
            while !rest.is_empty() {
                let piece = rest.split_to(rest.len().min(PIECE_BYTES));
                insert.send(piece).await?;
            }
        }
        insert.end().await
    }
}

impl Attempts {
    fn of(request: Request) -> Self {
        Attempts { request, failures: 0, faults: 0 }
    }

    /// Notes a failure: the pause before the next attempt, or an error for an operator.
    fn failed(&mut self, error: &str, backoff_max: Duration) -> Result<Duration, String> {
        let request = self.request;
        self.failures += 1;
        self.faults = if error_code(error).is_some_and(|code| FAULTS.contains(&code)) { self.faults + 1 } else { 0 };
        if self.faults >= BELIEVED_AFTER {
            return Err(format!(
                "clickhouse refuses {request}: {error}; run `onecode check`, then `onecode migrate`; nothing was lost, what was not acknowledged is read again"
            ));
        }
        let pause = backoff(self.failures, backoff_max);
        if self.failures.is_power_of_two() {
            let again = match request {
                Request::Insert(_) => "with the same bytes",
                Request::Query(_) => "unchanged",
            };
            tracing::warn!(failures = self.failures, ?pause, "clickhouse: {request} failed, tried again {again}: {error}");
        }
        Ok(pause)
    }
}

/// Nothing is saved on the way to a server of this machine.
fn compression(url: &str) -> Compression {
    let address = url.split_once("://").map_or(url, |(_, rest)| rest);
    let is_near = ["127.", "localhost:", "[::1]:"].iter().any(|prefix| address.starts_with(prefix));
    if is_near { Compression::None } else { Compression::Lz4 }
}

fn backoff(failures: u32, most: Duration) -> Duration {
    FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_on_this_machine_is_not_compressed() {
        for near in ["http://127.0.0.1:8123", "http://localhost:8123/", "http://[::1]:8123"] {
            assert!(matches!(compression(near), Compression::None), "{near}");
        }
        for far in ["https://clickhouse.example:8443", "http://10.0.0.7:8123", "http://localhost.example:8123"] {
            assert!(matches!(compression(far), Compression::Lz4), "{far}");
        }
    }

    #[test]
    fn an_outage_is_waited_out_and_a_missing_table_is_reported() {
        let most = Duration::from_secs(10);
        let mut attempts = Attempts::of(Request::Insert("scans"));
        for failure in 0..1_000 {
            let pause = attempts.failed("network error: connection refused", most).expect("waited out");
            assert!(pause <= most && (failure > 10 || pause < most || failure > 6), "{failure}: {pause:?}");
        }
        let error = "bad response: Code: 60. DB::Exception: Table onecode.scans does not exist";
        // A server that starts may not know its tables yet: it is believed when it says so again and again.
        for _ in 0..3 {
            assert!(attempts.failed(error, most).is_ok() && attempts.failed(error, most).is_ok());
            assert!(attempts.failed("network error: connection refused", most).is_ok());
        }
        assert!(attempts.failed(error, most).is_ok() && attempts.failed(error, most).is_ok());
        let report = attempts.failed(error, most).expect_err("believed");
        assert!(report.contains("`scans`") && report.contains("onecode migrate"), "{report}");
    }
}
