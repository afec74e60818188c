CREATE OR REPLACE VIEW v_customers AS
SELECT
    brand, customer_id, first_event_time, first_event_id, last_event_time, last_scan_time, last_purchase_time, last_share_time,
    referrer_id, referral_share_id, scans, verifies, draws, joins, visits, shares, orders, refunds, paid, refunded, active_days,
    referred_direct, referred_total, share_visits, share_visitors, share_orders, share_paid, share_refunded, reshares
FROM customers FINAL
COMMENT 'one row a customer; first_event_time 1970 = only named as a sharer'
