//! `onecode fit`: the parameters of the models of purchase, per brand, from the day facts.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clickhouse::Row;
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

use super::table::{plain, write_table};
use super::{UsageError, Verdict};
use crate::config::Config;
use crate::fit::bgnbd::{self, Bgnbd, Buyers, Frequencies, frequencies};
use crate::fit::gamma_gamma::{self, Spenders};
use crate::fit::{FitError, Optimum, plot};
use crate::store::{Admin, AdminError, literal};

/// Shown under `--help`.
pub const EXAMPLES: &str = "\
Examples:
  onecode fit --config onecode.toml --dry-run                       # only show what would be written
  onecode fit --config onecode.toml --brand acme --plot fit.svg     # also draw expected against actual repeat purchases
  onecode fit --config onecode.toml --json | jq '.[].bgnbd.parameters.r'

BG/NBD (r, alpha, a, b; weeks) and Gamma-Gamma (gg_p, gg_q, gg_v; minor units) by maximum likelihood, from purchase days. They are written
to `parameters` with their standard errors (r_se...), where the measures p_alive and lifetime value find them. Run it once a month or so.
Exit code 1 when a brand has too few customers or its data do not determine the parameters: then it keeps those that it has.";

/// Repeat purchases from which the figure counts no further.
const MOST_SHOWN: u32 = 7;

/// What to fit, and what to do with it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct FitArgs {
    /// Only this brand [default: every brand with purchases]
    #[arg(long)]
    pub brand: Option<String>,
    /// Last business day that counts [default: today in the brand's calendar]
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub as_of: Option<String>,
    /// Only show the parameters
    #[arg(long)]
    pub dry_run: bool,
    /// Draw expected against actual repeat purchases
    #[arg(long, value_name = "FILE.svg")]
    pub plot: Option<PathBuf>,
    /// Print JSON: an array with one object a brand
    #[arg(long)]
    pub json: bool,
}

#[derive(Row, Deserialize)]
struct History {
    repeats: u32,
    last_days: u32,
    age_days: u32,
    customers: u64,
}

#[derive(Row, Deserialize)]
struct Spending {
    repeats: u32,
    paid: i64,
    customers: u64,
}

/// What was found for a brand.
#[derive(Debug, Serialize)]
struct Fitted {
    brand: String,
    as_of: String,
    /// With a purchase.
    customers: u64,
    /// With purchases on two days or more.
    repeaters: u64,
    bgnbd: Outcome,
    gamma_gamma: Outcome,
    /// Customers who bought again 0, 1, 2... times.
    repeat_purchases: Option<RepeatPurchases>,
}

#[derive(Debug, Serialize)]
struct RepeatPurchases {
    actual: Vec<f64>,
    expected: Vec<f64>,
}

/// Of one model.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome {
    Found { parameters: BTreeMap<&'static str, Estimate>, log_likelihood: f64 },
    Refused { error: String },
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Estimate {
    value: f64,
    standard_error: f64,
}

impl Outcome {
    fn new<const N: usize>(names: [&'static str; N], optimum: Result<Optimum<N>, FitError>) -> Self {
        match optimum {
            Ok(Optimum { parameters, standard_errors, log_likelihood }) => {
                let estimates =
                    parameters.into_iter().zip(standard_errors).map(|(value, standard_error)| Estimate { value, standard_error });
                Outcome::Found { parameters: names.into_iter().zip(estimates).collect(), log_likelihood }
            }
            Err(error) => Outcome::Refused { error: error.to_string() },
        }
    }

    fn estimates(&self) -> impl Iterator<Item = (&'static str, Estimate)> {
        let found = match self {
            Outcome::Found { parameters, .. } => Some(parameters),
            Outcome::Refused { .. } => None,
        };
        found.into_iter().flatten().map(|(name, estimate)| (*name, *estimate))
    }
}

/// Runs the command; its report goes to `out`.
///
/// # Errors
/// When ClickHouse cannot be asked, no brand has purchases, or the figure cannot be written.
pub async fn run(config: &Config, args: &FitArgs, out: &mut impl Write) -> Result<Verdict> {
    let store = Admin::new(&config.clickhouse);
    let mut fitted = Vec::new();
    let mut panels = Vec::new();
    for brand in brands(&store, args).await? {
        let as_of = as_of(config, &store, &brand, args).await?;
        let (result, figure) = fit(&store, brand, as_of).await?;
        if !args.dry_run {
            write_parameters(&store, &result).await?;
        }
        panels.extend(figure.map(|figure| (format!("{}: customers by repeat purchases until {}", result.brand, result.as_of), figure)));
        fitted.push(result);
    }
    if let Some(path) = &args.plot {
        std::fs::write(path, plot::svg(&panels)).with_context(|| format!("cannot write the figure to {}", path.display()))?;
    }
    if args.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&fitted)?)?;
    } else {
        fitted.iter().try_for_each(|fitted| report(out, fitted, args.dry_run))?;
    }
    let is_refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused { .. });
    let is_lacking = fitted.iter().any(|fitted| is_refused(&fitted.bgnbd) || is_refused(&fitted.gamma_gamma));
    Ok(if is_lacking { Verdict::FoundSomething } else { Verdict::Fine })
}

async fn brands(store: &Admin, args: &FitArgs) -> Result<Vec<String>> {
    if let Some(brand) = &args.brand {
        return Ok(vec![brand.clone()]);
    }
    let brands: Vec<String> =
        store.rows("SELECT DISTINCT toString(d.brand) AS brand FROM v_customer_days AS d WHERE d.orders > 0 ORDER BY brand").await?;
    if brands.is_empty() {
        bail!("no brand of database `{}` has purchases: there is nothing to fit", store.database());
    }
    Ok(brands)
}

