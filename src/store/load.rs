//! Loads of the rows of a generation: one query for all of them, read piece by piece as the worker asks.
//!
//! Owns the queries that are under way. Promises whole rows by kind and key, and that whoever asks for what is behind the last row gets it, whether its
//! query still stands or another has to be asked. What was not asked for waits on the server: here it takes no memory but the connection's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clickhouse::error::Error;
use clickhouse::query::BytesCursor;

use super::admin::literal;
use super::attempt::Server;
use super::state::{TABLE, of_half};
use crate::engine::Half;
use crate::model::TaskName;
use crate::task::{KIND_MARK, StoredRows};
use crate::worker::{RowKey, RunId};

/// A query that nobody reads is given up after so long: its task has gone elsewhere, and the server does not wait for longer either.
const IDLE: Duration = Duration::from_secs(60);

/// What may come at once, bytes; more is no fault.
const CHUNK_BYTES: usize = 512 << 10;

/// A first piece ends when it is as large as this, bytes.
const FIRST_BYTES: usize = 2 << 20;

/// Rows of a block of the server's: twice the index granularity of the table.
const ROWS_A_BLOCK: u32 = 2_048;

type Whose = (TaskName, RunId, Option<Half>);

/// Whole rows, and the last of them if there may be more.
pub(super) type Piece = (Vec<u8>, Option<RowKey>);

/// Queries that have more to say, by task, run and half of the state.
#[derive(Debug, Default)]
pub(super) struct Loads {
    open: Mutex<BTreeMap<Whose, Open>>,
}

/// A query that was read up to some row.
struct Open {
    cursor: BytesCursor,
    generation: u64,
    /// The last row of the last piece.
    last: RowKey,
    /// What was read behind it.
    rest: Vec<u8>,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Open").field("generation", &self.generation).field("last", &self.last).finish_non_exhaustive()
    }
}

impl Loads {
    /// The live rows behind `after`, by kind and key. A piece ends when it is [`crate::config::Limits::restore_piece_bytes`] large, the first one sooner, because somebody
    /// waits for it.
    ///
    /// # Errors
    /// What an operator has to mend.
    pub async fn piece(
        self: &Arc<Self>,
        server: &Server,
        (task, run, half): (&TaskName, RunId, Option<Half>),
        generation: u64,
        after: Option<&RowKey>,
    ) -> Result<Piece, String> {
        let began = Instant::now();
        let whose = (task.clone(), run, half);
        let goes_on = self.take(&whose).filter(|open| open.generation == generation && after == Some(&open.last));
        let is_first = goes_on.is_none();
        let next = match goes_on {
            Some(open) => match tokio::time::timeout(server.query_timeout, open.read(server.restore_piece_bytes)).await {
                Ok(Ok(next)) => Some(next),
                // As when nobody asked for long: the server had ended it.
                Ok(Err(error)) => {
                    tracing::debug!(%task, generation, "a load was cut off, the rest is asked for anew: {error}");
                    None
                }
                Err(_) => None,
            },
            None => None,
        };
        let (rows, open) = match next {
            Some(next) => next,
            None => {
                let most_bytes = if after.is_none() { FIRST_BYTES.min(server.restore_piece_bytes) } else { server.restore_piece_bytes };
                let begin = || async { Open::begin(server, (task, half), generation, after)?.read(most_bytes).await };
                server.query_until_done(TABLE, begin).await?
            }
        };
        let (has_more, more_behind) = (open.is_some(), open.as_ref().map(|open| open.last.clone()));
        tracing::debug!(%task, generation, ?half, is_first, bytes = rows.len(), has_more, elapsed = ?began.elapsed(), "state loaded");
        if let Some(open) = open {
            self.keep(whose, open);
        }
        Ok((rows, more_behind))
    }

    fn take(&self, whose: &Whose) -> Option<Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(whose)
    }

    fn keep(self: &Arc<Self>, whose: Whose, open: Open) {
        let last = open.last.clone();
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(whose.clone(), open);
        let loads = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(IDLE).await;
            let mut open = loads.open.lock().unwrap_or_else(PoisonError::into_inner);
            if open.get(&whose).is_some_and(|open| open.last == last) {
                open.remove(&whose);
            }
        });
    }
}

impl Open {
    /// Asks for everything behind `after`. The rows come in the order of the table's key, so that the server streams them.
    fn begin(server: &Server, (task, half): (&TaskName, Option<Half>), generation: u64, after: Option<&RowKey>) -> Result<Open, Error> {
        // A comparison of pairs would find no use for the index, and read all rows.
        let behind =
            after.map_or_else(String::new, |(kind, key)| format!(" AND kind >= {kind} AND (kind > {kind} OR key > unhex('{}'))", hex(key)));
        let of_half = half.map_or_else(String::new, |half| format!(" AND {}", of_half(half)));
        // More threads take twice the processor's time for the same rows, and as a rule several tasks are loaded at once. Blocks of the default size, of which packs are
        // most, take twice as much too, and reading stands still for up to a second.
        let query = format!(
            "SELECT {} FROM {TABLE} FINAL WHERE task = {} AND generation = {generation} AND kind != {KIND_MARK}{of_half}{behind} ORDER BY kind, key SETTINGS max_threads = 1, max_block_size = {ROWS_A_BLOCK}",
            StoredRows::COLUMNS,
            literal(task)
        );
        let cursor = server.client.0.query_raw(&query).fetch_bytes("RowBinary")?;
        Ok(Open { cursor, generation, last: RowKey::default(), rest: Vec::new() })
    }

    /// The next piece, and the query if it has more to say.
    async fn read(mut self, most_bytes: usize) -> Result<(Vec<u8>, Option<Open>), Error> {
        // All at once: what grows by doubling takes up to three times as much meanwhile.
        let mut bytes = Vec::with_capacity(most_bytes + CHUNK_BYTES);
        bytes.append(&mut self.rest);
        loop {
            if bytes.len() >= most_bytes
                && let Some((whole, last)) = whole_rows(&bytes)
            {
                self.rest = bytes.split_off(whole);
                self.last = last;
                return Ok((bytes, Some(self)));
            }
            match self.cursor.next().await? {
                Some(more) => bytes.extend_from_slice(&more),
                // A row that is cut short here is for the reader to refuse.
                None => {
                    bytes.shrink_to_fit();
                    return Ok((bytes, None));
                }
            }
        }
    }
}

/// Bytes of the whole rows, and the key of the last of them; none if the first is not whole.
fn whole_rows(bytes: &[u8]) -> Option<(usize, RowKey)> {
    let mut rows = StoredRows::new(bytes);
    let mut found = None;
    while let Some(row) = rows.read() {
        found = Some((row.kind, row.key));
    }
    found.map(|(kind, key)| (bytes.len() - rows.unread(), (kind, key.to_vec())))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
