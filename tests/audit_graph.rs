//! `onecode audit` of who brings whom, on a real ClickHouse with rows made by hand: the cases in which the rules decide.

use std::path::Path;
use std::sync::LazyLock;

use onecode::audit::{self, AuditOptions, Report, RowDifference};
use onecode::config::Config;
use onecode::migrate;
use onecode_local::{ClickHouse, ClickHouseOptions};

struct Server {
    clickhouse: ClickHouse,
    _dir: tempfile::TempDir,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let dir = tempfile::tempdir().expect("a directory");
    let clickhouse = ClickHouse::start(ClickHouseOptions::in_dir(dir.path())).expect("ClickHouse");
    Server { clickhouse, _dir: dir }
});

/// Seconds of time 0 of the examples: 2026-03-31 15:00 UTC, an hour before April begins where the brand is.
const BEGIN: u64 = 1_774_969_200;
const GRAPH: [&str; 4] = ["referrals", "customer_subtrees", "shares", "share_cascades"];

/// A database of one brand whose graph's tables are written by hand.
struct Database {
    name: &'static str,
    config: Config,
}

impl Database {
    async fn new(name: &'static str, levels: u8) -> Database {
        let text = format!("[clickhouse]\nurl = \"{}\"\ndatabase = \"{name}\"\n[limits]\nlevels = {levels}\n", SERVER.clickhouse.url());
        let config = Config::from_text(&text, Path::new("onecode.toml"), []).expect("a configuration");
        for step in migrate::plan(&config).await.expect("a plan") {
            migrate::apply(&config.clickhouse, &step).await.expect("a step");
        }
        Database { name, config }
    }

    fn query(&self, sql: &str) -> String {
        let sql = sql.replace("{db}", self.name);
        SERVER.clickhouse.query(&sql).expect(&sql).trim_end().to_owned()
    }

    /// Seconds, event, customer, share, sharer.
    fn scan(&self, rows: &[(u32, &str, &str, &str, &str)]) {
        for (seconds, event, customer, share, sharer) in rows {
            self.query(&format!(
                "INSERT INTO {{db}}.scans (brand, code, event_time, event_id, customer_id, share_id, sharer_id, purpose, role) \
                 SELECT 'acme', 'code', {}, '{event}', '{customer}', '{share}', '{sharer}', 'verify', 'consumer'",
                at(*seconds)
            ));
        }
    }

    /// Seconds, event, customer, kind, amount, share, sharer.
    fn purchase(&self, rows: &[(u32, &str, &str, &str, u32, &str, &str)]) {
        for (seconds, event, customer, kind, amount, share, sharer) in rows {
            self.query(&format!(
                "INSERT INTO {{db}}.purchases (brand, customer_id, event_time, event_id, kind, amount, share_id, sharer_id) \
                 SELECT 'acme', '{customer}', {}, '{event}', '{kind}', {amount}, '{share}', '{sharer}'",
                at(*seconds)
            ));
        }
    }

    /// Seconds, event, customer, share, parent share, parent sharer.
    fn share(&self, rows: &[(u32, &str, &str, &str, &str, &str)]) {
        for (seconds, event, customer, share, parent_share, parent_sharer) in rows {
            self.query(&format!(
                "INSERT INTO {{db}}.share_events (brand, customer_id, event_time, event_id, share_id, parent_share_id, parent_sharer_id, rewarded) \
                 SELECT 'acme', '{customer}', {}, '{event}', '{share}', '{parent_share}', '{parent_sharer}', true",
                at(*seconds)
            ));
        }
    }

    /// Child, parent, share, seconds of the first event; the empty parent is nobody.
    fn referrals(&self, rows: &[(&str, &str, &str, u32)]) {
        for (child, parent, share, seconds) in rows {
            let time = if parent.is_empty() { "toDateTime64(0, 3, 'UTC')".to_owned() } else { at(*seconds) };
            self.query(&format!("INSERT INTO {{db}}.referrals SELECT 'acme', '{child}', '{parent}', '{share}', {time}, 1"));
        }
    }

    /// Customer, level, month, and customers, orders, paid, refunded.
    fn subtrees(&self, rows: &[(&str, u8, u8, [u32; 4])]) {
        for (customer, level, month, [customers, orders, paid, refunded]) in rows {
            self.query(&format!(
                "INSERT INTO {{db}}.customer_subtrees SELECT 'acme', '{customer}', {level}, toDate('2026-0{month}-01'), {customers}, {orders}, {paid}, {refunded}, 1"
            ));
        }
    }

