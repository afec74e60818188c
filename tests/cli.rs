//! The command line as a person meets it.
//!
//! Goal: every command helps, refuses wrong usage and wrong configuration with exit code 2 and says what is allowed, and ends with
//! exit code 1 when it finds something wrong. Method: the built binary, with nothing of this environment's own variables; for what
//! it shows, a database of its own on the real servers.

mod common;

use std::process::{Command, Output};

use common::{DEADLINE, World, wait_until};

/// A command: its words, and the least that it takes besides `--config`.
struct Known {
    words: &'static [&'static str],
    arguments: &'static [&'static str],
}

const COMMANDS: &[Known] = &[
    Known { words: &["run"], arguments: &[] },
    Known { words: &["migrate"], arguments: &[] },
    Known { words: &["check"], arguments: &[] },
    Known { words: &["audit"], arguments: &[] },
    Known { words: &["customer"], arguments: &["c1"] },
    Known { words: &["tree"], arguments: &["c1"] },
    Known { words: &["rescale"], arguments: &["--tasks", "12"] },
    Known { words: &["generate"], arguments: &[] },
    Known { words: &["dead-letter", "list"], arguments: &[] },
    Known { words: &["dead-letter", "show"], arguments: &["scans:0:1"] },
    Known { words: &["dead-letter", "replay"], arguments: &[] },
    Known { words: &["fit"], arguments: &[] },
];

impl Known {
    fn line(&self) -> Vec<&'static str> {
        [self.words, self.arguments].concat()
    }
}

struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

fn onecode(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_onecode"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ONECODE_")) {
        command.env_remove(name);
    }
    let Output { status, stdout, stderr } =
        command.args(arguments).envs(environment.iter().copied()).output().expect("the binary is built with the tests");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Ended { code: status.code().expect("not killed"), stdout: text(stdout), stderr: text(stderr) }
}

fn config_file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    file
}

/// Runs a command with a configuration.
fn with_config(command: &[&str], text: &str, environment: &[(&str, &str)]) -> (Ended, String) {
    let file = config_file(text);
    let path = file.path().to_str().expect("text").to_owned();
    (onecode(&[command, &["--config", &path]].concat(), environment), path)
}

#[test]
fn every_command_of_the_help_is_tested_here() {
    let help = onecode(&["--help"], &[]).stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let mut listed: Vec<&str> = listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect();
    let mut tested: Vec<&str> = COMMANDS.iter().filter_map(|command| command.words.first().copied()).collect();
    listed.sort_unstable();
    tested.sort_unstable();
    tested.dedup();
    assert_eq!(listed, tested);
}

