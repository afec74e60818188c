-- The same events at three levels: do not add levels up. SELECT * FROM v_region_activity(from_day = '2026-11-01', until_day = '2026-12-01').
CREATE OR REPLACE VIEW v_region_activity AS
SELECT
    brand, level, region, places.name AS name, scans, visits, shares, new_customers, referred_customers, orders, net,
    scans / nullIf(sum(scans) OVER (PARTITION BY brand, level), 0) AS share
FROM
(
    SELECT
        brand, place.1 AS level, toUInt32(place.2) AS region, sum(cells.scans) AS scans, sum(cells.visits) AS visits, sum(cells.shares) AS shares,
        sum(cells.new_customers) AS new_customers, sum(cells.referred_customers) AS referred_customers, sum(cells.orders) AS orders,
        sum(cells.paid) - sum(cells.refunded) AS net
    FROM activity_day AS cells FINAL
    ARRAY JOIN [('county', cells.region), ('prefecture', intDiv(cells.region, 100) * 100), ('province', intDiv(cells.region, 10000) * 10000)] AS place
    WHERE day >= {from_day:Date} AND day < {until_day:Date}
    GROUP BY brand, level, region
) AS sums
LEFT JOIN (SELECT toUInt32(code) AS region, name FROM v_regions) AS places USING (region)
COMMENT 'activity by county, prefecture and province; region 0 = unknown'
