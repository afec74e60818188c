//! Goal: a state is the same whether one thread took it back or two.
//! Method: the rows of a cut of a generated state, as rows of single keys and as packs, outdated ones among them; what the restored states hold is asked of them by
//! having all of it leave memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use onecode::config::Fingerprint;
use onecode::decode::{Format, RawRecord, Rules, decode};
use onecode::engine::{
    ColdGroup, Engine, Evicted, ForgetRule, Half, Mechanisms, PackKey, PackPlace, PackedRow, Settings, StateRow, first_pack_key,
    first_pack_kind, push_packed,
};
use onecode::generate::{Generator, Options};
use onecode::model::{Calendar, TimeZone, Version};
use onecode::rows::{RowBuffer, ServingRows};
use onecode::task::{
    ColdStore, ColdStoreError, Generations, KIND_POSITIONS, PackRule, Positions, Restore, StoredRows, TaskIdentity, TaskSettings,
};
use onecode::worker::{NotTaken, Tally, take_alone, take_shared};

const ROWS_A_PACK: usize = 40;

fn engine_settings() -> Settings {
    Settings {
        task: "0".into(),
        calendar: Calendar::new(TimeZone::UTC, BTreeMap::new()),
        forget: ForgetRule::default(),
        mechanisms: Mechanisms::default(),
        levels: 4,
    }
}

/// A state with all kinds of keys, right after a cut, and the rows of that.
fn state() -> (Engine, Vec<StateRow>) {
    let options = Options { count: 40_000, customers: 4_000, malformed: 0.0, ..Options::default() };
    let mut engine = Engine::new(engine_settings());
    for record in Generator::new(options).expect("options") {
        let raw = RawRecord { value: record.value.as_deref(), content_type: None, timestamp_ms: record.due_ms };
        let Ok(event) = decode(record.kind, Format::Auto, raw, &Rules::default()) else { continue };
        if event.is_customers_own() {
            engine.apply(&event);
        }
    }
    let mut sequence = 0;
    loop {
        let mut said = Vec::new();
        engine.drain_contributions(|_, contribution| said.push(contribution.to_vec()));
        if said.is_empty() {
            break;
        }
        sequence += 1;
        for contribution in said {
            engine.receive(Version::new(1, sequence), &contribution).expect("a contribution of our own");
        }
    }
    engine.drain_rows(Version::new(1, 1_000), &mut ServingRows::default());
    let mut rows = Vec::new();
    engine.cut(&mut rows);
    (engine, rows)
}

type StoredRow = ((u8, Vec<u8>), Vec<u8>);

fn pack(rows: &[&StateRow]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for StateRow { key, payload, .. } in rows {
        push_packed(&mut bytes, &PackedRow { key, payload, is_deleted: false });
    }
    bytes
}

/// Every second key in a pack, where its kind has packs, and some of those that have rows of their own too.
fn stored_rows(rows: &[StateRow]) -> Vec<StoredRow> {
    let mut stored: Vec<StoredRow> = Vec::new();
    let mut first: BTreeMap<u8, Vec<&StateRow>> = BTreeMap::new();
    let mut cells: BTreeMap<PackPlace, Vec<&StateRow>> = BTreeMap::new();
    for (number, row) in rows.iter().enumerate() {
        let is_packed = match (first_pack_kind(row.kind), PackPlace::of(row.kind, &row.key)) {
            (Some(kind), _) if number % 2 == 0 || number % 5 == 0 => {
                first.entry(kind).or_default().push(row);
                number % 2 == 0
            }
            (_, Some(place)) if number % 3 > 0 => {
                cells.entry(place).or_default().push(row);
                true
            }
            _ => false,
        };
        if !is_packed {
            stored.push(((row.kind, row.key.clone()), row.payload.clone()));
        }
    }
    for (kind, rows) in first {
        let packs = rows.chunks(ROWS_A_PACK).zip(0..);
        stored.extend(packs.map(|(rows, number)| ((kind, first_pack_key(7, number).to_vec()), pack(rows))));
    }
    for (place, rows) in cells {
        let at = PackKey { place, sequence: 7, number: 0 };
        stored.push(((at.row_kind(), at.row_key()), pack(&rows)));
    }
    stored
}

