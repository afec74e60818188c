CREATE OR REPLACE VIEW v_one_touch AS
SELECT
    brand, any(as_of) AS as_of, count() AS customers, countIf(active_days_lifetime = 1) AS one_touch_customers,
    one_touch_customers / customers AS one_touch_share
FROM customer_segments
GROUP BY brand
COMMENT 'share of the customers who were active on one day only'
