//! Metrics, health and status over HTTP.
//!
//! Goal: what dashboards and probes rely on is there from the first scrape, and says what workers last said.
//! Method: the real recorder and the real listener in this process, asked by an HTTP client. The recorder is one a process, so that
//! counts are compared before and after, under topics that no other test uses.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use onecode::config::Config;
use onecode::model::{EventKind, Reason};
use onecode::telemetry::names::{self, Kind};
use onecode::telemetry::{LogStatus, RecordTimes, Recorder, Server, Status, TaskPhase, TaskStatus, WorkerMetrics, WorkerStatus, events};

/// Metrics that the contract names, with the labels that it names.
const CONTRACT: &[(&str, &[&str])] = &[
    ("onecode_consumed_records_total", &["topic"]),
    ("onecode_applied_events_total", &["kind", "outcome"]),
    ("onecode_dead_letters_total", &["topic", "reason"]),
    ("onecode_lag_records", &["topic"]),
    ("onecode_lag_seconds", &["topic"]),
    ("onecode_end_to_end_seconds", &[]),
    ("onecode_insert_seconds", &["table"]),
    ("onecode_insert_rows_total", &["table"]),
    ("onecode_insert_retries_total", &["table"]),
    ("onecode_checkpoint_age_seconds", &[]),
    ("onecode_checkpoint_seconds", &[]),
    ("onecode_state_keys", &["kind"]),
    ("onecode_state_bytes", &[]),
    ("onecode_tasks", &[]),
    ("onecode_takeovers_total", &[]),
    ("onecode_fenced_total", &[]),
    ("onecode_audit_differences", &[]),
    ("onecode_build_info", &["version"]),
];

struct Site {
    address: String,
    status: Arc<Status>,
    recorder: Recorder,
}

/// A listener of its own on the process's one recorder.
fn site(workers: usize) -> Site {
    static RECORDER: OnceLock<Recorder> = OnceLock::new();
    let recorder = RECORDER.get_or_init(|| {
        let text = "[topics]\nscans = { name = [\"scans\", \"counted\"] }\n";
        let config = Config::from_text(text, Path::new("test.toml"), []).expect("a valid configuration");
        Recorder::install(&config).expect("the first recorder")
    });
    let status = Status::new(workers, vec!["scans".to_owned(), "onecode.exchange".to_owned()], vec!["customer", "day_cell"]);
    let (sender, receiver) = std::sync::mpsc::channel();
    let (shared_status, shared_recorder) = (Arc::clone(&status), recorder.clone());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listen = "127.0.0.1:0".parse().expect("an address");
            let server = Server::bind(listen, shared_status, shared_recorder).await.expect("a free port");
            sender.send(server.address().expect("bound")).expect("the test waits");
            server.serve().await.expect("a working socket");
        });
    });
    let address = receiver.recv_timeout(Duration::from_secs(10)).expect("the listener starts");
    Site { address: format!("http://{address}"), status, recorder: recorder.clone() }
}

impl Site {
    fn get(&self, path: &str) -> (u16, String) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut response = agent.get(format!("{}{path}", self.address)).call().expect("an answer");
        (response.status().as_u16(), response.body_mut().read_to_string().expect("text"))
    }

    fn value(&self, series: &str) -> f64 {
        let (_, page) = self.get("/metrics");
        let line = page.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')));
        let line = line.unwrap_or_else(|| panic!("no {series} in\n{page}"));
        line.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("no number in {line}"))
    }
}

fn running(task: &str) -> TaskStatus {
    let log = LogStatus { topic: "scans".to_owned(), partition: 0, position: 12, lag_records: 3, lag_ms: 250 };
    TaskStatus {
        task: task.to_owned(),
        generation: 2,
        phase: TaskPhase::Running,
        logs: vec![log],
        checkpoint_age_ms: Some(1_500),
        keys: vec![("customer", 5)],
        state_bytes: 1_000,
        dirty_keys: 4,
        ..TaskStatus::default()
    }
}

