-- Of all scans, by channel and by channel account: SELECT * FROM v_channel_concentration(from_day = '2026-11-01', until_day = '2026-12-01').
CREATE OR REPLACE VIEW v_channel_concentration AS
SELECT brand, 'channel' AS level, count() AS channels, sum(channels.scans) AS scans, max(share) AS top1_share, sum(share * share) AS hhi
FROM v_channels(from_day = {from_day:Date}, until_day = {until_day:Date}) AS channels
GROUP BY brand
UNION ALL
SELECT brand, 'account' AS level, count() AS channels, sum(accounts.scans) AS scans, max(share) AS top1_share, sum(share * share) AS hhi
FROM v_channel_accounts(from_day = {from_day:Date}, until_day = {until_day:Date}) AS accounts
GROUP BY brand
COMMENT 'how much depends on one channel: share of the first, and sum of the squared shares (HHI); NULL without scans'
