//! `onecode fit`: the models against published results and their own laws, and the command on a real ClickHouse.

use std::path::Path;

use onecode::commands::Verdict;
use onecode::commands::fit::{FitArgs, run};
use onecode::config::Config;
use onecode::fit::bgnbd::{self, Bgnbd, Buyers, frequencies};
use onecode::fit::gamma_gamma::{self, Spenders};
use onecode::fit::{FitError, LEAST_CUSTOMERS, plot};
use onecode::migrate;
use onecode_local::{ClickHouse, ClickHouseOptions};
use proptest::prelude::*;

const CDNOW: &str = include_str!("cdnow/summary.csv");

/// Repeat purchases, weeks to the last, weeks to the end, mean value in dollars.
fn cdnow() -> Vec<(u32, f64, f64, f64)> {
    let lines = CDNOW.lines().filter(|line| !line.starts_with('#')).skip(1);
    lines
        .map(|line| {
            let cells: Vec<f64> = line.split(',').map(|cell| cell.parse().expect("a number")).collect();
            (cells[0] as u32, cells[1], cells[2], cells[3])
        })
        .collect()
}

fn cdnow_buyers() -> Vec<Buyers> {
    let of = |(repeats, last_weeks, age_weeks, _)| Buyers { repeats, last_weeks, age_weeks, customers: 1 };
    cdnow().into_iter().map(of).collect()
}

#[test]
fn cdnow_gives_the_published_parameters_of_bg_nbd() {
    let found = bgnbd::fit(&cdnow_buyers()).expect("parameters");
    for (parameter, published) in found.parameters.into_iter().zip([0.243, 4.414, 0.793, 2.426]) {
        assert!((parameter - published).abs() < 6e-4, "{found:?}");
    }
    // Fader, Hardie and Lee print -9,582.4.
    assert!((found.log_likelihood + 9_582.4).abs() < 0.05, "{found:?}");
    // As Lifetimes 0.11.3 itself has them for these data.
    for (error, published) in found.standard_errors.into_iter().zip([0.012557, 0.378221, 0.185719, 0.705345]) {
        assert!((error / published - 1.0).abs() < 2e-2, "{found:?}");
    }
}

#[test]
fn cdnow_gives_the_published_parameters_of_gamma_gamma() {
    let spenders: Vec<Spenders> = cdnow()
        .into_iter()
        .filter(|(repeats, _, _, mean)| *repeats > 0 && *mean > 0.0)
        .map(|(repeats, _, _, mean)| Spenders { repeats, paid: mean * f64::from(repeats), customers: 1 })
        .collect();
    assert_eq!(spenders.len(), 946);
    let found = gamma_gamma::fit(&spenders).expect("parameters");
    for (parameter, published) in found.parameters.into_iter().zip([6.25, 3.74, 15.44]) {
        assert!((parameter / published - 1.0).abs() < 5e-3, "{found:?}");
    }
}

/// The curvature of a likelihood is what a step of one standard error costs: half a unit and more, whatever the other parameters do.
#[test]
fn a_parameter_two_standard_errors_off_is_clearly_less_likely() {
    let buyers = cdnow_buyers();
    let found = bgnbd::fit(&buyers).expect("parameters");
    for axis in 0..4 {
        for sign in [-2.0, 2.0] {
            let mut parameters = found.parameters;
            parameters[axis] += sign * found.standard_errors[axis];
            let lost = found.log_likelihood - Bgnbd::from(parameters).log_likelihood(&buyers);
            assert!(lost > 1.5, "axis {axis}: {lost}");
        }
    }
}

#[test]
fn expected_repeat_purchases_follow_the_actual_ones_and_are_drawn() {
    let buyers = cdnow_buyers();
    let model = Bgnbd { r: 0.243, alpha: 4.414, a: 0.793, b: 2.426 };
    let figure = frequencies(&buyers, &model, 7);
    // Figure 3 of the paper: of 2,357 customers 1,411 never bought again.
    assert_eq!(figure.actual[0], 1411.0);
    assert!((figure.expected.iter().sum::<f64>() - 2357.0).abs() < 1e-6, "{figure:?}");
    for (actual, expected) in figure.actual.iter().zip(&figure.expected) {
        assert!((actual - expected).abs() < 0.05 * 2357.0 && *expected > 0.0, "{figure:?}");
    }
    let svg = plot::svg(&[("a <brand>".to_owned(), figure.clone()), ("b".to_owned(), figure)]);
    assert_eq!(svg.matches("<title>actual: 1411.0</title>").count(), 2, "{svg}");
    assert!(svg.contains("a &lt;brand>") && svg.contains(">7+<"), "{svg}");
}