/// The day as text.
async fn as_of(config: &Config, store: &Admin, brand: &str, args: &FitArgs) -> Result<String> {
    if let Some(text) = &args.as_of {
        let date: Date = text.parse().map_err(|error| UsageError(format!("--as-of {text} is no day such as 2026-11-22: {error}")))?;
        return Ok(date.to_string());
    }
    let offset_minutes = config.calendar().zone(brand).offset_minutes();
    Ok(store.row(&format!("SELECT toString(toDate(addMinutes(now('UTC'), {offset_minutes})))")).await?)
}

async fn fit(store: &Admin, brand: String, as_of: String) -> Result<(Fitted, Option<Frequencies>), AdminError> {
    // One row a customer with a purchase, and equal ones made one with their number.
    let lives = format!(
        "SELECT customer_id, toUInt32(count() - 1) AS repeats, toUInt32(max(day) - min(day)) AS last_days,
            toUInt32(toDate({as_of}) - min(day)) AS age_days, sum(d.paid) - argMin(d.paid, day) AS repeat_paid
         FROM v_customer_days AS d WHERE brand = {brand} AND day <= toDate({as_of}) AND d.orders > 0 GROUP BY customer_id",
        as_of = literal(&as_of),
        brand = literal(&brand),
    );
    let histories = format!("SELECT repeats, last_days, age_days, count() AS customers FROM ({lives}) GROUP BY ALL ORDER BY ALL");
    let histories: Vec<History> = store.rows(&histories).await?;
    let spending = format!(
        "SELECT repeats, repeat_paid AS paid, count() AS customers FROM ({lives}) WHERE repeats > 0 AND repeat_paid > 0 GROUP BY ALL ORDER BY ALL"
    );
    let spending: Vec<Spending> = store.rows(&spending).await?;

    let weeks = |days: u32| f64::from(days) / 7.0;
    let buyers: Vec<Buyers> = histories
        .iter()
        .map(|&History { repeats, last_days, age_days, customers }| Buyers {
            repeats,
            last_weeks: weeks(last_days),
            age_weeks: weeks(age_days),
            customers,
        })
        .collect();
    let spenders: Vec<Spenders> =
        spending.iter().map(|&Spending { repeats, paid, customers }| Spenders { repeats, paid: paid as f64, customers }).collect();
    let purchases = bgnbd::fit(&buyers);
    let figure = purchases.as_ref().ok().map(|optimum| frequencies(&buyers, &Bgnbd::from(optimum.parameters), MOST_SHOWN));
    let fitted = Fitted {
        brand,
        as_of,
        customers: histories.iter().map(|history| history.customers).sum(),
        repeaters: histories.iter().filter(|history| history.repeats > 0).map(|history| history.customers).sum(),
        bgnbd: Outcome::new(bgnbd::NAMES, purchases),
        gamma_gamma: Outcome::new(gamma_gamma::NAMES, gamma_gamma::fit(&spenders)),
        repeat_purchases: figure.clone().map(|Frequencies { actual, expected }| RepeatPurchases { actual, expected }),
    };
    Ok((fitted, figure))
}

async fn write_parameters(store: &Admin, fitted: &Fitted) -> Result<(), AdminError> {
    let brand = literal(&fitted.brand);
    let rows: Vec<String> = fitted
        .bgnbd
        .estimates()
        .chain(fitted.gamma_gamma.estimates())
        .map(|(name, Estimate { value, standard_error })| format!("({brand}, '{name}', {value}), ({brand}, '{name}_se', {standard_error})"))
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    store.execute(&format!("INSERT INTO parameters (brand, name, value) SETTINGS async_insert = 0 VALUES {}", rows.join(", "))).await
}

fn report(out: &mut impl Write, fitted: &Fitted, is_dry_run: bool) -> Result<()> {
    let Fitted { brand, as_of, customers, repeaters, .. } = fitted;
    writeln!(out, "brand {}: {customers} customers with purchases until {as_of}, {repeaters} of them bought again", plain(brand))?;
    for (model, outcome) in [("BG/NBD", &fitted.bgnbd), ("Gamma-Gamma", &fitted.gamma_gamma)] {
        match outcome {
            Outcome::Refused { error } => writeln!(out, "\n{model}: not fitted: {error}")?,
            Outcome::Found { log_likelihood, .. } => {
                writeln!(out, "\n{model}, log-likelihood {log_likelihood:.3}{}", if is_dry_run { " (not written)" } else { "" })?;
                let rows: Vec<_> = outcome
                    .estimates()
                    .map(|(name, estimate)| [name.to_owned(), format!("{:.4}", estimate.value), format!("{:.4}", estimate.standard_error)])
                    .collect();
                write_table(out, ["parameter", "value", "standard error"], &rows)?;
            }
        }
    }
    if let Some(RepeatPurchases { actual, expected }) = &fitted.repeat_purchases {
        writeln!(out, "\ncustomers by repeat purchase days")?;
        let rows: Vec<_> = actual
            .iter()
            .zip(expected)
            .enumerate()
            .map(|(count, (actual, expected))| {
                let more = if count as u32 == MOST_SHOWN { "+" } else { "" };
                [format!("{count}{more}"), format!("{actual:.0}"), format!("{expected:.1}")]
            })
            .collect();
        write_table(out, ["repeats", "actual", "expected"], &rows)?;
    }
    writeln!(out)?;
    Ok(())
}
