//! A log that the task reads itself and that was read by a relay-only task before: its topic grew to as many partitions as there are tasks.
//!
//! The task goes on where the relay-only task's last checkpoint stood. Whatever lies before that was relayed and acknowledged, and is on
//! the exchange if it has not been taken yet; whatever lies behind it the task reads itself, so that a relay of it says nothing new, and a
//! gap between such relays is none.

use super::positions::{LogPosition, Positions};
use super::relay::{RelayHeader, SourceLog};
use super::run::Task;
use crate::model::{Event, Offset, Reason, Reject, TopicPartition};

impl Task {
    /// Begins a log, of which the positions row says nothing, at an offset.
    pub fn start_at(&mut self, log: usize, offset: Offset) {
        if let Some(at) = self.logs.get_mut(log) {
            (at.next, at.read_from) = (offset, offset);
            self.moved = true;
        }
    }

    /// Goes on in a log where the task that only relayed it stands. Returns where that is; `None`: it does not know the log.
    pub fn read_on(&mut self, log: usize, former: &Positions) -> Option<LogPosition> {
        let at = self.logs.get_mut(log)?;
        let stands = former.logs.get(&at.tp)?;
        (at.next, at.read_from, at.record_time_ms) = (stands.next, stands.next, stands.record_time_ms);
        for (destination, last) in (0_u32..).zip(at.sent.iter_mut()) {
            *last = former.sent.get(&(at.tp.clone(), destination)).copied().unwrap_or(-1);
        }
        self.moved = true;
        Some(LogPosition { read_from: stands.next, ..stands.clone() })
    }

    /// From which offset on the task reads a log itself; `None`: another task does. A topic that is left out at present (`run --settle`
    /// reads the exchange alone) is its own all the same.
    fn read_from(&self, log: &TopicPartition) -> Option<Offset> {
        let at = self.logs.iter().find(|own| own.tp == *log).map(|own| own.read_from);
        at.or_else(|| self.other_logs.get(log).map(|position| position.read_from))
    }

    /// Whether the task has read a record of a log itself, or will.
    pub(super) fn reads_itself(&self, source: &SourceLog, offset: Offset) -> bool {
        self.read_from(source).is_some_and(|from| offset >= from)
    }

    /// Whether no relay of a source is still to come, since the task reads it now.
    pub(super) fn has_all_relays_of(&self, source: &SourceLog) -> bool {
        if self.read_from(source).is_none() {
            return false;
        }
        let last = self.last_relay_to_us(source).unwrap_or(-1);
        self.inbox.mark(source).map_or(-1, |mark| mark.offset) >= last
    }

    /// Whether a log of the task's own has relays on the way, of which none has been taken.
    pub(super) fn awaits_first_relay(&self) -> bool {
        self.logs.iter().any(|log| self.inbox.mark(&log.tp).is_none() && self.last_relay_to_us(&log.tp).is_some())
    }

    /// The last relay that the former reader of an own log has sent to this task.
    fn last_relay_to_us(&self, log: &TopicPartition) -> Option<Offset> {
        let own = self.identity.owns?;
        let at = self.logs.iter().find(|at| at.tp == *log).and_then(|at| at.sent.get(own as usize).copied());
        let last = at.or_else(|| self.other_sent.get(&(log.clone(), own)).copied())?;
        (last >= 0).then_some(last)
    }

