CREATE OR REPLACE VIEW v_parameters AS
SELECT
    brand, name, value, updated_at
FROM parameters FINAL
COMMENT 'knobs of marketing that beat the built-in defaults'