#[test]
fn every_command_helps_with_examples_that_name_it() {
    for command in COMMANDS {
        let words = command.words;
        let ended = onecode(&[words, &["--help"]].concat(), &[]);
        assert_eq!(ended.code, 0, "{words:?}: {}", ended.stderr);
        let examples = ended.stdout.split_once("Examples:").unwrap_or_else(|| panic!("{words:?} has no examples")).1;
        assert!(examples.contains(&format!("onecode {}", words.join(" "))), "{words:?}: {examples}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    for arguments in [&[][..], &["frobnicate"], &["--no-such-flag"], &["customer"], &["customer", "c1", "--days", "x", "--config", "f"]] {
        let ended = onecode(arguments, &[]);
        assert_eq!(ended.code, 2, "{arguments:?}");
        assert!(ended.stderr.contains("Usage:") || ended.stderr.contains("--help"), "{arguments:?}: {}", ended.stderr);
    }
    assert_eq!(onecode(&["--version"], &[]).stdout, format!("onecode {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_missing_configuration_ends_with_2_and_names_the_option() {
    for command in COMMANDS.iter().map(Known::line) {
        let ended = onecode(&command, &[]);
        assert_eq!(ended.code, 2, "{command:?}");
        assert!(ended.stderr.contains("--config"), "{command:?}: {}", ended.stderr);
        let ended = onecode(&[&command[..], &["--config", "/no/such/file.toml"]].concat(), &[]);
        assert_eq!(ended.code, 2, "{command:?}");
        assert!(ended.stderr.starts_with("error: ") && ended.stderr.contains("/no/such/file.toml"), "{command:?}: {}", ended.stderr);
        let ended = onecode(&command, &[("ONECODE_CONFIG", "/no/such/variable.toml")]);
        assert!(ended.code == 2 && ended.stderr.contains("/no/such/variable.toml"), "{command:?}: {}", ended.stderr);
    }
}

#[test]
fn a_wrong_configuration_ends_with_2_and_names_key_value_allowed_values_and_file() {
    type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);
    let cases: &[Case<'_>] = &[
        ("[pipeline]\nstart_from = \"newest\"\n", &[], &["`pipeline.start_from` = \"newest\"", "earliest, latest"]),
        ("[pipeline]\nworker = 2\n", &[], &["`pipeline.worker`", "unknown key", "`pipeline.workers`"]),
        ("[kafka.client]\nacks = 1\n", &[], &["`kafka.client.acks` = 1", "refused", "all"]),
        ("[topics]\nshares = { name = \"scans\" }\n", &[], &["`topics.shares.name` = \"scans\"", "`topics.scans`"]),
        ("", &[("ONECODE_FOO__BAR", "1")], &["ONECODE_FOO__BAR", "unknown key"]),
        ("", &[("ONECODE_PIPELINE__WORKERS", "none")], &["ONECODE_PIPELINE__WORKERS", "from 1 to 256"]),
    ];
    for command in COMMANDS.iter().map(Known::line) {
        for (text, environment, parts) in cases {
            let (ended, path) = with_config(&command, text, environment);
            assert_eq!(ended.code, 2, "{command:?} {text}: {}", ended.stderr);
            for part in parts.iter().copied().chain([path.as_str()]) {
                assert!(ended.stderr.contains(part), "{command:?}: no `{part}` in {}", ended.stderr);
            }
            assert_eq!(ended.stdout, "", "{command:?}");
        }
    }
}

#[test]
fn a_wrong_log_level_ends_with_2_and_names_the_levels() {
    let (ended, _) = with_config(&["customer", "c1"], "", &[("ONECODE_LOG", "a=b=c")]);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.contains("ONECODE_LOG=a=b=c") && ended.stderr.contains("debug"), "{}", ended.stderr);
}

#[test]
fn a_store_that_cannot_be_reached_ends_with_1_names_the_key_and_no_password() {
    let nobody_listens = "[clickhouse]\nurl = \"http://127.0.0.1:1\"\npassword = \"hunter2\"\n";
    let (ended, _) = with_config(&["customer", "c1"], nobody_listens, &[]);
    assert_eq!(ended.code, 1, "{}", ended.stderr);
    assert!(ended.stderr.contains("http://127.0.0.1:1") && ended.stderr.contains("clickhouse.url"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("Connection refused").count(), 1, "{}", ended.stderr);
}

/// A world with tables, and two brands that know a customer `c1`.
fn world_with_a_customer() -> World<'static> {
    let world = World::new("cli").expect("the stack");
    world.migrate(2).expect("a migration");
    for rows in [
        "customers (brand, customer_id, first_event_time, first_event_id, last_event_time, scans, orders, paid, active_days, version) VALUES
            ('acme', 'c1', '2026-11-01 10:00:00.123', 'e1', '2026-11-03 09:00:00', 1, 1, 12345, 2, 1),
            ('acme', 'c1', '2026-11-01 10:00:00.123', 'e1', '2026-11-03 09:00:00', 2, 1, 12345, 2, 2),
            ('bravo', 'c1', '1970-01-01 00:00:00', '', '1970-01-01 00:00:00', 0, 0, 0, 0, 1)",
        "customer_days (brand, customer_id, day, scans, orders, paid, version) VALUES
            ('acme', 'c1', '2026-11-01', 2, 0, 0, 1), ('acme', 'c1', '2026-11-03', 0, 1, 12345, 1)",
        "scans (brand, code, event_time, event_id, customer_id, purpose, role, region, channel, share_id, sharer_id) VALUES
            ('acme', 'code-7', '2026-11-01 10:00:00.123', 'e1', 'c1', 'draw', 'consumer', 110000, 'weibo', 'share-1', 'friend-1')",
        "purchases (brand, customer_id, event_time, event_id, order_id, kind, amount, currency) VALUES
            ('acme', 'c1', '2026-11-03 09:00:00', 'p1', 'order-9', 'payment', 12345, 'CNY')",
        "share_events (brand, customer_id, event_time, event_id, share_id) VALUES
            ('acme', 'c1', '2026-11-02 09:00:00', 'h1', 'share-2\u{1b}[31m')",
        "customers (brand, customer_id, first_event_time, referrer_id, referral_share_id, orders, paid, refunded, version) VALUES
            ('acme', 'c2', '2026-11-03 10:00:00', 'c1', 'share-2\u{1b}[31m', 3, 900, 100, 1),
            ('acme', 'c3', '2026-11-03 11:00:00', 'c1', 'share-2\u{1b}[31m', 0, 0, 0, 1)",
        "customer_subtrees (brand, customer_id, level, month, customers, orders, paid, refunded, version) VALUES
            ('acme', 'c1', 1, '2026-10-01', 0, 1, 300, 100, 1), ('acme', 'c1', 1, '2026-11-01', 2, 2, 600, 0, 1), ('acme', 'c1', 2, '2026-11-01', 0, 0, 0, 0, 1)",
        "shares (brand, sharer_id, share_id, time, visits, visitors, new_customers, reshares, version) VALUES
            ('acme', 'c1', 'share-2\u{1b}[31m', '2026-11-02 09:00:00', 4, 3, 2, 1, 1), ('acme', 'c1', 'claimed', '1970-01-01 00:00:00', 1, 1, 0, 0, 1)",
    ] {
        world.query(&format!("INSERT INTO {rows}")).expect(rows);
    }
    for refresh in ["SYSTEM REFRESH VIEW customer_segments", "SYSTEM WAIT VIEW customer_segments"] {
        world.query(refresh).expect(refresh);
    }
    world
}

#[test]
fn a_customer_is_shown_with_the_newest_row_days_and_events_of_each_brand() {
    let world = world_with_a_customer();
    let shown = world.must(&["customer", "c1"]).expect("known");
    let lines: Vec<Vec<&str>> = shown.lines().map(|line| line.split_whitespace().collect()).collect();
    let has = |line: &str| lines.contains(&line.split_whitespace().collect());
    for line in [
        "customer c1 of brand acme",
        "first event 2026-11-01T10:00:00.123Z (e1)",
        "last purchase never",
        "2 0 0 0 0 0 1 0 12345 0 2",
        "2026-11-03 0 0 0 0 0 1 0 12345 0",
        "2026-11-03T09:00:00.000Z payment order-9 12345 CNY - - - - p1",
        "2026-11-01T10:00:00.123Z scan code-7 - draw by consumer - 110000 weibo friend-1/share-1 e1",
        "1 2 3 800",
        "c2 2026-11-03T10:00:00.000Z share-2\\u{1b}[31m 3 800 0",
        "share-2\\u{1b}[31m 2026-11-02T09:00:00.000Z - - 4 3 2 0 0 1",
        "claimed never seen - - 1 1 0 0 0 0",
        "customer c1 of brand bravo",
        "no measures: customer_segments was not refreshed since the first event, or there is none",
        "first event never: only named as a sharer",
    ] {
        assert!(has(line), "no `{line}` in\n{shown}");
    }
    assert!(shown.contains("tier silver, next_tier gold, gap_to_next_tier 187655, net_365d 12345"), "{shown}");
    assert!(!shown.contains('\u{1b}'), "an id commands the terminal:\n{shown}");

    let one = world.must(&["customer", "c1", "--brand", "acme", "--days", "1", "--events", "2", "--json"]).expect("known");
    let one: serde_json::Value = serde_json::from_str(&one).expect("JSON");
    assert_eq!(one.as_array().map(Vec::len), Some(1));
    assert_eq!(one[0]["facts"]["scans"], 2);
    assert_eq!(one[0]["facts"]["last_purchase_time"], serde_json::Value::Null);
    assert_eq!(one[0]["days"].as_array().map(Vec::len), Some(1));
    let subjects: Vec<_> = one[0]["events"].as_array().into_iter().flatten().map(|event| event["subject"].clone()).collect();
    assert_eq!(subjects, ["order-9", "share-2\u{1b}[31m"]);

    assert_eq!(one[0]["measures"]["net_lifetime"], 12345);
    assert_eq!(one[0]["tree"].as_array().map(Vec::len), Some(1), "levels without anything are left out");
    assert_eq!(one[0]["tree"][0]["customers"], 2);
    assert_eq!(one[0]["brought"][0]["customer_id"], "c2");
    assert_eq!(one[0]["shares"][0]["visits"], 4);

    let unknown = world.onecode(&["customer", "nobody'--"]).expect("ended");
    assert_eq!((unknown.code, unknown.stdout.as_str()), (1, ""));
    assert!(unknown.stderr.contains("no customer `nobody'--`"), "{unknown}");
}

/// `c1` brought `c2` and `c3`, `c2` brought `c4`; `star` brought 40 customers.
fn world_with_a_tree() -> World<'static> {
    let world = World::new("tree").expect("the stack");
    world.migrate(2).expect("a migration");
    for rows in [
        "customers (brand, customer_id, first_event_time, referrer_id, referral_share_id, orders, paid, refunded, referred_direct, referred_total, version) VALUES
            ('acme', 'c1', '2026-11-01 10:00:00.123', '', '', 1, 100, 0, 2, 3, 1),
            ('acme', 'c2', '2026-11-02 10:00:00', 'c1', 's\u{1b}', 2, 500, 70, 1, 1, 2),
            ('acme', 'c3', '2026-11-03 10:00:00', 'c1', 's1', 0, 9000, 0, 0, 0, 3),
            ('acme', 'c4', '2026-11-04 10:00:00', 'c2', 's2', 0, 0, 0, 0, 0, 4),
            ('bravo', 'c1', '1970-01-01 00:00:00', '', '', 0, 0, 0, 0, 0, 1)",
        "customers (brand, customer_id, first_event_time, referrer_id, referred_direct, referred_total, paid, version)
            SELECT 'acme', if(number = 0, 'star', concat('leaf', toString(number))), '2026-11-05 00:00:00', if(number = 0, '', 'star'),
                if(number = 0, 40, 0), if(number = 0, 40, 0), number, 1 FROM numbers(41)",
        "customer_subtrees (brand, customer_id, level, month, customers, orders, paid, refunded, version) VALUES
            ('acme', 'c1', 1, '2026-11-01', 2, 2, 9500, 70, 1), ('acme', 'c1', 1, '2026-12-01', 0, 1, 1000, 0, 1),
            ('acme', 'c1', 2, '2026-11-01', 1, 0, 0, 0, 1), ('acme', 'c1', 3, '2026-11-01', 0, 0, 0, 0, 1),
            ('acme', 'c2', 1, '2026-11-01', 1, 0, 0, 0, 1)",
        "referrals (brand, child_id, parent_id, share_id, time, version) SELECT brand, customer_id, referrer_id, referral_share_id,
            if(referrer_id = '', toDateTime64(0, 3, 'UTC'), first_event_time), version FROM customers",
    ] {
        world.query(&format!("INSERT INTO {rows}")).expect(rows);
    }
    world
}

