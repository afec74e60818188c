//! The configuration as an operator meets it.
//!
//! Goal: every key can be set by file and variable, every wrong one is named with what is allowed, no secret is ever shown.
//! Method: real texts and environments through `Config::from_text`, and the example file of `deploy/`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use onecode::config::{Config, ConfigError, Format, StartFrom};
use onecode::model::EventKind;

const EXAMPLE: &str = include_str!("../deploy/onecode.example.toml");

/// The example of the contract (`contract/behaviour.md`), verbatim.
const CONTRACT: &str = r#"
[kafka]
brokers = "127.0.0.1:9092"
group = "onecode"
[kafka.client]                       # any librdkafka option, e.g. "security.protocol" = "SASL_SSL"

[topics]
scans = { name = "scans", format = "auto" }          # auto | protobuf | json
purchases = { name = "purchases", format = "auto" }
shares = { name = "shares", format = "auto" }
exchange = { name = "onecode.exchange" }
dead_letter = { name = "onecode.dead-letter" }

[clickhouse]
url = "http://127.0.0.1:8123"
database = "onecode"
user = "default"
# password_file = "..."

[http]
listen = "127.0.0.1:9464"

[pipeline]
workers = 2
serve_interval_ms = 1000
checkpoint_interval_ms = 30000
max_lateness_days = 35
start_from = "earliest"              # earliest | latest: for a group that has no state yet
time_zone = "+08:00"                 # the business calendar; a brand may override it
currency = "CNY"
"#;

fn load(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::from_text(text, Path::new("test.toml"), environment)
}

fn valid(text: &str, environment: &[(&str, &str)]) -> Config {
    load(text, environment).unwrap_or_else(|error| panic!("{error}"))
}

fn error(text: &str, environment: &[(&str, &str)]) -> String {
    match load(text, environment) {
        Ok(_) => panic!("accepted:\n{text}\n{environment:?}"),
        Err(error) => error.to_string(),
    }
}

/// Asserts that the error of a configuration holds all the given parts.
fn refuses(text: &str, environment: &[(&str, &str)], parts: &[&str]) {
    let message = error(text, environment);
    for part in parts {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
}

#[test]
fn the_example_of_the_contract_works_as_it_is() {
    let config = valid(CONTRACT, &[]);
    assert_eq!(config.pipeline.workers, 2);
    assert_eq!(config.http.listen.to_string(), "127.0.0.1:9464");
    assert_eq!(config.pipeline.start_from, StartFrom::Earliest);
    assert_eq!(config.pipeline.max_lateness_ms, 35 * 86_400_000);
    assert_eq!(config.pipeline.time_zone.to_string(), "+08:00");
    assert!(config.kafka.instance_id.ends_with("-9464"), "{}", config.kafka.instance_id);
    assert_eq!(config.kafka.member_instance_id(1), format!("{}-1", config.kafka.instance_id));
}

#[test]
fn an_empty_file_is_the_defaults() {
    let config = valid("", &[]);
    assert_eq!(config.http.listen.to_string(), "0.0.0.0:9464");
    assert_eq!(config.kafka.session_timeout, Duration::from_secs(10));
    assert_eq!(config.limits.event_bytes, 262_144);
    assert_eq!(config.dead_letter.max_consecutive, 100);
    assert_eq!(config.clickhouse.archive_retention_days, None);
    assert!(config.settings().iter().all(|setting| setting.source == "default"));
}

#[test]
fn the_example_file_shows_every_key_with_its_default() {
    let shown: BTreeMap<String, String> = valid(EXAMPLE, &[])
        .settings()
        .iter()
        .filter(|setting| setting.source == "in test.toml")
        .map(|setting| (setting.key.clone(), setting.value.clone()))
        .collect();
    let defaults: BTreeMap<String, String> = Config::defaults().into_iter().map(|setting| (setting.key, setting.value)).collect();
    assert_eq!(shown, defaults);
}

#[test]
fn the_example_file_comments_every_key() {
    let section_notes = ["scans", "purchases", "shares", "user"];
    for line in EXAMPLE.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')) {
        let key = line.split(" = ").next().unwrap_or_default();
        assert!(line.contains('#') || section_notes.contains(&key), "no comment: {line}");
    }
}

