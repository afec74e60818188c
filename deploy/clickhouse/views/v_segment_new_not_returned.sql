CREATE OR REPLACE VIEW v_segment_new_not_returned AS
SELECT
    brand, customer_id, as_of, first_day, as_of_day - first_day AS days_since, orders_lifetime, net_lifetime, member, reasons
FROM customer_segments
WHERE has(flags, 'new_not_returned')
COMMENT 'customers who came once and not again; one row a customer, as of the last refresh of customer_segments'
