-- The one definition of a customer's measures, for any moment: SELECT * FROM v_segments_at(as_of = '2026-11-22 00:00:00'). customer_segments
-- is this at the moment of its refresh. Everything is counted in business days of the brand, from day facts alone: events after the day of
-- as_of are not seen. What cannot be rewound: the referral forest is the present one and its months are whole, so that influence and
-- referral value of a past day include the rest of its month; parameters and manual picks are those in force now.
CREATE OR REPLACE VIEW v_segments_at AS
WITH
    segment_knobs AS
    (
        SELECT
            *,
            toDate(addMinutes({as_of:DateTime64(3, 'UTC')}, utc_offset_minutes)) AS as_of_day,
            toStartOfMonth(as_of_day) AS as_of_month
        FROM v_segment_parameters
    ),
    -- `age` 0 = the day of as_of: the last n days are age < n.
    aged_days AS
    (
        SELECT
            brand, customer_id, day, orders, scans, shares, joins, paid, paid - refunded AS net,
            least(segment_knobs.interaction_cap, toFloat64(scans + shares + visits)) AS interactions,
            segment_knobs.as_of_day - day AS age,
            age < segment_knobs.interaction_days AS is_interaction_day,
            age < segment_knobs.member_days AS is_member_day
        FROM customer_days FINAL
        INNER JOIN segment_knobs ON segment_knobs.brand = customer_days.brand
        WHERE day <= segment_knobs.as_of_day
    ),
    lives AS
    (
        SELECT
            brand,
            customer_id,
            min(day) AS first_day,
            max(day) AS last_active_day,
            count() AS active_days_lifetime,
            countIf(age < 30) AS active_days_30d,
            groupArray(toInt32(day)) AS active_day_list,
            maxIf(day, d.scans > 0) AS last_scan_day,
            maxIf(day, d.shares > 0) AS last_share_day,
            minIf(day, d.orders > 0) AS first_purchase_day,
            maxIf(day, d.orders > 0) AS last_purchase_day,
            countIf(d.orders > 0) AS purchase_days,
            countIf(d.orders > 0 AND age < 365) AS purchase_days_365d,
            sum(d.paid) AS paid_lifetime,
            argMinIf(d.paid, day, d.orders > 0) AS paid_first_purchase_day,
            sum(net) AS net_lifetime,
            sumIf(net, age < 365) AS net_365d,
            sumIf(net, age < 90) AS net_90d,
            sumIf(net, age < 30) AS net_30d,
            sumIf(net, age >= 30 AND age < 120) AS net_before_30d,
            sum(d.orders) AS orders_lifetime,
            sumIf(d.orders, age < 365) AS orders_365d,
            sumIf(d.orders, age < 90) AS orders_90d,
            sumIf(d.orders, age < 30) AS orders_30d,
            sumIf(d.scans, age < 30) AS scans_30d,
            sumIf(d.shares, age < 30) AS shares_30d,
            sumIf(interactions, is_interaction_day) AS interaction_frequency,
            countIf(d.orders > 0 AND is_member_day) > 0 AS has_ordered,
            countIf(d.joins > 0 AND is_member_day) > 0 AS has_joined
        FROM aged_days AS d
        GROUP BY brand, customer_id
    ),
    -- Terms are added in the order of their size, so that equal facts give equal bits.
    forests AS
    (
        SELECT
            brand,
            customer_id,
            arraySum(arraySort(groupArray(weight * (w_net * net / minor_units + w_new * customers)))) AS influence,
            sumIf(net, age_months < referral_months) AS ltv_referral
        FROM
        (
            SELECT
                brand, customer_id, customers, paid - refunded AS net, w_net, w_new, minor_units, referral_months,
                dateDiff('month', month, segment_knobs.as_of_month) AS age_months,
                pow(segment_knobs.gamma, level - 1) * exp2(-age_months / segment_knobs.half_life) AS weight
            FROM customer_subtrees FINAL
            INNER JOIN segment_knobs ON segment_knobs.brand = customer_subtrees.brand
            WHERE month <= segment_knobs.as_of_month AND level <= segment_knobs.influence_levels AND (customers > 0 OR paid != 0 OR refunded != 0)
        )
        GROUP BY brand, customer_id
    ),
    measured AS
    (
        SELECT
            *,
            influence * interaction_frequency AS wom_value,
            multiIf(member_rule = 2, true, member_rule = 1, has_ordered, has_ordered OR has_joined) AS member
        FROM lives
        INNER JOIN (SELECT brand, member_rule, quadrant_percentile, utc_offset_minutes FROM segment_knobs) AS rules USING (brand)
        LEFT JOIN forests USING (brand, customer_id)
    ),
    -- What a customer is compared with. A quantile is the value at position floor(level * n), counted from 0.
    brands AS
    (
        SELECT
            brand,
            countIf(member) AS members,
            arraySort(groupArrayIf(net_365d, member)) AS sales_values,
            arraySort(groupArrayIf(wom_value, member)) AS wom_values,
            least(members, toUInt64(floor(round(any(quadrant_percentile) * members, 9))) + 1) AS high_position,
            sales_values[high_position] AS high_sales,
            wom_values[high_position] AS high_wom,
            quantilesExactIf(0.2, 0.4, 0.6, 0.8)(toUInt16(last_purchase_day), purchase_days > 0) AS recency_lines,
            quantilesExactIf(0.2, 0.4, 0.6, 0.8)(purchase_days_365d, purchase_days > 0) AS frequency_lines,
            quantilesExactIf(0.2, 0.4, 0.6, 0.8)(net_365d, purchase_days > 0) AS monetary_lines
        FROM measured
        GROUP BY brand
    ),
    -- Of a past moment only the day of the last event is known, not its time.
    ranked AS
    (
        SELECT
            * EXCEPT (member_rule, quadrant_percentile, utc_offset_minutes, last_event_time),
            if(toDate(addMinutes(last_event_time, utc_offset_minutes)) = last_active_day, last_event_time, toDateTime64(last_active_day, 3, 'UTC')) AS last_time,
            row_number() OVER (PARTITION BY brand, member ORDER BY wom_value DESC, last_time DESC, customer_id ASC) AS position
        FROM measured
        LEFT JOIN (SELECT brand, customer_id, last_event_time FROM customers FINAL) AS people USING (brand, customer_id)
    ),
    picks AS
    (
        SELECT brand, customer_id, arraySort(groupArray(toString(source))) AS pick_sources
        FROM manual_picks FINAL
        WHERE until > {as_of:DateTime64(3, 'UTC')}
        GROUP BY brand, customer_id
    ),
    compared AS
    (
        SELECT *
        FROM ranked
        INNER JOIN segment_knobs USING (brand)
        INNER JOIN (SELECT brand, members, high_sales, high_wom, recency_lines, frequency_lines, monetary_lines FROM brands) AS lines USING (brand)
        LEFT JOIN picks USING (brand, customer_id)
    ),
    -- From here on each step only adds columns, and a step uses those of the steps before: the server would copy an alias wherever it is used.
    placed AS
    (
        SELECT
            *,
            if(member, position, 0) AS wom_rank,
            notEmpty(pick_sources) AS manual_pick,
            member AND wom_value > 0 AND position <= ceil(round(wom_top_share * members, 9)) AS wom_top_by_rank,
            multiIf(NOT member, 'none',
                position <= ceil(round(l1_share * members, 9)), 'L1',
                position <= ceil(round((l1_share + l2_share) * members, 9)), 'L2', 'L3') AS layer,
            if(net_365d >= high_sales, 'high', 'low') AS sales_side,
            if(wom_value >= high_wom, 'high', 'low') AS wom_side,
            multiIf(net_365d >= tier_diamond, 4, net_365d >= tier_platinum, 3, net_365d >= tier_gold, 2, net_365d >= tier_silver, 1, 0) AS tier_number,
            purchase_days > 0 AS is_buyer,
            arraySort(arrayPopFront(arrayDifference(arraySort(active_day_list)))) AS gaps,
            as_of_day - first_day AS known_days,
            greatest(last_purchase_day, last_scan_day) AS last_sign_day,
            if(last_sign_day = toDate(0), NULL, as_of_day - last_sign_day) AS inactive_days,
            if(net_before_30d > 0, net_30d / (net_before_30d / 3), NULL) AS spend_drop,
            toFloat64(purchase_days) - 1 AS repeats,
            (last_purchase_day - first_purchase_day) / 7 AS t_x,
            (as_of_day - first_purchase_day) / 7 AS t_all,
            ltv_days / 7 AS t_ahead
        FROM compared
    ),
    scored AS
    (
        SELECT
            *,
            ['none', 'silver', 'gold', 'platinum', 'diamond'][tier_number + 1] AS tier,
            ['silver', 'gold', 'platinum', 'diamond', ''][tier_number + 1] AS next_tier,
            [tier_silver, tier_gold, tier_platinum, tier_diamond, 0][tier_number + 1] AS next_line,
            if(is_buyer, 1 + arrayCount(line -> toUInt16(last_purchase_day) >= line, recency_lines), 0) AS rfm_r,
            if(is_buyer, 1 + arrayCount(line -> purchase_days_365d >= line, frequency_lines), 0) AS rfm_f,
            if(is_buyer, 1 + arrayCount(line -> net_365d >= line, monetary_lines), 0) AS rfm_m,
            if(length(gaps) >= lifecycle_min_gaps,
                (gaps[intDiv(length(gaps) + 1, 2)] + gaps[intDiv(length(gaps), 2) + 1]) / 2, lifecycle_default_gap) AS activity_interval_days,
            pow((alpha + t_all) / (alpha + t_x), r + repeats) AS silence,
            if(is_buyer, 1 / (1 + a / (b + repeats) * silence), NULL) AS p_alive,
            -- BG/NBD purchase days ahead: the hypergeometric series after Euler's transformation, which converges fast for frequent buyers.
            is_fitted AND is_buyer AS uses_fit,
            if(abs(a - 1) < 1e-6, 1.000001, a) AS drop_a,
            t_ahead / (alpha + t_all + t_ahead) AS z,
            arrayMap(k -> (drop_a + b - 1 - r + k) * (drop_a - 1 + k) * z / ((drop_a + b + repeats - 1 + k) * (k + 1)),
                range(if(uses_fit, 200, 0))) AS factors
        FROM placed
    ),
    judged AS
    (
        SELECT
            *,
            multiIf(
                inactive_days IS NULL, 'prospect',
                known_days <= lifecycle_new_days AND active_days_lifetime = 1, 'new',
                inactive_days <= greatest(lifecycle_active_days, lifecycle_active_gaps * activity_interval_days), 'active',
                inactive_days <= greatest(lifecycle_at_risk_days, lifecycle_at_risk_gaps * activity_interval_days), 'at_risk',
                inactive_days <= greatest(lifecycle_dormant_days, lifecycle_dormant_gaps * activity_interval_days), 'dormant',
                'lost') AS lifecycle,
            multiIf(p_alive IS NULL, 'none', p_alive < churn_high_p OR spend_drop < churn_spend_drop, 'high', p_alive >= churn_low_p, 'low', 'mid') AS churn_band,
            1 + arraySum(arrayMap((size, minuses) -> if(minuses % 2 = 1, -exp(size), exp(size)),
                arrayCumSum(arrayMap(factor -> log(abs(factor)), factors)), arrayCumSum(arrayMap(factor -> toUInt8(factor < 0), factors)))) AS series,
            (drop_a + b + repeats - 1) / (drop_a - 1) * (1 - pow(1 - z, drop_a - 1) * series)
                / (1 + if(repeats > 0, drop_a / (b + repeats - 1) * silence, 0)) AS expected_purchase_days,
            gg_p * (gg_v + paid_lifetime - paid_first_purchase_day) / (gg_p * repeats + gg_q - 1) AS expected_value,
            member AND sales_side = 'high' AND net_365d > 0 AS is_high_value
        FROM scored
    ),
    listed AS
    (
        SELECT
            *,
            arrayFilter(judgement -> judgement.2, [
                ('wom_top', wom_top_by_rank, concat('word of mouth: rank ', toString(wom_rank), ' of ', toString(members), ' members')),
                ('manual_pick', manual_pick, concat('picked by hand: ', arrayStringConcat(pick_sources, ', '))),
                ('value_at_risk', is_high_value AND (lifecycle IN ('at_risk', 'dormant', 'lost') OR churn_band = 'high'),
                    concat('high value at risk: ', lifecycle, ', churn ', churn_band)),
                ('dormant', lifecycle = 'dormant', concat('no payment or scan for ', toString(ifNull(inactive_days, 0)), ' days')),
                ('lost', lifecycle = 'lost', concat('no payment or scan for ', toString(ifNull(inactive_days, 0)), ' days')),
                ('new_not_returned', active_days_lifetime = 1 AND known_days BETWEEN not_returned_after_days AND not_returned_until_days,
                    concat('came once, ', toString(known_days), ' days ago')),
                ('diamond', tier = 'diamond', 'diamond'),
                ('near_next_tier', next_tier != '' AND net_365d > 0 AND next_line - net_365d <= near_tier_share * next_line, concat('near ', next_tier)),
                ('potential_sharer', member AND (active_days_30d >= potential_sharer_days OR is_high_value)
                    AND as_of_day - last_share_day >= potential_sharer_silent_days,
                    concat('heavy and silent: ', toString(active_days_30d), ' active days of 30, no share'))
            ]) AS hits
        FROM judged
    )