    /// Sharer, share, parent share, parent sharer, seconds of its own event, and visits, visitors, new customers, orders, paid, refunded, re-shares.
    #[expect(clippy::type_complexity, reason = "a table of examples")]
    fn shares(&self, rows: &[(&str, &str, &str, &str, Option<u32>, [u32; 7])]) {
        for (sharer, share, parent_share, parent_sharer, seconds, numbers) in rows {
            let time = seconds.map_or_else(|| "toDateTime64(0, 3, 'UTC')".to_owned(), at);
            let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
            self.query(&format!(
                "INSERT INTO {{db}}.shares SELECT 'acme', '{sharer}', '{share}', '{parent_share}', '{parent_sharer}', {time}, '', '', '', 0, {}, {}, 1",
                seconds.is_some(),
                numbers.join(", ")
            ));
        }
    }

    /// Sharer, share, level, and shares, visits, new customers, orders, paid, refunded.
    fn cascades(&self, rows: &[(&str, &str, u8, [u32; 6])]) {
        for (sharer, share, level, numbers) in rows {
            let numbers: Vec<String> = numbers.iter().map(u32::to_string).collect();
            self.query(&format!(
                "INSERT INTO {{db}}.share_cascades SELECT 'acme', '{sharer}', '{share}', {level}, {}, 1",
                numbers.join(", ")
            ));
        }
    }

    async fn audit(&self) -> Report {
        let options = AuditOptions { tables: GRAPH.map(str::to_owned).to_vec(), ..AuditOptions::default() };
        audit::audit(&self.config, &options, |_| {}).await.expect("a report")
    }

    async fn must_be_exact(&self, rows: u64) {
        let report = self.audit().await;
        assert_eq!((report.differences(), report.rows()), (0, rows), "{:#}", report.to_json());
    }

    /// Ann brought bob in March, and so on, each through a share that passes on the one before; dan paid in April.
    fn fill_chain(&self) {
        self.scan(&[(0, "a", "ann", "", ""), (10, "b", "bob", "sa", "ann"), (20, "c", "cid", "sb", "bob"), (30, "d", "dan", "sc", "cid")]);
        self.share(&[(1, "h", "ann", "sa", "", ""), (11, "h", "bob", "sb", "sa", "ann"), (21, "h", "cid", "sc", "sb", "bob")]);
        self.purchase(&[(3_600, "p", "dan", "payment", 900, "sc", "cid"), (3_700, "r", "dan", "refund", 200, "", "")]);
        self.referrals(&[("ann", "", "", 0), ("bob", "ann", "sa", 10), ("cid", "bob", "sb", 20), ("dan", "cid", "sc", 30)]);
        self.subtrees(&[
            ("ann", 1, 3, [1, 0, 0, 0]),
            ("ann", 2, 3, [1, 0, 0, 0]),
            ("ann", 3, 3, [1, 0, 0, 0]),
            ("ann", 3, 4, [0, 1, 900, 200]),
            ("bob", 1, 3, [1, 0, 0, 0]),
            ("bob", 2, 3, [1, 0, 0, 0]),
            ("bob", 2, 4, [0, 1, 900, 200]),
            ("cid", 1, 3, [1, 0, 0, 0]),
            ("cid", 1, 4, [0, 1, 900, 200]),
        ]);
        self.shares(&[
            ("ann", "sa", "", "", Some(1), [1, 1, 1, 0, 0, 0, 1]),
            ("bob", "sb", "sa", "ann", Some(11), [1, 1, 1, 0, 0, 0, 1]),
            ("cid", "sc", "sb", "bob", Some(21), [1, 1, 1, 1, 900, 0, 0]),
        ]);
        self.cascades(&[
            ("ann", "sa", 0, [1, 1, 1, 0, 0, 0]),
            ("ann", "sa", 1, [1, 1, 1, 0, 0, 0]),
            ("ann", "sa", 2, [1, 1, 1, 1, 900, 0]),
            ("bob", "sb", 0, [1, 1, 1, 0, 0, 0]),
            ("bob", "sb", 1, [1, 1, 1, 1, 900, 0]),
            ("cid", "sc", 0, [1, 1, 1, 1, 900, 0]),
        ]);
    }
}

/// Rows of the chain in all four tables.
const CHAIN_ROWS: u64 = 4 + 9 + 3 + 6;

