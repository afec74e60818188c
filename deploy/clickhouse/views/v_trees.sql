-- Only levels that are kept count (limits.levels).
CREATE OR REPLACE VIEW v_trees AS
SELECT
    brand, customer_id, sumIf(trees.customers, level = 1) AS direct, sum(trees.customers) AS total, maxIf(level, trees.customers > 0) AS depth,
    sum(trees.orders) AS orders, sum(trees.paid) - sum(trees.refunded) AS net
FROM customer_subtrees AS trees FINAL
GROUP BY brand, customer_id
HAVING total > 0
COMMENT 'the tree below every customer who brought somebody: direct, total, depth and what it is worth'
