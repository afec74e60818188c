-- Three hours, because what is older is found by refresh_recent_device_sweeps before it leaves this table, and a minute's work stays small.
CREATE OR REPLACE MATERIALIZED VIEW refresh_newest_device_sweeps
REFRESH EVERY 1 MINUTE TO newest_device_sweeps AS
SELECT brand, code, device, batch, codes, customers, first_scan, last_scan
FROM v_device_sweeps_of_days(days = 0.125)
COMMENT 'fills newest_device_sweeps every minute from the scans of the last three hours'
