CREATE OR REPLACE VIEW v_purchases AS
SELECT
    brand, customer_id, event_time, event_id, order_id, kind, amount, currency, `lines.sku`, `lines.quantity`, `lines.amount`,
    share_id, sharer_id, campaign, region, channel, store
FROM purchases FINAL
COMMENT 'every accepted payment and refund once'
