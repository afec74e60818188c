-- What changed from one refresh of customer_segments to the next, a row a customer and transition. v_segment_transitions answers the same for
-- any two moments.
CREATE OR REPLACE VIEW segment_transitions AS
SELECT
    brand, customer_id,
    arrayJoin(arrayFilter(kind -> kind != '', [
        if(from_lifecycle = '', 'new', ''),
        if(from_lifecycle = 'dormant' AND to_lifecycle = 'active', 'woken', ''),
        if(from_lifecycle = 'lost' AND to_lifecycle = 'active', 'won_back', ''),
        if(from_tier != '' AND indexOf(tiers, from_tier) < indexOf(tiers, to_tier), 'tier_up', ''),
        if(from_tier != '' AND indexOf(tiers, from_tier) > indexOf(tiers, to_tier), 'tier_down', '')
    ])) AS transition,
    from_as_of, to_as_of, from_lifecycle, to_lifecycle, from_tier, to_tier
FROM (SELECT *, ['none', 'silver', 'gold', 'platinum', 'diamond'] AS tiers FROM segment_states FINAL WHERE from_as_of != toDateTime64(0, 3, 'UTC'))
COMMENT 'new, woken, won_back, tier_up and tier_down between two refreshes of customer_segments'
