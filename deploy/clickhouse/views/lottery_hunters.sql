-- v_hunters_at as of its last refresh. `SYSTEM REFRESH VIEW lottery_hunters` refreshes it now.
CREATE OR REPLACE MATERIALIZED VIEW lottery_hunters
REFRESH EVERY 1 HOUR
(
    brand               LowCardinality(String) COMMENT 'tenant',
    customer_id         String                 COMMENT 'customer' CODEC(ZSTD(1)),
    as_of               DateTime64(3, 'UTC')   COMMENT 'moment for which the row holds',
    draws_30d           UInt64                 COMMENT 'scans to draw in 30 days',
    orders_90d          UInt64                 COMMENT 'payments in 90 days',
    draw_share          Nullable(Float64)      COMMENT 'draws / (scans + shares) of 30 days; NULL = neither',
    regions             UInt64                 COMMENT 'distinct regions of the scans of 30 days',
    device_customers    UInt64                 COMMENT 'most customers who scanned with a device of this one; 0 = nobody else',
    device_drawers      UInt64                 COMMENT 'most customers who drew with a device with which this one drew; 0 = nobody else',
    most_codes_a_day    UInt64                 COMMENT 'distinct codes of the busiest day',
    most_codes_in_burst Int64                  COMMENT 'distinct codes of the busiest ten minutes; 0 = too few codes a day to look',
    most_cities_a_day   UInt64                 COMMENT 'cities of the day with most of them',
    reasons             Array(LowCardinality(String)) COMMENT 'draws_only, many_codes_a_day, many_codes_at_once, shared_device, many_cities_a_day'
)
ENGINE = MergeTree
ORDER BY (brand, customer_id)
AS SELECT * FROM v_hunters_at(as_of = now64(3))
COMMENT 'customers who look like lottery hunters, refreshed by ClickHouse; to review'
