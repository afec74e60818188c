-- How a brand grows in the days from from_day to the one before until_day: SELECT * FROM v_growth(from_day = '2026-11-01', until_day =
-- '2026-12-01'). K compares the customers who were brought with those who could bring them: active in the growth_active_days before.
CREATE OR REPLACE VIEW v_growth AS
SELECT
    brand, new_customers, referred_customers, referred_customers / nullIf(new_customers, 0) AS referred_new_share, active_at_start,
    referred_customers / nullIf(active_at_start, 0) AS k, cycle_days
FROM
(
    SELECT brand, sum(cells.new_customers) AS new_customers, sum(cells.referred_customers) AS referred_customers
    FROM activity_day AS cells FINAL
    WHERE day >= {from_day:Date} AND day < {until_day:Date}
    GROUP BY brand
) AS cells
LEFT JOIN
(
    SELECT brand, uniqExact(customer_id) AS active_at_start
    FROM customer_days
    INNER JOIN (SELECT brand, growth_active_days FROM v_segment_parameters) AS growth_knobs USING (brand)
    WHERE day < {from_day:Date} AND {from_day:Date} - day <= growth_active_days
    GROUP BY brand
) AS active USING (brand)
LEFT JOIN
(
    SELECT
        children.brand AS brand,
        toNullable(quantileExactInclusive(0.5)(toUnixTimestamp64Milli(children.time) - toUnixTimestamp64Milli(parents.time)) / 86400000) AS cycle_days
    FROM (SELECT brand, parent_id, time FROM referrals FINAL WHERE parent_id != '') AS children
    INNER JOIN (SELECT brand, customer_id, first_event_time AS time FROM customers FINAL) AS parents
        ON parents.brand = children.brand AND parents.customer_id = children.parent_id
    INNER JOIN (SELECT brand, utc_offset_minutes FROM v_segment_parameters) AS zones ON zones.brand = children.brand
    WHERE toDate(addMinutes(children.time, utc_offset_minutes)) >= {from_day:Date}
        AND toDate(addMinutes(children.time, utc_offset_minutes)) < {until_day:Date}
    GROUP BY brand
) AS cycles USING (brand)
SETTINGS join_use_nulls = 0
COMMENT 'new and referred customers, K and cycle time of a brand in a window'
