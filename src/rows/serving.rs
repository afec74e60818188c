//! Rows of the serving tables from plain values.
//!
//! Promises that a value too large for its column is written as the column's largest.

use super::{RowBuffer, Table};
use crate::model::{Day, Measure, Sums, Version};

/// Rows of the serving tables, a buffer a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServingRows {
    customers: RowBuffer,
    customer_days: RowBuffer,
    activity_minute: RowBuffer,
    activity_day: RowBuffer,
    active_customers_day: RowBuffer,
}

impl ServingRows {
    /// Tables and their rows, in the order of [`Table::ALL`].
    pub fn tables(&self) -> [(Table, &RowBuffer); 5] {
        [
            (Table::Customers, &self.customers),
            (Table::CustomerDays, &self.customer_days),
            (Table::ActivityMinute, &self.activity_minute),
            (Table::ActivityDay, &self.activity_day),
            (Table::ActiveCustomersDay, &self.active_customers_day),
        ]
    }

    /// Gives the buffers away.
    pub fn into_tables(self) -> [(Table, RowBuffer); 5] {
        [
            (Table::Customers, self.customers),
            (Table::CustomerDays, self.customer_days),
            (Table::ActivityMinute, self.activity_minute),
            (Table::ActivityDay, self.activity_day),
            (Table::ActiveCustomersDay, self.active_customers_day),
        ]
    }

    /// Gives the tables that have rows away, and is empty afterwards.
    pub fn take(&mut self) -> Vec<(Table, RowBuffer)> {
        std::mem::take(self).into_tables().into_iter().filter(|(_, rows)| !rows.is_empty()).collect()
    }

    /// Number of rows in all tables.
    pub fn rows(&self) -> usize {
        self.tables().iter().map(|(_, rows)| rows.rows()).sum()
    }

    /// Bytes in all tables.
    pub fn bytes(&self) -> usize {
        self.tables().iter().map(|(_, rows)| rows.bytes().len()).sum()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows() == 0
    }

    /// Adds a row of `customers`.
    pub fn push_customer(&mut self, row: &CustomerRow<'_>, version: Version) {
        self.customers.push(|out| {
            out.string(row.brand).string(row.customer_id).i64(row.first_event_ms).string(row.first_event_id);
            out.i64(row.last_event_ms).i64(row.last_scan_ms).i64(row.last_purchase_ms).i64(row.last_share_ms);
            out.string(row.graph.referrer_id).string(row.graph.referral_share_id);
            for measure in [
                Measure::Scans,
                Measure::Verifies,
                Measure::Draws,
                Measure::Joins,
                Measure::Visits,
                Measure::Shares,
                Measure::Orders,
                Measure::Refunds,
            ] {
                out.u64(row.sums.get(measure));
            }
            out.i64(money(&row.sums, Measure::Paid)).i64(money(&row.sums, Measure::Refunded)).u32(count(&row.sums, Measure::Active));
            let graph = &row.graph;
            out.u64(graph.referred_direct).u64(graph.referred_total).u64(graph.share_visits).u64(graph.share_visitors);
            out.u64(graph.share_orders).i64(graph.share_paid).i64(graph.share_refunded).u64(graph.reshares).u64(version.0);
        });
    }

    /// Adds a row of `customer_days`.
    pub fn push_customer_day(&mut self, brand: &str, customer_id: &str, day: Day, sums: &Sums, version: Version) {
        self.customer_days.push(|out| {
            out.string(brand).string(customer_id).u16(day);
            for measure in
                [Measure::Scans, Measure::Draws, Measure::Joins, Measure::Visits, Measure::Shares, Measure::Orders, Measure::Refunds]
            {
                out.u32(count(sums, measure));
            }
            out.i64(money(sums, Measure::Paid)).i64(money(sums, Measure::Refunded)).u64(version.0);
        });
    }

    /// Adds a row of `activity_minute`; `minute` counts from 1970-01-01, the region is a province.
    pub fn push_minute_cell(&mut self, cell: &CellRow<'_>, minute: u32, sums: &Sums, version: Version) {
        self.activity_minute.push(|out| {
            out.string(cell.brand)
                .u32(minute.saturating_mul(60))
                .string(cell.campaign)
                .string(cell.channel)
                .u32(cell.region)
                .string(cell.task);
            push_cell_sums(out, sums).u64(version.0);
        });
    }

