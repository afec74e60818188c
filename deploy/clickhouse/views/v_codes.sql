-- The record of each code and what speaks against it: metrics.md, code risk. scans, first_scan and last_scan are over all roles, the
-- others and the risk over consumers; sku and batch are those of the first scan by (time, customer, event id). A condition on
-- (brand, code) reaches the primary keys of scans and device_sweeps. All is live, but for devices that sweep through a batch: those
-- take a refresh: a minute for scans of the last three hours, ten for two days, else the next night.
CREATE OR REPLACE VIEW v_codes AS
WITH
    (SELECT groupArray(knobs) FROM v_risk_knobs WHERE brand = '')[1] AS built_in,
    -- Not by the dictionary: its source logs in anew, and a code's risk must not hang on that.
    (SELECT groupArray(place.code) FROM v_regions AS place WHERE point != 'province') AS places,
    (SELECT groupArray(place.longitude) FROM v_regions AS place WHERE point != 'province') AS longitudes,
    (SELECT groupArray(place.latitude) FROM v_regions AS place WHERE point != 'province') AS latitudes,
    records AS
    (
        SELECT
            brand, code,
            any(archive.gtin) AS gtin,
            any(archive.serial) AS serial,
            argMin(archive.sku, (event_time, customer_id, event_id)) AS sku,
            argMin(archive.batch, (event_time, customer_id, event_id)) AS batch,
            min(event_time) AS first_scan,
            argMinIf(customer_id, (event_time, customer_id, event_id), role = 'consumer') AS first_customer,
            max(event_time) AS last_scan,
            count() AS scans,
            uniqExactIf(customer_id, role = 'consumer') AS customers,
            uniqExactIf(region, role = 'consumer' AND region != 0) AS regions,
            uniqExactIf(device, role = 'consumer' AND device != '') AS devices,
            groupArrayIf((toUnixTimestamp64Milli(event_time), customer_id, event_id, region), role = 'consumer') AS history
        FROM scans AS archive FINAL
        GROUP BY brand, code
    ),
    weighed AS
    (
        SELECT
            records.brand AS brand, records.code AS code, gtin, serial, sku, batch, first_scan, first_customer, last_scan, scans,
            customers, regions, devices, history,
            if(own.brand = '', built_in, own.knobs) AS knobs,
            sweeps.device != '' AS is_swept
        FROM records
        LEFT JOIN (SELECT brand, code, any(device) AS device FROM v_device_sweeps GROUP BY brand, code) AS sweeps
            ON sweeps.brand = records.brand AND sweeps.code = records.code
        LEFT JOIN v_risk_knobs AS own ON own.brand = records.brand
    ),
    judged AS
    (
        SELECT
            *,
            -- GS1: with the check digit, the digits times 3, 1, 3, 1... add up to a multiple of ten.
            match(gtin, '^[0-9]{14}$')
                AND arraySum(place -> toUInt8(substring(gtin, place, 1)) * if(place % 2 = 1, 3, 1), range(1, 15)) % 10 != 0 AS is_misprinted,
            -- A county that is not in the list stands where its prefecture does; what has no place says nothing of a journey.
            arraySort(arrayFilter(stop -> stop.4 != 0, arrayMap(
                scan -> (
                    scan.1, scan.2, scan.3,
                    transform(scan.4, places, longitudes, transform(intDiv(scan.4, 100) * 100, places, longitudes, 0.)),
                    transform(scan.4, places, latitudes, transform(intDiv(scan.4, 100) * 100, places, latitudes, 0.))),
                if(customers > 1, history, [])))) AS stops,
            arrayExists(
                (here, next) -> here.2 != next.2
                    AND geoDistance(here.4, here.5, next.4, next.5) > 1000 * knobs.travel_km
                    AND geoDistance(here.4, here.5, next.4, next.5) * 3600 > knobs.travel_kmh * (next.1 - here.1),
                arrayPopBack(stops), arrayPopFront(stops)) AS has_jumped,
            -- How many customers scanned within one window: each holds the code for its length from a scan on, or until they scan again.
            toInt64(knobs.burst_minutes * 60000) AS burst_ms,
            arraySort(arrayMap(scan -> (scan.2, scan.1), if(customers > knobs.burst_scans, history, []))) AS holds,
            arrayMap(
                (here, next) -> if(next.1 = here.1, least(next.2, here.2 + burst_ms), here.2 + burst_ms),
                holds, arrayPopFront(arrayPushBack(holds, ('', toInt64(0))))) AS ends,
            arrayMax(arrayCumSum(arrayMap(
                step -> step.2,
                arraySort(arrayConcat(arrayMap(hold -> (hold.2, 1), holds), arrayMap(end -> (end, -1), ends)))))) AS most_at_once,
            arrayFilter(risk -> risk.2 > 0, [
                ('many_customers', multiIf(
                    customers >= 6, knobs.customers_6, customers >= 4, knobs.customers_4,
                    customers = 3, knobs.customers_3, customers = 2, knobs.customers_2, 0)),
                ('impossible_travel', if(has_jumped, knobs.travel, 0)),
                ('scan_burst', if(most_at_once > knobs.burst_scans, knobs.burst, 0)),
                ('device_sweep', if(is_swept, knobs.sweep, 0)),
                ('bad_check_digit', if(is_misprinted, knobs.check_digit, 0))
            ]) AS risks
        FROM weighed
    )
SELECT
    brand, code, gtin, serial, sku, batch, first_scan, first_customer, last_scan, scans, customers, regions, devices,
    toUInt8(least(100, round(arraySum(risk -> risk.2, risks)))) AS risk_score,
    arrayMap(risk -> risk.1, risks) AS risk_reasons,
    multiIf(risk_score >= knobs.counterfeit, 'counterfeit', risk_score >= knobs.suspect, 'suspect', 'genuine') AS verdict
FROM judged
COMMENT 'the record of each code: who scanned it, when and how often, and what speaks against it'
