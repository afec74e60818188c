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
    Known { words: &["generate"], arguments: &[] },
    Known { words: &["dead-letter", "list"], arguments: &[] },
    Known { words: &["dead-letter", "show"], arguments: &["scans:0:1"] },
    Known { words: &["dead-letter", "replay"], arguments: &[] },
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
    ] {
        world.query(&format!("INSERT INTO {rows}")).expect(rows);
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
        "customer c1 of brand bravo",
        "first event never: only named as a sharer",
    ] {
        assert!(has(line), "no `{line}` in\n{shown}");
    }
    assert!(!shown.contains('\u{1b}'), "an id commands the terminal:\n{shown}");

    let one = world.must(&["customer", "c1", "--brand", "acme", "--days", "1", "--events", "2", "--json"]).expect("known");
    let one: serde_json::Value = serde_json::from_str(&one).expect("JSON");
    assert_eq!(one.as_array().map(Vec::len), Some(1));
    assert_eq!(one[0]["facts"]["scans"], 2);
    assert_eq!(one[0]["facts"]["last_purchase_time"], serde_json::Value::Null);
    assert_eq!(one[0]["days"].as_array().map(Vec::len), Some(1));
    let subjects: Vec<_> = one[0]["events"].as_array().into_iter().flatten().map(|event| event["subject"].clone()).collect();
    assert_eq!(subjects, ["order-9", "share-2\u{1b}[31m"]);

    let unknown = world.onecode(&["customer", "nobody'--"]).expect("ended");
    assert_eq!((unknown.code, unknown.stdout.as_str()), (1, ""));
    assert!(unknown.stderr.contains("no customer `nobody'--`"), "{unknown}");
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
