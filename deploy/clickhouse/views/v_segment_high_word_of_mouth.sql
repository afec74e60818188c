CREATE OR REPLACE VIEW v_segment_high_word_of_mouth AS
SELECT
    brand, customer_id, as_of, wom_rank, wom_value, influence, interaction_frequency, manual_pick, layer, quadrant, tier, lifecycle, ltv_referral, reasons
FROM customer_segments
WHERE wom_top
COMMENT 'who brings others: the top of the members by word-of-mouth value, and those picked by hand; one row a customer, as of the last refresh of customer_segments'
