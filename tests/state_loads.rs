//! Goal: a task's state comes back in pieces of one query, and whole, whatever becomes of that query.
//! Method: a real ClickHouse with 80 MB of one task's rows, more than sockets hold, and the shell that workers load through, past a proxy that cuts
//! an answer off in the middle.

mod common;

use std::cell::Cell;
use std::path::Path;
use std::sync::mpsc::Receiver;

use anyhow::{Context as _, Result, bail, ensure};
use common::{DEADLINE, Proxy, World, wait_until};
use onecode::config::Config;
use onecode::engine::Half;
use onecode::store::{Store, StoreClient};
use onecode::task::StoredRows;
use onecode::telemetry::Status;
use onecode::worker::{RowKey, RunId, StoreReply, StoreRequest};

const ROWS: u64 = 200_000;
const GENERATION: u64 = 7;
/// Loads of this test, and no other query of it.
const LOADS: &str = "query LIKE 'SELECT kind, key%task_state FINAL%' AND query_kind = 'Select'";

/// A worker's way to ClickHouse.
struct Loader {
    /// Of which half of the state.
    half: Cell<Option<Half>>,
    client: StoreClient,
    replies: Receiver<StoreReply>,
    _runtime: tokio::runtime::Runtime,
}

/// One piece: its bytes, the key of its last row, and whether there is more.
struct Piece {
    bytes: Vec<u8>,
    last: Option<RowKey>,
    has_more: bool,
}

impl Loader {
    fn new(world: &World<'_>, proxy: &Proxy) -> Result<Loader> {
        let past_proxy = ("ONECODE_CLICKHOUSE__URL".to_owned(), proxy.url().to_owned());
        let config = Config::from_text(&world.config_toml(0)?, Path::new("world.toml"), [past_proxy])?;
        ensure!(config.limits.restore_piece_bytes(config.pipeline.workers) == 1 << 20, "the pieces of this test");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let store = Store::start(&config, Status::new(1, Vec::new(), Vec::new()), runtime.handle().clone(), &[]);
        let (client, replies) = store.client();
        Ok(Loader { half: Cell::new(None), client, replies, _runtime: runtime })
    }

    fn piece(&self, run: u32, after: Option<RowKey>) -> Result<Piece> {
        self.client.send(StoreRequest::Load { run: RunId(run), task: "0".into(), generation: GENERATION, half: self.half.get(), after });
        let (bytes, more_behind) = match self.replies.recv_timeout(DEADLINE)? {
            StoreReply::Loaded { run: of, half, rows, more_behind } if of == RunId(run) && half == self.half.get() => (rows, more_behind),
            other => bail!("another answer: {other:?}"),
        };
        let mut rows = StoredRows::new(&bytes);
        let last = std::iter::from_fn(|| rows.read()).last().map(|row| (row.kind, row.key.to_vec()));
        ensure!(rows.unread() == 0, "{} bytes of a row that is cut short", rows.unread());
        ensure!(more_behind.is_none() || more_behind == last, "more behind {more_behind:x?}, but the last row is {last:x?}");
        Ok(Piece { bytes, last, has_more: more_behind.is_some() })
    }

    /// Everything, with what is done after each piece.
    fn all(&self, run: u32, mut after_piece: impl FnMut(usize, &Piece) -> Result<()>) -> Result<Vec<u8>> {
        let (mut bytes, mut after) = (Vec::new(), None);
        for number in 1.. {
            let piece = self.piece(run, after)?;
            after_piece(number, &piece)?;
            bytes.extend(piece.bytes);
            if !piece.has_more {
                break;
            }
            after = Some(piece.last.context("a piece without rows that is not the last")?);
        }
        Ok(bytes)
    }
}

