//! ClickHouse's shell: queues of inserts for the whole process, the state of tasks, and statements for the commands.
//!
//! Promises that a request is repeated with the same bytes until it is answered (but a copy, which is tried once), and that
//! an answer means durable. Never looks into rows.

pub mod admin;
mod attempt;
mod insert;
mod load;
mod native;
mod spares;
mod state;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::config::Config;
use crate::rows::Table;
use crate::telemetry::Status;
use crate::worker::{StoreReply, StoreRequest};
pub use admin::{Admin, AdminError, identifier, literal};
use attempt::Server;
use insert::{Chunk, answer, insert_chunks};
use load::Loads;
use spares::Spares;
pub use state::{complete_generations, newest_generations};

/// ClickHouse as the workers of a process share it.
#[derive(Debug)]
pub struct Store {
    server: Arc<Server>,
    queues: BTreeMap<Table, UnboundedSender<Chunk>>,
    spares: Arc<Spares>,
    loads: Arc<Loads>,
    runtime: Handle,
}

impl Store {
    /// Starts the queues on a runtime. `optional_settings` are server settings that exist only in some versions.
    pub fn start(config: &Config, status: Arc<Status>, runtime: Handle, optional_settings: &[(&str, &str)]) -> Arc<Self> {
        let server = Arc::new(Server::new(config, status, optional_settings));
        let spares = Arc::new(Spares::new(config.pipeline.workers, config.limits.spare_bytes()));
        let queues = Table::ALL
            .into_iter()
            .map(|table| {
                let (sender, receiver) = unbounded_channel();
                runtime.spawn(insert_chunks(server.clone(), spares.clone(), table, receiver));
                (table, sender)
            })
            .collect();
        Arc::new(Store { server, queues, spares, loads: Arc::default(), runtime })
    }

    /// A worker's own way to it, and where its answers come.
    pub fn client(self: &Arc<Self>) -> (StoreClient, Receiver<StoreReply>) {
        let (replies, receiver) = channel();
        (StoreClient { store: self.clone(), replies }, receiver)
    }
}

/// A worker's way to ClickHouse. Its requests wait in unbounded queues, bounded by the workers' own limits on what they hold.
#[derive(Debug)]
pub struct StoreClient {
    store: Arc<Store>,
    replies: Sender<StoreReply>,
}

impl StoreClient {
    /// Pages that earlier rows of a table had; `None` is `task_state`.
    pub fn spare(&self, table: Option<Table>) -> Vec<Vec<u8>> {
        self.store.spares.take(table)
    }

    /// Hands over a request; the answer comes through the channel.
    pub fn send(&self, request: StoreRequest) {
        match request {
            StoreRequest::Insert { table, batch, rows } => {
                let chunk = Chunk { batch, rows, reply: self.replies.clone() };
                let queued = self.store.queues.get(&table).is_some_and(|queue| queue.send(chunk).is_ok());
                if !queued {
                    answer(&self.replies, StoreReply::Refused { error: format!("the queue of table `{}` has ended", table.name()) });
                }
            }
            other => {
                let Store { server, spares, loads, runtime, .. } = &*self.store;
                runtime.spawn(state::serve(server.clone(), spares.clone(), loads.clone(), other, self.replies.clone()));
            }
        }
    }
}
