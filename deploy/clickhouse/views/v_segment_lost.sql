CREATE OR REPLACE VIEW v_segment_lost AS
SELECT
    brand, customer_id, as_of, inactive_days, activity_interval_days, last_scan_day, last_purchase_day, net_lifetime, orders_lifetime, tier, p_alive, reasons
FROM customer_segments
WHERE lifecycle = 'lost'
COMMENT 'customers to win back; one row a customer, as of the last refresh of customer_segments'
