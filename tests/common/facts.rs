//! Hand-made facts in a migrated database: what measures are computed from, without a pipeline in front of it.
//!
//! A test names days by their age: 0 is the business day of [`AS_OF`], 1 the day before it. Money is in fen.

use std::path::Path;
use std::sync::OnceLock;

use anyhow::{Context as _, Result};
use onecode::config::Config;
use onecode::migrate;
use onecode_local::{ClickHouse, ClickHouseOptions};

use super::stack::fresh_dir;
use super::{DEADLINE, wait_until};

/// The moment at which measures are taken: noon of 2026-11-20 in Shanghai.
pub const AS_OF: &str = "2026-11-20 04:00:00";
/// The brand of facts that name none.
pub const BRAND: &str = "acme";

/// A migrated database of its own on the server of this program.
#[derive(Debug)]
pub struct Facts {
    server: &'static ClickHouse,
    database: String,
}

/// What a customer did on one day.
#[derive(Clone, Debug)]
pub struct Day {
    brand: String,
    customer: String,
    age: i64,
    scans: u32,
    draws: u32,
    joins: u32,
    visits: u32,
    shares: u32,
    orders: u32,
    refunds: u32,
    paid: i64,
    refunded: i64,
}

impl Day {
    /// A day without anything.
    #[must_use]
    pub fn empty(customer: &str, age: i64) -> Day {
        Day {
            brand: BRAND.to_owned(),
            customer: customer.to_owned(),
            age,
            scans: 0,
            draws: 0,
            joins: 0,
            visits: 0,
            shares: 0,
            orders: 0,
            refunds: 0,
            paid: 0,
            refunded: 0,
        }
    }

    /// A day with one scan.
    #[must_use]
    pub fn scan(customer: &str, age: i64) -> Day {
        Day { scans: 1, ..Day::empty(customer, age) }
    }

    /// A day with one payment.
    #[must_use]
    pub fn pay(customer: &str, age: i64, paid: i64) -> Day {
        Day { orders: 1, paid, ..Day::empty(customer, age) }
    }

    /// A day with one refund.
    #[must_use]
    pub fn refund(customer: &str, age: i64, refunded: i64) -> Day {
        Day { refunds: 1, refunded, ..Day::empty(customer, age) }
    }

    /// A day with so many shares.
    #[must_use]
    pub fn share(customer: &str, age: i64, shares: u32) -> Day {
        Day { shares, ..Day::empty(customer, age) }
    }

    /// The same with so many scans, of which so many came by a share of somebody else, and so many to join.
    #[must_use]
    pub fn with_scans(self, scans: u32, visits: u32, joins: u32) -> Day {
        Day { scans, visits, joins, ..self }
    }

    /// The same of another brand.
    #[must_use]
    pub fn of(self, brand: &str) -> Day {
        Day { brand: brand.to_owned(), ..self }
    }

    fn values(&self) -> String {
        format!(
            "('{}', '{}', toDate('2026-11-20') - {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, 1)",
            self.brand,
            self.customer,
            self.age,
            self.scans,
            self.draws,
            self.joins,
            self.visits,
            self.shares,
            self.orders,
            self.refunds,
            self.paid,
            self.refunded
        )
    }
}

impl Facts {
    /// An empty database with the default configuration.
    ///
    /// # Errors
    /// When the server does not start or the migration fails.
    pub fn new(database: &str) -> Result<Facts> {
        Facts::with(database, "")
    }

