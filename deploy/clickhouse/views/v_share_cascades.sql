CREATE OR REPLACE VIEW v_share_cascades AS
SELECT
    brand, sharer_id, share_id, level, shares, visits, new_customers, orders, paid, refunded
FROM share_cascades FINAL
COMMENT 'a share (level 0) and what was passed on from it, by level'
