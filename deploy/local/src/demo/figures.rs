//! What the demo shows while events flow, read where an operator would: `/status`, `/metrics`, and the v_ views.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::stack::{DATABASE, INPUT_TOPICS, PARTITIONS, Stack, TIME_ZONE};

const HTTP_TIMEOUT: Duration = Duration::from_secs(5);

/// One look. Money is in minor units.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// What the process says of itself; none while it does not answer, or some tasks do not run yet.
    pub process: Option<ProcessFigures>,
    /// What a reader of the tables sees.
    pub tables: TableFigures,
}

/// Counters are those of the running process: they begin anew after a kill, and count what is replayed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessFigures {
    /// Records of the input topics that are behind the tasks' positions.
    pub events: u64,
    /// Records that wait in Kafka, those on their way between tasks included.
    pub lag: u64,
    /// Events counted before.
    pub duplicates: u64,
    /// Events that were passed on to their owners.
    pub relayed: u64,
    /// Records among the dead letters, by reason.
    pub dead_letters: BTreeMap<String, u64>,
    /// Rows, changes and messages that are not safe yet.
    pub unsettled: u64,
    /// Tasks that run.
    pub tasks: u64,
}

/// Today is the day of the demo's calendar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableFigures {
    /// Customers with an event.
    pub customers: u64,
    /// Customers whose first event was today.
    pub new_today: u64,
    /// Scans of today.
    pub scans_today: u64,
    /// Payments of today.
    pub orders_today: u64,
    /// Money paid today.
    pub paid_today: i64,
    /// Money given back today.
    pub refunded_today: i64,
}

impl ProcessFigures {
    /// Whether everything that was sent is applied, served and checkpointed.
    pub(super) fn is_settled(&self, sent: u64) -> bool {
        self.events == sent && self.lag == 0 && self.unsettled == 0
    }
}

/// Looks once.
pub(super) fn look(stack: &Stack) -> Result<Figures> {
    let process = process(&stack.http_url()).ok().filter(|process| process.tasks == PARTITIONS);
    Ok(Figures { process, tables: tables(stack)? })
}

/// The body of a page that answers with success.
pub(super) fn get(url: &str) -> Result<String> {
    let agent = ureq::Agent::config_builder().timeout_global(Some(HTTP_TIMEOUT)).http_status_as_error(false).build().new_agent();
    let mut answer = agent.get(url).call()?;
    ensure!(answer.status().is_success(), "{url} answered {}", answer.status());
    Ok(answer.body_mut().read_to_string()?)
}

fn process(url: &str) -> Result<ProcessFigures> {
    let status: Value = serde_json::from_str(&get(&format!("{url}/status"))?).context("/status is no JSON")?;
    Ok(process_figures(&status, &get(&format!("{url}/metrics"))?))
}

fn process_figures(status: &Value, metrics: &str) -> ProcessFigures {
    let sum = |name: &str, label: &str| series(metrics, name).filter(|(labels, _)| labels.contains(label)).map(|(_, value)| value).sum();
    let mut dead_letters: BTreeMap<String, u64> = BTreeMap::new();
    for (labels, count) in series(metrics, "onecode_dead_letters_total").filter(|(_, count)| *count > 0) {
        let reason = labels.split("reason=\"").nth(1).and_then(|rest| rest.split('"').next());
        *dead_letters.entry(reason.unwrap_or_default().to_owned()).or_default() += count;
    }
    let tasks = status["tasks"].as_array().map_or(&[][..], Vec::as_slice);
    let position = |task: &Value, topic: &str| task["positions"][topic].as_u64().unwrap_or_default();
    let unsettled = ["onecode_dirty_keys", "onecode_buffered_bytes", "onecode_in_flight_inserts", "onecode_produce_queue_records"];
    ProcessFigures {
        events: tasks.iter().flat_map(|task| INPUT_TOPICS.map(|topic| position(task, topic))).sum(),
        lag: sum("onecode_lag_records", ""),
        duplicates: sum("onecode_applied_events_total", "outcome=\"duplicate\""),
        relayed: sum("onecode_applied_events_total", "outcome=\"relayed\""),
        dead_letters,
        unsettled: unsettled.into_iter().map(|name| sum(name, "")).sum(),
        tasks: sum("onecode_tasks", ""),
    }
}

