//! Rows of the serving tables from plain values.
//!
//! Promises that a value too large for its column is written as the column's largest.

use super::{RowBuffer, Table};
use crate::model::{Day, Measure, Month, Sums, Version};

/// Rows of the serving tables, a buffer a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServingRows {
    customers: RowBuffer,
    customer_days: RowBuffer,
    activity_minute: RowBuffer,
    activity_day: RowBuffer,
    active_customers_day: RowBuffer,
    referrals: RowBuffer,
    customer_subtrees: RowBuffer,
    shares: RowBuffer,
    share_cascades: RowBuffer,
}

impl ServingRows {
    /// Tables and their rows, in the order of [`Table::ALL`].
    pub fn tables(&self) -> [(Table, &RowBuffer); 9] {
        [
            (Table::Customers, &self.customers),
            (Table::CustomerDays, &self.customer_days),
            (Table::ActivityMinute, &self.activity_minute),
            (Table::ActivityDay, &self.activity_day),
            (Table::ActiveCustomersDay, &self.active_customers_day),
            (Table::Referrals, &self.referrals),
            (Table::CustomerSubtrees, &self.customer_subtrees),
            (Table::Shares, &self.shares),
            (Table::ShareCascades, &self.share_cascades),
        ]
    }

    /// Gives the tables that have rows away, and is empty afterwards. `spare` gives each of them pages for its next rows, used before or
    /// none.
    pub fn take(&mut self, mut spare: impl FnMut(Table) -> Vec<Vec<u8>>) -> Vec<(Table, RowBuffer)> {
        let buffers = [
            (Table::Customers, &mut self.customers),
            (Table::CustomerDays, &mut self.customer_days),
            (Table::ActivityMinute, &mut self.activity_minute),
            (Table::ActivityDay, &mut self.activity_day),
            (Table::ActiveCustomersDay, &mut self.active_customers_day),
            (Table::Referrals, &mut self.referrals),
            (Table::CustomerSubtrees, &mut self.customer_subtrees),
            (Table::Shares, &mut self.shares),
            (Table::ShareCascades, &mut self.share_cascades),
        ];
        buffers.into_iter().filter(|(_, rows)| !rows.is_empty()).map(|(table, rows)| (table, rows.take(spare(table)))).collect()
    }

    /// Number of rows in all tables.
    pub fn rows(&self) -> usize {
        self.tables().iter().map(|(_, rows)| rows.rows()).sum()
    }

