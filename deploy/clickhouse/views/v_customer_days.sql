CREATE OR REPLACE VIEW v_customer_days AS
SELECT
    brand, customer_id, day, scans, draws, joins, visits, shares, orders, refunds, paid, refunded
FROM customer_days FINAL
COMMENT 'one row a customer and active day'