/// As ClickHouse sends them: in the order of kinds and keys.
fn row_binary(rows: &[StoredRow], half: Option<Half>) -> Vec<u8> {
    let mut rows: Vec<&StoredRow> = rows.iter().filter(|((kind, _), _)| half.is_none_or(|half| Half::of(*kind) == half)).collect();
    rows.sort();
    let mut buffer = RowBuffer::default();
    for (((kind, key), payload), sequence) in rows.into_iter().zip(1..) {
        buffer.push(|row| {
            row.u8(*kind).blob(key).u64(sequence).blob(payload);
        });
    }
    buffer.row_binary()
}

/// Keeps what leaves memory.
#[derive(Clone, Debug, Default)]
struct Left(Arc<Mutex<Vec<u8>>>);

impl ColdStore for Left {
    fn put(&mut self, groups: &[Evicted]) -> Result<(), ColdStoreError> {
        self.0.lock().expect("no panic").extend(groups.iter().flat_map(|group| &group.rows));
        Ok(())
    }

    fn take(&mut self, _: ColdGroup) -> Result<Vec<u8>, ColdStoreError> {
        Err(ColdStoreError("nothing comes back here".to_owned()))
    }
}

impl Left {
    /// Kind, key and payload of each row, in order.
    fn rows(&self) -> Vec<(u8, Vec<u8>, Vec<u8>)> {
        let bytes = self.0.lock().expect("no panic");
        let (mut rest, mut rows) = (bytes.as_slice(), Vec::new());
        let part = |rest: &mut &[u8]| {
            let (length, after) = rest.split_first_chunk::<4>().expect("a length");
            let (part, after) = after.split_at(u32::from_le_bytes(*length) as usize);
            *rest = after;
            part.to_vec()
        };
        while let Some((kind, after)) = rest.split_first() {
            rest = after;
            rows.push((*kind, part(&mut rest), part(&mut rest)));
        }
        rows.sort();
        rows
    }
}

fn restore(left: &Left) -> Restore {
    let settings = TaskSettings {
        tasks: 1,
        rules: Rules::default(),
        inputs: BTreeMap::new(),
        max_lateness_ms: i64::MAX,
        forget_slack_ms: 0,
        progress_every_ms: 1,
        packs: PackRule::default(),
        fingerprint: Fingerprint::default(),
        cluster_id: String::new(),
        topic_ids: BTreeMap::new(),
    };
    let identity = TaskIdentity { name: "0".into(), owns: Some(0) };
    let generations = Generations { spoken: 1, stored: 1 };
    Restore::new(identity, generations, Arc::new(settings), engine_settings(), Box::new(left.clone()))
}

/// As the worker takes two loads: nothing of the graph before the positions are known.
fn take_halves(restore: &mut Restore, customers: &[u8], graph: &[u8], tally: &mut Tally) -> Result<(), NotTaken> {
    let mut pieces = [StoredRows::new(graph), StoredRows::new(customers)];
    while pieces.iter().any(|piece| piece.unread() > 0) {
        let due = if restore.has_positions() { 0 } else { 1 };
        take_shared(restore, &mut pieces[due..], tally)?;
    }
    Ok(())
}

fn with_positions(engine: &Engine, mut rows: Vec<StoredRow>) -> Vec<StoredRow> {
    let live = engine.live();
    let positions = Positions { tasks: 1, live_rows: live.count, live_hash: live.hash, sizes: engine.sizes(), ..Positions::default() };
    rows.push(((KIND_POSITIONS, Vec::new()), positions.encode()));
    rows
}

