//! What a task does with what arrives on the exchange: relays, progress, contributions, reaches.
//!
//! Promises that a relayed record comes to what it would have come to at its source: the same bytes, headers and rules. Never
//! takes a relay before the one that its source sent before it.

use smallvec::SmallVec;

use super::contribution::decode_contributions;
use super::dead_letter::Origin;
use super::error::TaskError;
use super::record::{Headers, Record};
use super::relay::{EXCHANGE_HEADER, Incoming, RelayHeader, Verdict, decode_header};
use super::run::{Decoded, Outbox, Outcome, Task, format_of, send_dead_letter};
use crate::decode::{RawRecord, decode};
use crate::engine::{FORESEEN, Foreseen};
use crate::model::{Event, Reason, Reject, Stage, Version};

/// Whether a relay may have been taken before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeat {
    No,
    Perhaps,
}

impl Task {
    /// Decodes a record of the exchange. The original headers of a relay came along, so its event is decoded from the same bytes by the same rules as
    /// at its source.
    pub(super) fn decode_exchange<'a>(&self, record: &Record<'a>) -> Decoded<'a> {
        let mut incoming = None;
        record.headers.find(EXCHANGE_HEADER, &mut |value| incoming = decode_header(value));
        let relay = match incoming {
            Some(Incoming::Relay(relay)) => relay,
            other => return Decoded::Exchange(other),
        };
        let event = match self.settings.inputs.get(&*relay.source.topic).copied() {
            Some((kind, format)) => {
                let raw = RawRecord { value: record.value, content_type: None, timestamp_ms: relay.timestamp_ms };
                decode(kind, format_of(record, format), raw, &self.settings.rules)
            }
            None => Err(Reject {
                reason: Reason::Undecodable,
                stage: Stage::Decode,
                message: format!("topic `{}` is not among the configured input topics any more", relay.source.topic),
            }),
        };
        Decoded::Relay { relay, event, foreseen: Foreseen::default() }
    }

    /// Takes a record of the exchange that is no relay.
    pub(super) fn on_exchange<O: Outbox>(
        &mut self,
        log: usize,
        record: &Record<'_>,
        incoming: Option<&Incoming>,
        out: &mut O,
    ) -> Result<Outcome, TaskError> {
        match incoming {
            Some(Incoming::Progress { source, previous, timestamp_ms }) => {
                if !self.reads_itself(source, *previous) {
                    self.inbox.progress(source, *previous, *timestamp_ms);
                }
                Ok(Outcome::Noted)
            }
            Some(Incoming::Contributions { task, version }) => Ok(match self.on_contributions(*task, *version, record.value)? {
                Ok(outcome) => outcome,
                Err(what) => self.reject_foreign(log, record, &what, out),
            }),
            Some(Incoming::Reach { task, reach }) => {
                self.reaches.note(*task, *reach);
                self.engine.raise_reach(self.reaches.least_ms(self.settings.tasks));
                Ok(Outcome::Noted)
            }
            Some(Incoming::Relay(_)) | None => Ok(self.reject_foreign(log, record, &format!("no valid header `{EXCHANGE_HEADER}`"), out)),
        }
    }

    /// Takes a relay, unless it is not its turn.
    pub(super) fn on_relay<O: Outbox>(&mut self, relayed: Relayed<'_>, record: &Record<'_>, out: &mut O) -> Result<Outcome, TaskError> {
        let relay = relayed.relay;
        if self.reads_itself(&relay.source, relay.offset) {
            return Ok(Outcome::AlreadyApplied);
        }
        match self.inbox.judge(relay) {
            Verdict::AlreadyTaken => self.on_repeated_relay(relayed, record, out),
            Verdict::Gap => Ok(Outcome::Refused),
            Verdict::Take => self.take_relay(relayed, Repeat::No, record, out),
        }
    }

    /// The inner error says what is wrong with the message.
    fn on_contributions(&mut self, task: u32, version: Version, value: Option<&[u8]>) -> Result<Result<Outcome, String>, TaskError> {
        if self.reaches.is_outdated(task, version) {
            return Ok(Ok(Outcome::AlreadyApplied));
        }
        let Some(contributions) = decode_contributions(value) else {
            return Ok(Err("contributions that cannot be decoded".to_owned()));
        };
        for run in contributions.chunks(FORESEEN) {
            let read: SmallVec<[_; FORESEEN]> = run.iter().map(|bytes| self.engine.read_contribution(bytes)).collect();
            // One alone has nothing to be waited for together with.
            if run.len() > 1 {
                self.engine.foresee_contributions(read.iter().flatten());
            }
            for (bytes, contribution) in run.iter().zip(read) {
                match contribution {
                    Ok(contribution) => {
                        self.fetch_for_contribution(bytes)?;
                        self.engine.hear(version, contribution);
                    }
                    Err(error) => return Ok(Err(error.to_string())),
                }
            }
        }
        Ok(Ok(Outcome::Noted))
    }

    /// The exchange is internal: what onecode did not write is nobody's event.
    fn reject_foreign<O: Outbox>(&mut self, log: usize, record: &Record<'_>, what: &str, out: &mut O) -> Outcome {
        let Some(at) = self.logs.get(log) else { return Outcome::AlreadyApplied };
        let origin = Origin { log: at.tp.clone(), offset: record.offset };
        let message = format!("no message of onecode's: the exchange topic is internal, and this record has {what}");
        let reject = Reject { reason: Reason::Undecodable, stage: Stage::Decode, message };
        send_dead_letter(&origin, &reject, record, record.headers, out)
    }

    /// A relay at or before the mark was taken, or never sent: a source that reads again under other rules of acceptance (a raised
    /// `pipeline.max_lateness_days`) relays what it had rejected, in between what it had relayed. Its customer knows which of the two.
    /// What it rejects now is no news for the limits on rejected records.
    fn on_repeated_relay<O: Outbox>(&mut self, relayed: Relayed<'_>, record: &Record<'_>, out: &mut O) -> Result<Outcome, TaskError> {
        Ok(match self.take_relay(relayed, Repeat::Perhaps, record, out)? {
            Outcome::Duplicate(_) | Outcome::Rejected(_) => Outcome::AlreadyApplied,
            outcome => outcome,
        })
    }

    fn take_relay<O: Outbox>(
        &mut self,
        Relayed { relay, event, foreseen }: Relayed<'_>,
        repeat: Repeat,
        record: &Record<'_>,
        out: &mut O,
    ) -> Result<Outcome, TaskError> {
        let event = match event {
            Ok(event) => event,
            Err(reject) => return Ok(reject_relayed(relay, reject, record, out)),
        };
        Ok(match self.apply_own(event, foreseen, out)? {
            Ok(outcome) => outcome,
            Err(reject) if repeat == Repeat::Perhaps && self.was_forgotten(event, relay, &reject) => Outcome::AlreadyApplied,
            Err(reject) => reject_relayed(relay, &reject, record, out),
        })
    }
}

