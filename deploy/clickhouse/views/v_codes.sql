-- The record of each code. scans, first_scan and last_scan are over all roles, the others over consumers; sku and batch are those of the
-- first scan by (time, customer, event id). A condition on (brand, code) reaches the primary key of scans.
CREATE OR REPLACE VIEW v_codes AS
SELECT
    brand, code,
    any(archive.gtin) AS gtin,
    any(archive.serial) AS serial,
    argMin(archive.sku, (event_time, customer_id, event_id)) AS sku,
    argMin(archive.batch, (event_time, customer_id, event_id)) AS batch,
    min(event_time) AS first_scan,
    argMinIf(customer_id, (event_time, customer_id, event_id), role = 'consumer') AS first_customer,
    max(event_time) AS last_scan,
    count() AS scans,
    uniqExactIf(customer_id, role = 'consumer') AS customers,
    uniqExactIf(region, role = 'consumer' AND region != 0) AS regions,
    uniqExactIf(device, role = 'consumer' AND device != '') AS devices
FROM scans AS archive FINAL
GROUP BY brand, code
COMMENT 'the record of each code: who scanned it, when and how often'
