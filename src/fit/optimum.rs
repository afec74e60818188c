//! The maximum of a likelihood over positive parameters: a simplex finds it, Newton's method settles it, its curvature gives the errors.

#![allow(clippy::needless_range_loop)] // formulas of matrices name rows and columns

use super::FitError;

/// Steps of the simplex before it is set up anew at the best point, and how often that is done.
const SIMPLEX_STEPS: usize = 1_000;
const SIMPLEX_STARTS: usize = 6;
const NEWTON_STEPS: usize = 30;
/// Of the logarithms of the parameters, for numerical derivatives.
const STEP: f64 = 1e-3;
/// What a Newton step may still promise to add to the log-likelihood: a thousandth of a standard error.
const SETTLED: f64 = 1e-6;
/// A logarithm with a standard error above this leaves the parameter's very magnitude open: a slope without end looks like that.
const VAGUEST_LOG: f64 = 10.0;
/// Beyond e^20 and below e^-20 a parameter says nothing any more.
const WIDEST_LOG: f64 = 20.0;

/// Where a likelihood is highest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Optimum<const N: usize> {
    /// All positive.
    pub parameters: [f64; N],
    /// Of each, from the inverse of the Hessian.
    pub standard_errors: [f64; N],
    /// At the parameters.
    pub log_likelihood: f64,
}

/// Finds the positive parameters with the highest log-likelihood, from `start` on.
///
/// # Errors
/// [`FitError::Undetermined`] when there is no maximum to settle at.
pub fn maximize<const N: usize>(log_likelihood: impl Fn(&[f64; N]) -> f64, start: [f64; N]) -> Result<Optimum<N>, FitError> {
    // In logarithms every point is allowed, and the likelihood is rounder.
    let cost = |logs: &[f64; N]| {
        let value = -log_likelihood(&logs.map(f64::exp));
        if value.is_finite() && logs.iter().all(|log| log.abs() <= WIDEST_LOG) { value } else { f64::INFINITY }
    };
    let mut best = start.map(f64::ln);
    for _ in 0..SIMPLEX_STARTS {
        let found = simplex(&cost, best);
        let gain = cost(&best) - cost(&found);
        best = found;
        if gain < SETTLED {
            break;
        }
    }
    settle(&cost, best)
}

/// Nelder and Mead's downhill simplex with the usual coefficients.
fn simplex<const N: usize>(cost: &impl Fn(&[f64; N]) -> f64, start: [f64; N]) -> [f64; N] {
    let mut corners = vec![(start, cost(&start))];
    for axis in 0..N {
        let mut corner = start;
        corner[axis] += 0.5;
        corners.push((corner, cost(&corner)));
    }
    for _ in 0..SIMPLEX_STEPS {
        corners.sort_by(|a, b| a.1.total_cmp(&b.1));
        let (best, (worst, worst_cost)) = (corners[0], corners[N]);
        if worst_cost - best.1 < 1e-9 {
            break;
        }
        let centre: [f64; N] = std::array::from_fn(|axis| corners[..N].iter().map(|(corner, _)| corner[axis]).sum::<f64>() / N as f64);
        let along = |factor: f64| {
            let point: [f64; N] = std::array::from_fn(|axis| centre[axis] + factor * (worst[axis] - centre[axis]));
            (point, cost(&point))
        };
        let reflected = along(-1.0);
        let replacement = if reflected.1 < best.1 {
            let expanded = along(-2.0);
            Some(if expanded.1 < reflected.1 { expanded } else { reflected })
        } else if reflected.1 < corners[N - 1].1 {
            Some(reflected)
        } else {
            let contracted = along(if reflected.1 < worst_cost { -0.5 } else { 0.5 });
            (contracted.1 < worst_cost.min(reflected.1)).then_some(contracted)
        };
        match replacement {
            Some(corner) => corners[N] = corner,
            None => shrink(cost, &mut corners),
        }
    }
    corners.sort_by(|a, b| a.1.total_cmp(&b.1));
    corners[0].0
}

/// Halves the way of every corner to the best one.
fn shrink<const N: usize>(cost: &impl Fn(&[f64; N]) -> f64, corners: &mut [([f64; N], f64)]) {
    let (best, _) = corners[0];
    for (corner, value) in &mut corners[1..] {
        *corner = std::array::from_fn(|axis| f64::midpoint(corner[axis], best[axis]));
        *value = cost(corner);
    }
}

/// Newton's method until a step promises nothing; the curvature there gives the standard errors.
fn settle<const N: usize>(cost: &impl Fn(&[f64; N]) -> f64, start: [f64; N]) -> Result<Optimum<N>, FitError> {
    let mut logs = start;
    for _ in 0..NEWTON_STEPS {
        let undetermined = || {
            let reached: Vec<String> = logs.iter().map(|log| format!("{:.4}", log.exp())).collect();
            FitError::Undetermined { reached: reached.join(", ") }
        };
        let (gradient, hessian) = derivatives(cost, &logs);
        let inverse = inverse(&hessian).ok_or_else(undetermined)?;
        let step: [f64; N] = std::array::from_fn(|row| (0..N).map(|column| inverse[row][column] * gradient[column]).sum());
        let promise: f64 = (0..N).map(|axis| step[axis] * gradient[axis]).sum();
        if promise < SETTLED {
            if (0..N).any(|axis| inverse[axis][axis].sqrt() > VAGUEST_LOG) {
                return Err(undetermined());
            }
            let parameters = logs.map(f64::exp);
            // A change of a logarithm is a relative change of its parameter.
            let standard_errors = std::array::from_fn(|axis| parameters[axis] * inverse[axis][axis].sqrt());
            return Ok(Optimum { parameters, standard_errors, log_likelihood: -cost(&logs) });
        }
        logs = downhill(cost, &logs, &step).ok_or_else(undetermined)?;
    }
    let reached: Vec<String> = logs.iter().map(|log| format!("{:.4}", log.exp())).collect();
    Err(FitError::Undetermined { reached: reached.join(", ") })
}

