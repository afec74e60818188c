CREATE OR REPLACE VIEW v_funnel AS
SELECT
    brand, any(as_of) AS as_of, countIf(has_scanned) AS scanned, countIf(has_scanned AND member) AS members,
    countIf(has_scanned AND member AND has_shared) AS sharers, members / nullIf(scanned, 0) AS member_rate, sharers / nullIf(members, 0) AS sharer_rate
FROM (SELECT *, last_scan_day != toDate(0) AS has_scanned, last_share_day != toDate(0) AS has_shared FROM customer_segments)
GROUP BY brand
COMMENT 'from scan to member to sharer: customers who did all up to there, and the rates'
