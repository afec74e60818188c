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

    fn is_money(self) -> bool {
        matches!(self, Measure::Paid | Measure::Refunded)
    }
}

/// All measures; those that do not apply are 0.
///
/// Money saturates and counts wrap: both stay insensitive to order. A count that wraps is one that was added in another task's
/// cell and taken back in this one's (customers change tasks when `onecode rescale` moves them; cells do not): readers sum over
/// tasks, and the sum is right.
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
        let sum = self.get(measure);
        self.set(measure, if measure.is_money() { sum.saturating_add(amount) } else { sum.wrapping_add(amount) });
    }

    /// Adds all measures of another.
    pub fn add_all(&mut self, other: &Sums) {
        let money = [Measure::Paid, Measure::Refunded].map(|measure| (measure, self.get(measure).saturating_add(other.get(measure))));
        for (sum, amount) in self.0.iter_mut().zip(other.0) {
            *sum = sum.wrapping_add(amount);
        }
        for (measure, sum) in money {
            self.set(measure, sum);
        }
    }

    /// Takes back one that was added before, here or in the same cell of another task.
    pub fn take_one(&mut self, measure: Measure) {
        self.set(measure, self.get(measure).wrapping_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_saturates() {
        let mut sums = Sums::default();
        sums.add(Measure::Paid, u64::MAX - 1);
        sums.add(Measure::Paid, 5);
        assert_eq!(sums.get(Measure::Paid), u64::MAX);
        let more = sums;
        sums.add_all(&more);
        assert_eq!(sums.get(Measure::Paid), u64::MAX);
    }

    #[test]
    fn what_is_taken_back_elsewhere_adds_up() {
        let (mut here, mut there) = (Sums::default(), Sums::default());
        there.add(Measure::NewCustomers, 3);
        here.take_one(Measure::NewCustomers);
        here.take_one(Measure::NewCustomers);
        here.add(Measure::NewCustomers, 1);
        there.add_all(&here);
        assert_eq!(there.get(Measure::NewCustomers), 2);
    }
}
