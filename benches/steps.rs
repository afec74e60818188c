//! What each step of an event takes once the state is larger than every cache: `cargo bench --profile dist --bench steps [-- EVENTS]` prints
//! nanoseconds an event. Pure: the engines of six tasks in one thread, no servers, records of a partition one batch after the other as a consumer
//! hands them in. What `micro` times fits a cache; what a pipeline does seldom does, and waiting for memory is most of its time.

#[path = "common/events.rs"]
#[allow(dead_code, reason = "every benchmark uses a part of it")]
mod events;

use std::time::{Duration, Instant};

use onecode::decode::Rules;
use onecode::engine::{Engine, FORESEEN, Foreseen};
use onecode::generate::{GeneratedRecord, Generator, Options};
use onecode::model::{Version, owner};
use onecode::rows::{ArchiveRows, ServingRows, archive};
use onecode::task::decode_contributions;

const TASKS: u32 = 6;
/// Records that are generated, and then timed, at a time.
const BLOCK: usize = 60_000;
/// Records of one task in a row.
const BATCH: usize = 500;
/// Blocks between two servings, and between two checkpoints.
const BLOCKS_A_SERVING: usize = 6;
const BLOCKS_A_CUT: usize = 5;

const STEPS: [&str; 8] = ["decode", "foresee", "apply", "archive", "say", "hear", "serve", "cut"];

/// Time so far, by step.
#[derive(Default)]
struct Clock([Duration; STEPS.len()]);

impl Clock {
    fn time<T>(&mut self, step: usize, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = work();
        self.0[step] += began.elapsed();
        result
    }
}

/// All tasks of a process, one after the other.
struct Tasks {
    engines: Vec<Engine>,
    rules: Rules,
    sequence: u64,
    archive: ArchiveRows,
    rows: ServingRows,
    clock: Clock,
}

impl Tasks {
    fn read(&mut self, task: usize, records: &[&GeneratedRecord]) {
        let Tasks { engines, rules, archive: rows, clock, .. } = self;
        for run in records.chunks(FORESEEN) {
            let events: Vec<_> = clock.time(0, || run.iter().map(|record| events::decoded(record, rules)).collect());
            let mut foreseen = [Foreseen::default(); FORESEEN];
            clock.time(1, || engines[task].foresee_events(events.iter().zip(&mut foreseen)));
            clock.time(2, || events::apply_foreseen(&mut engines[task], &events, &foreseen));
            clock.time(3, || events.iter().for_each(|event| archive::push(event, rows)));
        }
    }

    /// What is said in one serving, heard by those to whom it is said.
    fn speak(&mut self) {
        for from in 0..TASKS as usize {
            self.sequence += 1;
            let version = Version::new(1, self.sequence);
            let mut said: Vec<Vec<u8>> = vec![Vec::new(); TASKS as usize];
            let Tasks { engines, clock, .. } = self;
            clock.time(4, || {
                engines[from].drain_contributions(|customer, contribution| {
                    let record = &mut said[owner(customer, TASKS) as usize];
                    onecode::short::push_number(record, 10);
                    onecode::short::push_text(record, contribution);
                });
            });
            for (to, record) in said.iter().enumerate() {
                clock.time(5, || {
                    for run in decode_contributions(Some(record)).expect("contributions").chunks(FORESEEN) {
                        let read: Vec<_> = run.iter().map(|bytes| engines[to].read_contribution(bytes).expect("our own")).collect();
                        engines[to].foresee_contributions(read.iter());
                        read.into_iter().for_each(|contribution| _ = engines[to].hear(version, contribution));
                    }
                });
            }
        }
    }

    fn serve(&mut self) {
        for engine in &mut self.engines {
            self.sequence += 1;
            self.clock.time(6, || engine.drain_rows(Version::new(1, self.sequence), &mut self.rows));
        }
        // As after an insert: the pages are used again.
        let spare = |rows: Vec<(_, onecode::rows::RowBuffer)>| -> Vec<Vec<u8>> {
            rows.into_iter().flat_map(|(_, rows)| rows.into_columns()).flat_map(onecode::rows::Column::into_pages).collect()
        };
        let mut pages = spare(self.rows.take(|_| Vec::new()));
        pages.extend(spare(self.archive.take(|_| Vec::new())));
        let share = pages.len() / 12;
        let mut next = || pages.split_off(pages.len().saturating_sub(share));
        self.rows.take(|_| next());
    }

    fn cut(&mut self, bytes: &mut events::CutBytes) {
        for engine in &mut self.engines {
            bytes.0.clear();
            self.clock.time(7, || engine.cut(bytes));
        }
    }
}

fn main() {
    let count = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(1_000_000);
    let customers = u32::try_from(count / 5).unwrap_or(u32::MAX).max(1);
    let options = Options { count, customers, malformed: 0.0, misrouted: 0.0, ..Options::default() };
    let mut generator = Generator::new(options).expect("options");
    let mut tasks = Tasks {
        engines: (0..TASKS).map(|_| events::engine()).collect(),
        rules: Rules::default(),
        sequence: 0,
        archive: ArchiveRows::default(),
        rows: ServingRows::default(),
        clock: Clock::default(),
    };
    let mut bytes = events::CutBytes::default();
    for block in 1.. {
        let records: Vec<GeneratedRecord> = generator.by_ref().take(BLOCK).collect();
        if records.is_empty() {
            break;
        }
        let mut by_task: Vec<Vec<&GeneratedRecord>> = vec![Vec::new(); TASKS as usize];
        for record in &records {
            let customer = events::decoded(record, &tasks.rules).customer_id.to_string();
            by_task[owner(&customer, TASKS) as usize].push(record);
        }
        for round in 0..BLOCK.div_ceil(BATCH) {
            for (task, records) in by_task.iter().enumerate() {
                let batch = records.get(round * BATCH..).unwrap_or_default();
                tasks.read(task, &batch[..batch.len().min(BATCH)]);
            }
        }
        if block % BLOCKS_A_SERVING == 0 {
            tasks.speak();
            tasks.serve();
        }
        if block % BLOCKS_A_CUT == 0 {
            tasks.speak();
            tasks.serve();
            tasks.cut(&mut bytes);
        }
    }
    let state_bytes: usize = tasks.engines.iter().map(Engine::state_bytes).sum();
    println!("{count} events, {customers} customers, {} MiB of state; nanoseconds an event:", state_bytes >> 20);
    let mut total = 0.0;
    for (step, time) in STEPS.iter().zip(tasks.clock.0) {
        let nanoseconds = time.as_nanos() as f64 / count as f64;
        total += nanoseconds;
        println!("{step:<10} {nanoseconds:>8.0}");
    }
    println!("{:<10} {total:>8.0}", "all");
}