#[test]
fn the_example_file_states_the_ranges_that_are_enforced() {
    let numbers = Config::defaults().into_iter().filter(|setting| setting.value.parse::<i64>().is_ok());
    for setting in numbers {
        let (section, key) = setting.key.split_once('.').unwrap_or_default();
        let message = error(&format!("[{section}]\n{key} = -1\n"), &[]);
        let bounds = message.rsplit("must be from ").next().unwrap_or_default().lines().next().unwrap_or_default();
        let line = EXAMPLE.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap_or_default();
        assert!(line.contains(&format!("# {bounds}")), "`{}` allows {bounds}; the example says: {line}", setting.key);
    }
}

#[test]
fn every_key_can_be_set_by_a_variable() {
    for setting in Config::defaults() {
        let name = format!("ONECODE_{}", setting.key.to_uppercase().replace('.', "__"));
        if setting.key == "clickhouse.password_file" {
            refuses("", &[(&name, "/no/such/file")], &["clickhouse.password_file", &name]);
            continue;
        }
        let value = match setting.key.as_str() {
            "kafka.static_membership" => "false".to_owned(),
            "pipeline.brands_closed" => "true".to_owned(),
            "pipeline.start_from" => "latest".to_owned(),
            "pipeline.time_zone" => "-03:30".to_owned(),
            "pipeline.currency" => "EUR".to_owned(),
            "http.listen" => "127.0.0.1:1".to_owned(),
            "clickhouse.url" => "https://store:8443".to_owned(),
            "dead_letter.max_share" => "0.5".to_owned(),
            "clickhouse.archive_retention_days" => "400".to_owned(),
            "kafka.replication_factor" | "kafka.min_insync_replicas" => "3".to_owned(),
            key if key.ends_with(".format") => "json".to_owned(),
            _ => match setting.value.parse::<i64>() {
                Ok(number) => (number - 1).to_string(),
                Err(_) => "other".to_owned(),
            },
        };
        let config = valid("", &[(&name, &value)]);
        let effective = config.settings().iter().find(|found| found.key == setting.key).expect("every key has a setting");
        assert_eq!(effective.source, format!("variable {name}"));
        let expected = if setting.key == "clickhouse.password" { "<redacted>" } else { &value };
        assert_eq!(effective.value.trim_matches('"'), expected, "{name}");
    }
}

#[test]
fn a_variable_wins_over_the_file() {
    let config = valid("[kafka]\nbrokers = \"file:1\"\n", &[("ONECODE_KAFKA__BROKERS", "variable:2")]);
    assert_eq!(config.kafka.brokers, "variable:2");
}

#[test]
fn a_variable_of_digits_stays_the_text_it_is() {
    let config = valid("", &[("ONECODE_CLICKHOUSE__PASSWORD", "00123"), ("ONECODE_KAFKA__GROUP", "1e3")]);
    assert_eq!(config.clickhouse.password.expose(), "00123");
    assert_eq!(config.kafka.group, "1e3");
}

#[test]
fn brands_and_client_options_can_be_set_by_variables() {
    let environment = [
        ("ONECODE_BRANDS__ACME__TIME_ZONE", "+09:00"),
        ("ONECODE_BRANDS__TWO__PARTS__CURRENCY", "JPY"),
        ("ONECODE_KAFKA__CLIENT__SECURITY_PROTOCOL", "SASL_SSL"),
        ("ONECODE_KAFKA__CLIENT__MAX_POLL_INTERVAL_MS", "60000"),
        ("ONECODE_BRANDS_CLOSED", "true"),
    ];
    let config = valid("", &environment);
    assert_eq!(config.calendar().zone("acme").to_string(), "+09:00");
    assert_eq!(config.calendar().zone("other").to_string(), "+08:00");
    assert_eq!(config.brands.currencies(), BTreeMap::from([("two__parts".to_owned(), "JPY".to_owned())]));
    assert_eq!(config.kafka.client["security.protocol"].expose(), "SASL_SSL");
    assert_eq!(config.kafka.client["max.poll.interval.ms"].expose(), "60000");
    assert!(config.brands.closed);
}

#[test]
fn variables_of_other_programs_are_left_alone() {
    let environment = [
        "ONECODE_LOCAL_DIR",
        "ONECODE_SIM_SEED",
        "ONECODE_CHAOS__KILLS",
        "ONECODE_LOG",
        "ONECODE_CONFIG",
        "ONECODE_FAILPOINTS",
        "ONECODE_X",
    ];
    valid("", &environment.map(|name| (name, "x")));
}

