CREATE OR REPLACE VIEW v_activity_day AS
SELECT
    brand, day, campaign, sku, channel, region,
    sum(cells.scans) AS scans, sum(cells.verifies) AS verifies, sum(cells.draws) AS draws, sum(cells.visits) AS visits,
    sum(cells.shares) AS shares, sum(cells.orders) AS orders, sum(cells.refunds) AS refunds, sum(cells.paid) AS paid,
    sum(cells.refunded) AS refunded, sum(cells.new_customers) AS new_customers, sum(cells.referred_customers) AS referred_customers
FROM activity_day AS cells FINAL
GROUP BY brand, day, campaign, sku, channel, region
COMMENT 'activity by day of the calendar of the brand'