#[test]
fn a_tree_is_drawn_with_levels_values_and_what_is_left_out() {
    let world = world_with_a_tree();
    let shown = world.must(&["tree", "c1", "--brand", "acme"]).expect("known");
    let expected = "\
tree of c1 of brand acme, brought by nobody

below
  level  customers  orders  paid   refunded  net
  1      2          3       10500  70        10430
  2      1          0       0      0         0
  all    3          3       10500  70        10430

  customer     level  first event               orders  own net  brought  in all  net below
  c1           0      2026-11-01T10:00:00.123Z  1       100      2        3       10430
  ├─ c2        1      2026-11-02T10:00:00.000Z  2       430      1        1       0
  │  └─ c4     2      2026-11-04T10:00:00.000Z  0       0        0        0       0
  └─ c3        1      2026-11-03T10:00:00.000Z  0       9000     0        0       0

";
    let squeezed = |text: &str| text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    assert_eq!(squeezed(&shown), squeezed(expected), "{shown}");

    let all = world.must(&["tree", "c1", "--depth", "1"]).expect("known");
    assert!(all.contains("│  └─ 1 not shown\n") && !all.contains("c4"), "{all}");
    assert!(all.contains("tree of c1 of brand bravo") && all.contains(" never "), "{all}");
    let below_the_middle = world.must(&["tree", "c2"]).expect("known");
    assert!(below_the_middle.contains("brought by c1 by share s\\u{1b}\n"), "{below_the_middle}");

    let star = world.must(&["tree", "star", "--children", "3"]).expect("known");
    let lines: Vec<&str> = star.lines().filter(|line| line.contains('─')).map(str::trim_start).collect();
    let starts = ["├─ leaf40 ", "├─ leaf39 ", "├─ leaf38 ", "└─ and 37 more"];
    assert!(lines.len() == 4 && lines.iter().zip(starts).all(|(line, start)| line.starts_with(start)), "{star}");
    let few = world.must(&["tree", "star", "--lines", "1"]).expect("known");
    assert!(few.contains("└─ 40 not shown") && !few.contains("leaf"), "{few}");

    let unknown = world.onecode(&["tree", "nobody'--"]).expect("ended");
    assert_eq!((unknown.code, unknown.stdout.as_str()), (1, ""));
    assert!(unknown.stderr.contains("no customer `nobody'--`"), "{unknown}");
    let wrong = world.onecode(&["tree", "c1", "--depth", "0"]).expect("ended");
    assert_eq!(wrong.code, 2, "{wrong}");
}

