//! Every panel of every dashboard, against a running pipeline: its query is taken out of the JSON as Grafana would, filled in, and run on
//! the real ClickHouse or Prometheus. No error, and no empty panel where there is data.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use common::stack::fresh_dir;
use common::{DEADLINE, World, wait_until};
use onecode::migrate::schema::{VIEWS, tables};
use onecode::telemetry::names;
use onecode_local::{Prometheus, PrometheusOptions};
use serde_json::Value;

/// The dashboards' folder.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/dashboards")
}

/// A dashboard by its file's name.
struct Dashboard {
    file: String,
    json: Value,
}

/// One query of a panel or of a variable.
#[derive(Debug)]
struct Query {
    /// Dashboard and panel, for messages.
    place: String,
    source: Source,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    ClickHouse,
    Prometheus,
}

fn dashboards() -> Result<Vec<Dashboard>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder())? {
        let path = entry?.path();
        let file = path.file_name().and_then(|name| name.to_str()).context("a name that is no text")?.to_owned();
        let json = serde_json::from_str(&std::fs::read_to_string(&path)?).with_context(|| format!("{file} is no JSON"))?;
        found.push(Dashboard { file, json });
    }
    found.sort_by(|left, right| left.file.cmp(&right.file));
    Ok(found)
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    value[key].as_array().into_iter().flatten()
}

impl Dashboard {
    fn panels(&self) -> impl Iterator<Item = &Value> {
        list(&self.json, "panels").filter(|panel| panel["type"] != "row")
    }

    fn variables(&self) -> impl Iterator<Item = &Value> {
        list(&self.json["templating"], "list")
    }

    fn queries(&self) -> Result<Vec<Query>> {
        let mut queries = Vec::new();
        for panel in self.panels() {
            let place = format!("{}, panel {}", self.file, panel["title"]);
            let targets: Vec<&Value> = list(panel, "targets").collect();
            ensure!(!targets.is_empty(), "{place} asks nothing");
            for target in targets {
                let (source, key) = match target["datasource"]["type"].as_str() {
                    Some("grafana-clickhouse-datasource") => (Source::ClickHouse, "rawSql"),
                    Some("prometheus") => (Source::Prometheus, "expr"),
                    other => bail!("{place} reads from {other:?}"),
                };
                let text = target[key].as_str().with_context(|| format!("{place} has no {key}"))?.to_owned();
                queries.push(Query { place: place.clone(), source, text });
            }
        }
        for variable in self.variables().filter(|variable| variable["type"] == "query") {
            let place = format!("{}, variable {}", self.file, variable["name"]);
            if let Some(text) = variable["query"].as_str() {
                queries.push(Query { place, source: Source::ClickHouse, text: text.to_owned() });
            }
        }
        Ok(queries)
    }
}

/// What the variables of a dashboard are set to.
struct Chosen {
    brand: &'static str,
    /// None = all.
    campaign: Option<String>,
}

/// The argument of a macro such as `$__timeFilter(minute)`, and what is around it.
fn split_call<'a>(text: &'a str, name: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let start = text.find(&format!("{name}("))?;
    let (before, call) = text.split_at_checked(start)?;
    let arguments = call.get(name.len() + 1..)?;
    let mut depth = 1;
    let end = arguments.char_indices().find_map(|(index, letter)| {
        depth += match letter {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        (depth == 0).then_some(index)
    })?;
    Some((before, arguments.get(..end)?, arguments.get(end + 1..)?))
}

fn replace_calls(text: &str, name: &str, expand: impl Fn(&str) -> String) -> String {
    let mut rest = text.to_owned();
    while let Some((before, arguments, after)) = split_call(&rest, name) {
        rest = format!("{before}{}{after}", expand(arguments));
    }
    rest
}

/// The macros of Grafana's plugin for ClickHouse, over the last days.
fn fill_sql(sql: &str, chosen: &Chosen) -> String {
    let from = "(now() - toIntervalDay(3))";
    let to = "(now() + toIntervalMinute(1))";
    let sql = replace_calls(sql, "$__conditionalAll", |arguments| match &chosen.campaign {
        Some(_) => arguments.rsplit_once(',').map_or(arguments, |(condition, _)| condition).to_owned(),
        None => "1=1".to_owned(),
    });
    let sql = replace_calls(&sql, "$__timeFilter", |column| format!("{column} >= {from} AND {column} <= {to}"));
    let sql = replace_calls(&sql, "$__dateFilter", |column| format!("{column} >= toDate({from}) AND {column} <= toDate({to})"));
    let sql = replace_calls(&sql, "$__timeInterval", |column| format!("toStartOfInterval(toDateTime({column}), INTERVAL 60 second)"));
    sql.replace("$__interval_s", "60")
        .replace("$__fromTime", from)
        .replace("$__toTime", to)
        .replace("${brand:sqlstring}", &format!("'{}'", chosen.brand))
        .replace("${campaign:singlequote}", &format!("'{}'", chosen.campaign.as_deref().unwrap_or_default()))
}