/// The longest of a step, its half, its quarter... that makes things better.
fn downhill<const N: usize>(cost: &impl Fn(&[f64; N]) -> f64, from: &[f64; N], step: &[f64; N]) -> Option<[f64; N]> {
    let here = cost(from);
    (0..20).map(|halvings| 0.5_f64.powi(halvings)).find_map(|share| {
        let point: [f64; N] = std::array::from_fn(|axis| from[axis] - share * step[axis]);
        (cost(&point) < here).then_some(point)
    })
}

/// Gradient and Hessian by central differences.
fn derivatives<const N: usize>(cost: &impl Fn(&[f64; N]) -> f64, at: &[f64; N]) -> ([f64; N], [[f64; N]; N]) {
    let moved = |moves: &[(usize, f64)]| {
        let mut point = *at;
        for (axis, sign) in moves {
            point[*axis] += sign * STEP;
        }
        cost(&point)
    };
    let here = cost(at);
    let mut hessian = [[0.0; N]; N];
    let gradient = std::array::from_fn(|axis| {
        let (up, down) = (moved(&[(axis, 1.0)]), moved(&[(axis, -1.0)]));
        hessian[axis][axis] = (up - 2.0 * here + down) / (STEP * STEP);
        (up - down) / (2.0 * STEP)
    });
    for row in 0..N {
        for column in 0..row {
            let corner = |one: f64, other: f64| moved(&[(row, one), (column, other)]);
            let mixed = (corner(1.0, 1.0) - corner(1.0, -1.0) - corner(-1.0, 1.0) + corner(-1.0, -1.0)) / (4.0 * STEP * STEP);
            hessian[row][column] = mixed;
            hessian[column][row] = mixed;
        }
    }
    (gradient, hessian)
}

/// The inverse of a symmetric matrix by its Cholesky factor; none unless it is positive definite, as it is at a minimum.
fn inverse<const N: usize>(matrix: &[[f64; N]; N]) -> Option<[[f64; N]; N]> {
    let mut factor = [[0.0; N]; N];
    for row in 0..N {
        for column in 0..=row {
            let known: f64 = (0..column).map(|k| factor[row][k] * factor[column][k]).sum();
            let rest = matrix[row][column] - known;
            if row == column {
                // A pivot that cancelled out is rounding, not curvature.
                if rest.is_nan() || rest <= 1e-9 * matrix[row][row].abs() {
                    return None;
                }
                factor[row][row] = rest.sqrt();
            } else {
                factor[row][column] = rest / factor[column][column];
            }
        }
    }
    let mut inverse = [[0.0; N]; N];
    for unit in 0..N {
        let mut solved = [0.0; N];
        for row in 0..N {
            let known: f64 = (0..row).map(|k| factor[row][k] * solved[k]).sum();
            solved[row] = (f64::from(u8::from(row == unit)) - known) / factor[row][row];
        }
        for row in (0..N).rev() {
            let known: f64 = (row + 1..N).map(|k| factor[k][row] * inverse[k][unit]).sum();
            inverse[row][unit] = (solved[row] - known) / factor[row][row];
        }
    }
    Some(inverse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curved_valley_is_followed_to_its_end() {
        // Rosenbrock's, in logarithms: its only minimum is at (1, 1), where the inverse Hessian is [[0.5, 1], [1, 2.005]].
        let valley = |p: &[f64; 2]| {
            let (x, y) = (p[0].ln() + 1.0, p[1].ln() + 1.0);
            -(1.0 - x).powi(2) - 100.0 * (y - x * x).powi(2)
        };
        let found = maximize(valley, [0.1, 5.0]).expect("a maximum");
        for (parameter, error, expected) in
            [(found.parameters[0], found.standard_errors[0], 0.5), (found.parameters[1], found.standard_errors[1], 2.005)]
        {
            assert!((parameter - 1.0).abs() < 1e-3, "{found:?}");
            assert!((error * error - expected).abs() < 1e-2, "{found:?}");
        }
    }

    #[test]
    fn a_ridge_and_a_slope_without_end_are_refused() {
        let ridge = maximize(|p: &[f64; 2]| -(p[0] * p[1] - 1.0).powi(2), [2.0, 3.0]);
        assert!(matches!(ridge, Err(FitError::Undetermined { .. })), "{ridge:?}");
        let slope = maximize(|p: &[f64; 1]| -1.0 / p[0], [2.0]);
        assert!(matches!(slope, Err(FitError::Undetermined { .. })), "{slope:?}");
    }
}