fn at(seconds: impl std::borrow::Borrow<u32>) -> String {
    format!("toDateTime64({}, 3, 'UTC')", BEGIN + u64::from(*seconds.borrow()))
}

#[tokio::test]
async fn a_chain_of_four_levels_with_money_in_another_month() {
    let database = Database::new("chain", 16).await;
    database.fill_chain();
    database.must_be_exact(CHAIN_ROWS).await;
    // A row of zeros and no row mean the same; another brand's customers are others.
    database.subtrees(&[("dan", 1, 3, [0; 4])]);
    database.cascades(&[("cid", "sc", 7, [0; 6])]);
    database.must_be_exact(CHAIN_ROWS).await;
}

#[tokio::test]
async fn every_single_wrong_row_of_the_chain_is_found() {
    let database = Database::new("wrong", 16).await;
    database.fill_chain();
    for (table, change) in [
        ("referrals", "'bob' AS parent_id"),
        ("customer_subtrees", "refunded + 1 AS refunded"),
        ("customer_subtrees", "toDate('2026-05-01') AS month"),
        ("shares", "reshares + 1 AS reshares"),
        ("share_cascades", "visits + 1 AS visits"),
    ] {
        let moves_the_key = change.ends_with("month");
        let last = "ORDER BY ALL DESC LIMIT 1";
        database.query(&format!("CREATE OR REPLACE TABLE {{db}}.kept ENGINE = Memory AS SELECT * FROM {{db}}.{table} FINAL"));
        database.query(&format!("INSERT INTO {{db}}.{table} SELECT * REPLACE ({change}, 2 AS version) FROM {{db}}.kept {last}"));
        let report = database.audit().await;
        assert_eq!(report.differences(), 1, "{table} {change}: {:#}", report.to_json());
        let found: Vec<&RowDifference> = report.tables.iter().flat_map(|found| &found.listed).collect();
        let is_unexpected = matches!(found.as_slice(), [RowDifference::Unexpected { .. }]);
        assert_eq!(is_unexpected, moves_the_key, "{table} {change}: {:#}", report.to_json());
        database.query(&format!("TRUNCATE TABLE {{db}}.{table}"));
        database.query(&format!("INSERT INTO {{db}}.{table} SELECT * FROM {{db}}.kept WHERE cityHash64(*) != (SELECT cityHash64(*) FROM (SELECT * FROM {{db}}.kept {last}))"));
        let report = database.audit().await;
        assert_eq!(report.differences(), 1, "{table}: {:#}", report.to_json());
        database.query(&format!("INSERT INTO {{db}}.{table} SELECT * FROM {{db}}.kept {last}"));
    }
    database.must_be_exact(CHAIN_ROWS).await;
}

#[tokio::test]
async fn subtrees_and_cascades_end_at_the_configured_level() {
    let database = Database::new("levels", 2).await;
    database.fill_chain();
    let report = database.audit().await;
    let differing: Vec<(&str, u64)> = report.tables.iter().map(|table| (table.table, table.differences)).collect();
    // Ann's third level, in two months; the cascade of sa reaches exactly level 2.
    assert_eq!(differing, [("referrals", 0), ("customer_subtrees", 2), ("shares", 0), ("share_cascades", 0)]);
}

#[tokio::test]
async fn self_references_mutual_forgery_and_blocked_first_events_bring_nobody() {
    let database = Database::new("forged", 16).await;
    database.scan(&[
        (0, "e", "self", "s", "self"),
        // Mut2 had been named before its first event, mut1 had not.
        (10, "e", "mut1", "x", "mut2"),
        (11, "e", "mut2", "x", "mut1"),
        // Named at the same moment.
        (20, "e", "tie", "y", "someone"),
        (20, "e", "other", "z", "tie"),
        // The earlier id decides between two events of one moment: it came through nobody.
        (30, "e1", "two", "", ""),
        (30, "e2", "two", "y", "someone"),
    ]);
    database.referrals(&[
        ("self", "", "", 0),
        ("mut1", "mut2", "x", 10),
        ("mut2", "", "", 0),
        ("tie", "", "", 0),
        ("other", "tie", "z", 20),
        ("two", "", "", 0),
    ]);
    database.subtrees(&[("mut2", 1, 3, [1, 0, 0, 0]), ("tie", 1, 3, [1, 0, 0, 0])]);
    database.shares(&[
        ("mut2", "x", "", "", None, [1, 1, 1, 0, 0, 0, 0]),
        ("mut1", "x", "", "", None, [1, 1, 0, 0, 0, 0, 0]),
        ("someone", "y", "", "", None, [2, 2, 0, 0, 0, 0, 0]),
        ("tie", "z", "", "", None, [1, 1, 1, 0, 0, 0, 0]),
    ]);
    database.cascades(&[
        ("mut2", "x", 0, [0, 1, 1, 0, 0, 0]),
        ("mut1", "x", 0, [0, 1, 0, 0, 0, 0]),
        ("someone", "y", 0, [0, 2, 0, 0, 0, 0]),
        ("tie", "z", 0, [0, 1, 1, 0, 0, 0]),
    ]);
    database.must_be_exact(6 + 2 + 4 + 4).await;
}

