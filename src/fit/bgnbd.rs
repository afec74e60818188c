//! BG/NBD: when customers buy again, and when they have left (Fader, Hardie and Lee, "Counting Your Customers the Easy Way", 2005).
//!
//! While alive a customer buys at a rate of their own (gamma: r, alpha); after each purchase they may leave (beta: a, b).

use std::collections::BTreeMap;

use libm::lgamma;

use super::{FitError, Optimum, enough, maximize};

/// Customers with one history of purchases. Times are weeks.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Buyers {
    /// Days with a purchase after the first one.
    pub repeats: u32,
    /// From the first to the last purchase; 0 without repeats.
    pub last_weeks: f64,
    /// From the first purchase to now.
    pub age_weeks: f64,
    /// How many customers have this history.
    pub customers: u64,
}

/// Parameters of the model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bgnbd {
    /// Shape of the rates of purchase.
    pub r: f64,
    /// Scale of the rates of purchase, weeks.
    pub alpha: f64,
    /// First parameter of leaving.
    pub a: f64,
    /// Second parameter of leaving.
    pub b: f64,
}

/// In the order of [`Bgnbd`]'s fields: also their names in `parameters`.
pub const NAMES: [&str; 4] = ["r", "alpha", "a", "b"];

impl From<[f64; 4]> for Bgnbd {
    fn from([r, alpha, a, b]: [f64; 4]) -> Self {
        Bgnbd { r, alpha, a, b }
    }
}

/// Parameters in the order of [`NAMES`].
///
/// # Errors
/// [`FitError`]: too few customers, or data that do not determine the parameters.
pub fn fit(buyers: &[Buyers]) -> Result<Optimum<4>, FitError> {
    let count = |of: &dyn Fn(&&Buyers) -> bool| buyers.iter().filter(of).map(|buyers| buyers.customers).sum();
    enough(count(&|_| true), count(&|buyers| buyers.repeats > 0))?;
    let longest = buyers.iter().map(|buyers| buyers.age_weeks).fold(0.0, f64::max);
    maximize(|parameters| Bgnbd::from(*parameters).log_likelihood(buyers), [0.5, longest.max(1.0) / 8.0, 1.0, 2.0])
}

impl Bgnbd {
    /// Of histories (equation 6 of the paper, in logarithms).
    pub fn log_likelihood(&self, buyers: &[Buyers]) -> f64 {
        let Bgnbd { r, alpha, a, b } = *self;
        let mut by_repeats: BTreeMap<u32, f64> = BTreeMap::new();
        let terms = buyers.iter().map(|history| {
            let x = f64::from(history.repeats);
            // The costly gamma functions depend on the number of purchases alone.
            let shape = *by_repeats.entry(history.repeats).or_insert_with(|| {
                lgamma(r + x) - lgamma(r) + r * alpha.ln() + lgamma(a + b) + lgamma(b + x) - lgamma(b) - lgamma(a + b + x)
            });
            let stayed = -(r + x) * (alpha + history.age_weeks).ln();
            let either = if history.repeats == 0 {
                stayed
            } else {
                let left = a.ln() - (b + x - 1.0).ln() - (r + x) * (alpha + history.last_weeks).ln();
                let (high, low) = if stayed > left { (stayed, left) } else { (left, stayed) };
                high + (low - high).exp().ln_1p()
            };
            history.customers as f64 * (shape + either)
        });
        terms.sum()
    }

    /// Probability of 0, 1, ... `most` purchases within a time after the first one (equation 8).
    pub fn probabilities(&self, weeks: f64, most: u32) -> Vec<f64> {
        let Bgnbd { r, alpha, a, b } = *self;
        let log_beta = |p: f64, q: f64| lgamma(p) + lgamma(q) - lgamma(p + q);
        let (stay, share) = (r * (alpha / (alpha + weeks)).ln(), weeks / (alpha + weeks));
        // Negative binomial terms: probability of so many purchases by somebody who never leaves.
        let mut never_leaves = stay.exp();
        let mut fewer = 0.0;
        let mut probabilities = Vec::new();
        for count in 0..=most {
            let x = f64::from(count);
            let alive = (log_beta(a, b + x) - log_beta(a, b)).exp() * never_leaves;
            let left = if count == 0 { 0.0 } else { (log_beta(a + 1.0, b + x - 1.0) - log_beta(a, b)).exp() * (1.0 - fewer) };
            probabilities.push(alive + left);
            fewer += never_leaves;
            never_leaves *= (r + x) / (x + 1.0) * share;
        }
        probabilities
    }
}

/// How many customers bought 0, 1, ... times again; the last number is of those who did so `most` times or more.
#[derive(Clone, Debug, PartialEq)]
pub struct Frequencies {
    /// As they did.
    pub actual: Vec<f64>,
    /// As the model has it.
    pub expected: Vec<f64>,
}

/// Actual and expected numbers of repeat purchases.
pub fn frequencies(buyers: &[Buyers], model: &Bgnbd, most: u32) -> Frequencies {
    let mut actual = vec![0.0; most as usize + 1];
    let mut by_age: BTreeMap<u64, f64> = BTreeMap::new();
    for history in buyers {
        actual[history.repeats.min(most) as usize] += history.customers as f64;
        // The bits of positive numbers are in the order of the numbers.
        *by_age.entry(history.age_weeks.to_bits()).or_default() += history.customers as f64;
    }
    let mut expected = vec![0.0; most as usize + 1];
    for (age, customers) in by_age {
        let probabilities = model.probabilities(f64::from_bits(age), most.saturating_sub(1));
        let rest = 1.0 - probabilities.iter().sum::<f64>();
        for (sum, probability) in expected.iter_mut().zip(probabilities.into_iter().chain([rest])) {
            *sum += customers * probability;
        }
    }
    Frequencies { actual, expected }
}
