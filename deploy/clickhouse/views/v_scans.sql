CREATE OR REPLACE VIEW v_scans AS
SELECT
    brand, code, event_time, event_id, customer_id, share_id, sharer_id, gtin, serial, sku, batch, campaign, region, channel,
    device, purpose, role
FROM scans FINAL
COMMENT 'every accepted scan once'
