CREATE OR REPLACE VIEW v_risky_codes AS
SELECT
    brand, code, gtin, serial, sku, batch, first_scan, first_customer, last_scan, scans, customers, regions, devices, risk_score,
    risk_reasons, verdict, as_of
FROM risky_codes
COMMENT 'codes that are not genuine, as of the last hour; v_codes is live'
