CREATE OR REPLACE MATERIALIZED VIEW refresh_risky_codes
REFRESH EVERY 1 HOUR TO risky_codes AS
SELECT
    brand, code, gtin, serial, sku, batch, first_scan, first_customer, last_scan, scans, customers, regions, devices, risk_score,
    risk_reasons, verdict, now64(3) AS as_of
FROM v_codes
WHERE verdict != 'genuine'
SETTINGS optimize_aggregation_in_order = 1
COMMENT 'fills risky_codes every hour'
