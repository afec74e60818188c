-- What is in force: one row a brand that has customers, and parameter.
CREATE OR REPLACE VIEW v_brand_parameters AS
SELECT
    brands.brand AS brand, defaults.name AS name, if(own.is_own, own.value, defaults.value) AS value, own.is_own AS is_own,
    defaults.meaning AS meaning
FROM (SELECT DISTINCT brand FROM customer_days UNION DISTINCT SELECT DISTINCT brand FROM customers) AS brands
CROSS JOIN v_parameter_defaults AS defaults
LEFT JOIN (SELECT brand, toString(name) AS name, value, true AS is_own FROM parameters FINAL) AS own
    ON own.brand = brands.brand AND own.name = defaults.name
COMMENT 'parameters in force by brand: a row of parameters, else the default'
