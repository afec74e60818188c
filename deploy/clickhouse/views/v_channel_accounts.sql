-- SELECT * FROM v_channel_accounts(from_day = '2026-11-01', until_day = '2026-12-01'): the days from from_day to the one before until_day.
CREATE OR REPLACE VIEW v_channel_accounts AS
SELECT
    brand, account, scans, scans / nullIf(sum(scans) OVER (PARTITION BY brand), 0) AS share, visits, customers, new_customers, orders, net
FROM
(
    SELECT
        brand, toString(channel) AS account, sum(cells.scans) AS scans, sum(cells.visits) AS visits, sum(cells.new_customers) AS new_customers,
        sum(cells.orders) AS orders, sum(cells.paid) - sum(cells.refunded) AS net
    FROM activity_day AS cells FINAL
    WHERE day >= {from_day:Date} AND day < {until_day:Date}
    GROUP BY brand, account
) AS sums
LEFT JOIN
(
    SELECT brand, toString(channel) AS account, uniqExact(customer_id) AS customers
    FROM
    (
        SELECT brand, channel, customer_id, event_time FROM scans WHERE role = 'consumer'
        UNION ALL SELECT brand, channel, customer_id, event_time FROM purchases
        UNION ALL SELECT brand, channel, customer_id, event_time FROM share_events
    ) AS events
    INNER JOIN (SELECT brand, utc_offset_minutes FROM v_segment_parameters) AS zones USING (brand)
    WHERE event_time >= toDateTime64({from_day:Date}, 3, 'UTC') - toIntervalDay(1) AND event_time < toDateTime64({until_day:Date}, 3, 'UTC') + toIntervalDay(1)
        AND toDate(addMinutes(event_time, utc_offset_minutes)) >= {from_day:Date} AND toDate(addMinutes(event_time, utc_offset_minutes)) < {until_day:Date}
    GROUP BY brand, account
) AS people USING (brand, account)
COMMENT 'scans, share, customers and money by channel account, such as weibo:acct7'
