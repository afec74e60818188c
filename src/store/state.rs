//! `task_state`: generations, copies, atomic writes and drops; loads are in `load.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Instant;

use clickhouse::Client;

use super::admin::literal;
use super::attempt::{Attempts, Server};
use super::insert::{answer, other_columns};
use super::load::Loads;
use super::native::{self, Layout};
use super::spares::Spares;
use crate::model::TaskName;
use crate::rows::RowBuffer;
use crate::task::{KIND_MARK, STATE_COLUMNS};
use crate::telemetry::events;
use crate::worker::{StoreReply, StoreRequest, StoredGeneration, Tally};

pub(super) const TABLE: &str = "task_state";

/// Carries out one request about the state, and answers.
pub(super) async fn serve(server: Arc<Server>, spares: Arc<Spares>, loads: Arc<Loads>, request: StoreRequest, reply: Sender<StoreReply>) {
    match request {
        StoreRequest::Newest { question, tasks } => {
            let outcome = until_done(&server, || newest(&server.client.0, &tasks)).await;
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
        StoreRequest::Load { run, task, generation, after } => {
            let outcome = loads.piece(&server, (&task, run), generation, after.as_ref()).await;
            answer(&reply, outcome.map_or_else(refused, |(rows, has_more)| StoreReply::Loaded { run, rows, has_more }));
        }
        StoreRequest::Tally { run, task, generation } => {
            let outcome = until_done(&server, || tally(&server.client.0, &task, generation)).await;
            answer(&reply, outcome.map_or_else(refused, |tally| StoreReply::Tallied { run, tally }));
        }
        StoreRequest::Drop { task, generations } => drop_generations(&server, &task, &generations).await,
        StoreRequest::Insert { .. } => {}
    }
}

fn refused(error: String) -> StoreReply {
    StoreReply::Refused { error }
}

/// Repeats a query until it is answered; an error is something that an operator has to mend.
pub(super) async fn until_done<T, F: Future<Output = Result<T, clickhouse::error::Error>>>(
    server: &Server,
    mut query: impl FnMut() -> F,
) -> Result<T, String> {
    let mut attempts = Attempts::default();
    loop {
        let error = match tokio::time::timeout(server.query_timeout, query()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {:?}", server.query_timeout),
        };
        server.status.insert_started();
        server.status.insert_failed(&error);
        let pause = attempts.failed(TABLE, &error, server.backoff_max())?;
        tokio::time::sleep(pause).await;
    }
}

async fn newest(client: &Client, tasks: &[TaskName]) -> Result<BTreeMap<TaskName, Vec<StoredGeneration>>, clickhouse::error::Error> {
    let names: Vec<String> = tasks.iter().map(|task| literal(task)).collect();
    let query = format!(
        "SELECT task, generation, max(kind = {KIND_MARK}) AS complete FROM {TABLE} WHERE task IN ({}) GROUP BY task, generation ORDER BY task, generation",
        names.join(", ")
    );
    let rows: Vec<(String, u64, u8)> = client.query_raw(&query).fetch_all().await?;
    let mut generations: BTreeMap<TaskName, Vec<StoredGeneration>> = BTreeMap::new();
    for (task, generation, complete) in rows {
        generations.entry(task.into()).or_default().push(StoredGeneration { generation, complete: complete == 1 });
    }
    Ok(generations)
}

/// One SELECT is one consistent snapshot. Tried once: a copy of unknown outcome may land later. FINAL gives every key once, so that there is nothing to
/// replace while it is put in.
async fn copy(server: &Server, task: &TaskName, from: u64, to: u64) -> Result<(), String> {
    let began = Instant::now();
    let query = format!(
        "INSERT INTO {TABLE} ({columns}) SETTINGS optimize_on_insert = 0 SELECT task, {to}, kind, key, sequence, payload, 0 FROM {TABLE} FINAL WHERE task = {task} AND generation = {from} AND kind != {KIND_MARK}",
        columns = STATE_COLUMNS.join(", "),
        task = literal(task),
    );
    let copying = server.client.0.query_raw(&query).execute();
    match tokio::time::timeout(server.insert_timeout, copying).await {
        Ok(Ok(())) => {
            tracing::debug!(%task, from, to, elapsed = ?began.elapsed(), "state copied");
            Ok(())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {:?}", server.insert_timeout)),
    }
}

/// Without FINAL: nothing but one copy, which has every key once, and a mark was ever written to this generation.
async fn tally(client: &Client, task: &TaskName, generation: u64) -> Result<Tally, clickhouse::error::Error> {
    let query = format!(
        "SELECT count(), sum(sequence) FROM {TABLE} WHERE task = {} AND generation = {generation} AND kind != {KIND_MARK}",
        literal(task)
    );
    let (rows, sequences) = client.query_raw(&query).fetch_one::<(u64, u64)>().await?;
    Ok(Tally { rows, sequences })
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
    server.insert_until_done(&insert, &parts, TABLE, Attempts::default()).await?;
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
