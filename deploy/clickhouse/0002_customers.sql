-- Who a customer is and what they did in all: one row a customer, rewritten whole by every change.
CREATE TABLE IF NOT EXISTS customers (
    brand              LowCardinality(String) COMMENT 'tenant',
    customer_id        String                 COMMENT 'pseudonymous id, as the producers send it' CODEC(ZSTD(1)),
    first_event_time   DateTime64(3, 'UTC')   COMMENT 'first own event, by (time, event id, kind); 1970 = only named as a sharer',
    first_event_id     String                 COMMENT 'id of that event' CODEC(ZSTD(1)),
    last_event_time    DateTime64(3, 'UTC')   COMMENT 'last own event of any kind',
    last_scan_time     DateTime64(3, 'UTC')   COMMENT '1970 = never',
    last_purchase_time DateTime64(3, 'UTC')   COMMENT 'last payment; refunds do not count; 1970 = never',
    last_share_time    DateTime64(3, 'UTC')   COMMENT '1970 = never',
    referrer_id        String                 COMMENT 'customer who brought this one; empty = nobody' CODEC(ZSTD(1)),
    referral_share_id  String                 COMMENT 'share through which they came; empty = none' CODEC(ZSTD(1)),
    scans              UInt64                 COMMENT 'own scans',
    verifies           UInt64                 COMMENT 'scans to verify the item',
    draws              UInt64                 COMMENT 'scans to draw in a lottery',
    joins              UInt64                 COMMENT 'scans to follow or to collect points',
    visits             UInt64                 COMMENT 'own scans that came in by the share of somebody else',
    shares             UInt64                 COMMENT 'own share events',
    orders             UInt64                 COMMENT 'payments',
    refunds            UInt64                 COMMENT 'refunds',
    paid               Int64                  COMMENT 'sum of payments, minor units of the currency of the brand',
    refunded           Int64                  COMMENT 'sum of refunds, minor units',
    active_days        UInt32                 COMMENT 'days with any own event, in the calendar of the brand',
    referred_direct    UInt64                 COMMENT 'customers brought directly',
    referred_total     UInt64                 COMMENT 'customers on all levels of the subtree',
    share_visits       UInt64                 COMMENT 'scans by others through the shares of this customer',
    share_visitors     UInt64                 COMMENT 'distinct others with any event through a share, counted once a share',
    share_orders       UInt64                 COMMENT 'payments by others through the shares',
    share_paid         Int64                  COMMENT 'sum of those payments, minor units',
    share_refunded     Int64                  COMMENT 'sum of refunds by others through the shares, minor units',
    reshares           UInt64                 COMMENT 'shares by others that have a share of this customer as parent',
    version            UInt64                 COMMENT 'generation << 40 | sequence of the writing task: the highest wins',
    INDEX referrer_id_index referrer_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (brand, customer_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 480, min_bytes_for_wide_part = 67108864, non_replicated_deduplication_window = 0
COMMENT 'one row a customer; read v_customers'
