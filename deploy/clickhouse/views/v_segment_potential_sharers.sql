CREATE OR REPLACE VIEW v_segment_potential_sharers AS
SELECT
    brand, customer_id, as_of, active_days_30d, scans_30d, sales_value, orders_365d, last_share_day, tier, lifecycle, quadrant, reasons
FROM customer_segments
WHERE has(flags, 'potential_sharer')
COMMENT 'heavy customers who do not share; one row a customer, as of the last refresh of customer_segments'
