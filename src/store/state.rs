//! `task_state`: generations, copies, atomic writes and drops; loads are in `load.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use clickhouse::Client;

use super::admin::literal;
use super::attempt::Server;
use super::insert::{answer, other_columns};
use super::load::Loads;
use super::native::{self, Layout};
use super::spares::Spares;
use crate::engine::Half;
use crate::model::TaskName;
use crate::rows::RowBuffer;
use crate::task::{KIND_MARK, STATE_COLUMNS};
use crate::telemetry::events;
use crate::worker::{HalfTally, StoreReply, StoreRequest, StoredGeneration, Tally};

pub(super) const TABLE: &str = "task_state";

/// Carries out one request about the state, and answers.
pub(super) async fn serve(server: Arc<Server>, spares: Arc<Spares>, loads: Arc<Loads>, request: StoreRequest, reply: Sender<StoreReply>) {
    match request {
        StoreRequest::Newest { question, tasks } => {
            let outcome = server.query_until_done(TABLE, || stored(&server.client.0, &tasks, 0)).await;
            answer(&reply, outcome.map_or_else(refused, |generations| StoreReply::Newest { question, generations }));
        }
        StoreRequest::Copy { run, task, from, to } => {
            let result = copy(&server, &task, from, to).await;
            answer(&reply, StoreReply::Copied { run, result });
        }
        StoreRequest::Write { run, epoch, rows } => {
            let outcome = write(&server, &spares, rows).await;
            answer(&reply, outcome.map_or_else(refused, |()| StoreReply::Written { run, epoch }));
        }
        StoreRequest::Load { run, task, generation, half, after } => {
            let outcome = loads.piece(&server, (&task, run, half), generation, after.as_ref()).await;
            answer(&reply, outcome.map_or_else(refused, |(rows, more_behind)| StoreReply::Loaded { run, half, rows, more_behind }));
        }
        StoreRequest::Tally { run, task, generation } => {
            let outcome = server.query_until_done(TABLE, || tally(&server.client.0, &task, generation)).await;
            answer(&reply, outcome.map_or_else(refused, |tally| StoreReply::Tallied { run, tally }));
        }
        StoreRequest::Owners { run, task, besides } => {
            let outcome = server.query_until_done(TABLE, || stored(&server.client.0, std::slice::from_ref(&task), besides)).await;
            let of_task =
                |mut generations: BTreeMap<_, _>| StoreReply::Owners { run, generations: generations.remove(&task).unwrap_or_default() };
            answer(&reply, outcome.map_or_else(refused, of_task));
        }
        StoreRequest::Drop { task, generations } => drop_generations(&server, &task, &generations).await,
        // Goes to the queue of its table: `StoreClient::send`.
        StoreRequest::Insert { table, .. } => {
            answer(&reply, refused(format!("rows of `{}` came where state is kept; report it", table.name())));
        }
    }
}

fn refused(error: String) -> StoreReply {
    StoreReply::Refused { error }
}

/// The generations of tasks. What `besides` says of itself as an owner is left out. Neither query reads keys or payloads of other rows.
async fn stored(
    client: &Client,
    tasks: &[TaskName],
    besides: u64,
) -> Result<BTreeMap<TaskName, Vec<StoredGeneration>>, clickhouse::error::Error> {
    let names: Vec<String> = tasks.iter().map(|task| literal(task)).collect();
    let of_tasks = format!("task IN ({})", names.join(", "));
    let query = format!(
        "SELECT task, generation, count(), sum(is_deleted) FROM {TABLE} WHERE {of_tasks} GROUP BY task, generation ORDER BY task, generation"
    );
    let counted: Vec<(String, u64, u64, u64)> = client.query_raw(&query).fetch_all().await?;
    let query = format!("{} WHERE {of_tasks} AND owner != {besides} GROUP BY task, generation", owners());
    let owned: Vec<(String, u64, u8, u64, u8)> = client.query_raw(&query).fetch_all().await?;
    let owned: BTreeMap<_, _> =
        owned.into_iter().map(|(task, generation, complete, owner, closed)| ((task, generation), (complete, owner, closed))).collect();
    let mut generations: BTreeMap<TaskName, Vec<StoredGeneration>> = BTreeMap::new();
    for (task, generation, rows, gone) in counted {
        let key = (task, generation);
        let (complete, owner, closed) = owned.get(&key).copied().unwrap_or_default();
        let of_task = generations.entry(key.0.into()).or_default();
        of_task.push(StoredGeneration {
            generation,
            complete: complete == 1,
            owner: owner.max(generation),
            is_closed: closed == 1,
            rows,
            gone,
        });
    }
    Ok(generations)
}

/// The beginning of a SELECT, by task and generation, of what is said about generations as a whole: whether it is complete, its last owner (itself, if nobody took it
/// over), and whether that has written for the last time.
fn owners() -> String {
    format!(
        "SELECT task, generation, max(key = '') AS complete, max(owner) AS last_owner, argMax(key != '' AND payload != '', (owner, sequence)) AS closed \
         FROM (SELECT task, generation, key, payload, sequence, if(key = '', generation, reinterpretAsUInt64(reverse(key))) AS owner FROM {TABLE} WHERE kind = {KIND_MARK})"
    )
}

