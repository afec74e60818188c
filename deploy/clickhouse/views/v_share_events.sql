CREATE OR REPLACE VIEW v_share_events AS
SELECT
    brand, customer_id, event_time, event_id, share_id, parent_share_id, parent_sharer_id, campaign, sku, region, channel, rewarded
FROM share_events FINAL
COMMENT 'every accepted share event once'
