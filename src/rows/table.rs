//! The tables that the pipeline writes.

/// A table that `onecode run` inserts into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Archive of scans.
    Scans,
    /// Archive of payments and refunds.
    Purchases,
    /// Archive of shares.
    ShareEvents,
    /// One row a customer.
    Customers,
    /// One row a customer and day.
    CustomerDays,
    /// Live curves.
    ActivityMinute,
    /// Day cells.
    ActivityDay,
    /// Exact active customers.
    ActiveCustomersDay,
    /// Who brought whom: one row a customer.
    Referrals,
    /// What lies below a customer, by level and month.
    CustomerSubtrees,
    /// One row a share.
    Shares,
    /// What was passed on from a share, by level.
    ShareCascades,
}

impl Table {
    /// All tables, archive first.
    pub const ALL: [Table; 12] = [
        Table::Scans,
        Table::Purchases,
        Table::ShareEvents,
        Table::Customers,
        Table::CustomerDays,
        Table::ActivityMinute,
        Table::ActivityDay,
        Table::ActiveCustomersDay,
        Table::Referrals,
        Table::CustomerSubtrees,
        Table::Shares,
        Table::ShareCascades,
    ];

    /// Whether the table archives events (its rows have no version and are retried with the same bytes).
    pub fn is_archive(self) -> bool {
        matches!(self, Table::Scans | Table::Purchases | Table::ShareEvents)
    }

    /// Name in ClickHouse and in metric labels.
    pub fn name(self) -> &'static str {
        match self {
            Table::Scans => "scans",
            Table::Purchases => "purchases",
            Table::ShareEvents => "share_events",
            Table::Customers => "customers",
            Table::CustomerDays => "customer_days",
            Table::ActivityMinute => "activity_minute",
            Table::ActivityDay => "activity_day",
            Table::ActiveCustomersDay => "active_customers_day",
            Table::Referrals => "referrals",
            Table::CustomerSubtrees => "customer_subtrees",
            Table::Shares => "shares",
            Table::ShareCascades => "share_cascades",
        }
    }

    /// Columns in the order of the encoding.
    pub fn columns(self) -> &'static [&'static str] {
        match self {
            Table::Scans => &[
                "brand",
                "code",
                "event_time",
                "event_id",
                "customer_id",
                "share_id",
                "sharer_id",
                "gtin",
                "serial",
                "sku",
                "batch",
                "campaign",
                "region",
                "channel",
                "device",
                "purpose",
                "role",
            ],
            Table::Purchases => &[
                "brand",
                "customer_id",
                "event_time",
                "event_id",
                "order_id",
                "kind",
                "amount",
                "currency",
                "lines.sku",
                "lines.quantity",
                "lines.amount",
                "share_id",
                "sharer_id",
                "campaign",
                "region",
                "channel",
                "store",
            ],
            Table::ShareEvents => &[
                "brand",
                "customer_id",
                "event_time",
                "event_id",
                "share_id",
                "parent_share_id",
                "parent_sharer_id",
                "campaign",
                "sku",
                "region",
                "channel",
                "rewarded",
            ],
            Table::Customers => &[
                "brand",
                "customer_id",
                "first_event_time",
                "first_event_id",
                "last_event_time",
                "last_scan_time",
                "last_purchase_time",
                "last_share_time",
                "referrer_id",
                "referral_share_id",
                "scans",
                "verifies",
                "draws",
                "joins",
                "visits",
                "shares",
                "orders",
                "refunds",
                "paid",
                "refunded",
                "active_days",
                "referred_direct",
                "referred_total",
                "share_visits",
                "share_visitors",
                "share_orders",
                "share_paid",
                "share_refunded",
                "reshares",
                "version",
            ],
            Table::CustomerDays => &[
                "brand",
                "customer_id",
                "day",
                "scans",
                "draws",
                "joins",
                "visits",
                "shares",
                "orders",
                "refunds",
                "paid",
                "refunded",
                "version",
            ],
            Table::ActivityMinute => &[
                "brand",
                "minute",
                "campaign",
                "channel",
                "region",
                "task",
                "scans",
                "verifies",
                "draws",
                "visits",
                "shares",
                "orders",
                "refunds",
                "paid",
                "refunded",
                "new_customers",
                "referred_customers",
                "version",
            ],
            Table::ActivityDay => &[
                "brand",
                "day",
                "campaign",
                "sku",
                "channel",
                "region",
                "task",
                "scans",
                "verifies",
                "draws",
                "visits",
                "shares",
                "orders",
                "refunds",
                "paid",
                "refunded",
                "new_customers",
                "referred_customers",
                "version",
            ],
            Table::ActiveCustomersDay => &["brand", "day", "task", "active", "buyers", "scanners", "sharers", "version"],
            Table::Referrals => &["brand", "child_id", "parent_id", "share_id", "time", "version"],
            Table::CustomerSubtrees => &["brand", "customer_id", "level", "month", "customers", "orders", "paid", "refunded", "version"],
            Table::Shares => &[
                "brand",
                "sharer_id",
                "share_id",
                "parent_share_id",
                "parent_sharer_id",
                "time",
                "campaign",
                "sku",
                "channel",
                "region",
                "rewarded",
                "visits",
                "visitors",
                "new_customers",
                "orders",
                "paid",
                "refunded",
                "reshares",
                "version",
            ],
            Table::ShareCascades => {
                &["brand", "sharer_id", "share_id", "level", "shares", "visits", "new_customers", "orders", "paid", "refunded", "version"]
            }
        }
    }
}
