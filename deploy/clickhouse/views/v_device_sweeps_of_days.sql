-- What refreshes device_sweeps, recent_device_sweeps and newest_device_sweeps: SELECT * FROM v_device_sweeps_of_days(days = 2). Codes of scans by consumers in a
-- window in which their device scanned at least so many distinct codes of their batch (risk_sweep_codes, risk_sweep_minutes).
CREATE OR REPLACE VIEW v_device_sweeps_of_days AS
WITH
    (SELECT groupArray(knobs) FROM v_risk_knobs WHERE brand = '')[1] AS built_in,
    (SELECT groupArray(least_codes) FROM (SELECT min(knobs.sweep_codes) AS least_codes FROM v_risk_knobs))[1] AS least_codes,
    -- Rewritten rows are equal ones and change nothing here: no FINAL.
    looked_at AS
    (
        SELECT brand, batch, device, code, customer_id, event_time
        FROM scans
        WHERE role = 'consumer' AND device != '' AND batch != '' AND event_time > now64(3) - toIntervalSecond(toUInt32({days:Float64} * 86400))
    ),
    busy AS
    (
        SELECT
            looked_at.brand AS brand, looked_at.batch AS batch, looked_at.device AS device,
            uniqExact(looked_at.customer_id) AS customers,
            min(looked_at.event_time) AS first_scan,
            max(looked_at.event_time) AS last_scan,
            arraySort(groupUniqArray((looked_at.code, toUnixTimestamp64Milli(looked_at.event_time)))) AS holds
        FROM looked_at
        WHERE (brand, batch, device) IN (SELECT brand, batch, device FROM looked_at GROUP BY ALL HAVING count() >= least_codes)
        GROUP BY ALL
    ),
    -- A code counts from a scan on for the length of the window, or until it is scanned again.
    counted AS
    (
        SELECT
            busy.brand AS brand, batch, device, customers, first_scan, last_scan,
            if(own.brand = '', built_in, own.knobs) AS knobs,
            toInt64(knobs.sweep_minutes * 60000) AS window_ms,
            arrayMap(
                (here, next) -> if(next.1 = here.1, least(next.2, here.2 + window_ms), here.2 + window_ms),
                holds, arrayPopFront(arrayPushBack(holds, ('', toInt64(0))))) AS ends,
            arraySort(arrayConcat(
                arrayMap(hold -> (hold.2, 1, hold.1), holds),
                arrayMap(end -> (end, -1, ''), ends))) AS steps,
            arrayCumSum(arrayMap(step -> step.2, steps)) AS counts,
            -- The next moment, from each step on, at which the count is high; beyond all windows when there is none.
            arrayPopBack(arrayReverseFill(
                moment -> moment != 0,
                arrayPushBack(
                    arrayMap((step, count) -> if(count >= knobs.sweep_codes, step.1, 0), steps, counts),
                    toInt64(9223372036854775807)))) AS next_peaks
        FROM busy
        LEFT JOIN v_risk_knobs AS own ON own.brand = busy.brand
    )
SELECT
    brand,
    arrayJoin(arrayDistinct(arrayMap(
        pair -> pair.1.3,
        arrayFilter(pair -> pair.1.2 = 1 AND pair.2 - pair.1.1 < window_ms, arrayZip(steps, next_peaks))))) AS code,
    device, batch,
    toUInt64(arrayMax(counts)) AS codes,
    customers, first_scan, last_scan
FROM counted
COMMENT 'codes that a device swept through, from the scans of the last days'
