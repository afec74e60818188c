//! Inserts of serving and archive rows: one queue a table for the whole process, so that workers' rows become few parts.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedReceiver;

use super::attempt::{Attempts, Server};
use super::native::{self, Layout};
use super::spares::Spares;
use crate::rows::Table;
use crate::telemetry::events;
use crate::worker::StoreReply;

/// Rows of one worker for one table.
#[derive(Debug)]
pub(super) struct Chunk {
    pub batch: u64,
    pub rows: usize,
    pub bytes: Vec<u8>,
    pub reply: Sender<StoreReply>,
}

/// How long to wait for the other workers' rows of the same moment.
const GATHER: Duration = Duration::from_millis(30);

/// Takes chunks of one table as they come, and inserts them together. Never gives up: an outage of any length is waited out,
/// and the workers stop fetching meanwhile.
pub(super) async fn insert_chunks(server: Arc<Server>, spares: Arc<Spares>, table: Table, mut chunks: UnboundedReceiver<Chunk>) {
    let layout = Layout::of(table);
    let [in_rows, in_columns] = ["RowBinary", "Native"].map(|format| statement(table.name(), table.columns(), format));
    let (mut carried, mut spare_columns) = (None, Vec::new());
    loop {
        let first = match carried.take() {
            Some(chunk) => chunk,
            None => match chunks.recv().await {
                Some(chunk) => chunk,
                None => return,
            },
        };
        if server.workers > 1 && !table.is_archive() {
            tokio::time::sleep(GATHER).await;
        }
        let mut rows = first.rows;
        let mut group = vec![first];
        while let Ok(chunk) = chunks.try_recv() {
            if rows + chunk.rows > server.rows_per_insert {
                carried = Some(chunk);
                break;
            }
            rows += chunk.rows;
            group.push(chunk);
        }
        let began = Instant::now();
        let rows_of_all = || group.iter().map(|chunk| &*chunk.bytes);
        let block = layout.as_ref().and_then(|layout| layout.block(rows_of_all(), rows, &mut spare_columns));
        let buffers = group.iter_mut().map(|chunk| std::mem::take(&mut chunk.bytes));
        let (statement, parts) = match block {
            Some(block) => {
                buffers.for_each(|buffer| spares.put(table, buffer));
                (&in_columns, block)
            }
            None => (&in_rows, buffers.map(Bytes::from).collect()),
        };
        let outcome = server.insert_until_done(statement, &parts, table.name(), Attempts::default()).await;
        spare_columns = native::reclaim(parts);
        match outcome {
            Ok(()) => {
                events::inserted(table.name(), rows, began.elapsed());
                for chunk in group {
                    answer(&chunk.reply, StoreReply::Inserted { table, batch: chunk.batch });
                }
            }
            Err(error) => {
                for chunk in group {
                    answer(&chunk.reply, StoreReply::Refused { error: error.clone() });
                }
            }
        }
    }
}

/// `INSERT INTO … FORMAT …` with the columns named.
fn statement(table: &str, columns: &[&str], format: &str) -> String {
    let columns: Vec<String> = columns.iter().map(|column| format!("`{column}`")).collect();
    format!("INSERT INTO {table} ({}) FORMAT {format}", columns.join(", "))
}

/// A worker that is gone does not want to know.
pub(super) fn answer(reply: &Sender<StoreReply>, answer: StoreReply) {
    if reply.send(answer).is_err() {
        tracing::debug!("an answer of clickhouse came after its worker had ended");
    }
}
