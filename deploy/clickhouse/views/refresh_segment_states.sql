-- After every refresh of customer_segments: appends the customers whose lifecycle or tier is another than the one last written.
CREATE OR REPLACE MATERIALIZED VIEW refresh_segment_states
REFRESH DEPENDS ON customer_segments APPEND TO segment_states AS
SELECT
    brand, customer_id, before.as_of AS from_as_of, now.as_of AS to_as_of, known.lifecycle AS from_lifecycle, now.lifecycle AS to_lifecycle,
    known.tier AS from_tier, now.tier AS to_tier
FROM (SELECT brand, customer_id, as_of, lifecycle, tier FROM customer_segments) AS now
LEFT JOIN
(
    SELECT brand, customer_id, argMax(to_lifecycle, to_as_of) AS lifecycle, argMax(to_tier, to_as_of) AS tier
    FROM segment_states
    GROUP BY brand, customer_id
) AS known USING (brand, customer_id)
LEFT JOIN (SELECT brand, max(to_as_of) AS as_of FROM segment_states GROUP BY brand) AS before USING (brand)
WHERE known.lifecycle != now.lifecycle OR known.tier != now.tier
COMMENT 'fills segment_states after every refresh of customer_segments'