    /// Whether the event of a relay behind the mark was taken before, although its customer does not remember it any more. The other
    /// relays behind the mark are those that their source had rejected as too late, before `pipeline.max_lateness_days` was raised.
    pub(super) fn was_forgotten(&self, event: &Event<'_>, relay: &RelayHeader, reject: &Reject) -> bool {
        reject.reason == Reason::TooOld && relay.timestamp_ms - event.time_ms <= self.least_lateness_ms
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use prost::Message as _;

    use super::*;
    use crate::config::Fingerprint;
    use crate::decode::{Format, Rules};
    use crate::engine::{ColdGroup, Engine, Evicted, ForgetRule, Mechanisms, Settings as EngineSettings};
    use crate::model::{Calendar, EventKind};
    use crate::pb;
    use crate::task::PackRule;
    use crate::task::cell_log::CellLog;
    use crate::task::cold::Cold;
    use crate::task::{
        ColdStore, ColdStoreError, DeadLetter, EXCHANGE_HEADER, Generations, Headers, LogRole, NoHeaders, Outbox, Outcome, Record,
        TaskIdentity, TaskSettings, TimestampKind, encode_progress,
    };

    const DAY_MS: i64 = 86_400_000;
    /// When the log was read first.
    const BEGIN_MS: i64 = 20_000 * DAY_MS;
    const EXCHANGE: usize = 0;
    const SCANS: usize = 1;

    #[derive(Debug)]
    struct NoRoom;

    impl ColdStore for NoRoom {
        fn put(&mut self, _groups: &[Evicted]) -> Result<(), ColdStoreError> {
            Err(ColdStoreError("no room".to_owned()))
        }

        fn take(&mut self, group: ColdGroup) -> Result<Vec<u8>, ColdStoreError> {
            Err(ColdStoreError(format!("{group:?} was never put")))
        }
    }

    /// Counts dead letters.
    #[derive(Debug, Default)]
    struct Letters(usize);

    impl Outbox for Letters {
        fn relay(&mut self, destination: u32, _header: &RelayHeader, _record: &Record<'_>) {
            panic!("there is one task, and no {destination}");
        }
        fn progress(&mut self, destination: u32, _header: Vec<u8>) {
            panic!("a task told itself, {destination}, how far it has read");
        }
        fn contributions(&mut self, _destination: u32, _header: Vec<u8>, _value: &[u8]) {}
        fn dead_letter(&mut self, _letter: &DeadLetter<'_>) {
            self.0 += 1;
        }
        fn archive(&mut self, _event: &Event<'_>) {}
    }

    struct OneHeader(Vec<u8>);

    impl Headers for OneHeader {
        fn visit(&self, each: &mut dyn FnMut(&str, Option<&[u8]>)) {
            each(EXCHANGE_HEADER, Some(&self.0));
        }
    }

    fn log(topic: &str) -> TopicPartition {
        TopicPartition { topic: Arc::from(topic), partition: 0 }
    }

    /// Of one task, which begins in its logs.
    fn task(max_lateness_ms: i64, positions: Positions) -> Task {
        let settings = TaskSettings {
            tasks: 1,
            rules: Rules { max_lateness_ms, ..Rules::default() },
            inputs: BTreeMap::from([("scans".to_owned(), (EventKind::Scan, Format::Protobuf))]),
            max_lateness_ms,
            forget_slack_ms: DAY_MS,
            progress_every_ms: DAY_MS,
            packs: PackRule::default(),
            fingerprint: Fingerprint::default(),
            cluster_id: String::new(),
            topic_ids: BTreeMap::new(),
        };
        let engine = EngineSettings {
            task: "0".into(),
            calendar: Calendar::new("+08:00".parse().expect("a zone"), BTreeMap::new()),
            forget: ForgetRule::default(),
            mechanisms: Mechanisms::default(),
            levels: 2,
        };
        let logs =
            [(log("exchange"), LogRole::Exchange), (log("scans"), LogRole::Input { kind: EventKind::Scan, format: Format::Protobuf })];
        let identity = TaskIdentity { name: "0".into(), owns: Some(0) };
        let state = (Engine::new(engine), Cold::new(Box::new(NoRoom)), CellLog::new(PackRule::default()));
        Task::with_positions(identity, Generations { spoken: 1, stored: 1 }, Arc::new(settings), state, &logs, positions)
    }

    /// The scan of a record.
    fn scan(offset: i64, time_ms: i64) -> Vec<u8> {
        let (event_id, brand, customer_id, code) = (format!("e{offset}"), "acme".to_owned(), "c".to_owned(), "code".to_owned());
        pb::Scan { event_id, brand, customer_id, code, event_time_ms: time_ms, ..pb::Scan::default() }.encode_to_vec()
    }

    fn record<'a>(offset: i64, timestamp_ms: i64, value: &'a [u8], headers: &'a dyn Headers) -> Record<'a> {
        Record { offset, timestamp_ms, timestamp_kind: TimestampKind::LogAppend, key: None, value: Some(value), headers }
    }

    fn on_record(task: &mut Task, log: usize, record: &Record<'_>, out: &mut Letters) -> Result<Outcome, super::super::error::TaskError> {
        let decoded = task.decode(log, record);
        task.on_record(log, record, &decoded, out)
    }

    /// A relay of the scan at `offset`, which happened `late_ms` before its record.
    fn relay(task: &mut Task, out: &mut Letters, (at, offset, previous): (i64, i64, i64), late_ms: i64) -> Outcome {
        let header =
            RelayHeader { source: log("scans"), offset, previous, timestamp_ms: BEGIN_MS, timestamp_kind: TimestampKind::LogAppend };
        let (value, headers) = (scan(offset, BEGIN_MS - late_ms), OneHeader(header.encode()));
        on_record(task, EXCHANGE, &record(at, BEGIN_MS, &value, &headers), out).expect("memory")
    }

    fn read_to_the_end(task: &mut Task, now_ms: i64) {
        let ends: Vec<i64> = task.logs().map(|(_, next, _)| next).collect();
        ends.into_iter().enumerate().for_each(|(log, end)| task.on_end(log, end));
        task.advance_horizon(now_ms, 100).expect("memory");
    }

    /// Where the relay-only task stood: before offset 10, and 7 was the last that it relayed.
    fn former() -> Positions {
        let stands = LogPosition { next: 10, record_time_ms: BEGIN_MS, topic_id: String::new(), read_from: 0 };
        Positions { logs: BTreeMap::from([(log("scans"), stands)]), sent: BTreeMap::from([((log("scans"), 0), 7)]), ..Positions::default() }
    }

    #[test]
    fn what_the_relay_only_task_had_read_comes_by_relay_and_what_follows_is_read_once() {
        let (mut task, mut out) = (task(DAY_MS, Positions { least_lateness_ms: DAY_MS, ..Positions::default() }), Letters::default());
        task.start_at(EXCHANGE, 0);
        assert_eq!(task.read_on(SCANS, &former()).map(|stands| (stands.next, stands.read_from)), Some((10, 10)));

        assert_eq!(relay(&mut task, &mut out, (0, 15, 12), 0), Outcome::AlreadyApplied, "the task reads it itself");
        let (value, headers) = (Vec::new(), OneHeader(encode_progress(&log("scans"), 15, BEGIN_MS)));
        assert_eq!(on_record(&mut task, EXCHANGE, &record(1, BEGIN_MS, &value, &headers), &mut out).ok(), Some(Outcome::Noted));
        assert_eq!(task.open_gaps(), 0, "nobody would ever mend it");

        let value = scan(15, BEGIN_MS + 20 * DAY_MS);
        let own = record(15, BEGIN_MS + 20 * DAY_MS, &value, &NoHeaders);
        assert_eq!(on_record(&mut task, SCANS, &own, &mut out).ok(), Some(Outcome::Applied(EventKind::Scan)));
        read_to_the_end(&mut task, BEGIN_MS + 20 * DAY_MS);
        assert_eq!(task.engine().horizon_ms(), 0, "relay 7 is still on its way");

        assert_eq!(relay(&mut task, &mut out, (2, 7, -1), 0), Outcome::Applied(EventKind::Scan));
        read_to_the_end(&mut task, BEGIN_MS + 20 * DAY_MS);
        assert_eq!(task.engine().horizon_ms(), BEGIN_MS + 18 * DAY_MS);
        task.send_progress(BEGIN_MS + 40 * DAY_MS, &mut out);

        assert_eq!(relay(&mut task, &mut out, (3, 7, -1), 0), Outcome::AlreadyApplied, "taken, and forgotten since");
        assert_eq!(out.0, 0);
    }

    #[test]
    fn a_relay_that_its_source_may_have_rejected_before_gets_its_dead_letter() {
        let stored = Positions { least_lateness_ms: DAY_MS, horizon_ms: BEGIN_MS, ..Positions::default() };
        let (mut task, mut out) = (task(10 * DAY_MS, stored), Letters::default());
        task.start_at(EXCHANGE, 0);
        task.start_at(SCANS, 100);
        assert_eq!(relay(&mut task, &mut out, (0, 7, -1), 0), Outcome::Applied(EventKind::Scan));
        assert_eq!(relay(&mut task, &mut out, (1, 5, -1), DAY_MS), Outcome::AlreadyApplied);
        assert_eq!(out.0, 0, "on time under every rule so far: it was taken before 7");
        assert_eq!(relay(&mut task, &mut out, (2, 6, 5), DAY_MS + 1), Outcome::AlreadyApplied);
        assert_eq!(out.0, 1, "too late until the limit was raised");
    }
}
