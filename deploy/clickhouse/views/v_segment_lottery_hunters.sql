CREATE OR REPLACE VIEW v_segment_lottery_hunters AS
SELECT
    brand, customer_id, as_of, draws_30d, orders_90d, draw_share, regions, device_customers, device_drawers, most_codes_a_day,
    most_codes_in_burst, most_cities_a_day, reasons
FROM lottery_hunters
COMMENT 'customers who look like lottery hunters, to review; one row a customer, as of the last refresh of lottery_hunters'
