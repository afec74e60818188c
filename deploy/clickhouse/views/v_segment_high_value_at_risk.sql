CREATE OR REPLACE VIEW v_segment_high_value_at_risk AS
SELECT
    brand, customer_id, as_of, sales_value, tier, lifecycle, inactive_days, last_purchase_day, spend_drop, p_alive, churn_band, ltv_potential, reasons
FROM customer_segments
WHERE has(flags, 'value_at_risk')
COMMENT 'members with a high sales value who are leaving; one row a customer, as of the last refresh of customer_segments'
