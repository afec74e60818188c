//! The world of a worker, over the real servers.

use std::time::Duration;

use rdkafka_sys::RDKafkaErrorCode;

use super::dying::DiesAt;
use super::native::{Consumer, NativeError, OffsetAndMetadata};
use super::producer::ExchangeProducer;
use crate::model::{Offset, TopicPartition};
use crate::rows::Table;
use crate::store::StoreClient;
use crate::task::{DeadLetter, Record};
use crate::worker::{Boundary, Claim, Commit, Committed, InFlight, Io, LogError, LogRange, StoreRequest, Ticket};

/// How long a question to a broker may take, in milliseconds.
const ASK_TIMEOUT_MS: i32 = 10_000;

/// Consumer, producer and ClickHouse of one worker.
#[derive(Debug)]
pub struct KafkaIo {
    /// Polled by the worker's loop.
    pub consumer: Consumer,
    /// Polled by the worker's loop.
    pub producer: ExchangeProducer,
    /// Hands requests to the process's inserts.
    pub store: StoreClient,
    /// Only in tests.
    pub dies_at: Option<DiesAt>,
}

impl Io for KafkaIo {
    fn commit(&mut self, commits: &[Commit]) -> Result<(), LogError> {
        let offsets: Vec<OffsetAndMetadata> = commits
            .iter()
            .map(|commit| OffsetAndMetadata { tp: commit.tp.clone(), offset: Some(commit.offset), metadata: commit.claim.map(metadata_of) })
            .collect();
        self.consumer.commit(&offsets).map_err(|error| log_error(&error))
    }

    fn committed(&mut self, partitions: &[TopicPartition]) -> Result<Vec<Committed>, LogError> {
        let entries = self.consumer.committed(partitions, ASK_TIMEOUT_MS).map_err(|error| log_error(&error))?;
        Ok(entries
            .into_iter()
            .map(|entry| Committed { offset: entry.offset, claim: entry.metadata.as_deref().and_then(claim_of) })
            .collect())
    }

    fn range(&mut self, tp: &TopicPartition) -> Result<LogRange, LogError> {
        let timeout = Duration::from_millis(ASK_TIMEOUT_MS.unsigned_abs().into());
        let (start, end) = self.producer.range(tp, timeout).map_err(|error| LogError::Unavailable(format!("{tp}: {error}")))?;
        Ok(LogRange { start, end })
    }

    fn start(&mut self, starts: &[(TopicPartition, Offset)]) -> Result<(), LogError> {
        self.consumer.seek(starts, ASK_TIMEOUT_MS).map_err(|error| log_error(&error))?;
        let partitions: Vec<TopicPartition> = starts.iter().map(|(tp, _)| tp.clone()).collect();
        self.consumer.resume(&partitions).map_err(|error| log_error(&error))
    }

    fn pause(&mut self, partitions: &[TopicPartition]) {
        if let Err(error) = self.consumer.pause(partitions) {
            tracing::warn!(%error, "partitions could not be paused");
        }
    }

    fn produce_exchange(&mut self, ticket: Ticket, partition: u32, header: &[u8], record: Option<&Record<'_>>) {
        self.producer.exchange(ticket, partition, header, record);
    }

    fn produce_dead_letter(&mut self, ticket: Ticket, letter: &DeadLetter<'_>) {
        self.producer.dead_letter(ticket, letter);
    }

    fn store(&mut self, request: StoreRequest) {
        self.store.send(request);
    }

    fn spare(&mut self, table: Option<Table>) -> Vec<Vec<u8>> {
        self.store.spare(table)
    }

    fn cross(&mut self, boundary: Boundary) {
        if let Some(dies_at) = &mut self.dies_at {
            dies_at.cross(boundary);
        }
    }

    fn in_flight(&self) -> InFlight {
        self.producer.in_flight()
    }
}

const GENERATION_PREFIX: &str = "onecode generation=";
const STATE_SUFFIX: &str = " state";

fn metadata_of(claim: Claim) -> String {
    let state = if claim.has_state { STATE_SUFFIX } else { "" };
    format!("{GENERATION_PREFIX}{}{state}", claim.generation)
}

fn claim_of(metadata: &str) -> Option<Claim> {
    let text = metadata.strip_prefix(GENERATION_PREFIX)?;
    let (number, has_state) = text.strip_suffix(STATE_SUFFIX).map_or((text, false), |number| (number, true));
    Some(Claim { generation: number.parse().ok()?, has_state })
}

/// Errors by which the coordinator says that this member has no say any more; all others may pass.
fn log_error(error: &NativeError) -> LogError {
    match error.code {
        RDKafkaErrorCode::IllegalGeneration
        | RDKafkaErrorCode::UnknownMemberId
        | RDKafkaErrorCode::FencedInstanceId
        | RDKafkaErrorCode::AssignmentLost
        | RDKafkaErrorCode::Fenced => LogError::Fenced(error.to_string()),
        _ => LogError::Unavailable(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_survives_the_metadata() {
        for claim in [Claim { generation: u64::MAX, has_state: true }, Claim { generation: 0, has_state: false }] {
            assert_eq!(claim_of(&metadata_of(claim)), Some(claim));
        }
        for foreign in ["", "7", "onecode generation=", "onecode generation=7 stat"] {
            assert_eq!(claim_of(foreign), None, "{foreign}");
        }
    }
}
