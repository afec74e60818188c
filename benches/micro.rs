//! The functions of the hot path by time: `cargo bench --profile dist --bench micro`. Items are events or rows of the generator's mix.

#[path = "common/events.rs"]
#[allow(dead_code, reason = "every benchmark uses a part of it")]
mod events;

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use onecode::decode::Rules;
use onecode::generate::WireFormat;
use onecode::rows::{ArchiveRows, archive};

const EVENTS: u64 = 50_000;

fn main() {
    divan::main();
}

#[divan::bench(args = [WireFormat::Protobuf, WireFormat::Json])]
fn decode(bencher: Bencher<'_, '_>, format: WireFormat) {
    let (records, rules) = (events::records(EVENTS, format), Rules::default());
    bencher.counter(ItemsCount::new(records.len())).bench_local(|| {
        for record in &records {
            black_box(events::decoded(record, &rules));
        }
    });
}

#[divan::bench(sample_count = 20)]
fn apply(bencher: Bencher<'_, '_>) {
    let records = events::records(EVENTS, WireFormat::Protobuf);
    let events = events::events(&records, &Rules::default());
    bencher
        .counter(ItemsCount::new(events.len()))
        .with_inputs(events::engine)
        .bench_local_refs(|engine| events::apply_all(engine, &events));
}

#[divan::bench(sample_count = 20)]
fn apply_repeats(bencher: Bencher<'_, '_>) {
    let records = events::records(EVENTS, WireFormat::Protobuf);
    let events = events::events(&records, &Rules::default());
    let mut engine = events::engine_of(&events);
    bencher.counter(ItemsCount::new(events.len())).bench_local(|| events::apply_all(&mut engine, &events));
}

#[divan::bench(sample_count = 20)]
fn contributions(bencher: Bencher<'_, '_>) {
    let records = events::records(EVENTS, WireFormat::Protobuf);
    let events = events::events(&records, &Rules::default());
    bencher.counter(ItemsCount::new(events.len())).with_inputs(|| events::engine_of(&events)).bench_local_refs(|engine| {
        engine.drain_contributions(|sharer, contribution| {
            black_box((sharer, contribution));
        });
    });
}

#[divan::bench(sample_count = 20)]
fn contributions_heard(bencher: Bencher<'_, '_>) {
    let records = events::records(EVENTS, WireFormat::Protobuf);
    let events = events::events(&records, &Rules::default());
    let said = events::contributions_of(&mut events::engine_of(&events));
    bencher
        .counter(ItemsCount::new(said.len()))
        .with_inputs(|| events::engine_of(&events))
        .bench_local_refs(|engine| events::receive_all(engine, &said));
}

#[divan::bench(sample_count = 20)]
fn serving_rows(bencher: Bencher<'_, '_>) {
    let records = events::records(EVENTS, WireFormat::Protobuf);
    let events = events::events(&records, &Rules::default());
    let rows = events::rows_of(&mut events::engine_of(&events)).rows();
    bencher.counter(ItemsCount::new(rows)).with_inputs(|| events::engine_of(&events)).bench_local_refs(events::rows_of);
}

#[divan::bench]
fn archive_rows(bencher: Bencher<'_, '_>) {
    let records = events::records(EVENTS, WireFormat::Protobuf);
    let events = events::events(&records, &Rules::default());
    bencher.counter(ItemsCount::new(events.len())).bench_local(|| {
        let mut rows = ArchiveRows::default();
        for event in &events {
            archive::push(event, &mut rows);
        }
        rows
    });
}

#[divan::bench(sample_count = 20)]
fn checkpoint_rows(bencher: Bencher<'_, '_>) {
    let records = events::records(EVENTS, WireFormat::Protobuf);
    let events = events::events(&records, &Rules::default());
    let rows = events::cut_of(&mut events::engine_of(&events)).len();
    bencher.counter(ItemsCount::new(rows)).with_inputs(|| events::engine_of(&events)).bench_local_refs(events::cut_bytes_of);
}

#[divan::bench(sample_count = 20)]
fn restore(bencher: Bencher<'_, '_>) {
    let records = events::records(EVENTS, WireFormat::Protobuf);
    let events = events::events(&records, &Rules::default());
    let state = events::cut_of(&mut events::engine_of(&events));
    bencher.counter(ItemsCount::new(state.len())).with_inputs(events::engine).bench_local_refs(|engine| {
        for row in &state {
            engine.restore(row.kind, &row.key, &row.payload).expect("a row of our own");
        }
    });
}