#[test]
fn an_unknown_variable_is_named() {
    refuses("", &[("ONECODE_FOO__BAR", "1")], &["foo.bar", "ONECODE_FOO__BAR", "unknown key"]);
    refuses("", &[("ONECODE_KAFKA__BROKER", "1")], &["ONECODE_KAFKA__BROKER", "did you mean `kafka.brokers`?"]);
    refuses("", &[("ONECODE_KAFKA_BROKERS", "1")], &["ONECODE_KAFKA_BROKERS", "two underscores"]);
}

#[test]
fn an_unknown_key_is_named_with_its_nearest() {
    refuses("[kafka]\nbrokres = \"a:1\"\n", &[], &["`kafka.brokres`", "unknown key", "`kafka.brokers`", "test.toml"]);
    refuses("[pipeline]\ninsert_timeout_ms = 1\n", &[], &["`pipeline.insert_timeout_ms`", "did you mean `clickhouse.insert_timeout_ms`?"]);
    refuses("[nonsense]\nx = 1\n", &[], &["`nonsense.x`", "deploy/onecode.example.toml"]);
    refuses("workers = 2\n", &[], &["`workers`", "did you mean `pipeline.workers`?"]);
    refuses("[kafak]\n", &[], &["`kafak`", "unknown key"]);
    refuses("[pipeline]\nworkers = {}\n", &[], &["`pipeline.workers`", "whole number"]);
    refuses("[brands.acme]\ntimezone = \"+08:00\"\n", &[], &["`brands.acme.timezone`", "unknown key"]);
}

#[test]
fn a_wrong_value_is_named_with_what_is_allowed_and_where_it_was_set() {
    refuses("[pipeline]\nworkers = 0\n", &[], &["`pipeline.workers` = 0", "in test.toml", "from 1 to 256"]);
    refuses("[pipeline]\nworkers = \"two\"\n", &[], &["`pipeline.workers` = \"two\"", "a whole number from 1 to 256"]);
    refuses("", &[("ONECODE_PIPELINE__WORKERS", "2.5")], &["= \"2.5\"", "variable ONECODE_PIPELINE__WORKERS", "whole number"]);
    refuses("[pipeline]\nstart_from = \"newest\"\n", &[], &["`pipeline.start_from` = \"newest\"", "earliest, latest"]);
    refuses("[pipeline]\ntime_zone = \"Asia/Shanghai\"\n", &[], &["`pipeline.time_zone` = \"Asia/Shanghai\"", "+08:00"]);
    refuses("[pipeline]\ncurrency = \"yuan\"\n", &[], &["`pipeline.currency` = \"yuan\"", "ISO 4217"]);
    refuses("[topics]\nscans = { format = \"avro\" }\n", &[], &["`topics.scans.format` = \"avro\"", "auto, protobuf, json"]);
    refuses("[clickhouse]\ndatabase = \"a-b\"\n", &[], &["`clickhouse.database` = \"a-b\"", "identifier"]);
    refuses("[http]\nlisten = \"9464\"\n", &[], &["`http.listen` = \"9464\"", "0.0.0.0:9464"]);
    refuses("[dead_letter]\nmax_share = 5\n", &[], &["`dead_letter.max_share`", "at most 1"]);
    refuses("[kafka]\nstatic_membership = \"yes\"\n", &[], &["`kafka.static_membership` = \"yes\"", "true or false"]);
    refuses("[brands.Acme]\n", &[], &["brands.Acme", "a-z"]);
    refuses("kafka = 1\n", &[], &["`kafka` = 1", "is a section"]);
}

#[test]
fn all_problems_are_told_at_once() {
    let text = "[pipeline]\nworkers = 0\ncurrency = \"x\"\n[limits]\nlevel = 3\n";
    refuses(text, &[("ONECODE_HTTP__LISTEN", "x")], &["pipeline.workers", "pipeline.currency", "limits.level", "http.listen"]);
}

#[test]
fn retention_has_to_outlast_lateness() {
    refuses(
        "[pipeline]\nmax_lateness_days = 45\n",
        &[],
        &["`clickhouse.minute_retention_days` = 45", "above `pipeline.max_lateness_days` = 45"],
    );
    refuses("[clickhouse]\narchive_retention_days = 35\n", &[], &["`clickhouse.archive_retention_days` = 35", "for ever"]);
}

