-- The knobs of code risk, one row a brand that sets any knob; the row of brand '' has the built-in values.
CREATE OR REPLACE VIEW v_risk_knobs AS
SELECT
    brand,
    tuple(
        anyIf(value, name = 'risk_customers_2'), anyIf(value, name = 'risk_customers_3'), anyIf(value, name = 'risk_customers_4'),
        anyIf(value, name = 'risk_customers_6'), anyIf(value, name = 'risk_travel'), anyIf(value, name = 'risk_travel_km'),
        anyIf(value, name = 'risk_travel_kmh'), anyIf(value, name = 'risk_burst'), anyIf(value, name = 'risk_burst_scans'),
        anyIf(value, name = 'risk_burst_minutes'), anyIf(value, name = 'risk_sweep'), anyIf(value, name = 'risk_sweep_codes'),
        anyIf(value, name = 'risk_sweep_minutes'), anyIf(value, name = 'risk_check_digit'), anyIf(value, name = 'risk_suspect'),
        anyIf(value, name = 'risk_counterfeit')
    )::Tuple(
        customers_2 Float64, customers_3 Float64, customers_4 Float64, customers_6 Float64, travel Float64, travel_km Float64,
        travel_kmh Float64, burst Float64, burst_scans Float64, burst_minutes Float64, sweep Float64, sweep_codes Float64,
        sweep_minutes Float64, check_digit Float64, suspect Float64, counterfeit Float64
    ) AS knobs
FROM (
    SELECT tenants.brand AS brand, built_in.name AS name, if(own.name = '', built_in.value, own.value) AS value
    FROM (SELECT brand FROM parameters GROUP BY brand UNION DISTINCT SELECT '') AS tenants
    CROSS JOIN v_parameter_defaults AS built_in
    LEFT JOIN parameters AS own FINAL ON own.brand = tenants.brand AND own.name = built_in.name
    WHERE startsWith(built_in.name, 'risk_')
)
GROUP BY brand
COMMENT 'knobs of code risk by brand; brand empty = the built-in values'