    /// Bytes in all tables.
    pub fn bytes(&self) -> usize {
        self.tables().iter().map(|(_, rows)| rows.bytes()).sum()
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
                out.count(row.sums.get(measure));
            }
            out.amount(money(&row.sums, Measure::Paid)).amount(money(&row.sums, Measure::Refunded));
            out.count32(count(&row.sums, Measure::Active));
            let graph = &row.graph;
            out.count(graph.referred_direct).count(graph.referred_total).count(graph.share_visits).count(graph.share_visitors);
            out.count(graph.share_orders).amount(graph.share_paid).amount(graph.share_refunded).count(graph.reshares).u64(version.0);
        });
    }

    /// Adds a row of `customer_days`.
    pub fn push_customer_day(&mut self, brand: &str, customer_id: &str, day: Day, sums: &Sums, version: Version) {
        self.customer_days.push(|out| {
            out.string(brand).string(customer_id).u16(day);
            for measure in
                [Measure::Scans, Measure::Draws, Measure::Joins, Measure::Visits, Measure::Shares, Measure::Orders, Measure::Refunds]
            {
                out.count32(count(sums, measure));
            }
            out.amount(money(sums, Measure::Paid)).amount(money(sums, Measure::Refunded)).u64(version.0);
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
                out.count(customers.get(measure));
            }
            out.u64(version.0);
        });
    }

    /// Adds a row of `referrals`: share and sharer that brought the customer, and when the customer's first event was.
    pub fn push_referral(&mut self, brand: &str, child_id: &str, parent: Option<((&str, &str), i64)>, version: Version) {
        let ((share_id, parent_id), time_ms) = parent.unwrap_or((("", ""), 0));
        self.referrals.push(|out| {
            out.string(brand).string(child_id).string(parent_id).string(share_id).i64(time_ms).u64(version.0);
        });
    }

    /// Adds a row of `customer_subtrees`: customers, orders, paid, refunded.
    pub fn push_subtree(&mut self, brand: &str, customer_id: &str, level: u8, month: Month, amounts: [u64; 4], version: Version) {
        let [customers, orders, paid, refunded] = amounts;
        self.customer_subtrees.push(|out| {
            out.string(brand).string(customer_id).u8(level).u16(month).count(customers).count(orders);
            out.amount(clamped(paid)).amount(clamped(refunded)).u64(version.0);
        });
    }

    /// Adds a row of `shares`.
    pub fn push_share(&mut self, row: &ShareRow<'_>, version: Version) {
        let (parent_share_id, parent_sharer_id) = row.parent;
        let [visits, new_customers, orders, paid, refunded, reshares] = row.brought;
        self.shares.push(|out| {
            out.string(row.brand).string(row.sharer_id).string(row.share_id).string(parent_share_id).string(parent_sharer_id);
            out.i64(row.time_ms).string(row.campaign).string(row.sku).string(row.channel).u32(row.region).u8(row.rewarded.into());
            out.count(visits).count(row.visitors).count(new_customers).count(orders).amount(clamped(paid)).amount(clamped(refunded));
            out.count(reshares).u64(version.0);
        });
    }

    /// Adds a row of `share_cascades`: shares, visits, new customers, orders, paid, refunded.
    pub fn push_cascade(&mut self, row: &LevelRow<'_>, amounts: [u64; 6], version: Version) {
        let [shares, visits, new_customers, orders, paid, refunded] = amounts;
        self.share_cascades.push(|out| {
            out.string(row.brand).string(row.sharer_id).string(row.share_id).u8(row.level).count(shares).count(visits);
            out.count(new_customers).count(orders).amount(clamped(paid)).amount(clamped(refunded)).u64(version.0);
        });
    }
}

/// A share. Texts are empty, and the time is 0, where its own event was never seen.
#[derive(Clone, Debug)]
pub struct ShareRow<'a> {
    /// Tenant.
    pub brand: &'a str,
    /// Who shared.
    pub sharer_id: &'a str,
    /// What they called it.
    pub share_id: &'a str,
    /// The share that was passed on, and its sharer; empty = none.
    pub parent: (&'a str, &'a str),
    /// Unix milliseconds.
    pub time_ms: i64,
    /// Campaign.
    pub campaign: &'a str,
    /// Sku.
    pub sku: &'a str,
    /// Friend, group, moments...
    pub channel: &'a str,
    /// GB/T 2260; 0 = unknown.
    pub region: u32,
    /// Whether the sharer was rewarded.
    pub rewarded: bool,
    /// Distinct customers with any event through it.
    pub visitors: u64,
    /// Visits, new customers, orders, paid, refunded, re-shares.
    pub brought: [u64; 6],
}

/// One level of a share's cascade, without its values.
#[derive(Clone, Copy, Debug)]
pub struct LevelRow<'a> {
    /// Tenant.
    pub brand: &'a str,
    /// Who shared.
    pub sharer_id: &'a str,
    /// What they called it.
    pub share_id: &'a str,
    /// 0 = the share itself.
    pub level: u8,
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
        out.count(sums.get(measure));
    }
    out.amount(money(sums, Measure::Paid)).amount(money(sums, Measure::Refunded));
    out.count(sums.get(Measure::NewCustomers)).count(sums.get(Measure::ReferredCustomers))
}

fn money(sums: &Sums, measure: Measure) -> i64 {
    clamped(sums.get(measure))
}

fn clamped(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
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
        let bytes = days.row_binary();
        assert_eq!(bytes.get(6..10), Some(&[0xff; 4][..]));
        assert_eq!(bytes.get(34..42), Some(&i64::MAX.to_le_bytes()[..]));
        assert_eq!(bytes.len(), 2 + 2 + 2 + 7 * 4 + 2 * 8 + 8);
    }
}
