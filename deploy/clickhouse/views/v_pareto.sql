CREATE OR REPLACE VIEW v_pareto AS
SELECT brand, as_of, buyers, top_buyers, arraySum(arraySlice(nets, 1, top_buyers)) AS top_net, net, top_net / nullIf(net, 0) AS top_share
FROM
(
    SELECT
        brand, any(customer_segments.as_of) AS as_of, count() AS buyers, toUInt64(ceil(round(buyers * 0.2, 9))) AS top_buyers,
        arrayReverseSort(groupArray(net_365d)) AS nets, sum(net_365d) AS net
    FROM customer_segments
    WHERE orders_365d > 0
    GROUP BY brand
)
COMMENT 'what the best fifth of the buyers of 365 days is worth'