    /// Adds a row of `activity_day`.
    pub fn push_day_cell(&mut self, cell: &CellRow<'_>, day: Day, sums: &Sums, version: Version) {
        self.activity_day.push(|out| {
            out.string(cell.brand).u16(day).string(cell.campaign).string(cell.sku).string(cell.channel).u32(cell.region).string(cell.task);
            push_cell_sums(out, sums).u64(version.0);
        });
    }

    /// Adds a row of `active_customers_day`: customers with any event, with an order, with a scan, with a share.
    pub fn push_active_day(&mut self, brand: &str, day: Day, task: &str, customers: &Sums, version: Version) {
        self.active_customers_day.push(|out| {
            out.string(brand).u16(day).string(task);
            for measure in [Measure::Active, Measure::Orders, Measure::Scans, Measure::Shares] {
                out.u64(customers.get(measure));
            }
            out.u64(version.0);
        });
    }
}

/// A customer. Times are Unix milliseconds, 0 = never.
#[derive(Clone, Debug)]
pub struct CustomerRow<'a> {
    /// Tenant.
    pub brand: &'a str,
    /// Customer.
    pub customer_id: &'a str,
    /// First own event.
    pub first_event_ms: i64,
    /// First own event.
    pub first_event_id: &'a str,
    /// Last own event.
    pub last_event_ms: i64,
    /// Last scan.
    pub last_scan_ms: i64,
    /// Last payment.
    pub last_purchase_ms: i64,
    /// Last share.
    pub last_share_ms: i64,
    /// Lifetime; `Active` = active days.
    pub sums: Sums,
    /// Who brought the customer, and whom and what the customer brought.
    pub graph: CustomerGraph<'a>,
}

/// The referral columns of a customer.
#[derive(Clone, Copy, Debug, Default)]
pub struct CustomerGraph<'a> {
    /// Empty = nobody.
    pub referrer_id: &'a str,
    /// Empty = nobody.
    pub referral_share_id: &'a str,
    /// Customers on level 1.
    pub referred_direct: u64,
    /// Customers on all levels.
    pub referred_total: u64,
    /// Scans through the customer's shares.
    pub share_visits: u64,
    /// Customers with any event through them, counted once a share.
    pub share_visitors: u64,
    /// Payments through them.
    pub share_orders: u64,
    /// Minor units.
    pub share_paid: i64,
    /// Minor units.
    pub share_refunded: i64,
    /// Shares with one of them as parent.
    pub reshares: u64,
}

/// A cell of a task, without its time and values.
#[derive(Clone, Debug)]
pub struct CellRow<'a> {
    /// Tenant.
    pub brand: &'a str,
    /// Campaign.
    pub campaign: &'a str,
    /// Sku; only days have it.
    pub sku: &'a str,
    /// Channel.
    pub channel: &'a str,
    /// Province of a minute, region of a day.
    pub region: u32,
    /// Task.
    pub task: &'a str,
}

fn push_cell_sums<'w, 'b>(out: &'w mut super::RowWriter<'b>, sums: &Sums) -> &'w mut super::RowWriter<'b> {
    for measure in [Measure::Scans, Measure::Verifies, Measure::Draws, Measure::Visits, Measure::Shares, Measure::Orders, Measure::Refunds]
    {
        out.u64(sums.get(measure));
    }
    out.i64(money(sums, Measure::Paid)).i64(money(sums, Measure::Refunded));
    out.u64(sums.get(Measure::NewCustomers)).u64(sums.get(Measure::ReferredCustomers))
}

fn money(sums: &Sums, measure: Measure) -> i64 {
    i64::try_from(sums.get(measure)).unwrap_or(i64::MAX)
}

fn count(sums: &Sums, measure: Measure) -> u32 {
    u32::try_from(sums.get(measure)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_for_its_column_is_written_as_the_largest() {
        let mut sums = Sums::default();
        sums.add(Measure::Scans, u64::MAX);
        sums.add(Measure::Paid, u64::MAX);
        let mut rows = ServingRows::default();
        rows.push_customer_day("b", "c", 1, &sums, Version(9));
        let [_, (table, days), ..] = rows.tables();
        assert_eq!((table, days.rows()), (Table::CustomerDays, 1));
        let bytes = days.bytes();
        assert_eq!(bytes.get(6..10), Some(&[0xff; 4][..]));
        assert_eq!(bytes.get(34..42), Some(&i64::MAX.to_le_bytes()[..]));
        assert_eq!(bytes.len(), 2 + 2 + 2 + 7 * 4 + 2 * 8 + 8);
    }
}