fn world_with_state() -> Result<World<'static>> {
    let mut world = World::new("loads")?;
    world.set("limits.buffered_bytes", 16 << 20).set("limits.parallel_takeovers", 4);
    world.migrate(1)?;
    world.query(&format!(
        "INSERT INTO task_state (task, generation, kind, key, sequence, payload, is_deleted) SELECT '0', {GENERATION}, if(number < 60000, 1, 6), leftPad(toString(number), 8, '0'), number, randomPrintableASCII(400), 0 FROM numbers({ROWS})"
    ))?;
    Ok(world)
}

#[test]
fn pieces_of_one_query_are_all_rows_also_when_the_answer_is_cut_off() -> Result<()> {
    let world = world_with_state()?;
    let proxy = Proxy::start(&world.stack.clickhouse.url())?;
    let loader = Loader::new(&world, &proxy)?;
    let running =
        || world.number(&format!("SELECT count() FROM system.processes WHERE current_database = '{}' AND {LOADS}", world.database()));
    let mut pieces = 0;
    let all = loader.all(1, |number, piece| {
        pieces = number;
        ensure!(piece.bytes.len() < 4 << 20, "a piece of {} bytes", piece.bytes.len());
        // What is not asked for waits on the server.
        ensure!(number > 1 || running()? == 1, "the query went on without anybody who reads it");
        Ok(())
    })?;
    ensure!(pieces > 10, "{pieces} pieces");
    let mut rows = StoredRows::new(&all);
    let mut expected = 0..ROWS;
    while let Some(row) = rows.read() {
        let number = expected.next().context("more rows than there are")?;
        ensure!(row.key == format!("{number:08}").as_bytes() && row.sequence == number && row.payload.len() == 400, "row {number}");
    }
    ensure!(expected.is_empty(), "{expected:?} are missing");
    wait_until("the end of the query", DEADLINE, || Ok(running()? == 0))?;

    // Rows of kind 1 are customers, those of kind 6 are visits: of one half of the state each.
    let mut halves = Vec::new();
    for half in [Half::Customers, Half::Graph] {
        loader.half.set(Some(half));
        let rows = loader.all(5, |_, _| Ok(()))?;
        ensure!(rows.len() > all.len() / 4, "{} bytes of the half {half:?}", rows.len());
        halves.extend(rows);
    }
    ensure!(halves == all, "both halves are not the whole");
    loader.half.set(None);

    let again = loader.all(2, |number, _| {
        if number == 2 {
            proxy.lose_answers(1);
        }
        Ok(())
    })?;
    ensure!(proxy.lost() == 1, "{} answers were cut off", proxy.lost());
    ensure!(again == all, "other rows after a query was cut off");

    // Whoever asks for the same again gets the same, though pieces may end elsewhere, and runs do not disturb each other.
    let begins_at = |piece: &Piece, at: usize| !piece.bytes.is_empty() && all.get(at..).is_some_and(|rest| rest.starts_with(&piece.bytes));
    let first = loader.piece(3, None)?;
    let second = loader.piece(3, first.last.clone())?;
    let behind_first = first.bytes.len();
    ensure!(begins_at(&first, 0) && begins_at(&second, behind_first), "two pieces of a run");
    let other = loader.piece(4, None)?;
    ensure!(begins_at(&other, 0) && begins_at(&loader.piece(4, other.last.clone())?, other.bytes.len()), "another run");
    ensure!(begins_at(&loader.piece(4, first.last.clone())?, behind_first), "another run, behind a row at which no piece of it ended");
    ensure!(begins_at(&loader.piece(3, first.last)?, behind_first), "the same piece again");
    Ok(())
}

#[test]
fn a_task_without_rows_has_none() -> Result<()> {
    let mut world = World::new("loads")?;
    world.set("limits.buffered_bytes", 16 << 20).set("limits.parallel_takeovers", 4);
    world.migrate(1)?;
    let piece = Loader::new(&world, &Proxy::start(&world.stack.clickhouse.url())?)?.piece(1, None)?;
    ensure!(piece.bytes.is_empty() && !piece.has_more && piece.last.is_none(), "{} bytes", piece.bytes.len());
    Ok(())
}
