-- The codes that are not genuine, listed every hour (refresh_risky_codes): v_codes judges all of them anew and takes longer.
CREATE TABLE IF NOT EXISTS risky_codes (
    brand          LowCardinality(String)                COMMENT 'tenant',
    code           String                                COMMENT 'code of the item, verbatim',
    gtin           String                                COMMENT 'fourteen digits from a GS1 Digital Link; empty = none',
    serial         String                                COMMENT 'serial number from a GS1 Digital Link; empty = none',
    sku            LowCardinality(String)                COMMENT 'of the first scan',
    batch          LowCardinality(String)                COMMENT 'lot, of the first scan',
    first_scan     DateTime64(3, 'UTC')                  COMMENT 'first scan by anybody',
    first_customer String                                COMMENT 'first consumer who scanned it',
    last_scan      DateTime64(3, 'UTC')                  COMMENT 'last scan by anybody',
    scans          UInt64                                COMMENT 'scans by anybody',
    customers      UInt64                                COMMENT 'distinct consumers',
    regions        UInt64                                COMMENT 'distinct known regions of consumers',
    devices        UInt64                                COMMENT 'distinct known devices of consumers',
    risk_score     UInt8                                 COMMENT '0 to 100',
    risk_reasons   Array(String)                         COMMENT 'what speaks against it: many_customers, impossible_travel, scan_burst, device_sweep, bad_check_digit',
    verdict        LowCardinality(String)                COMMENT 'suspect or counterfeit',
    as_of          DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'when it was listed'
)
ENGINE = MergeTree
ORDER BY (brand, risk_score, code)
COMMENT 'codes that are not genuine, listed hourly; read v_risky_codes'
