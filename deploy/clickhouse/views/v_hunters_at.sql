-- Who looks like a lottery hunter at a moment, and why: SELECT * FROM v_hunters_at(as_of = '2026-11-22 00:00:00'). Windows are business days
-- of the brand that end with the day of as_of. A list to review, never a verdict that acts. Distinct codes, devices and regions are not
-- changed by a row that the archive holds twice: no FINAL on it.
CREATE OR REPLACE VIEW v_hunters_at AS
WITH
    -- Keeps the archive's other partitions out of the query: the longest window of any brand, and a day of time zone on both sides.
    (SELECT toUInt32(max(hunter_days)) + 2 FROM v_segment_parameters) AS most_days,
    hunter_knobs AS
    (
        SELECT
            *,
            toDate(addMinutes({as_of:DateTime64(3, 'UTC')}, utc_offset_minutes)) AS as_of_day
        FROM v_segment_parameters
    ),
    recent AS
    (
        SELECT
            brand, customer_id, code, region, device, purpose = 'draw' AS is_draw, toUnixTimestamp64Milli(event_time) AS time_ms,
            toDate(addMinutes(event_time, hunter_knobs.utc_offset_minutes)) AS day
        FROM scans
        INNER JOIN hunter_knobs ON hunter_knobs.brand = scans.brand
        WHERE event_time > {as_of:DateTime64(3, 'UTC')} - toIntervalDay(most_days)
            AND event_time < {as_of:DateTime64(3, 'UTC')} + toIntervalDay(2)
            AND role = 'consumer' AND day <= hunter_knobs.as_of_day AND hunter_knobs.as_of_day - day < hunter_knobs.hunter_days
    ),
    -- A city is the first four digits of a region; a region that names a province alone is one where the day has none of its cities.
    days AS
    (
        SELECT
            brand, customer_id, day, uniqExact(code) AS codes,
            groupUniqArrayIf(intDiv(region, 100), region != 0) AS places,
            arrayCount(
                place -> place % 100 != 0 OR NOT arrayExists(other -> other != place AND intDiv(other, 100) = intDiv(place, 100), places),
                places) AS cities
        FROM recent
        GROUP BY brand, customer_id, day
    ),
    habits AS
    (
        SELECT brand, customer_id, max(codes) AS most_codes_a_day, max(cities) AS most_cities_a_day
        FROM days
        GROUP BY brand, customer_id
    ),
    journeys AS
    (
        SELECT brand, customer_id, uniqExactIf(region, region != 0) AS regions
        FROM recent
        GROUP BY brand, customer_id
    ),
    -- Most distinct codes within one window: a code counts from a scan on for the length of the window, or until it is scanned again.
    bursts AS
    (
        SELECT
            brand, customer_id,
            arraySort(groupUniqArray((code, time_ms))) AS holds,
            arrayMap(
                (here, next) -> if(next.1 = here.1, least(next.2, here.2 + any_window_ms), here.2 + any_window_ms),
                holds, arrayPopFront(arrayPushBack(holds, ('', toInt64(0))))) AS ends,
            any(window_ms) AS any_window_ms,
            arrayMax(arrayCumSum(arrayMap(step -> step.2, arraySort(arrayConcat(
                arrayMap(hold -> (hold.2, 1), holds), arrayMap(end -> (end, -1), ends)))))) AS most_codes_in_burst
        FROM recent
        INNER JOIN (SELECT brand, hunter_burst_codes, toInt64(hunter_burst_minutes * 60000) AS window_ms FROM hunter_knobs) AS windows USING (brand)
        INNER JOIN (SELECT brand, customer_id, most_codes_a_day FROM habits) AS habit USING (brand, customer_id)
        -- A burst of so many codes has at least half of them on one day.
        WHERE most_codes_a_day * 2 >= hunter_burst_codes
        GROUP BY brand, customer_id
    ),
    holders AS
    (
        SELECT brand, device, customer_id, max(is_draw) AS draws_with_it
        FROM recent
        WHERE device != ''
        GROUP BY brand, device, customer_id
    ),
    shared AS
    (
        SELECT brand, customer_id, max(users) AS device_customers, maxIf(drawers, draws_with_it) AS device_drawers
        FROM holders
        INNER JOIN (SELECT brand, device, count() AS users, countIf(draws_with_it) AS drawers FROM holders GROUP BY brand, device) AS devices
            USING (brand, device)
        WHERE users > 1
        GROUP BY brand, customer_id
    ),
    deeds AS
    (
        SELECT
            brand, customer_id,
            sumIf(facts.draws, hunter_knobs.as_of_day - day < hunter_knobs.hunter_days) AS draws_30d,
            sumIf(facts.scans + facts.shares, hunter_knobs.as_of_day - day < hunter_knobs.hunter_days) AS deeds_30d,
            sumIf(facts.orders, hunter_knobs.as_of_day - day < hunter_knobs.hunter_order_days) AS orders_90d
        FROM customer_days AS facts FINAL
        INNER JOIN hunter_knobs ON hunter_knobs.brand = facts.brand
        WHERE day <= hunter_knobs.as_of_day
            AND hunter_knobs.as_of_day - day < greatest(hunter_knobs.hunter_days, hunter_knobs.hunter_order_days)
        GROUP BY brand, customer_id
    )
SELECT
    brand, customer_id, {as_of:DateTime64(3, 'UTC')} AS as_of, draws_30d, orders_90d, if(deeds_30d = 0, NULL, draws_30d / deeds_30d) AS draw_share,
    regions, device_customers, device_drawers, most_codes_a_day, most_codes_in_burst, most_cities_a_day,
    arrayMap(sign -> sign.1, arrayFilter(sign -> sign.2, [
        ('draws_only', draws_30d >= hunter_draws AND orders_90d = 0 AND draws_30d >= hunter_draw_share * deeds_30d
            AND (regions > hunter_regions OR device_customers >= hunter_device_customers)),
        ('many_codes_a_day', most_codes_a_day > hunter_codes_a_day),
        ('many_codes_at_once', most_codes_in_burst >= hunter_burst_codes),
        ('shared_device', device_drawers >= hunter_device_customers),
        ('many_cities_a_day', most_cities_a_day >= hunter_cities_a_day)
    ])) AS reasons
FROM habits
INNER JOIN hunter_knobs USING (brand)
INNER JOIN journeys USING (brand, customer_id)
LEFT JOIN deeds USING (brand, customer_id)
LEFT JOIN bursts USING (brand, customer_id)
LEFT JOIN shared USING (brand, customer_id)
WHERE notEmpty(reasons)
SETTINGS optimize_and_compare_chain = 0
COMMENT 'customers who look like lottery hunters at as_of, with the reasons; to review'
