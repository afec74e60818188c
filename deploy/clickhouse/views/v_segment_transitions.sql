-- The same for any two moments, from day facts alone: SELECT * FROM v_segment_transitions(from_as_of = '2026-10-01 00:00:00', to_as_of =
-- '2026-11-01 00:00:00'). Pure: late events and refunds are in it.
CREATE OR REPLACE VIEW v_segment_transitions AS
SELECT
    brand, customer_id,
    arrayJoin(arrayFilter(kind -> kind != '', [
        if(from_lifecycle = '', 'new', ''),
        if(from_lifecycle = 'dormant' AND to_lifecycle = 'active', 'woken', ''),
        if(from_lifecycle = 'lost' AND to_lifecycle = 'active', 'won_back', ''),
        if(from_tier != '' AND indexOf(tiers, from_tier) < indexOf(tiers, to_tier), 'tier_up', ''),
        if(from_tier != '' AND indexOf(tiers, from_tier) > indexOf(tiers, to_tier), 'tier_down', '')
    ])) AS transition,
    {from_as_of:DateTime64(3, 'UTC')} AS from_as_of, {to_as_of:DateTime64(3, 'UTC')} AS to_as_of, from_lifecycle, to_lifecycle, from_tier, to_tier
FROM
(
    SELECT
        brand, customer_id, ['none', 'silver', 'gold', 'platinum', 'diamond'] AS tiers, before.lifecycle AS from_lifecycle,
        after.lifecycle AS to_lifecycle, before.tier AS from_tier, after.tier AS to_tier
    FROM (SELECT brand, customer_id, lifecycle, tier FROM v_segments_at(as_of = {to_as_of:DateTime64(3, 'UTC')})) AS after
    LEFT JOIN (SELECT brand, customer_id, lifecycle, tier FROM v_segments_at(as_of = {from_as_of:DateTime64(3, 'UTC')})) AS before
        USING (brand, customer_id)
)
COMMENT 'new, woken, won_back, tier_up and tier_down between two moments'
