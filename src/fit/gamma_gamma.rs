//! Gamma-Gamma: what a purchase is worth (Fader and Hardie, "The Gamma-Gamma Model of Monetary Value", 2013).
//!
//! A customer's purchases vary around a mean of their own (shape p), and means vary between customers (q, v).

use std::collections::BTreeMap;

use libm::lgamma;

use super::{FitError, Optimum, enough, maximize};

/// Customers with one history of spending.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spenders {
    /// Days with a purchase after the first one; at least 1.
    pub repeats: u32,
    /// What was paid on all of them; positive.
    pub paid: f64,
    /// How many customers have this history.
    pub customers: u64,
}

/// In the order of the parameters of [`fit`]: their names in `parameters`.
pub const NAMES: [&str; 3] = ["gg_p", "gg_q", "gg_v"];

/// Parameters in the order of [`NAMES`]; v in the unit of what was paid.
///
/// # Errors
/// [`FitError`]: too few customers who bought again, or data that do not determine the parameters.
pub fn fit(spenders: &[Spenders]) -> Result<Optimum<3>, FitError> {
    let customers = spenders.iter().map(|spenders| spenders.customers).sum();
    enough(customers, customers)?;
    let weighted = |of: &dyn Fn(&Spenders) -> f64| spenders.iter().map(|history| of(history) * history.customers as f64).sum::<f64>();
    let mean = weighted(&|history| history.paid) / weighted(&|history| f64::from(history.repeats));
    maximize(|[p, q, v]| log_likelihood(spenders, *p, *q, *v), [2.0, 3.0, mean])
}

/// Of histories (equation 1a of the note, in logarithms).
pub fn log_likelihood(spenders: &[Spenders], p: f64, q: f64, v: f64) -> f64 {
    let mut by_repeats: BTreeMap<u32, f64> = BTreeMap::new();
    let terms = spenders.iter().map(|history| {
        let x = f64::from(history.repeats);
        let shape = *by_repeats
            .entry(history.repeats)
            .or_insert_with(|| lgamma(p * x + q) - lgamma(p * x) - lgamma(q) + q * v.ln() + p * x * x.ln());
        let mean = history.paid / x;
        history.customers as f64 * (shape + (p * x - 1.0) * mean.ln() - (p * x + q) * (v + history.paid).ln())
    });
    terms.sum()
}
