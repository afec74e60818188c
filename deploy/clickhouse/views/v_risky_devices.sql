CREATE OR REPLACE VIEW v_risky_devices AS
SELECT
    brand, device, batch, count() AS swept_codes, max(sweeps.codes) AS codes_in_window, max(sweeps.customers) AS customers,
    min(sweeps.first_scan) AS first_scan, max(sweeps.last_scan) AS last_scan
FROM v_device_sweeps AS sweeps
GROUP BY brand, device, batch
COMMENT 'devices that swept through a batch'
