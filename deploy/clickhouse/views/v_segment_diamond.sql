CREATE OR REPLACE VIEW v_segment_diamond AS
SELECT
    brand, customer_id, as_of, net_365d, orders_365d, last_purchase_day, lifecycle, churn_band, p_alive, wom_rank, quadrant, reasons
FROM customer_segments
WHERE tier = 'diamond'
COMMENT 'diamond customers; one row a customer, as of the last refresh of customer_segments'
