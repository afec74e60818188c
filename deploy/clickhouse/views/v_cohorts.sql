CREATE OR REPLACE VIEW v_cohorts AS
SELECT
    brand, cohort, dateDiff('month', cohort, month) AS months_since, any(cohort_customers) AS customers, count() AS active, countIf(month_orders > 0) AS buyers,
    sum(month_orders) AS orders, sum(month_net) AS net, active / customers AS retention
FROM
(
    SELECT brand, customer_id, toStartOfMonth(day) AS month, sum(days.orders) AS month_orders, sum(days.paid) - sum(days.refunded) AS month_net
    FROM customer_days AS days FINAL
    GROUP BY brand, customer_id, month
) AS months
INNER JOIN (SELECT brand, customer_id, toStartOfMonth(min(day)) AS cohort FROM customer_days GROUP BY brand, customer_id) AS firsts USING (brand, customer_id)
INNER JOIN
(
    SELECT brand, cohort, count() AS cohort_customers
    FROM (SELECT brand, customer_id, toStartOfMonth(min(day)) AS cohort FROM customer_days GROUP BY brand, customer_id)
    GROUP BY brand, cohort
) AS sizes USING (brand, cohort)
GROUP BY brand, cohort, months_since
COMMENT 'customers by the month of their first event, and what was left of them each month after'