/// A SELECT of task and generation, of those that tasks would go on from ([`StoredGeneration::newest`]).
pub fn newest_generations() -> String {
    format!(
        "SELECT task, argMax(generation, (last_owner, generation)) FROM ({} GROUP BY task, generation) WHERE complete GROUP BY task",
        owners()
    )
}

/// A SELECT of all complete generations: task, generation, and who took it over last (itself, if nobody did); those behind that were owned later.
pub fn complete_generations() -> String {
    format!(
        "SELECT task, generation, last_owner FROM ({} GROUP BY task, generation) WHERE complete ORDER BY task, last_owner, generation",
        owners()
    )
}

/// One SELECT is one consistent snapshot. Tried once: a copy of unknown outcome may land later, into a generation that nobody reads; the server gives it up when
/// it is waited for no longer. FINAL gives every key once, so that there is nothing to replace while it is put in.
async fn copy(server: &Server, task: &TaskName, from: u64, to: u64) -> Result<(), String> {
    let began = Instant::now();
    let query = format!(
        "INSERT INTO {TABLE} ({columns}) SETTINGS optimize_on_insert = 0, max_execution_time = {seconds} SELECT task, {to}, kind, key, sequence, payload, 0 FROM {TABLE} FINAL WHERE task = {task} AND generation = {from} AND kind != {KIND_MARK}",
        columns = STATE_COLUMNS.join(", "),
        task = literal(task),
        seconds = server.query_timeout.as_secs() + 1,
    );
    let copying = server.client.0.query_raw(&query).execute();
    match tokio::time::timeout(server.query_timeout, copying).await {
        Ok(Ok(())) => {
            tracing::debug!(%task, from, to, elapsed = ?began.elapsed(), "state copied");
            Ok(())
        }
        Ok(Err(error)) => Err(format!("state of task {task} was not copied: {error}")),
        Err(_) => Err(format!("state of task {task} was not copied within {:?} (`clickhouse.query_timeout_ms`)", server.query_timeout)),
    }
}

/// A condition that rows of one half fulfil.
pub(super) fn of_half(half: Half) -> String {
    let kinds: Vec<String> = (0..=u8::MAX).filter(|kind| Half::of(*kind) == Half::Graph).map(|kind| kind.to_string()).collect();
    format!("kind {} ({})", if half == Half::Graph { "IN" } else { "NOT IN" }, kinds.join(", "))
}

/// Without FINAL: nothing but one copy, which has every key once, and a mark was ever written to this generation.
async fn tally(client: &Client, task: &TaskName, generation: u64) -> Result<Tally, clickhouse::error::Error> {
    let query = format!(
        "SELECT countIf({customers}), sumIf(sequence, {customers}), countIf({graph}), sumIf(sequence, {graph}) FROM {TABLE} WHERE task = {task} AND generation = {generation} AND kind != {KIND_MARK}",
        customers = of_half(Half::Customers),
        graph = of_half(Half::Graph),
        task = literal(task)
    );
    let (rows, sequences, graph_rows, graph_sequences) = client.query_raw(&query).fetch_one::<(u64, u64, u64, u64)>().await?;
    let graph = HalfTally { rows: graph_rows, sequences: graph_sequences };
    Ok(Tally { customers: HalfTally { rows, sequences }, graph })
}

/// One block into one partition: visible as a whole or not at all.
async fn write(server: &Server, spares: &Spares, rows: RowBuffer) -> Result<(), String> {
    let began = Instant::now();
    let count = rows.rows();
    let layout = Layout::of(TABLE, &STATE_COLUMNS);
    let parts = layout.and_then(|layout| layout.block([rows])).ok_or_else(|| other_columns(TABLE))?;
    let insert = format!(
        "INSERT INTO {TABLE} ({}) SETTINGS max_insert_block_size = {block}, min_insert_block_size_rows = {block}, min_insert_block_size_bytes = 0, max_insert_threads = 1, input_format_parallel_parsing = 0 FORMAT Native",
        STATE_COLUMNS.join(", "),
        block = count + 1,
    );
    server.insert_until_done(&insert, &parts, TABLE).await?;
    spares.put(None, native::reclaim(parts));
    events::inserted(TABLE, count, began.elapsed());
    Ok(())
}

/// What stays is dropped by the next takeover.
async fn drop_generations(server: &Server, task: &TaskName, generations: &[u64]) {
    for generation in generations {
        let query = format!("ALTER TABLE {TABLE} DROP PARTITION ({}, {generation})", literal(task));
        let dropping = server.client.0.query_raw(&query).execute();
        if let Err(error) = tokio::time::timeout(server.query_timeout, dropping)
            .await
            .map_err(|_| "no answer".to_owned())
            .and_then(|outcome| outcome.map_err(|error| error.to_string()))
        {
            tracing::info!(%task, generation, "an old generation could not be dropped yet: {error}");
        }
    }
}
