CREATE OR REPLACE VIEW v_customer_subtrees AS
SELECT
    brand, customer_id, level, month, customers, orders, paid, refunded
FROM customer_subtrees FINAL
COMMENT 'worth of the customers below a customer, by level and month'
