//! Models of customers by maximum likelihood: when they buy again ([`bgnbd`]), and what a purchase is worth ([`gamma_gamma`]).
//!
//! Promises that equal data give equal parameters, with the standard errors of the numerical Hessian, and that data which do not
//! determine the parameters are refused. Pure: reads no tables, knows no brands, no clock; [`plot`] draws text.

pub mod bgnbd;
pub mod gamma_gamma;
mod optimum;
pub mod plot;

pub use optimum::{Optimum, maximize};

/// Fewest customers with a purchase that a fit is based on.
pub const LEAST_CUSTOMERS: u64 = 100;
/// Fewest customers among them who bought again.
pub const LEAST_REPEATERS: u64 = 20;

/// Why there are no parameters.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum FitError {
    /// Not enough customers have bought.
    #[error("{found} customers have bought and a fit needs {LEAST_CUSTOMERS}; wait, or keep the default parameters")]
    TooFewCustomers {
        /// Customers with a purchase.
        found: u64,
    },
    /// Not enough customers have bought again.
    #[error("{found} customers have bought again and a fit needs {LEAST_REPEATERS}; wait, or keep the default parameters")]
    TooFewRepeaters {
        /// Customers with purchases on two days.
        found: u64,
    },
    /// The likelihood has no clear maximum: some parameters could be anything.
    #[error(
        "the likelihood has no clear maximum (it was followed to {reached}): the data do not determine the parameters; wait for more customers, or keep the default ones"
    )]
    Undetermined {
        /// Parameters at which the search ended.
        reached: String,
    },
}

/// Refuses too little data.
fn enough(customers: u64, repeaters: u64) -> Result<(), FitError> {
    if customers < LEAST_CUSTOMERS {
        return Err(FitError::TooFewCustomers { found: customers });
    }
    if repeaters < LEAST_REPEATERS {
        return Err(FitError::TooFewRepeaters { found: repeaters });
    }
    Ok(())
}