#[tokio::test]
async fn orphan_shares_younger_parents_and_repeated_shares() {
    let database = Database::new("orphans", 16).await;
    database.share(&[
        // The parent's own event was never seen.
        (5, "o", "orphan", "so", "lost", "ghost"),
        // The parent is younger than its child; of two events of one share the earlier one counts.
        (6, "y", "young", "sy", "late", "elder"),
        (9, "l1", "elder", "late", "", ""),
        (7, "l2", "elder", "late", "so", "orphan"),
        // A share that passes on the sharer's own passes on nothing.
        (8, "i", "orphan", "si", "so", "orphan"),
    ]);
    database.referrals(&[("orphan", "ghost", "lost", 5), ("young", "elder", "late", 6), ("elder", "", "", 0)]);
    // Elder was named at 6, before the first own event at 7: nobody brought elder.
    database.subtrees(&[("ghost", 1, 3, [1, 0, 0, 0]), ("elder", 1, 3, [1, 0, 0, 0])]);
    database.shares(&[
        ("ghost", "lost", "", "", None, [0, 1, 1, 0, 0, 0, 1]),
        ("orphan", "so", "lost", "ghost", Some(5), [0, 1, 0, 0, 0, 0, 1]),
        ("orphan", "si", "", "", Some(8), [0; 7]),
        ("young", "sy", "late", "elder", Some(6), [0; 7]),
        ("elder", "late", "so", "orphan", Some(7), [0, 1, 1, 0, 0, 0, 1]),
    ]);
    database.cascades(&[
        ("ghost", "lost", 0, [0, 0, 1, 0, 0, 0]),
        ("orphan", "so", 0, [1, 0, 0, 0, 0, 0]),
        ("orphan", "so", 1, [1, 0, 1, 0, 0, 0]),
        ("orphan", "si", 0, [1, 0, 0, 0, 0, 0]),
        ("young", "sy", 0, [1, 0, 0, 0, 0, 0]),
        ("elder", "late", 0, [1, 0, 1, 0, 0, 0]),
    ]);
    database.must_be_exact(3 + 2 + 5 + 6).await;
}

#[tokio::test]
async fn whom_and_what_a_conflict_may_reach_is_left_out_and_counted() {
    let database = Database::new("twins", 16).await;
    database.fill_chain();
    database.scan(&[(40, "e", "eve", "sc", "cid"), (41, "e", "eve", "", ""), (50, "f", "fay", "sx", "xia")]);
    database.referrals(&[("fay", "xia", "sx", 50)]);
    database.subtrees(&[("xia", 1, 3, [1, 0, 0, 0])]);
    database.shares(&[("xia", "sx", "", "", None, [1, 1, 1, 0, 0, 0, 0])]);
    database.cascades(&[("xia", "sx", 0, [0, 1, 1, 0, 0, 0])]);
    let report = database.audit().await;
    assert_eq!((report.differences(), report.conflicts.len(), report.left_out_customers), (0, 1, 1), "{:#}", report.to_json());
    let left_out: Vec<(&str, u64)> = report.tables.iter().map(|table| (table.table, table.left_out)).collect();
    // Cid, whom one of eve's twins names, may have appeared earlier. Cid's first level in March holds eve or not; all that bob and ann have
    // from cid on hangs from an uncertain edge; so do sb's new customers, and what came through sc.
    assert_eq!(left_out, [("referrals", 2), ("customer_subtrees", 7), ("shares", 2), ("share_cascades", 5)], "{:#}", report.to_json());

    database.query("INSERT INTO {db}.customer_subtrees SELECT * REPLACE (customers + 1 AS customers, 2 AS version) FROM {db}.customer_subtrees FINAL WHERE customer_id = 'xia'");
    assert_eq!(database.audit().await.differences(), 1, "others are still compared");
}
