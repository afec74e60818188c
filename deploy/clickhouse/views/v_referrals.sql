CREATE OR REPLACE VIEW v_referrals AS
SELECT
    brand, child_id, parent_id, share_id, time
FROM referrals FINAL
COMMENT 'who brought whom, one row a customer; parent_id empty = nobody'