/// The dead letter is that of the source's record.
fn reject_relayed<O: Outbox>(relay: &RelayHeader, reject: &Reject, record: &Record<'_>, out: &mut O) -> Outcome {
    let origin = Origin { log: relay.source.clone(), offset: relay.offset };
    send_dead_letter(&origin, reject, record, &WithoutOurs(record.headers), out)
}

/// A relay that was decoded and read ahead for.
#[derive(Clone, Copy)]
pub(super) struct Relayed<'a> {
    pub relay: &'a RelayHeader,
    /// What its source's record says.
    pub event: &'a Result<Event<'a>, Reject>,
    pub foreseen: &'a Foreseen,
}

/// The original headers of a relayed record: all but the last of our name, which the relay added. Those before it were the producer's own.
struct WithoutOurs<'a>(&'a dyn Headers);

impl Headers for WithoutOurs<'_> {
    fn visit(&self, each: &mut dyn FnMut(&str, Option<&[u8]>)) {
        let is_ours = |name: &str| name.eq_ignore_ascii_case(EXCHANGE_HEADER);
        let mut ours = 0_usize;
        self.0.visit(&mut |name, _| ours += usize::from(is_ours(name)));
        self.0.visit(&mut |name, value| {
            if is_ours(name) {
                ours -= 1;
            }
            if !is_ours(name) || ours > 0 {
                each(name, value);
            }
        });
    }
}