    /// An empty database with more lines of configuration.
    ///
    /// # Errors
    /// As [`Facts::new`].
    pub fn with(database: &str, settings: &str) -> Result<Facts> {
        let server = server()?;
        let text = format!("{settings}\n[clickhouse]\nurl = \"{}\"\ndatabase = \"{database}\"\n", server.url());
        let config = Config::from_text(&text, Path::new("onecode.toml"), [])?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            for step in migrate::plan(&config).await? {
                migrate::apply(&config.clickhouse, &step).await?;
            }
            anyhow::Ok(())
        })?;
        Ok(Facts { server, database: database.to_owned() })
    }

    /// Runs SQL and returns the answer's text without the last line break.
    ///
    /// # Errors
    /// As the server says.
    pub fn query(&self, sql: &str) -> Result<String> {
        let answer = self.server.query_in(&self.database, sql).with_context(|| sql.to_owned())?;
        Ok(answer.trim_end_matches('\n').to_owned())
    }

    /// Inserts days, and a row of `customers` for everybody in them whose last event is at noon of the last day.
    ///
    /// # Errors
    /// As the server says.
    pub fn insert(&self, days: &[Day]) -> Result<()> {
        let values: Vec<String> = days.iter().map(Day::values).collect();
        self.query(&format!(
            "INSERT INTO customer_days (brand, customer_id, day, scans, draws, joins, visits, shares, orders, refunds, paid, refunded, version) VALUES {}",
            values.join(", ")
        ))?;
        self.know_customers()
    }

    /// Gives everybody with days a row of `customers`.
    ///
    /// # Errors
    /// As the server says.
    pub fn know_customers(&self) -> Result<()> {
        let sql = "INSERT INTO customers (brand, customer_id, first_event_time, last_event_time, version) \
                   SELECT brand, customer_id, toDateTime64(min(day), 3, 'UTC') + toIntervalHour(4), toDateTime64(max(day), 3, 'UTC') + toIntervalHour(4), 1 \
                   FROM customer_days FINAL GROUP BY brand, customer_id";
        self.query(sql).map(drop)
    }

    /// Waits for the first refresh, which the migration starts, and puts the next ones off: from here on only the test refreshes.
    ///
    /// # Errors
    /// When the first refresh fails.
    pub fn refresh_by_hand(&self) -> Result<()> {
        wait_until("the first refresh", DEADLINE, || {
            let sql = "SELECT countIf(last_success_time IS NULL) FROM system.view_refreshes \
                       WHERE database = currentDatabase() AND view IN ('customer_segments', 'refresh_segment_states', 'lottery_hunters')";
            Ok(self.query(sql)? == "0")
        })?;
        for view in ["customer_segments", "lottery_hunters"] {
            self.query(&format!("ALTER TABLE {view} MODIFY REFRESH EVERY 1 YEAR"))?;
        }
        Ok(())
    }

    /// Refreshes a view with a column `as_of`, and returns when it shows what was there at the call: at least a row.
    ///
    /// # Errors
    /// When it does not within the deadline.
    pub fn refresh(&self, view: &str) -> Result<()> {
        let asked = self.query("SELECT now64(3, 'UTC')")?;
        wait_until("the refresh", DEADLINE, || {
            self.query(&format!("SYSTEM REFRESH VIEW {view}"))?;
            self.query(&format!("SYSTEM WAIT VIEW {view}"))?;
            Ok(self.query(&format!("SELECT count() > 0 AND min(as_of) >= '{asked}' FROM {view}"))? == "1")
        })
    }

    /// A column of one customer at [`AS_OF`], as text.
    ///
    /// # Errors
    /// As the server says.
    pub fn measure(&self, customer: &str, columns: &str) -> Result<String> {
        self.query(&format!("SELECT {columns} FROM v_segments_at(as_of = '{AS_OF}') WHERE customer_id = '{customer}' FORMAT CSV"))
    }
}

/// The server of this program. Nobody may stop it.
fn server() -> Result<&'static ClickHouse> {
    static SERVER: OnceLock<Result<ClickHouse, String>> = OnceLock::new();
    let start = || ClickHouse::start(ClickHouseOptions::in_dir(fresh_dir("clickhouse")?));
    let server = SERVER.get_or_init(|| start().map_err(|error| format!("{error:#}")));
    server.as_ref().map_err(|message| anyhow::anyhow!("ClickHouse did not start: {message}"))
}
