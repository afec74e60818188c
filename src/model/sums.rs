//! Sums over events: what the state keeps and the tables show.

/// What is summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Measure {
    /// Own scans.
    Scans,
    /// Scans to verify.
    Verifies,
    /// Scans to draw.
    Draws,
    /// Scans to collect points or to follow.
    Joins,
    /// Scans that came in by somebody else's share.
    Visits,
    /// Shares.
    Shares,
    /// Payments.
    Orders,
    /// Refunds.
    Refunds,
    /// Minor units.
    Paid,
    /// Minor units.
    Refunded,
    /// Customers whose first event counts here.
    NewCustomers,
    /// Of these, the ones somebody brought.
    ReferredCustomers,
    /// Of a customer: active days; of a day: active customers.
    Active,
}

impl Measure {
    /// Number of measures.
    pub const COUNT: usize = 13;
}

/// All measures; those that do not apply are 0. Adding saturates, so that it stays insensitive to order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums(pub [u64; Measure::COUNT]);

impl Sums {
    /// The value of a measure.
    pub fn get(&self, measure: Measure) -> u64 {
        self.0.get(measure as usize).copied().unwrap_or_default()
    }

    /// Sets a measure.
    pub fn set(&mut self, measure: Measure, amount: u64) {
        if let Some(sum) = self.0.get_mut(measure as usize) {
            *sum = amount;
        }
    }

    /// Adds to a measure.
    pub fn add(&mut self, measure: Measure, amount: u64) {
        self.set(measure, self.get(measure).saturating_add(amount));
    }

    /// Adds all measures of another.
    pub fn add_all(&mut self, other: &Sums) {
        for (sum, amount) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(amount);
        }
    }

    /// Takes back one that was added before.
    pub fn take_one(&mut self, measure: Measure) {
        debug_assert!(self.get(measure) > 0, "{measure:?} was never added");
        self.set(measure, self.get(measure).saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_saturate() {
        let mut sums = Sums::default();
        sums.add(Measure::Paid, u64::MAX - 1);
        sums.add(Measure::Paid, 5);
        sums.take_one(Measure::Paid);
        assert_eq!(sums.get(Measure::Paid), u64::MAX - 1);
    }
}