fn fill_promql(expression: &str) -> String {
    expression.replace("$__rate_interval", "30s").replace("$__range", "1h").replace("$instance", ".*")
}

#[test]
fn queries_are_filled_in_as_grafana_does() {
    let chosen = Chosen { brand: "acme", campaign: Some("c1".to_owned()) };
    let all = Chosen { brand: "acme", campaign: None };
    let sql = "SELECT $__timeInterval(t) AS time, 1 / $__interval_s FROM v WHERE brand = ${brand:sqlstring} AND $__conditionalAll(campaign IN (${campaign:singlequote}), $campaign)";
    assert_eq!(
        fill_sql(sql, &chosen),
        "SELECT toStartOfInterval(toDateTime(t), INTERVAL 60 second) AS time, 1 / 60 FROM v WHERE brand = 'acme' AND campaign IN ('c1')"
    );
    assert!(fill_sql(sql, &all).ends_with("brand = 'acme' AND 1=1"));
    assert!(fill_sql("$__timeFilter(t)", &all).starts_with("t >= (now()"));
}

#[test]
fn dashboards_read_views_only() -> Result<()> {
    let views: BTreeSet<&str> = VIEWS.iter().map(|view| view.name).collect();
    for dashboard in dashboards()? {
        for query in dashboard.queries()?.into_iter().filter(|query| query.source == Source::ClickHouse) {
            let words: Vec<&str> = query.text.split(|letter: char| letter.is_whitespace() || matches!(letter, '(' | ')' | ',')).collect();
            let sources: Vec<&str> = words
                .windows(2)
                .filter(|pair| matches!(pair[0].to_ascii_uppercase().as_str(), "FROM" | "JOIN"))
                .map(|pair| pair[1])
                .filter(|source| !source.is_empty())
                .collect();
            assert!(!sources.is_empty(), "{}: reads nothing", query.place);
            for source in sources {
                assert!(views.contains(source), "{} reads {source}, which is no view for readers", query.place);
                assert!(!tables().contains_key(source), "{} reads the table {source}", query.place);
            }
        }
    }
    Ok(())
}

#[test]
fn dashboards_say_what_they_need_and_name_existing_metrics() -> Result<()> {
    let mut uids = BTreeSet::new();
    let mut metrics = BTreeSet::new();
    for dashboard in dashboards()? {
        let uid = dashboard.json["uid"].as_str().context("no uid")?.to_owned();
        assert!(uids.insert(uid), "{}: its uid is taken", dashboard.file);
        assert!(dashboard.json["schemaVersion"].as_u64().is_some_and(|version| version >= 39), "{}", dashboard.file);
        assert!(
            dashboard.variables().any(|variable| variable["name"] == "datasource" && variable["type"] == "datasource"),
            "{}",
            dashboard.file
        );
        let ids: BTreeSet<u64> = list(&dashboard.json, "panels").filter_map(|panel| panel["id"].as_u64()).collect();
        assert_eq!(ids.len(), list(&dashboard.json, "panels").count(), "{}: every panel has an id of its own", dashboard.file);
        for panel in dashboard.panels() {
            let mut sources = std::iter::once(panel).chain(list(panel, "targets")).map(|part| &part["datasource"]["uid"]);
            assert!(sources.all(|uid| uid == "${datasource}"), "{}, {}: another data source", dashboard.file, panel["title"]);
        }
        for query in dashboard.queries()?.into_iter().filter(|query| query.source == Source::Prometheus) {
            for word in query
                .text
                .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
                .filter(|word| word.starts_with("onecode_"))
            {
                let name = ["_bucket", "_count", "_sum"].iter().find_map(|suffix| word.strip_suffix(suffix)).unwrap_or(word);
                assert!(names::ALL.iter().any(|metric| metric.name == name), "{}: there is no metric {word}", query.place);
                metrics.insert(name.to_owned());
            }
        }
    }
    let promised = [
        "consumed_records_total applied_events_total dead_letters_total lag_records lag_seconds end_to_end_seconds insert_seconds insert_rows_total",
        "insert_retries_total checkpoint_age_seconds checkpoint_seconds state_keys state_bytes tasks takeovers_total fenced_total audit_differences build_info",
    ];
    for name in promised.iter().flat_map(|names| names.split(' ')) {
        assert!(metrics.contains(&format!("onecode_{name}")), "no panel shows onecode_{name}");
    }
    Ok(())
}

