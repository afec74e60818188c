//! The figures as a table and as JSON: medians over the rounds, and how far the rounds lie apart.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use super::truth::Counted;
use super::{Figure, System};

const MEBIBYTE: f64 = 1_048_576.0;

/// All figures of a run, and what counters should say.
pub struct Report {
    truth: Counted,
    by_system: BTreeMap<System, Vec<Figure>>,
}

/// What is told of a figure: the JSON's name, and the value.
type Measure = (&'static str, fn(&Figure) -> f64);

const MEASURES: [Measure; 6] = [
    ("events_per_s", |figure| figure.events as f64 / figure.elapsed.as_secs_f64()),
    ("cpu_s_per_million", |figure| per_million(figure, figure.process_cpu_s)),
    ("clickhouse_cpu_s_per_million", |figure| per_million(figure, figure.servers.clickhouse_s)),
    ("broker_cpu_s_per_million", |figure| per_million(figure, figure.servers.broker_s)),
    ("peak_rss_bytes", |figure| figure.peak_rss_bytes as f64),
    ("disk_bytes", |figure| figure.disk_bytes as f64),
];

fn per_million(figure: &Figure, seconds: f64) -> f64 {
    seconds / (figure.events as f64 / 1e6)
}

/// What the counters of the last round say.
fn counted(figures: &[Figure]) -> Option<Counted> {
    figures.last()?.counted
}

/// A figure in one line.
pub fn line(figure: &Figure) -> String {
    let texts: Vec<String> = MEASURES.iter().map(|(name, value)| format!("{name} {:.2}", value(figure))).collect();
    texts.join(", ")
}

impl Report {
    /// Of no figures yet.
    pub fn new(truth: Counted) -> Self {
        Report { truth, by_system: BTreeMap::new() }
    }

    /// Adds a figure.
    pub fn add(&mut self, figure: Figure) {
        self.by_system.entry(figure.system).or_default().push(figure);
    }

    fn values(&self, system: System, measure: usize) -> Vec<f64> {
        let value = MEASURES[measure].1;
        let mut values: Vec<f64> = self.by_system.get(&system).into_iter().flatten().map(value).collect();
        values.sort_by(f64::total_cmp);
        values
    }

    fn median(&self, system: System, measure: usize) -> f64 {
        let values = self.values(system, measure);
        let middle = values.len() / 2;
        match values.len() {
            0 => f64::NAN,
            length if length % 2 == 1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        }
    }

    /// Largest less smallest, as a part of the median.
    fn spread(&self, system: System, measure: usize) -> f64 {
        let values = self.values(system, measure);
        match (values.first(), values.last()) {
            (Some(least), Some(most)) if *most > 0.0 => (most - least) / self.median(system, measure),
            _ => 0.0,
        }
    }

    /// Writes `compare.json` into the target directory.
    pub fn write(&self) -> Result<()> {
        let entries: Vec<Value> = self.by_system.iter().map(|(system, figures)| self.entry(*system, figures)).collect();
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().context("no target directory")?;
        std::fs::write(target.join("compare.json"), serde_json::to_string_pretty(&entries)?)?;
        Ok(())
    }

    fn entry(&self, system: System, figures: &[Figure]) -> Value {
        let mut entry =
            json!({ "system": system.name(), "rounds": figures.len(), "events": figures.iter().map(|figure| figure.events).max() });
        let mut spreads = json!({});
        for (number, (name, _)) in MEASURES.iter().enumerate() {
            entry[*name] = json!(rounded(self.median(system, number)));
            spreads[*name] = json!(rounded(self.spread(system, number)));
        }
        entry["spread"] = spreads;
        let counted = counted(figures);
        entry["counted_events"] = json!(counted.map(|counted| counted.events));
        entry["counted_customers"] = json!(counted.map(|counted| counted.customers));
        entry["distinct_events"] = json!(self.truth.events);
        entry["distinct_customers"] = json!(self.truth.customers);
        entry
    }

    /// Prints the table, and the ratios that the goals are about.
    pub fn print(&self) {
        println!(
            "\nmedians; ± is half of the spread between rounds; CPU-seconds per million events; counted: events and customers too many or too few"
        );
        println!(
            "{:<42} {:>12} {:>13} {:>13} {:>13} {:>9} {:>9}   counted",
            "system", "events/s", "process", "clickhouse", "broker", "peak MiB", "disk MiB"
        );
        for (system, figures) in &self.by_system {
            let cell = |measure: usize| {
                let (median, spread) = (self.median(*system, measure), self.spread(*system, measure));
                format!("{median:.2} ±{:2.0}%", 50.0 * spread)
            };
            println!(
                "{:<42} {:>12.0} {:>13} {:>13} {:>13} {:>9.0} {:>9.0}   {}",
                system.name(),
                self.median(*system, 0),
                cell(1),
                cell(2),
                cell(3),
                self.median(*system, 4) / MEBIBYTE,
                self.median(*system, 5) / MEBIBYTE,
                self.off(figures),
            );
        }
        self.print_ratios();
    }

    /// How far its counters are from the truth.
    fn off(&self, figures: &[Figure]) -> String {
        match counted(figures) {
            None => "nothing".to_owned(),
            Some(counted) if counted == self.truth => "exactly".to_owned(),
            Some(counted) => format!(
                "{:+}, {:+}",
                counted.events.cast_signed() - self.truth.events.cast_signed(),
                counted.customers.cast_signed() - self.truth.customers.cast_signed()
            ),
        }
    }

    fn print_ratios(&self) {
        let process = |system| self.median(system, 1);
        let with_clickhouse = |system| self.median(system, 1) + self.median(system, 2);
        let ours = process(System::Onecode);
        let share = |ours, views| with_clickhouse(ours) / with_clickhouse(views);
        let ratios = [
            ("process, in times of consume and decode", ours / process(System::Baseline), "at most 5"),
            ("process and ClickHouse, as a part of the views'", share(System::Onecode, System::ClickhouseViews), "at most 0.5"),
            ("the same, of views that keep edges too", share(System::Onecode, System::ClickhouseViewsWithEdges), "at most 0.5"),
            (
                "the same without the archive on both sides",
                share(System::OnecodeWithoutArchive, System::ClickhouseViewsWithoutArchive),
                "aim at 0.33",
            ),
            (
                "the same without the archive, of views that keep edges too",
                share(System::OnecodeWithoutArchive, System::ClickhouseViewsWithEdgesWithoutArchive),
                "aim at 0.33",
            ),
            ("Kafka Streams' process, in times of onecode's", process(System::KafkaStreams) / ours, "at least 8"),
            ("the same, of Kafka Streams with the same counters", process(System::KafkaStreamsExact) / ours, "at least 8"),
        ];
        for (what, ratio, goal) in ratios.into_iter().filter(|(_, ratio, _)| ratio.is_finite()) {
            println!("{what}: {ratio:.2} (goal: {goal})");
        }
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}
