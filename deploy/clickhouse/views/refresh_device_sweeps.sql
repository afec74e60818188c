CREATE OR REPLACE MATERIALIZED VIEW refresh_device_sweeps
REFRESH EVERY 1 DAY OFFSET 3 HOUR TO device_sweeps AS
SELECT brand, code, device, batch, codes, customers, first_scan, last_scan
FROM v_device_sweeps_of_days(days = 20000)
COMMENT 'fills device_sweeps every day from the whole archive'
