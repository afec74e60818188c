//! What is deployed agrees with what is built: compose file, image, alert rules, dashboards' data sources.
//!
//! No container engine is needed: names, ports, files and keys are compared, rules run in promtool, users in ClickHouse.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use onecode::config::Config;
use onecode::telemetry::names;
use onecode_local::{ClickHouse, ClickHouseOptions, install};
use serde_yaml_ng::Value;

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = deploy().join(path);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn yaml(path: &str) -> Result<Value> {
    let mut document: Value = serde_yaml_ng::from_str(&read(path)?).with_context(|| format!("{path} is no YAML"))?;
    document.apply_merge()?;
    Ok(document)
}

fn services() -> Result<Vec<(String, Value)>> {
    let compose = yaml("compose.yaml")?;
    let services = compose["services"].as_mapping().context("no services")?;
    services.iter().map(|(name, service)| Ok((name.as_str().context("a service without a name")?.to_owned(), service.clone()))).collect()
}

fn service(name: &str) -> Result<Value> {
    services()?.into_iter().find(|(known, _)| known == name).map(|(_, service)| service).with_context(|| format!("no service {name}"))
}

fn texts(list: &Value) -> Vec<String> {
    list.as_sequence().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The variables of a service, as the container sees them when nothing is set outside.
fn environment(service: &Value) -> Vec<(String, String)> {
    let variables = service["environment"].as_mapping().into_iter().flatten();
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => serde_yaml_ng::to_string(other).unwrap_or_default().trim().to_owned(),
    };
    variables.filter_map(|(name, value)| Some((name.as_str()?.to_owned(), defaulted(&text(value))))).collect()
}

/// `${NAME:-value}` becomes `value`.
fn defaulted(text: &str) -> String {
    match text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).and_then(|inner| inner.split_once(":-")) {
        Some((_, value)) => value.to_owned(),
        None => text.to_owned(),
    }
}

fn variable(service_name: &str, name: &str) -> Result<String> {
    let found = environment(&service(service_name)?).into_iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value).with_context(|| format!("{service_name} has no {name}"))
}

#[test]
fn every_file_and_service_that_the_compose_file_names_exists() -> Result<()> {
    let all = services()?;
    let volumes = yaml("compose.yaml")?["volumes"].as_mapping().context("no volumes")?.clone();
    for (name, service) in &all {
        for volume in texts(&service["volumes"]) {
            let source = volume.split(':').next().unwrap_or_default();
            let known = if source.starts_with('.') { deploy().join(source).exists() } else { volumes.contains_key(source) };
            assert!(known, "{name} mounts {source}, which does not exist");
        }
        for dependency in service["depends_on"].as_mapping().into_iter().flatten().filter_map(|(dependency, _)| dependency.as_str()) {
            assert!(all.iter().any(|(known, _)| known == dependency), "{name} depends on {dependency}, which does not exist");
        }
        if let Some(dockerfile) = service["build"]["dockerfile"].as_str() {
            let context = service["build"]["context"].as_str().context("a build without a context")?;
            assert!(deploy().join(context).join(dockerfile).is_file(), "{name}: no {dockerfile}");
        }
        for port in texts(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name} opens port {port} to other machines");
        }
    }
    Ok(())
}

#[test]
fn the_containers_configuration_is_valid_and_reaches_the_other_services() -> Result<()> {
    let example = read("onecode.example.toml")?;
    for name in ["onecode", "migrate"] {
        let config = Config::from_text(&example, Path::new("onecode.toml"), environment(&service(name)?))?;
        assert_eq!(config.clickhouse.user, variable("clickhouse", "CLICKHOUSE_USER")?);
        assert_eq!(variable(name, "ONECODE_CLICKHOUSE__PASSWORD")?, variable("clickhouse", "CLICKHOUSE_PASSWORD")?);
        let brokers = variable(name, "ONECODE_KAFKA__BROKERS")?;
        let listeners = variable("kafka", "KAFKA_ADVERTISED_LISTENERS")?;
        assert!(listeners.contains(&format!("://{brokers},")), "{brokers} is not among {listeners}");
    }
    let config = Config::from_text(&example, Path::new("onecode.toml"), [])?;
    let port = config.http.listen.port();
    assert!(texts(&service("onecode")?["ports"]).contains(&format!("127.0.0.1:{port}:{port}")));
    assert!(read("Dockerfile")?.contains(&format!("/dev/tcp/127.0.0.1/{port} ")), "the health check asks another port");
    let targets = yaml("prometheus/prometheus.yml")?["scrape_configs"][0]["static_configs"][0]["targets"].clone();
    assert_eq!(texts(&targets), [format!("onecode:{port}")]);
    Ok(())
}

#[test]
fn the_image_is_built_from_files_that_are_in_its_context() -> Result<()> {
    let root = deploy().join("..");
    let ignore = std::fs::read_to_string(root.join(".dockerignore"))?;
    let manifest = std::fs::read_to_string(root.join("Cargo.toml"))?;
    let dockerfile = read("Dockerfile")?;
    assert!(ignore.lines().any(|line| line == "*"), "the context is what is listed");
    // A folder that comes later may be listed already; whatever the build needs has to be.
    for needed in ["Cargo.toml", "Cargo.lock", "src", "proto", "deploy/local", "deploy/onecode.example.toml"] {
        assert!(ignore.lines().any(|line| line == format!("!{needed}")), "{needed} is not in the context");
        assert!(root.join(needed).exists(), "{needed} does not exist");
    }
    let rust = manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"')).context("no rust-version")?;
    assert!(dockerfile.contains(&format!("FROM rust:{rust}-")), "the image builds with another Rust than {rust}");
    assert!(dockerfile.contains("--profile dist") && manifest.contains("[profile.dist]"));
    let user = dockerfile.lines().find_map(|line| line.strip_prefix("USER ")).context("the image runs as root")?;
    assert_ne!(user, "0");
    Ok(())
}

