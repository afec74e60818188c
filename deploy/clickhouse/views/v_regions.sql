CREATE OR REPLACE VIEW v_regions AS
SELECT
    code, parent, level, name, longitude, latitude, point, status, edition
FROM regions FINAL
COMMENT 'division codes of China (GB/T 2260); the dictionary region serves the same'
