-- As device_sweeps, from the scans of the last three hours: found every minute (refresh_newest_device_sweeps), so that a sweep shows while it goes on.
CREATE TABLE IF NOT EXISTS newest_device_sweeps (
    brand      LowCardinality(String) COMMENT 'tenant',
    code       String                 COMMENT 'code of the item, verbatim',
    device     String                 COMMENT 'hashed device id',
    batch      LowCardinality(String) COMMENT 'lot',
    codes      UInt64                 COMMENT 'most distinct codes of the batch that the device scanned within one window',
    customers  UInt64                 COMMENT 'distinct consumers who scanned codes of the batch with the device',
    first_scan DateTime64(3, 'UTC')   COMMENT 'first scan of the batch by the device, among those looked at',
    last_scan  DateTime64(3, 'UTC')   COMMENT 'last scan of the batch by the device'
)
ENGINE = MergeTree
ORDER BY (brand, code)
COMMENT 'codes that a device swept through, of the last three hours, found every minute; read v_device_sweeps'
