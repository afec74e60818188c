CREATE OR REPLACE VIEW v_shares AS
SELECT
    brand, sharer_id, share_id, parent_share_id, parent_sharer_id, time, campaign, sku, channel, region, rewarded, visits, visitors,
    new_customers, orders, paid, refunded, reshares
FROM shares FINAL
COMMENT 'one row a share; time 1970 = visited, but its own event was never seen'