#[test]
fn every_metric_is_there_before_anything_happened() {
    let site = site(1);
    let (_, page) = site.get("/metrics");
    for metric in names::ALL {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        assert!(page.contains(&format!("# TYPE {} {kind}\n", metric.name)), "{} is no {kind} in\n{page}", metric.name);
        assert!(page.contains(&format!("# HELP {} ", metric.name)), "{} has no help", metric.name);
        let series =
            page.lines().find(|line| line.starts_with(&format!("{}{{", metric.name)) || line.starts_with(&format!("{} ", metric.name)));
        let is_histogram = matches!(metric.kind, Kind::Histogram(_));
        let first = if is_histogram { page.lines().find(|line| line.starts_with(&format!("{}_bucket{{", metric.name))) } else { series };
        let first = first.unwrap_or_else(|| panic!("{} has no series", metric.name));
        for label in metric.labels {
            assert!(first.contains(&format!("{label}=\"")), "{first} has no label {label}");
        }
    }
}

#[test]
fn the_page_holds_no_metric_that_the_list_does_not_have() {
    let site = site(1);
    let (_, page) = site.get("/metrics");
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap_or_default();
        assert!(names::ALL.iter().any(|metric| metric.name == name), "{name} is not in the list");
    }
}

#[test]
fn the_names_and_labels_of_the_contract_are_kept() {
    for (name, labels) in CONTRACT {
        let metric = names::ALL.iter().find(|metric| metric.name == *name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(metric.labels, *labels, "{name}");
    }
    let page = site(1).get("/metrics").1;
    for kind in EventKind::ALL {
        for outcome in ["applied", "duplicate", "relayed"] {
            let series = format!("onecode_applied_events_total{{kind=\"{}\",outcome=\"{outcome}\"}} ", kind.name());
            assert!(page.contains(&series), "no {series}");
        }
    }
}

#[test]
fn a_worker_counts_in_plain_integers_and_shows_them_at_its_flush() {
    let site = site(1);
    let mut worker = WorkerMetrics::new(["counted"]);
    worker.consumed_many("counted", 9);
    worker.consumed_many("counted", 1);
    worker.consumed_many("a topic that nobody registered", 1);
    worker.dead_letters("counted", Reason::BadRegion, 1);
    worker.events(&[3, 0, 0], &[0, 0, 1], &[0, 2, 0]);
    worker.relay_gaps(1);
    let consumed = "onecode_consumed_records_total{topic=\"counted\"}";
    assert_eq!(site.value(consumed), 0.0);
    worker.flush();
    worker.flush();
    assert_eq!(site.value(consumed), 10.0);
    assert_eq!(site.value("onecode_dead_letters_total{topic=\"counted\",reason=\"bad_region\"}"), 1.0);
    assert_eq!(site.value("onecode_applied_events_total{kind=\"share\",outcome=\"duplicate\"}"), 1.0);
    assert_eq!(site.value("onecode_applied_events_total{kind=\"scan\",outcome=\"applied\"}"), 3.0);
    assert_eq!(site.value("onecode_applied_events_total{kind=\"purchase\",outcome=\"relayed\"}"), 2.0);
    assert_eq!(site.value("onecode_relay_gaps_total"), 1.0);
}

#[test]
fn events_of_the_shells_reach_their_metrics() {
    let site = site(1);
    events::inserted("scans", 500, Duration::from_millis(40));
    events::insert_retried("scans");
    events::checkpointed(Duration::from_secs(2));
    events::taken_over(Duration::from_secs(3));
    events::fenced();
    assert_eq!(site.value("onecode_insert_rows_total{table=\"scans\"}"), 500.0);
    assert_eq!(site.value("onecode_insert_retries_total{table=\"scans\"}"), 1.0);
    assert_eq!(site.value("onecode_insert_seconds_bucket{table=\"scans\",le=\"0.025\"}"), 0.0);
    assert_eq!(site.value("onecode_insert_seconds_bucket{table=\"scans\",le=\"0.05\"}"), 1.0);
    assert_eq!(site.value("onecode_checkpoint_seconds_count"), 1.0);
    assert_eq!(site.value("onecode_takeover_seconds_sum"), 3.0);
    assert_eq!(site.value("onecode_takeovers_total"), 1.0);
    assert_eq!(site.value("onecode_fenced_total"), 1.0);
}

#[test]
fn an_audit_that_was_never_made_is_not_shown_as_zero_differences() {
    // The recorder is shared: this is the one test that audits.
    let site = site(1);
    assert!(site.value("onecode_audit_differences").is_nan());
    events::audited(0);
    assert_eq!(site.value("onecode_audit_differences"), 0.0);
}

#[test]
fn configured_limits_are_gauges_beside_what_they_limit() {
    let site = site(1);
    assert_eq!(site.value("onecode_limit{key=\"limits.buffered_bytes\"}"), 268_435_456.0);
    assert_eq!(site.value("onecode_limit{key=\"dead_letter.max_share\"}"), 0.05);
}

#[test]
fn readiness_and_status_follow_what_workers_publish() {
    let site = site(2);
    let (code, reason) = site.get("/readyz");
    assert_eq!(code, 503);
    assert!(reason.contains("worker 0 has no assignment"), "{reason}");
    assert_eq!(site.get("/livez").0, 200);

    for worker in [0, 1] {
        let status = WorkerStatus { is_assigned: true, tasks: vec![running(&worker.to_string())], ..WorkerStatus::default() };
        site.status.worker(worker).publish(status);
    }
    assert_eq!(site.get("/readyz"), (200, "ok\n".to_owned()));
    let shown: serde_json::Value = serde_json::from_str(&site.get("/status").1).expect("JSON");
    assert_eq!(shown["ready"], true);
    assert_eq!(shown["tasks"].as_array().map(Vec::len), Some(2));
    assert_eq!(shown["tasks"][1]["positions"]["scans"], 12);

    site.status.worker(1).fatal("the exchange lost data");
    let (code, reason) = site.get("/readyz");
    assert_eq!((code, reason.as_str()), (503, "stopping: the exchange lost data\n"));
    assert_eq!(site.get("/livez").0, 200);
}

#[test]
fn gauges_sum_over_workers_and_tasks() {
    // Gauges are set at the scrape, from the status of the site that is asked; another test's site may be asked in between.
    let site = site(1);
    site.status.worker(0).publish(WorkerStatus { is_assigned: true, tasks: vec![running("0"), running("1")], ..WorkerStatus::default() });
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let (_, page) = site.get("/metrics");
        let has = |series: &str| page.lines().any(|line| line == series);
        let sums = ["onecode_tasks 2", "onecode_state_bytes 2000", "onecode_dirty_keys 8", "onecode_state_keys{kind=\"customer\"} 10"];
        if sums.into_iter().all(has) && has("onecode_lag_records{topic=\"scans\"} 6") {
            return;
        }
        assert!(Instant::now() < deadline, "{page}");
    }
}