#[test]
fn two_threads_take_back_what_one_does() {
    let (engine, rows) = state();
    let stored = with_positions(&engine, stored_rows(&rows));
    let (all, customers, graph) =
        (row_binary(&stored, None), row_binary(&stored, Some(Half::Customers)), row_binary(&stored, Some(Half::Graph)));
    assert!(graph.len() > 1 << 20 && customers.len() > 1 << 20, "{} and {} bytes", graph.len(), customers.len());

    let (left, mut alone, mut tally) = (Left::default(), None, Tally::default());
    let by_one = alone.insert(restore(&left));
    let mut pieces = [StoredRows::new(&all)];
    while pieces[0].unread() > 0 {
        take_alone(by_one, &mut pieces, &mut tally).expect("rows of our own");
    }
    let (left_by_two, mut tally_by_two) = (Left::default(), Tally::default());
    let mut by_two = restore(&left_by_two);
    take_halves(&mut by_two, &customers, &graph, &mut tally_by_two).expect("rows of our own");

    assert_eq!((tally.customers.rows, tally.graph.rows), (tally_by_two.customers.rows, tally_by_two.graph.rows));
    assert_eq!(tally.customers.rows + tally.graph.rows, stored.len() as u64);
    for restored in [&*by_one, &by_two] {
        assert_eq!((restored.engine().live(), restored.engine().keys()), (engine.live(), engine.keys()));
        assert_eq!(restored.engine().sizes(), engine.sizes());
    }
    for restored in [by_one, &mut by_two] {
        while restored.evict(1 << 30).expect("room") > 0 {}
    }
    let expected: Vec<(u8, Vec<u8>, Vec<u8>)> = left.rows();
    assert!(expected.len() > rows.len() / 2, "{} of {} rows", expected.len(), rows.len());
    assert!(expected == left_by_two.rows(), "two threads took back another state");
    by_two.finish(&[]).expect("a whole state");
}

#[test]
fn what_either_half_refuses_is_refused() {
    let (engine, rows) = state();
    let stored = with_positions(&engine, stored_rows(&rows));
    let refused = |spoil: &dyn Fn(&mut Vec<StoredRow>)| {
        let mut spoiled = stored.clone();
        spoil(&mut spoiled);
        let (customers, graph) = (row_binary(&spoiled, Some(Half::Customers)), row_binary(&spoiled, Some(Half::Graph)));
        let taken = take_halves(&mut restore(&Left::default()), &customers, &graph, &mut Tally::default());
        match taken {
            Err(NotTaken::Task(error)) => error.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let spoil_last_of = |kind: u8| {
        move |rows: &mut Vec<StoredRow>| {
            let last = rows.iter_mut().filter(|((of, _), _)| *of == kind).max_by(|a, b| a.0.cmp(&b.0)).expect("a row of the kind");
            last.1 = vec![0xff; 3];
        }
    };
    for (kind, name) in [(1, "customer"), (4, "day_cell"), (6, "outbound_visit"), (8, "inbound_referral"), (9, "share")] {
        let error = refused(&spoil_last_of(kind));
        assert!(error.contains(name) && error.contains("damaged"), "{error}");
    }
    for (pack, name) in [(first_pack_kind(1), "customer"), (first_pack_kind(7), "inbound_visit")] {
        let error = refused(&spoil_last_of(pack.expect("a kind with packs")));
        assert!(error.contains(name) && error.contains("pack"), "{error}");
    }
    let twice = refused(&|rows: &mut Vec<StoredRow>| {
        let visit = rows.iter().find(|((kind, _), _)| *kind == 6).expect("a visit").clone();
        rows.push(visit);
    });
    assert!(twice.contains("there twice"), "{twice}");

    let graph = row_binary(&stored, Some(Half::Graph));
    let cut_short = graph.split_last().expect("rows").1;
    let customers = row_binary(&stored, Some(Half::Customers));
    let taken = take_halves(&mut restore(&Left::default()), &customers, cut_short, &mut Tally::default());
    assert!(matches!(taken, Err(NotTaken::CutShort)), "{taken:?}");
}