#[test]
fn too_little_data_is_refused_with_its_number() {
    let some = |count: usize| bgnbd::fit(&cdnow_buyers()[..count]);
    assert_eq!(some(99).expect_err("too few"), FitError::TooFewCustomers { found: 99 });
    let never_again = [Buyers { repeats: 0, last_weeks: 0.0, age_weeks: 10.0, customers: 1_000 }];
    assert_eq!(bgnbd::fit(&never_again).expect_err("nobody came back"), FitError::TooFewRepeaters { found: 0 });
    let alike = [Buyers { repeats: 3, last_weeks: 5.0, age_weeks: 10.0, customers: 1_000 }];
    assert!(matches!(bgnbd::fit(&alike), Err(FitError::Undetermined { .. })), "{:?}", bgnbd::fit(&alike));
    let alike = [Spenders { repeats: 1, paid: 100.0, customers: 1_000 }];
    assert!(matches!(gamma_gamma::fit(&alike), Err(FitError::Undetermined { .. })), "{:?}", gamma_gamma::fit(&alike));
}

fn models() -> impl Strategy<Value = Bgnbd> {
    (0.05_f64..5.0, 0.2_f64..50.0, 0.05_f64..5.0, 0.1_f64..10.0).prop_map(|(r, alpha, a, b)| Bgnbd { r, alpha, a, b })
}

fn histories() -> impl Strategy<Value = Vec<Buyers>> {
    let history = (0u32..30, 0.01_f64..1.0, 1.0_f64..100.0, 1u64..50).prop_map(|(repeats, share, age_weeks, customers)| Buyers {
        repeats,
        last_weeks: if repeats == 0 { 0.0 } else { share * age_weeks },
        age_weeks,
        customers,
    });
    prop::collection::vec(history, 1..20)
}

proptest! {
    #[test]
    fn probabilities_of_all_numbers_of_purchases_sum_to_one(model in models(), weeks in 0.1_f64..20.0) {
        let probabilities = model.probabilities(weeks, 3_000);
        prop_assert!(probabilities.iter().all(|probability| (-1e-9..=1.0 + 1e-9).contains(probability)));
        let mean_rate = model.r / model.alpha * weeks;
        // Long tails of busy buyers are cut off.
        prop_assume!(mean_rate < 100.0);
        prop_assert!((probabilities.iter().sum::<f64>() - 1.0).abs() < 1e-6, "{}", probabilities.iter().sum::<f64>());
    }

    /// Somebody without a repeat purchase has the likelihood that the model gives to none.
    #[test]
    fn the_likelihood_of_no_repeat_is_its_probability(model in models(), weeks in 0.1_f64..100.0) {
        let none = [Buyers { repeats: 0, last_weeks: 0.0, age_weeks: weeks, customers: 1 }];
        let probability = model.probabilities(weeks, 0)[0];
        prop_assert!((model.log_likelihood(&none) - probability.ln()).abs() < 1e-8);
    }

    #[test]
    fn a_weight_is_so_many_equal_customers(model in models(), buyers in histories()) {
        let one_by_one: Vec<Buyers> = buyers
            .iter()
            .flat_map(|history| std::iter::repeat_n(Buyers { customers: 1, ..*history }, history.customers as usize))
            .collect();
        let (weighted, single) = (model.log_likelihood(&buyers), model.log_likelihood(&one_by_one));
        prop_assert!((weighted - single).abs() < 1e-8 * weighted.abs().max(1.0));
    }

    /// Days or weeks: the density of a purchase changes with the unit, and nothing else.
    #[test]
    fn the_unit_of_time_does_not_matter(model in models(), buyers in histories(), unit in 0.1_f64..10.0) {
        let scaled: Vec<Buyers> = buyers
            .iter()
            .map(|history| Buyers { last_weeks: history.last_weeks * unit, age_weeks: history.age_weeks * unit, ..*history })
            .collect();
        let purchases: f64 = buyers.iter().map(|history| f64::from(history.repeats) * history.customers as f64).sum();
        let there = Bgnbd { alpha: model.alpha * unit, ..model }.log_likelihood(&scaled) + purchases * unit.ln();
        let here = model.log_likelihood(&buyers);
        prop_assert!((there - here).abs() < 1e-7 * here.abs().max(1.0), "{there} {here}");
    }

    /// Yuan or fen.
    #[test]
    fn the_unit_of_money_does_not_matter(
        p in 0.2_f64..10.0, q in 0.2_f64..10.0, v in 0.5_f64..500.0, unit in 0.1_f64..200.0,
        spenders in prop::collection::vec((1u32..20, 0.5_f64..900.0, 1u64..9), 1..20),
    ) {
        let of = |unit: f64| -> Vec<Spenders> {
            spenders.iter().map(|(repeats, paid, customers)| Spenders { repeats: *repeats, paid: paid * unit, customers: *customers }).collect()
        };
        let customers: f64 = spenders.iter().map(|(_, _, customers)| *customers as f64).sum();
        let here = gamma_gamma::log_likelihood(&of(1.0), p, q, v);
        let there = gamma_gamma::log_likelihood(&of(unit), p, q, v * unit) + customers * unit.ln();
        prop_assert!((there - here).abs() < 1e-7 * here.abs().max(1.0), "{there} {here}");
    }
}

