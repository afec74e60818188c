CREATE OR REPLACE VIEW v_device_sweeps AS
SELECT
    brand, code, device, batch, max(found.codes) AS codes, max(found.customers) AS customers, min(found.first_scan) AS first_scan,
    max(found.last_scan) AS last_scan
FROM (SELECT * FROM device_sweeps UNION ALL SELECT * FROM recent_device_sweeps UNION ALL SELECT * FROM newest_device_sweeps) AS found
GROUP BY brand, code, device, batch
COMMENT 'codes that a device swept through: many codes of one batch within an hour'
