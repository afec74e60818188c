//! Inserts of serving and archive rows: one queue a table for the whole process, so that workers' rows become few parts.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedReceiver;

use super::attempt::Server;
use super::native::{self, Layout};
use super::spares::Spares;
use crate::rows::{RowBuffer, Table};
use crate::telemetry::events;
use crate::worker::StoreReply;

/// Rows of one worker for one table.
#[derive(Debug)]
pub(super) struct Chunk {
    pub batch: u64,
    pub rows: RowBuffer,
    pub reply: Sender<StoreReply>,
}

/// How long to wait for the other workers' rows of the same moment.
const GATHER: Duration = Duration::from_millis(30);

/// Takes chunks of one table as they come, and inserts them together. Never gives up: an outage of any length is waited out,
/// and the workers stop fetching meanwhile.
pub(super) async fn insert_chunks(server: Arc<Server>, spares: Arc<Spares>, table: Table, mut chunks: UnboundedReceiver<Chunk>) {
    let layout = Layout::of(table.name(), table.columns());
    let statement = statement(table.name(), table.columns());
    let mut carried = None;
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
        let mut rows = first.rows.rows();
        let mut group = vec![first];
        while let Ok(chunk) = chunks.try_recv() {
            if rows + chunk.rows.rows() > server.rows_per_insert {
                carried = Some(chunk);
                break;
            }
            rows += chunk.rows.rows();
            group.push(chunk);
        }
        let began = Instant::now();
        let buffers = group.iter_mut().map(|chunk| std::mem::take(&mut chunk.rows));
        let outcome = match layout.as_ref().and_then(|layout| layout.block(buffers)) {
            Some(parts) => {
                let outcome = server.insert_until_done(&statement, &parts, table.name()).await;
                spares.put(Some(table), native::reclaim(parts));
                outcome
            }
            None => Err(other_columns(table.name())),
        };
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

/// `INSERT INTO … FORMAT Native` with the columns named.
fn statement(table: &str, columns: &[&str]) -> String {
    let columns: Vec<String> = columns.iter().map(|column| format!("`{column}`")).collect();
    format!("INSERT INTO {table} ({}) FORMAT Native", columns.join(", "))
}

/// Rows and schema are of one program, so that this is a fault of it.
pub(super) fn other_columns(table: &str) -> String {
    format!("rows of table `{table}` were encoded with other columns than its schema has; report it, and run the release before this one")
}

/// A worker that is gone does not want to know.
pub(super) fn answer(reply: &Sender<StoreReply>, answer: StoreReply) {
    if reply.send(answer).is_err() {
        tracing::debug!("an answer of clickhouse came after its worker had ended");
    }
}