#[test]
fn scripts_are_readable_say_what_they_do_and_refuse_what_they_do_not_know() -> Result<()> {
    for script in ["demo", "install", "optimised", "test"] {
        let run = |program: &str, argument: &str| Command::new(program).arg(argument).arg(deploy().join(script)).output();
        let checked = run("bash", "-n")?;
        assert!(checked.status.success(), "{script}: {}", String::from_utf8_lossy(&checked.stderr));
        let help = Command::new(deploy().join(script)).arg("--help").output()?;
        assert!(
            help.status.success() && help.stdout.starts_with(format!("Usage: deploy/{script}").as_bytes()),
            "{script} --help: {help:?}"
        );
    }
    for script in ["install", "optimised", "test"] {
        let refused = Command::new(deploy().join(script)).arg("--no-such-thing").output()?;
        assert_eq!(refused.status.code(), Some(2), "{script}: {refused:?}");
    }
    // The image uses the profile that the script leaves, if it is in the context.
    let profile = "deploy/onecode.profdata";
    let ignore = std::fs::read_to_string(deploy().join("../.dockerignore"))?;
    assert!(read("optimised")?.contains(profile) && read("Dockerfile")?.contains(profile) && ignore.contains(&format!("!{profile}")));
    Ok(())
}

#[test]
fn alert_rules_are_valid_and_fire_when_they_should() -> Result<()> {
    let promtool = install::prometheus(&install::to_stderr)?.promtool;
    for arguments in [["check", "config", "prometheus.yml"], ["test", "rules", "alerts.test.yml"]] {
        let output = Command::new(&promtool).args(arguments).current_dir(deploy().join("prometheus")).output()?;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        ensure!(output.status.success(), "promtool {} failed:\n{said}", arguments.join(" "));
    }
    let cases = read("prometheus/alerts.test.yml")?;
    for alert in alerts()? {
        let name = alert["alert"].as_str().context("an alert without a name")?;
        assert!(cases.contains(&format!("alertname=\"{name}\"")), "no case shows {name} firing");
        assert!(cases.contains(&format!("alertname: {name},")), "no case shows {name} silent");
        for annotation in ["summary", "description"] {
            assert!(alert["annotations"][annotation].as_str().is_some_and(|text| !text.is_empty()), "{name} has no {annotation}");
        }
    }
    Ok(())
}

fn alerts() -> Result<Vec<Value>> {
    let groups = yaml("prometheus/alerts.yml")?;
    Ok(groups["groups"][0]["rules"].as_sequence().context("no rules")?.clone())
}

#[test]
fn alert_rules_and_their_texts_name_existing_metrics() -> Result<()> {
    let mut seen = 0;
    for word in read("prometheus/alerts.yml")?.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_') {
        if !word.starts_with("onecode_") {
            continue;
        }
        let series = word.strip_suffix("_bucket").unwrap_or(word);
        assert!(names::ALL.iter().any(|metric| metric.name == series), "there is no metric {word}");
        seen += 1;
    }
    assert!(seen >= alerts()?.len(), "the rules were not read");
    Ok(())
}

#[test]
fn the_dashboards_user_reads_the_tables_and_nothing_else() -> Result<()> {
    let sources = yaml("grafana/provisioning/datasources/onecode.yaml")?;
    let clickhouse = &sources["datasources"][0];
    let user = clickhouse["jsonData"]["username"].as_str().context("no user")?;
    let password = clickhouse["secureJsonData"]["password"].as_str().context("no password")?;
    let xml = read("compose/clickhouse-reader.xml")?;
    let elements = xml.split_once("<clickhouse>").and_then(|(_, rest)| rest.rsplit_once("</clickhouse>")).context("no <clickhouse>")?.0;

    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let mut options = ClickHouseOptions::in_dir(dir.path().join("clickhouse"));
    options.users_xml = elements.to_owned();
    let server = ClickHouse::start(options)?;
    for database in ["onecode", "payroll"] {
        server.query(&format!("CREATE DATABASE {database}"))?;
        server.query(&format!("CREATE TABLE {database}.facts (n UInt8) ENGINE = MergeTree ORDER BY n"))?;
    }
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let ask = |sql: &str| -> Result<(bool, String)> {
        let mut answer = agent.post(server.url()).query("user", user).query("password", password).send(sql)?;
        Ok((answer.status().is_success(), answer.body_mut().read_to_string()?))
    };
    assert_eq!(ask("SELECT count() FROM onecode.facts")?, (true, "0\n".to_owned()));
    for refused in ["SELECT count() FROM payroll.facts", "INSERT INTO onecode.facts VALUES (1)", "DROP TABLE onecode.facts"] {
        let (allowed, answer) = ask(refused)?;
        assert!(!allowed, "{refused} was allowed: {answer}");
    }
    Ok(())
}
