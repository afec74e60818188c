CREATE OR REPLACE MATERIALIZED VIEW refresh_recent_device_sweeps
REFRESH EVERY 10 MINUTE TO recent_device_sweeps AS
SELECT brand, code, device, batch, codes, customers, first_scan, last_scan
FROM v_device_sweeps_of_days(days = 2)
COMMENT 'fills recent_device_sweeps every ten minutes from the scans of the last two days'