#[test]
fn an_input_may_have_a_topic_per_brand() {
    let config = valid("[topics]\nscans = { name = [\"acme.scans\", \"bravo.scans\"], format = \"json\" }\n", &[]);
    let inputs: Vec<_> = config.topics.inputs().collect();
    assert_eq!(
        inputs,
        [
            (EventKind::Scan, "acme.scans", Format::Json),
            (EventKind::Scan, "bravo.scans", Format::Json),
            (EventKind::Purchase, "purchases", Format::Auto),
            (EventKind::Share, "shares", Format::Auto),
        ]
    );
    assert_eq!(config.topics.kind_of("bravo.scans"), Some((EventKind::Scan, Format::Json)));
    assert_eq!(config.topics.kind_of("scans"), None);
    let from_variable = valid("", &[("ONECODE_TOPICS__SCANS__NAME", r#"["a", "b"]"#)]);
    assert_eq!(from_variable.topics.scans.names, ["a", "b"]);
}

#[test]
fn a_topic_has_one_use() {
    refuses("[topics]\npurchases = { name = \"scans\" }\n", &[], &["`topics.purchases.name` = \"scans\"", "`topics.scans`"]);
    refuses("[topics]\nscans = { name = [\"a\", \"a\"] }\n", &[], &["`topics.scans.name` = \"a\""]);
    refuses("[topics]\nexchange = { name = \"shares\" }\n", &[], &["`topics.exchange.name` = \"shares\""]);
    refuses("[topics]\nscans = { name = [] }\n", &[], &["`topics.scans.name`", "at least one"]);
    refuses("[topics]\nscans = { name = \"a b\" }\n", &[], &["`topics.scans.name` = \"a b\"", "letters"]);
}

#[test]
fn client_options_that_would_break_the_guarantee_are_refused_with_the_reason() {
    let breaking = [
        ("enable.auto.commit", "true"),
        ("enable.auto.offset.store", "true"),
        ("auto.offset.reset", "latest"),
        ("isolation.level", "read_uncommitted"),
        ("enable.idempotence", "false"),
        ("acks", "1"),
        ("partition.assignment.strategy", "cooperative-sticky"),
        ("group.id", "other"),
        ("group.instance.id", "other"),
        ("group.protocol", "consumer"),
        ("enable.partition.eof", "false"),
        ("message.timeout.ms", "1000"),
        ("delivery.timeout.ms", "1000"),
        ("transactional.id", "t"),
        ("max.in.flight.requests.per.connection", "6"),
    ];
    for (option, value) in breaking {
        let key = format!("`kafka.client.\"{option}\"` = \"{value}\"");
        let key = if option == "acks" { format!("`kafka.client.acks` = \"{value}\"") } else { key };
        refuses(&format!("[kafka.client]\n\"{option}\" = \"{value}\"\n"), &[], &[&key, "is refused:", "leave it out"]);
    }
}

#[test]
fn client_options_may_be_texts_numbers_or_flags_and_win_over_other_keys() {
    let text = "[kafka.client]\n\"session.timeout.ms\" = 45000\n\"socket.keepalive.enable\" = true\n\"bootstrap.servers\" = \"other:1\"\n";
    let config = valid(text, &[]);
    assert_eq!(config.kafka.session_timeout, Duration::from_secs(45));
    assert_eq!(config.kafka.client["session.timeout.ms"].expose(), "45000");
    assert_eq!(config.kafka.client["socket.keepalive.enable"].expose(), "true");
    assert_eq!(config.kafka.brokers, "other:1");
}

#[test]
fn a_client_option_unknown_to_librdkafka_is_named() {
    refuses("[kafka.client]\n\"sasl.user\" = \"x\"\n", &[], &["kafka.client.\"sasl.user\"", "not taken by librdkafka"]);
    refuses("[kafka.client]\n\"session.timeout.ms\" = []\n", &[], &["session.timeout.ms", "a text, a number"]);
}

#[test]
fn secrets_are_in_no_dump_and_no_error() {
    let text =
        "[clickhouse]\npassword = \"hunter2\"\n[kafka.client]\n\"sasl.password\" = \"hunter2\"\n\"ssl.key.password\" = \"hunter2\"\n";
    let config = valid(text, &[]);
    let shown: String = config.settings().iter().map(|setting| format!("{} = {}\n", setting.key, setting.value)).collect();
    assert!(shown.contains("clickhouse.password = \"<redacted>\""), "{shown}");
    assert!(shown.contains("kafka.client.\"sasl.password\" = \"<redacted>\""), "{shown}");
    assert!(!format!("{shown}{config:?}").contains("hunter2"));
    let wrong = [
        "[clickhouse]\npassword = [\"hunter2\"]\n",
        "[clickhouse]\npassword = \"hunter2\n",
        "[clickhouse]\npasswort = \"hunter2\"\n",
        "[clickhouse]\nurl = \"http://me:hunter2@host:8123\"\n",
    ];
    for text in wrong {
        let message = error(text, &[]);
        assert!(!message.contains("hunter2"), "{message}");
    }
}

#[test]
fn a_password_file_is_read_without_its_newline() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("password");
    std::fs::write(&file, "s3cret \n").expect("a file");
    let config = valid(&format!("[clickhouse]\npassword_file = {file:?}\n"), &[]);
    assert_eq!(config.clickhouse.password.expose(), "s3cret ");
    refuses(&format!("[clickhouse]\npassword = \"x\"\npassword_file = {file:?}\n"), &[], &["clickhouse.password_file", "keep one"]);
    refuses("[clickhouse]\npassword_file = \"/no/such/file\"\n", &[], &["clickhouse.password_file", "/no/such/file", "cannot be read"]);
}

#[test]
fn brands_closed_may_stand_above_the_sections_or_in_pipeline_but_once() {
    assert!(valid("brands_closed = true\n[brands.acme]\n", &[]).brands.closed);
    let config = valid("[pipeline]\nbrands_closed = true\n[brands.acme]\n[brands.b-2]\ncurrency = \"USD\"\n", &[]);
    assert!(config.brands.closed);
    assert_eq!(config.brands.names().into_iter().collect::<Vec<_>>(), ["acme", "b-2"]);
    refuses("brands_closed = true\n[pipeline]\nbrands_closed = false\n", &[], &["brands_closed", "twice"]);
}

#[test]
fn text_that_is_no_toml_is_told_with_its_place() {
    refuses("[kafka\nbrokers = 1\n", &[], &["test.toml", "line 1"]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let message = Config::load(Path::new("/no/such/onecode.toml")).expect_err("no file").to_string();
    assert!(message.contains("/no/such/onecode.toml") && message.contains("--config"), "{message}");
}

#[test]
fn the_fingerprint_holds_what_changes_results_and_names_what_differs() {
    let stored = valid("[brands.acme]\ntime_zone = \"+09:00\"\n", &[]).fingerprint();
    let same = valid("[brands.acme]\ntime_zone = \"+09:00\"\n[brands.bravo]\ntime_zone = \"+08:00\"\n[pipeline]\nworkers = 7\n", &[]);
    assert_eq!(stored.mismatches(&same.fingerprint()), []);
    let other = valid("[pipeline]\ncurrency = \"JPY\"\n", &[]).fingerprint();
    let mismatches = stored.mismatches(&other);
    let told: Vec<String> = mismatches.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "`brands.acme.time_zone` is +08:00 in the configuration, but the state was built with +09:00",
            "`pipeline.currency` is JPY in the configuration, but the state was built with CNY",
        ]
    );
}

#[test]
fn any_value_under_any_key_is_taken_or_named() {
    let odd = [
        "-1",
        "0",
        "9223372036854775807",
        "1.5",
        "nan",
        "inf",
        "true",
        "\"\"",
        "\"\\u0000\"",
        "[]",
        "[[]]",
        "[1]",
        "{}",
        "{ a = 1 }",
        "2026-11-22",
        "2026-11-22T07:00:00Z",
    ];
    for setting in Config::defaults() {
        let (section, key) = setting.key.split_once('.').unwrap_or_default();
        let last = key.rsplit('.').next().unwrap_or_default();
        for value in odd {
            let text = format!("[{section}]\n{key} = {value}\n");
            if let Err(error) = load(&text, &[]) {
                assert!(error.to_string().contains(last), "{text}{error}");
            }
            let name = format!("ONECODE_{}", setting.key.to_uppercase().replace('.', "__"));
            if let Err(error) = load("", &[(&name, value)]) {
                assert!(error.to_string().contains(&name), "{name}={value}: {error}");
            }
        }
    }
}