/// Labels and values of a metric's series, in the text format of Prometheus.
fn series<'a>(metrics: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, u64)> {
    metrics.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
        let (labels, value) = rest.rsplit_once(' ')?;
        // Whole numbers all of them, which are written as floating-point ones when they are large.
        Some((labels, value.parse::<f64>().ok()? as u64))
    })
}

fn tables(stack: &Stack) -> Result<TableFigures> {
    let hours = TIME_ZONE.1;
    let sql = format!(
        "SELECT (SELECT count() FROM v_customers WHERE first_event_time > 0), \
         sum(new_customers), sum(scans), sum(orders), sum(paid), sum(refunded) \
         FROM v_activity_day WHERE day = toDate(now('UTC') + INTERVAL {hours} HOUR)"
    );
    let answer = stack.clickhouse.query_in(DATABASE, &sql)?;
    table_figures(&answer).with_context(|| format!("ClickHouse answered {answer:?}"))
}

fn table_figures(answer: &str) -> Option<TableFigures> {
    let mut cells = answer.trim_end().split('\t');
    let mut number = || cells.next()?.parse::<i64>().ok();
    let mut count = || u64::try_from(number()?).ok();
    let (customers, new_today, scans_today, orders_today) = (count()?, count()?, count()?, count()?);
    Some(TableFigures { customers, new_today, scans_today, orders_today, paid_today: number()?, refunded_today: number()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_summed_over_tasks_topics_and_labels() {
        let status = serde_json::json!({"tasks": [
            {"positions": {"scans": 10, "purchases": 3, "onecode.exchange": 99}},
            {"positions": {"scans": 5, "shares": 2}},
        ]});
        let metrics = "# HELP onecode_tasks x\nonecode_tasks 2\nonecode_tasks_restoring 7\n\
            onecode_lag_records{topic=\"scans\"} 4\nonecode_lag_records{topic=\"onecode.exchange\"} 1\n\
            onecode_applied_events_total{kind=\"scan\",outcome=\"applied\"} 100\n\
            onecode_applied_events_total{kind=\"scan\",outcome=\"duplicate\"} 6\n\
            onecode_applied_events_total{kind=\"share\",outcome=\"relayed\"} 1\n\
            onecode_dead_letters_total{topic=\"scans\",reason=\"bad_enum\"} 2\n\
            onecode_dead_letters_total{topic=\"shares\",reason=\"bad_enum\"} 1\n\
            onecode_dead_letters_total{topic=\"shares\",reason=\"bad_brand\"} 0\n\
            onecode_dirty_keys 1e1\nonecode_buffered_bytes 0\n";
        let figures = process_figures(&status, metrics);
        let expected = ProcessFigures {
            events: 20,
            lag: 5,
            duplicates: 6,
            relayed: 1,
            dead_letters: BTreeMap::from([("bad_enum".to_owned(), 3)]),
            unsettled: 10,
            tasks: 2,
        };
        assert_eq!(figures, expected);
        assert!(!figures.is_settled(20));
        assert!(ProcessFigures { lag: 0, unsettled: 0, ..figures.clone() }.is_settled(20));
        assert!(!ProcessFigures { lag: 0, unsettled: 0, ..figures }.is_settled(21));
    }

    #[test]
    fn a_row_of_numbers_becomes_figures_and_anything_else_nothing() {
        let figures = table_figures("7\t6\t5\t4\t300\t20\n");
        let expected = TableFigures { customers: 7, new_today: 6, scans_today: 5, orders_today: 4, paid_today: 300, refunded_today: 20 };
        assert_eq!(figures, Some(expected));
        assert_eq!(table_figures("7\t6\n"), None);
        assert_eq!(table_figures("-7\t6\t5\t4\t3\t2\n"), None);
    }
}
