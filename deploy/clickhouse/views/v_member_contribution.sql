CREATE OR REPLACE VIEW v_member_contribution AS
SELECT
    brand, month, any(all_members) AS members, uniqExactIf(customer_id, days.orders > 0) AS buying_members, sum(days.paid) - sum(days.refunded) AS net,
    net / nullIf(buying_members, 0) AS net_a_buying_member, net / nullIf(members, 0) AS net_a_member
FROM (SELECT brand, customer_id, toStartOfMonth(day) AS month, orders, paid, refunded FROM customer_days FINAL) AS days
INNER JOIN (SELECT brand, customer_id FROM customer_segments WHERE member) AS people USING (brand, customer_id)
INNER JOIN (SELECT brand, countIf(member) AS all_members FROM customer_segments GROUP BY brand) AS counts USING (brand)
GROUP BY brand, month
COMMENT 'net of the present members by month, over those who bought in it and over all'
