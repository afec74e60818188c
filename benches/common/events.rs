//! Generated events in memory, and an engine over them: what benchmarks of functions work on. Pure, no servers.

use std::collections::BTreeMap;

use onecode::decode::{Format, RawRecord, Rules, decode};
use onecode::engine::{Engine, Foreseen, ForgetRule, RowChange, Settings, StateRow, StateRows};
use onecode::generate::{GeneratedRecord, Generator, Options, WireFormat};
use onecode::model::{Calendar, Event, TimeZone, Version};
use onecode::rows::ServingRows;

/// Records of the default mix, all of them acceptable.
pub fn records(count: u64, format: WireFormat) -> Vec<GeneratedRecord> {
    let customers = u32::try_from(count / 5).unwrap_or(u32::MAX).max(1);
    let options = Options { count, customers, format, malformed: 0.0, ..Options::default() };
    Generator::new(options).expect("options").collect()
}

/// Their values, decoded.
pub fn events<'a>(records: &'a [GeneratedRecord], rules: &Rules) -> Vec<Event<'a>> {
    records.iter().map(|record| decoded(record, rules)).collect()
}

/// One value, decoded.
#[inline]
pub fn decoded<'a>(record: &'a GeneratedRecord, rules: &Rules) -> Event<'a> {
    let raw = RawRecord { value: record.value.as_deref(), content_type: None, timestamp_ms: record.due_ms };
    decode(record.kind, Format::Auto, raw, rules).expect("an acceptable record")
}

/// An empty engine: the only task, so that every event is its own.
pub fn engine() -> Engine {
    Engine::new(Settings {
        task: "0".into(),
        calendar: Calendar::new(TimeZone::UTC, BTreeMap::new()),
        forget: ForgetRule::default(),
        mechanisms: onecode::engine::Mechanisms::default(),
        levels: 16,
    })
}

/// Applies the customers' own events.
pub fn apply_all(engine: &mut Engine, events: &[Event<'_>]) {
    for event in events.iter().filter(|event| event.is_customers_own()) {
        engine.apply(event);
    }
}

/// The same of events that were read ahead for.
pub fn apply_foreseen(engine: &mut Engine, events: &[Event<'_>], foreseen: &[Foreseen]) {
    for (event, foreseen) in events.iter().zip(foreseen).filter(|(event, _)| event.is_customers_own()) {
        engine.apply_foreseen(event, foreseen);
    }
}

/// An engine that has applied all events.
pub fn engine_of(events: &[Event<'_>]) -> Engine {
    let mut engine = engine();
    apply_all(&mut engine, events);
    engine
}

/// Its rows.
pub fn rows_of(engine: &mut Engine) -> ServingRows {
    let mut rows = ServingRows::default();
    engine.drain_rows(Version::new(1, 1), &mut rows);
    rows
}

/// What a checkpoint of it writes.
pub fn cut_of(engine: &mut Engine) -> Vec<StateRow> {
    let mut state = Vec::new();
    engine.cut(&mut state);
    state
}

/// What it says to others, as bytes: all to itself.
pub fn contributions_of(engine: &mut Engine) -> Vec<Vec<u8>> {
    let mut said = Vec::new();
    engine.drain_contributions(|_, contribution| said.push(contribution.to_vec()));
    said
}

/// Takes them back in, as the task of those named would.
pub fn receive_all(engine: &mut Engine, said: &[Vec<u8>]) {
    for contribution in said {
        engine.receive(Version::new(1, 2), contribution).expect("a contribution of our own");
    }
}

/// Rows of a cut as bytes, one after the other, as a task writes them.
#[derive(Default)]
pub struct CutBytes(pub Vec<u8>);

impl StateRows for CutBytes {
    fn row(&mut self, kind: u8, key: &[u8], payload: &[u8], change: RowChange) {
        self.0.extend_from_slice(&[kind, change as u8]);
        self.0.extend_from_slice(key);
        self.0.extend_from_slice(payload);
    }
}

/// What a checkpoint of it writes, as bytes.
pub fn cut_bytes_of(engine: &mut Engine) -> CutBytes {
    let mut bytes = CutBytes::default();
    engine.cut(&mut bytes);
    bytes
}