#[test]
fn a_tree_as_json_nests_children_and_the_view_lists_all_of_it() {
    let world = world_with_a_tree();
    let trees = world.must(&["tree", "c1", "--json"]).expect("known");
    let trees: serde_json::Value = serde_json::from_str(&trees).expect("JSON");
    assert_eq!((&trees[0]["brand"], &trees[1]["brand"]), (&"acme".into(), &"bravo".into()));
    assert_eq!(trees[0]["levels"][0]["net"], 10_430);
    let root = &trees[0]["tree"];
    assert_eq!((&root["level"], &root["referred_total"], &root["subtree_net"]), (&0.into(), &3.into(), &10_430.into()));
    let child = &root["children"][0];
    assert_eq!((&child["customer_id"], &child["net"], &child["more_children"]), (&"c2".into(), &430.into(), &0.into()));
    assert_eq!(child["children"][0]["customer_id"], "c4");
    assert_eq!(trees[1]["tree"]["first_event_time"], serde_json::Value::Null);

    let columns =
        "level, customer_id, parent_id, share_id, toUnixTimestamp64Milli(first_event_time), orders, net, referred_direct, referred_total";
    let tree = |call: &str| world.query(&format!("SELECT {columns} FROM v_referral_tree({call}) ORDER BY level, customer_id FORMAT CSV"));
    let listed = tree("brand = 'acme', customer = 'c1'").expect("rows");
    let expected = "\
0,\"c1\",\"\",\"\",1793527200123,1,100,2,3
1,\"c2\",\"c1\",\"s\u{1b}\",1793613600000,2,430,1,1
1,\"c3\",\"c1\",\"s1\",1793700000000,0,9000,0,0
2,\"c4\",\"c2\",\"s2\",1793786400000,0,0,0,0
";
    assert_eq!(listed, expected);
    assert_eq!(tree("customer = 'c4', brand = 'acme'").expect("rows").lines().count(), 1);
    assert_eq!(tree("brand = 'acme', customer = 'nobody'").expect("rows"), "");
    assert_eq!(tree("brand = 'bravo', customer = 'c1'").expect("rows").lines().count(), 1);
    assert_eq!(tree("brand = 'acme', customer = 'star'").expect("rows").lines().count(), 41);

    // As while an edge moves: two rows of different moments close a circle.
    world.query("INSERT INTO referrals (brand, child_id, parent_id, version) VALUES ('acme', 'c1', 'c4', 9)").expect("a row");
    world.query("INSERT INTO customers (brand, customer_id, referrer_id, referred_direct, version) VALUES ('acme', 'c1', 'c4', 2, 9), ('acme', 'c4', 'c2', 1, 9)").expect("rows");
    assert_eq!(tree("brand = 'acme', customer = 'c1'").expect("rows").lines().count(), 4);
    let circle = world.must(&["tree", "c1", "--brand", "acme"]).expect("known");
    assert_eq!(circle.lines().filter(|line| line.contains("2026-11") || line.contains(" never ")).count(), 4, "{circle}");
}

