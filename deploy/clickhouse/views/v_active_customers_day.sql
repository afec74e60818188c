CREATE OR REPLACE VIEW v_active_customers_day AS
SELECT
    brand, day,
    sum(cells.active) AS active, sum(cells.buyers) AS buyers, sum(cells.scanners) AS scanners, sum(cells.sharers) AS sharers
FROM active_customers_day AS cells FINAL
GROUP BY brand, day
COMMENT 'distinct active customers by day'
