-- v_segments_at as of its last refresh: one row a customer with own events. ClickHouse refreshes it by itself and swaps the result in whole;
-- nothing hangs on an insert. `SYSTEM REFRESH VIEW customer_segments` refreshes it now, system.view_refreshes shows when it last did, and
-- `ALTER TABLE customer_segments MODIFY REFRESH EVERY 1 HOUR` changes the rhythm until a release changes this definition.
CREATE OR REPLACE MATERIALIZED VIEW customer_segments
REFRESH EVERY 10 MINUTE
(
    brand                  LowCardinality(String) COMMENT 'tenant',
    customer_id            String                 COMMENT 'customer' CODEC(ZSTD(1)),
    as_of                  DateTime64(3, 'UTC')   COMMENT 'moment for which the row holds',
    as_of_day              Date                   COMMENT 'business day of as_of: the last day of every window',
    definition_version     UInt16                 COMMENT 'grows when a definition changes',
    first_day              Date                   COMMENT 'business day of the first event',
    last_active_day        Date                   COMMENT 'business day of the last event',
    last_scan_day          Date                   COMMENT 'business day of the last scan; 1970 = never',
    last_share_day         Date                   COMMENT 'business day of the last share; 1970 = never',
    last_purchase_day      Date                   COMMENT 'business day of the last payment; 1970 = never',
    net_lifetime           Int64                  COMMENT 'paid - refunded, minor units',
    net_365d               Int64                  COMMENT 'likewise over 365 days',
    net_90d                Int64                  COMMENT 'likewise over 90 days',
    net_30d                Int64                  COMMENT 'likewise over 30 days',
    orders_lifetime        UInt64                 COMMENT 'payments',
    orders_365d            UInt64                 COMMENT 'payments in 365 days',
    orders_90d             UInt64                 COMMENT 'payments in 90 days',
    orders_30d             UInt64                 COMMENT 'payments in 30 days',
    scans_30d              UInt64                 COMMENT 'scans in 30 days',
    shares_30d             UInt64                 COMMENT 'share events in 30 days',
    active_days_lifetime   UInt64                 COMMENT 'days with any event',
    active_days_30d        UInt64                 COMMENT 'days with any event of the last 30',
    sales_value            Int64                  COMMENT 'first dimension: net_365d',
    influence              Float64                COMMENT 'what the subtree is worth, by level, age, money and customers',
    interaction_frequency  Float64                COMMENT 'scans + shares + visits of the last 30 days, at most 10 a day',
    wom_value              Float64                COMMENT 'second dimension, word of mouth: influence x interaction frequency',
    member                 Bool                   COMMENT 'ordered or joined in 365 days, by member_rule',
    wom_rank               UInt64                 COMMENT 'rank among the members of the brand by wom_value; 0 = no member',
    wom_top                Bool                   COMMENT 'a word-of-mouth customer: by rank or picked by hand',
    manual_pick            Bool                   COMMENT 'picked by hand',
    layer                  LowCardinality(String) COMMENT 'L1, L2, L3 by wom_rank; none = no member',
    community              Bool                   COMMENT 'L1 or L2',
    quadrant               LowCardinality(String) COMMENT 'sales value and word of mouth against the 80th percentiles of the members: high_high, high_low, low_high, low_low',
    tier                   LowCardinality(String) COMMENT 'by net_365d: silver, gold, platinum, diamond; none = below silver',
    next_tier              LowCardinality(String) COMMENT 'tier above; empty = there is none',
    gap_to_next_tier       Int64                  COMMENT 'minor units of net_365d that are missing to next_tier; 0 = there is none',
    recency_days           Nullable(Int32)        COMMENT 'R: days since the last payment; NULL = never paid',
    frequency_days         UInt64                 COMMENT 'F: distinct days with payments in 365',
    rfm_r                  UInt8                  COMMENT 'score of R, 1-5 by the quintiles of those who ever paid; 0 = never paid',
    rfm_f                  UInt8                  COMMENT 'score of F',
    rfm_m                  UInt8                  COMMENT 'score of M = net_365d',
    rfm_segment            LowCardinality(String) COMMENT 'name of the RFM cell; none = never paid',
    activity_interval_days Float64                COMMENT 'median gap between active days; 30 with fewer than 3 gaps',
    inactive_days          Nullable(Int32)        COMMENT 'days since the last payment or scan; NULL = neither ever',
    lifecycle              LowCardinality(String) COMMENT 'prospect, new, active, at_risk, dormant or lost',
    spend_drop             Nullable(Float64)      COMMENT 'net of 30 days / mean net of the three 30-day windows before; NULL = nothing before',
    p_alive                Nullable(Float64)      COMMENT 'probability that the customer still buys (modified BG/NBD); NULL = never paid',
    churn_band             LowCardinality(String) COMMENT 'low, mid or high by p_alive and spend_drop; none = never paid',
    ltv_history            Int64                  COMMENT 'net_lifetime, minor units',
    ltv_present            Int64                  COMMENT 'net_365d, minor units',
    ltv_potential          Float64                COMMENT 'expected value of the next 365 days, minor units',
    ltv_method             LowCardinality(String) COMMENT 'of ltv_potential: bgnbd_gamma_gamma when the brand is fitted, else orders_p_alive',
    ltv_referral           Int64                  COMMENT 'net of the subtree in 12 months, minor units',
    flags                  Array(LowCardinality(String)) COMMENT 'lists that the customer is on: wom_top, manual_pick, value_at_risk, dormant, lost, new_not_returned, diamond, near_next_tier, potential_sharer',
    reasons                Array(String)          COMMENT 'why, one for each flag'
)
ENGINE = MergeTree
ORDER BY (brand, customer_id)
SETTINGS index_granularity = 1024
AS SELECT * FROM v_segments_at(as_of = now64(3))
COMMENT 'measures and lists of every customer, refreshed by ClickHouse; one row a customer'
