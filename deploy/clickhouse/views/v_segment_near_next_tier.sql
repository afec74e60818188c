CREATE OR REPLACE VIEW v_segment_near_next_tier AS
SELECT
    brand, customer_id, as_of, tier, next_tier, gap_to_next_tier, net_365d, orders_365d, last_purchase_day, lifecycle, churn_band, reasons
FROM customer_segments
WHERE has(flags, 'near_next_tier')
COMMENT 'customers with little missing to the next tier; one row a customer, as of the last refresh of customer_segments'