#[test]
fn check_ends_with_0_when_nothing_is_wrong_and_with_1_when_something_is() {
    let world = world_with_a_customer();
    let fine = world.onecode(&["check", "--settings"]).expect("ended");
    assert_eq!(fine.code, 0, "{fine}");
    assert!(fine.stdout.contains("pipeline.workers = 2  # default\n"), "{fine}");
    world.query("ALTER TABLE customers DROP COLUMN verifies").expect("dropped");
    let wrong = world.onecode(&["check"]).expect("ended");
    assert_eq!(wrong.code, 1, "{wrong}");
    assert!(wrong.stdout.contains("verifies"), "{wrong}");
}

#[test]
fn a_process_whose_instance_id_is_taken_stops_with_1_and_says_so() {
    let mut world = World::new("twins").expect("the stack");
    world.set_text("kafka.instance_id", "twin");
    world.migrate(2).expect("a migration");
    let first = world.start().expect("the first");
    let second = world.spawn(1, &[]).expect("the second");
    assert_eq!(first.wait_for_exit().expect("it stops"), 1, "{}", first.log_text());
    let said = first.log_text();
    assert!(said.contains("another process has taken this instance id") && said.contains("`twin-"), "{said}");
    second.wait_ready().expect("the second has all tasks");
    assert_eq!(second.terminate().expect("it drains"), 0, "{}", second.log_text());
}

#[test]
fn the_verdict_of_an_audit_shows_in_the_metrics_of_a_running_pipeline() {
    let world = World::new("verdict").expect("the stack");
    world.migrate(2).expect("a migration");
    let pipeline = world.start().expect("a pipeline");
    let shown = || pipeline.metric("onecode_audit_differences", &[]);
    assert!(shown().expect("metrics").is_nan(), "no audit was made yet");
    for (differences, code) in [(0.0, 0), (1.0, 1)] {
        if code == 1 {
            let row = "(brand, customer_id, first_event_time, first_event_id, scans, version) VALUES ('b', 'c', '2026-11-01 00:00:00', 'e', 1, 1)";
            world.query(&format!("INSERT INTO customers {row}")).expect("a row that no event explains");
        }
        let audit = world.onecode(&["audit"]).expect("a verdict");
        assert_eq!(audit.code, code, "{audit}");
        wait_until("the verdict in the metrics", DEADLINE, || Ok(shown()? == differences)).expect("shown");
    }
    assert_eq!(world.onecode(&["audit", "--table", "customer_days"]).expect("a verdict").code, 0);
    assert_eq!(world.query("SELECT count() FROM audits").expect("counted").trim(), "2", "an audit of one table is no verdict on all");
}
