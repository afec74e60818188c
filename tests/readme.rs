//! What is written for people agrees with the program.
//!
//! Goal: no table of README.md or deploy/RUNBOOK.md names a metric, key, command, file, alert or message that is not there, and none
//! that has to be named is left out. Method: the tables are read out of the text and compared.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use onecode::config::Config;
use onecode::telemetry::names;

const README: &str = include_str!("../README.md");
const RUNBOOK: &str = include_str!("../deploy/RUNBOOK.md");

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The rows of the first table after a heading, without its head; cells trimmed.
fn table(text: &str, heading: &str) -> Vec<Vec<String>> {
    let lines = text.lines().skip_while(|line| *line != heading).skip(1);
    let rows = lines.skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|')).skip(2);
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    let rows: Vec<Vec<String>> = rows.map(cells).collect();
    assert!(!rows.is_empty(), "no table after `{heading}`");
    rows
}

/// Everything in backquotes.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn sources(dir: &Path, found: &mut String) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path: PathBuf = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push_str(&std::fs::read_to_string(&path).expect("text"));
        }
    }
}

#[test]
fn the_table_of_metrics_is_the_list_in_the_code() {
    let written: Vec<String> = table(README, "## Metrics").iter().map(|row| row.join(" | ")).collect();
    let known: Vec<String> = names::ALL
        .iter()
        .map(|metric| {
            let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
            format!("`{}` | {} | {}", metric.name, labels.join(", "), metric.help)
        })
        .collect();
    assert_eq!(written, known);
}

#[test]
fn the_table_of_the_configuration_shows_keys_that_exist_with_their_defaults() {
    let defaults: BTreeSet<(String, String)> = Config::defaults().into_iter().map(|setting| (setting.key, setting.value)).collect();
    for row in table(README, "## Configuration") {
        let [key, default, _] = row.as_slice() else { panic!("{row:?}") };
        let shown = (key.trim_matches('`').to_owned(), default.trim_matches('`').to_owned());
        assert!(defaults.contains(&shown), "{shown:?}");
    }
}

#[test]
fn every_key_that_is_mentioned_exists() {
    let keys: BTreeSet<String> = Config::defaults().into_iter().map(|setting| setting.key).collect();
    let sections: BTreeSet<&str> = keys.iter().filter_map(|key| key.split('.').next()).collect();
    for mentioned in quoted(README).into_iter().chain(quoted(RUNBOOK)) {
        let name = mentioned.split([' ', '=']).next().unwrap_or_default();
        let Some((section, key)) = name.split_once('.') else { continue };
        let is_plain = key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte == b'.');
        if sections.contains(section) && is_plain {
            let is_section = keys.iter().any(|known| known.starts_with(&format!("{name}.")));
            assert!(keys.contains(name) || is_section, "`{name}`");
        }
    }
}

#[test]
fn every_metric_that_is_mentioned_exists() {
    for mentioned in quoted(README).into_iter().chain(quoted(RUNBOOK)).filter(|text| text.starts_with("onecode_")) {
        let name = mentioned.split('{').next().unwrap_or_default();
        assert!(names::ALL.iter().any(|metric| metric.name == name), "`{name}`");
    }
}

#[test]
fn the_table_of_commands_is_the_help() {
    let help = Command::new(env!("CARGO_BIN_EXE_onecode")).arg("--help").output().expect("the binary").stdout;
    let help = String::from_utf8(help).expect("text");
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let known: BTreeSet<&str> = listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect();
    let rows = table(README, "## Commands");
    let written: BTreeSet<&str> =
        rows.iter().filter_map(|row| row.first()?.trim_matches('`').strip_prefix("onecode ")?.split(' ').next()).collect();
    assert_eq!(written, known);
}

#[test]
fn the_views_that_readers_are_pointed_to_are_created() {
    let created = std::fs::read_dir(root().join("deploy/clickhouse/views")).expect("a directory");
    let created: BTreeSet<String> =
        created.filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.strip_suffix(".sql").map(str::to_owned)).collect();
    let rows = table(README, "## On your own Kafka and ClickHouse");
    let written: BTreeSet<String> = rows.iter().flat_map(|row| quoted(&row[0])).map(str::to_owned).collect();
    let missing: Vec<&String> = written.difference(&created).collect();
    assert!(missing.is_empty() && written.len() > 10, "no such views: {missing:?} of {written:?}");
}

#[test]
fn links_and_paths_lead_somewhere() {
    for (text, from) in [(README, root().to_owned()), (RUNBOOK, root().join("deploy"))] {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            match target.strip_prefix('#') {
                Some(anchor) => {
                    let headings = text.lines().filter(|line| line.starts_with('#'));
                    let mut anchors = headings.map(|line| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"));
                    assert!(anchors.any(|known| known == anchor), "no heading for #{anchor}");
                }
                None => assert!(from.join(target).exists(), "{target}"),
            }
        }
    }
    for path in quoted(README).into_iter().filter(|text| text.starts_with("deploy/") || text.starts_with("src/")) {
        assert!(root().join(path).exists(), "`{path}`");
    }
}

#[test]
fn every_alert_has_a_section_in_the_runbook_and_every_section_an_alert() {
    let rules = std::fs::read_to_string(root().join("deploy/prometheus/alerts.yml")).expect("the alert rules");
    let alerts: BTreeSet<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let sections: BTreeSet<&str> = RUNBOOK.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    assert_eq!(sections, alerts);
}

#[test]
fn every_message_of_the_runbook_is_one_that_the_program_says() {
    let mut code = String::new();
    sources(&root().join("src"), &mut code);
    for row in table(RUNBOOK, "## Refusals to start and fatal errors") {
        let message = row[0].trim_matches('`');
        assert!(code.contains(message), "nothing in src/ says `{message}`");
    }
}