#[test]
fn a_taken_port_is_an_error_that_names_the_key() {
    let site = site(1);
    let listen = site.address.trim_start_matches("http://").parse().expect("an address");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let error = runtime.block_on(Server::bind(listen, Arc::clone(&site.status), site.recorder.clone())).expect_err("the port is taken");
    assert!(error.to_string().contains("http.listen") && error.to_string().contains(&listen.to_string()), "{error}");
}

#[test]
fn ages_are_observed_when_rows_are_acknowledged() {
    let site = site(1);
    let mut times = RecordTimes::default();
    times.note(1_000);
    times.note(1_000);
    times.note(4_000);
    times.acknowledged(5_000);
    assert_eq!(site.value("onecode_end_to_end_seconds_bucket{le=\"1\"}"), 1.0);
    assert_eq!(site.value("onecode_end_to_end_seconds_bucket{le=\"5\"}"), 3.0);
    assert_eq!(site.value("onecode_end_to_end_seconds_sum"), 9.0);
}

#[test]
fn state_above_its_limit_is_noticed() {
    let site = site(1);
    let mut task = running("0");
    task.state_bytes = 4_294_967_296;
    site.status.worker(0).publish(WorkerStatus { tasks: vec![task.clone()], ..WorkerStatus::default() });
    assert_eq!(site.recorder.state_above_limit(&site.status), None);
    task.state_bytes += 5;
    site.status.worker(0).publish(WorkerStatus { tasks: vec![task], ..WorkerStatus::default() });
    assert_eq!(site.recorder.state_above_limit(&site.status), Some(5));
}