/// One row a purchase day, so that a customer of CDNOW gets their history of repeat purchases again: all but the last one, which has its
/// day, come on the days after the first.
fn purchase_days(customer: usize, (repeats, last_weeks, age_weeks, mean): (u32, f64, f64, f64)) -> Vec<String> {
    let days = |weeks: f64| (weeks * 7.0).round() as u32;
    let between = (1..repeats).map(|number| number.min(days(last_weeks).saturating_sub(repeats - number)));
    let last = (repeats > 0).then_some(days(last_weeks));
    let cents = (mean * 100.0).round() as i64;
    std::iter::once((0, 999))
        .chain(between.chain(last).map(|day| (day, cents)))
        .map(|(after, paid)| format!("('cdnow', 'c{customer}', toDate('2026-11-22') - {} + {after}, 1, {paid}, 1)", days(age_weeks)))
        .collect()
}

#[tokio::test]
async fn the_command_writes_what_it_found_for_the_measures_to_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let clickhouse = ClickHouse::start(ClickHouseOptions::in_dir(dir.path().join("clickhouse"))).expect("ClickHouse");
    let text = format!("[clickhouse]\nurl = \"{}\"\ndatabase = \"fit\"\n", clickhouse.url());
    let config = Config::from_text(&text, Path::new("onecode.toml"), []).expect("a configuration");
    for step in migrate::plan(&config).await.expect("a plan") {
        migrate::apply(&config.clickhouse, &step).await.expect("a step");
    }
    let insert = |rows: &[String]| {
        let sql = format!(
            "INSERT INTO fit.customer_days (brand, customer_id, day, orders, paid, version) SETTINGS async_insert = 0 VALUES {}",
            rows.join(", ")
        );
        clickhouse.query(&sql).expect("an insert");
    };
    let run_with = async |args: FitArgs| {
        let mut out = Vec::new();
        let args = FitArgs { as_of: Some("2026-11-22".to_owned()), ..args };
        let verdict = run(&config, &args, &mut out).await;
        verdict.map(|verdict| (verdict, String::from_utf8(out).expect("text"))).map_err(|error| format!("{error:#}"))
    };
    let error = run_with(FitArgs::default()).await.expect_err("no purchases");
    assert!(error.contains("no brand of database `fit` has purchases"), "{error}");
    insert(&cdnow().into_iter().enumerate().flat_map(|(number, history)| purchase_days(number, history)).collect::<Vec<_>>());
    insert(&["('small', 'c1', toDate('2026-11-01'), 1, 100, 1)".to_owned()]);

    let parameters =
        "SELECT name, round(value, 3) FROM fit.v_parameters WHERE brand = 'cdnow' AND name NOT LIKE '%_se' ORDER BY name FORMAT CSV";
    let plot = dir.path().join("fit.svg");
    let args = FitArgs { dry_run: true, plot: Some(plot.clone()), ..FitArgs::default() };
    let (verdict, report) = run_with(args).await.expect("a report");
    assert_eq!(verdict, Verdict::FoundSomething, "{report}");
    assert!(report.contains("brand cdnow: 2357 customers") && report.contains("(not written)"), "{report}");
    assert!(report.contains(&format!("1 customers have bought and a fit needs {LEAST_CUSTOMERS}")), "{report}");
    assert!(std::fs::read_to_string(&plot).expect("a figure").contains("cdnow: customers by repeat purchases until 2026-11-22"));
    assert_eq!(clickhouse.query(parameters).expect("a query"), "", "a dry run writes nothing");

    let (verdict, json) = run_with(FitArgs { brand: Some("cdnow".to_owned()), json: true, ..FitArgs::default() }).await.expect("JSON");
    assert_eq!(verdict, Verdict::Fine, "{json}");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let shown = |name: &str| json[0]["bgnbd"]["parameters"][name]["value"].as_f64().expect("a value");
    for (name, published) in [("r", 0.243), ("alpha", 4.414), ("a", 0.793), ("b", 2.426)] {
        assert!((shown(name) - published).abs() < 2e-3, "{name}: {json}");
        let stored =
            clickhouse.query(&format!("SELECT value FROM fit.v_parameters WHERE brand = 'cdnow' AND name = '{name}'")).expect("a row");
        assert_eq!(stored.trim().parse::<f64>().expect("a number"), shown(name));
    }
    let names: Vec<String> =
        clickhouse.query("SELECT name FROM fit.v_parameters ORDER BY name").expect("rows").lines().map(str::to_owned).collect();
    assert_eq!(
        names,
        ["a", "a_se", "alpha", "alpha_se", "b", "b_se", "gg_p", "gg_p_se", "gg_q", "gg_q_se", "gg_v", "gg_v_se", "r", "r_se"]
    );
}
