-- The TTL removes old rows when parts merge, which is some time later: the condition makes what readers see the same at any moment.
-- `onecode migrate` fills in the retention.
CREATE OR REPLACE VIEW v_activity_minute AS
SELECT
    brand, minute, campaign, channel, region,
    sum(cells.scans) AS scans, sum(cells.verifies) AS verifies, sum(cells.draws) AS draws, sum(cells.visits) AS visits,
    sum(cells.shares) AS shares, sum(cells.orders) AS orders, sum(cells.refunds) AS refunds, sum(cells.paid) AS paid,
    sum(cells.refunded) AS refunded, sum(cells.new_customers) AS new_customers, sum(cells.referred_customers) AS referred_customers
FROM activity_minute AS cells FINAL
WHERE minute > now() - toIntervalDay({minute_retention_days})
GROUP BY brand, minute, campaign, channel, region
COMMENT 'activity by minute; what is older than the retention is left out'
