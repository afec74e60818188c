//! How long the measures of many customers take: a full refresh of `customer_segments`, one customer's row, a list of one in a hundred.
//! `cargo bench --profile release --bench segments [-- CUSTOMERS]`; starts a ClickHouse, fills the fact tables by SQL, prints a table.

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use common::usage::cpu_s;
use onecode::config::Config;
use onecode::migrate;
use onecode_local::{ClickHouse, ClickHouseOptions};

const DATABASE: &str = "segments";
const DEFAULT_CUSTOMERS: u64 = 2_000_000;
/// Active days that a customer has on average.
const DAYS_A_CUSTOMER: u64 = 8;
const ATTEMPTS: usize = 21;

fn main() -> Result<()> {
    let customers = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(DEFAULT_CUSTOMERS);
    let dir = tempfile::tempdir()?;
    let mut options = ClickHouseOptions::in_dir(dir.path());
    options.memory_mib = 8192;
    let server = ClickHouse::start(options)?;
    create_tables(&server)?;
    // No refresh on schedule in between.
    ask(&server, "ALTER TABLE customer_segments MODIFY REFRESH EVERY 1 YEAR")?;
    let filling = Instant::now();
    fill(&server, customers)?;
    println!(
        "{customers} customers with {} active days, filled in {:.0?}",
        ask(&server, "SELECT count() FROM customer_days")?,
        filling.elapsed()
    );
    let ((refresh, cpu_s), peak_bytes) = with_peak_memory(&server, || refresh(&server))?;
    println!(
        "full refresh of customer_segments  {:>9.1} s    aim 60 s; {cpu_s:.1} CPU-seconds of the server, peak memory {} MiB",
        refresh.as_secs_f64(),
        peak_bytes >> 20
    );
    let row = median(|attempt| {
        let number = attempt as u64 * (customers / ATTEMPTS as u64);
        ask(&server, &format!("SELECT * FROM customer_segments WHERE brand = 'acme' AND customer_id = {}", id(&number.to_string())))
    })?;
    println!("one customer's row                 {:>9.1} ms   aim 50 ms, median of {ATTEMPTS}", row.as_secs_f64() * 1e3);
    let rows = ask(&server, "SELECT count() FROM v_segment_high_word_of_mouth")?;
    let list = median(|_| ask(&server, "SELECT * FROM v_segment_high_word_of_mouth WHERE brand = 'acme'"))?;
    println!("a list of 1 % ({rows} rows)         {:>9.1} ms   aim 2000 ms, median of {ATTEMPTS}", list.as_secs_f64() * 1e3);
    Ok(())
}

fn create_tables(server: &ClickHouse) -> Result<()> {
    let text = format!("[clickhouse]\nurl = \"{}\"\ndatabase = \"{DATABASE}\"\n", server.url());
    let config = Config::from_text(&text, Path::new("onecode.toml"), [])?;
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        for step in migrate::plan(&config).await? {
            migrate::apply(&config.clickhouse, &step).await?;
        }
        anyhow::Ok(())
    })
}

/// Ids whose order has nothing to do with what a customer does.
fn id(number: &str) -> String {
    format!("concat('customer-', hex(sipHash64(toUInt64({number}))))")
}

/// Everybody joined in the last year; days crowd towards today; a seventh of them has a payment; one customer in seven brought others.
fn fill(server: &ClickHouse, customers: u64) -> Result<()> {
    let customer = id(&format!("number % {customers}"));
    ask(
        server,
        &format!(
            "INSERT INTO customers (brand, customer_id, first_event_time, last_event_time, version) SELECT 'acme', {customer}, \
             now64(3) - toIntervalDay(number % 700), now64(3) - toIntervalSecond(number % 10000000), 1 FROM numbers({customers})"
        ),
    )?;
    let age = "toUInt16(pow((sipHash64(number, 1) % 1000) / 1000, 1 + number % 3) * 600)";
    for part in 0..DAYS_A_CUSTOMER {
        ask(
            server,
            &format!(
                "INSERT INTO customer_days (brand, customer_id, day, scans, joins, shares, visits, orders, paid, version) \
                 SELECT 'acme', {customer}, today() - if({part} = 0, number % 30, {age}), 1 + sipHash64(number, 2) % 3, {part} = 0, \
                 sipHash64(number, 3) % 30 = 0, sipHash64(number, 4) % 10 = 0, number % 7 = 0, if(number % 7 = 0, 500 + sipHash64(number, 5) % 20000, 0), 1 \
                 FROM numbers({}, {customers})",
                part * customers
            ),
        )?;
    }
    ask(
        server,
        &format!(
            "INSERT INTO customer_subtrees (brand, customer_id, level, month, customers, paid, version) SELECT 'acme', {}, 1 + number % 3, \
             toStartOfMonth(today() - number % 200), 1 + number % 4, sipHash64(number, 6) % 50000, 1 FROM numbers({customers})",
            id(&format!("(number % {}) * 7", customers / 7))
        ),
    )?;
    ask(server, "OPTIMIZE TABLE customers FINAL")?;
    // The refresh is timed, and not the merges that the filling left behind.
    onecode_local::wait_for("the end of all merges", Duration::from_secs(600), || {
        Ok((ask(server, "SELECT count() FROM system.merges")? == "0").then_some(()))
    })
}

fn ask(server: &ClickHouse, sql: &str) -> Result<String> {
    let answer = server.query_in(DATABASE, sql).with_context(|| sql.to_owned())?;
    Ok(answer.trim_end().to_owned())
}

/// The duration that the server itself tells, and the processor time that it took meanwhile.
fn refresh(server: &ClickHouse) -> Result<(Duration, f64)> {
    ask(server, "SYSTEM WAIT VIEW customer_segments")?;
    let before_s = cpu_s(server.pid()?)?;
    ask(server, "SYSTEM REFRESH VIEW customer_segments")?;
    ask(server, "SYSTEM WAIT VIEW customer_segments")?;
    let sql =
        "SELECT last_success_duration_ms FROM system.view_refreshes WHERE database = currentDatabase() AND view = 'customer_segments'";
    let duration = Duration::from_millis(ask(server, sql)?.parse()?);
    Ok((duration, cpu_s(server.pid()?)? - before_s))
}

/// Also the most memory that a query took meanwhile, in bytes, looked at ten times a second.
fn with_peak_memory<T>(server: &ClickHouse, work: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peak = 0;
            while !is_over.load(Ordering::Relaxed) {
                let now = ask(server, "SELECT max(peak_memory_usage) FROM system.processes").ok().and_then(|text| text.parse().ok());
                peak = peak.max(now.unwrap_or(0));
                std::thread::sleep(Duration::from_millis(100));
            }
            peak
        });
        let result = work();
        is_over.store(true, Ordering::Relaxed);
        let peak: u64 = watcher.join().map_err(|_| anyhow::anyhow!("watching the memory panicked"))?;
        Ok((result?, peak))
    })
}

fn median(mut attempt: impl FnMut(usize) -> Result<String>) -> Result<Duration> {
    let mut times = Vec::with_capacity(ATTEMPTS);
    for number in 0..ATTEMPTS {
        let start = Instant::now();
        let answer = attempt(number)?;
        times.push(start.elapsed());
        anyhow::ensure!(!answer.is_empty(), "an empty answer");
    }
    times.sort_unstable();
    times.get(ATTEMPTS / 2).copied().context("no attempt")
}