#[test]
fn no_panel_fails_and_none_is_empty_while_events_flow() -> Result<()> {
    let world = World::new("dashboards")?;
    world.migrate(4)?;
    let pipeline = world.start()?;
    let targets = vec![world.address(0)?];
    let prometheus = Prometheus::start(PrometheusOptions::in_dir(fresh_dir("prometheus")?, targets))?;
    // Twice, so that every counter grows between two scrapes.
    for seed in ["1", "2"] {
        let generate = "generate --count 4000 --customers 500 --span-days 1 --malformed 0.01 --seed";
        world.must(&[generate.split(' ').collect::<Vec<_>>().as_slice(), &[seed]].concat())?;
        world.wait_caught_up()?;
        let read = pipeline.metric("onecode_consumed_records_total", &[])?;
        wait_until("Prometheus to see what was read", DEADLINE, || {
            let seen = prometheus.query("sum(onecode_consumed_records_total)")?;
            Ok(seen.first().is_some_and(|sample| sample.value >= read))
        })?;
        refresh_segments(&world)?;
    }
    plant_fakes(&world)?;
    let campaign = world.query(
        "SELECT campaign FROM v_activity_day WHERE brand = 'acme' AND campaign != '' GROUP BY campaign ORDER BY sum(scans) DESC LIMIT 1",
    )?;
    let choices = [Chosen { brand: "acme", campaign: None }, Chosen { brand: "acme", campaign: Some(campaign.trim().to_owned()) }];
    for dashboard in dashboards()? {
        for query in dashboard.queries()? {
            match query.source {
                Source::ClickHouse => choices.iter().try_for_each(|chosen| run_sql(&world, &query, chosen))?,
                Source::Prometheus => {
                    let samples = prometheus.query(&fill_promql(&query.text)).with_context(|| query.place.clone())?;
                    // Nobody audits here.
                    let may_be_nan = query.text.contains("onecode_audit_differences");
                    let shows = |sample: &onecode_local::Sample| may_be_nan || sample.value.is_finite();
                    ensure!(samples.iter().any(shows), "{} is empty: {}", query.place, query.text);
                }
            }
        }
    }
    Ok(())
}

/// What chance may leave out: a code that two customers scan in Beijing and in Shanghai within 40 minutes, and a device that sweeps through a
/// batch. Then lists what is risky.
fn plant_fakes(world: &World<'_>) -> Result<()> {
    world.query(
        "INSERT INTO scans (brand, code, event_time, event_id, customer_id, region, role) SETTINGS async_insert = 0 VALUES
            ('acme', 'copied', now64(3) - toIntervalHour(2), 'e1', 'here', 110101, 'consumer'),
            ('acme', 'copied', now64(3) - toIntervalMinute(80), 'e2', 'there', 310101, 'consumer')",
    )?;
    world.query(
        "INSERT INTO scans (brand, code, event_time, event_id, customer_id, batch, device, role) SETTINGS async_insert = 0
         SELECT 'acme', concat('carton', toString(number)), now64(3) - toIntervalSecond(number), toString(number), 'collector', 'L1', 'robot', 'consumer' FROM numbers(25)",
    )?;
    for view in ["refresh_newest_device_sweeps", "refresh_risky_codes"] {
        world.query(&format!("SYSTEM REFRESH VIEW {view}"))?;
        world.query(&format!("SYSTEM WAIT VIEW {view}"))?;
    }
    let jump = world.query("SELECT risk_score, verdict FROM v_risky_codes WHERE brand = 'acme' AND code = 'copied'")?;
    ensure!(jump.trim() == "45\tsuspect", "the copied code is {jump}");
    Ok(())
}

/// Refreshes customer_segments, and waits for it and for what follows it.
fn refresh_segments(world: &World<'_>) -> Result<()> {
    world.query("SYSTEM REFRESH VIEW customer_segments")?;
    world.query("SYSTEM WAIT VIEW customer_segments")?;
    wait_until("the states after a refresh", DEADLINE, || {
        Ok(world.number("SELECT max(to_as_of) >= (SELECT max(as_of) FROM customer_segments) FROM segment_states")? == 1)
    })
}

fn run_sql(world: &World<'_>, query: &Query, chosen: &Chosen) -> Result<()> {
    let sql = fill_sql(&query.text, chosen);
    ensure!(!sql.contains('$'), "{}: something is not filled in: {sql}", query.place);
    let rows = world.rows(&sql).with_context(|| query.place.clone())?;
    let is_empty = rows.iter().flatten().all(|value| matches!(value.as_str(), "" | "0" | "\\N" | "nan"));
    // One campaign alone may have no refund.
    ensure!(!is_empty || chosen.campaign.is_some(), "{} is empty: {sql}", query.place);
    Ok(())
}
