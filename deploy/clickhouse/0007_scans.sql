-- The archive of scans: every accepted scan of every role once under FINAL. Sorted for the record of one code, which v_codes computes.
CREATE TABLE IF NOT EXISTS scans (
    brand       LowCardinality(String) COMMENT 'tenant',
    code        String                 COMMENT 'code of the item, verbatim' CODEC(ZSTD(1)),
    event_time  DateTime64(3, 'UTC')   COMMENT 'when it happened' CODEC(Delta(8), ZSTD(1)),
    event_id    String                 COMMENT 'unique within brand, customer and kind of event' CODEC(ZSTD(1)),
    customer_id String                 COMMENT 'who scanned' CODEC(ZSTD(1)),
    share_id    String                 COMMENT 'share through which the customer came in; empty = none' CODEC(ZSTD(1)),
    sharer_id   String                 COMMENT 'who made that share' CODEC(ZSTD(1)),
    gtin        String                 COMMENT 'fourteen digits from a GS1 Digital Link; empty = none' CODEC(ZSTD(1)),
    serial      String                 COMMENT 'serial number from a GS1 Digital Link; empty = none' CODEC(ZSTD(1)),
    sku         LowCardinality(String) COMMENT 'as sent, or from the Digital Link',
    batch       LowCardinality(String) COMMENT 'lot, as sent or from the Digital Link',
    campaign    LowCardinality(String) COMMENT 'campaign',
    region      UInt32                 COMMENT 'GB/T 2260, six digits; 0 = unknown',
    channel     LowCardinality(String) COMMENT 'where the scan came from',
    device      String                 COMMENT 'hashed device id' CODEC(ZSTD(1)),
    purpose     LowCardinality(String) COMMENT 'unspecified, verify, draw, points, follow or trace',
    role        LowCardinality(String) COMMENT 'consumer, retailer, guide, dealer or inspector',
    INDEX customer_id_index customer_id TYPE bloom_filter(0.01) GRANULARITY 1
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(event_time)
ORDER BY (brand, code, event_time, customer_id, event_id)
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, old_parts_lifetime = 480, min_bytes_for_wide_part = 67108864, non_replicated_deduplication_window = 0
COMMENT 'archive of scans; read v_scans'