SELECT
    brand, customer_id, {as_of:DateTime64(3, 'UTC')} AS as_of, as_of_day, toUInt16(1) AS definition_version,
    first_day, last_active_day, last_scan_day, last_share_day, last_purchase_day,
    net_lifetime, net_365d, net_90d, net_30d, orders_lifetime, orders_365d, orders_90d, orders_30d,
    scans_30d, shares_30d, active_days_lifetime, active_days_30d,
    net_365d AS sales_value, influence, interaction_frequency, wom_value, member, wom_rank, wom_top_by_rank OR manual_pick AS wom_top, manual_pick,
    layer, layer IN ('L1', 'L2') AS community, concat(sales_side, '_', wom_side) AS quadrant,
    tier, next_tier, if(next_tier = '', 0, toInt64(next_line) - net_365d) AS gap_to_next_tier,
    if(is_buyer, as_of_day - last_purchase_day, NULL) AS recency_days, purchase_days_365d AS frequency_days, rfm_r, rfm_f, rfm_m,
    multiIf(
        NOT is_buyer, 'none',
        rfm_r >= 4 AND rfm_f >= 4 AND rfm_m >= 4, 'champion',
        rfm_r = 1 AND rfm_f >= 4 AND rfm_m >= 4, 'cannot_lose',
        rfm_r <= 2 AND rfm_f >= 3, 'at_risk',
        rfm_r >= 3 AND rfm_f >= 3, 'loyal',
        rfm_r >= 4 AND rfm_f = 2, 'potential_loyal',
        rfm_r >= 4 AND rfm_f = 1, 'new',
        rfm_r = 3 AND rfm_f = 2, 'need_attention',
        rfm_r = 3 AND rfm_f = 1, 'promising',
        rfm_r = 2, 'about_to_sleep',
        'lost') AS rfm_segment,
    activity_interval_days, inactive_days, lifecycle, spend_drop, p_alive, churn_band,
    net_lifetime AS ltv_history, net_365d AS ltv_present,
    multiIf(uses_fit, expected_purchase_days * expected_value,
        is_buyer AND orders_365d > 0, orders_365d * assumeNotNull(p_alive) * (net_365d / orders_365d), 0) AS ltv_potential,
    if(uses_fit, 'bgnbd_gamma_gamma', 'orders_p_alive') AS ltv_method, ltv_referral,
    arrayMap(hit -> hit.1, hits) AS flags, arrayMap(hit -> hit.3, hits) AS reasons
FROM listed
SETTINGS optimize_and_compare_chain = 0
COMMENT 'all measures of every customer at as_of; customer_segments is its newest result'
