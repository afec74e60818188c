-- ClickHouse's own Kafka engine with materialized views: the counters of `customers` and `customer_days`, the cells of `activity_minute`
-- and `activity_day`, and the archive, as onecode writes them. Rows are grouped within each block that was read, and summed by merges.
-- Not here: exactness (a repeat counts twice, and so does a block after a crash), new customers in cells, the calendar.
-- A statement ends with a semicolon at the end of a line. {database}, {brokers}, {schema} are filled in; the parts ARCHIVE and EDGES may be left out.
CREATE DATABASE {database};

CREATE TABLE {database}.customers (
    brand LowCardinality(String), customer_id String CODEC(ZSTD(1)),
    first_event_time SimpleAggregateFunction(min, DateTime64(3, 'UTC')), last_event_time SimpleAggregateFunction(max, DateTime64(3, 'UTC')),
    last_scan_time SimpleAggregateFunction(max, DateTime64(3, 'UTC')), last_purchase_time SimpleAggregateFunction(max, DateTime64(3, 'UTC')),
    last_share_time SimpleAggregateFunction(max, DateTime64(3, 'UTC')),
    scans SimpleAggregateFunction(sum, UInt64), verifies SimpleAggregateFunction(sum, UInt64), draws SimpleAggregateFunction(sum, UInt64),
    joins SimpleAggregateFunction(sum, UInt64), visits SimpleAggregateFunction(sum, UInt64), shares SimpleAggregateFunction(sum, UInt64),
    orders SimpleAggregateFunction(sum, UInt64), refunds SimpleAggregateFunction(sum, UInt64), paid SimpleAggregateFunction(sum, Int64),
    refunded SimpleAggregateFunction(sum, Int64)
) ENGINE = AggregatingMergeTree ORDER BY (brand, customer_id) SETTINGS min_bytes_for_wide_part = 67108864;

CREATE TABLE {database}.customer_days (
    brand LowCardinality(String), customer_id String CODEC(ZSTD(1)), day Date,
    scans UInt32, draws UInt32, joins UInt32, visits UInt32, shares UInt32, orders UInt32, refunds UInt32, paid Int64, refunded Int64
) ENGINE = SummingMergeTree PARTITION BY toYYYYMM(day) ORDER BY (brand, customer_id, day) SETTINGS min_bytes_for_wide_part = 67108864;

CREATE TABLE {database}.activity_minute (
    brand LowCardinality(String), minute DateTime('UTC') CODEC(Delta(4), ZSTD(1)), campaign LowCardinality(String), channel LowCardinality(String), region UInt32,
    scans UInt64, verifies UInt64, draws UInt64, visits UInt64, shares UInt64, orders UInt64, refunds UInt64, paid Int64, refunded Int64
) ENGINE = SummingMergeTree PARTITION BY toYYYYMM(minute) ORDER BY (brand, minute, campaign, channel, region) SETTINGS min_bytes_for_wide_part = 67108864;

CREATE TABLE {database}.activity_day (
    brand LowCardinality(String), day Date, campaign LowCardinality(String), sku LowCardinality(String), channel LowCardinality(String), region UInt32,
    scans UInt64, verifies UInt64, draws UInt64, visits UInt64, shares UInt64, orders UInt64, refunds UInt64, paid Int64, refunded Int64
) ENGINE = SummingMergeTree PARTITION BY toYYYYMM(day) ORDER BY (brand, day, campaign, sku, channel, region) SETTINGS min_bytes_for_wide_part = 67108864;

CREATE TABLE {database}.scans_queue (
    event_id String, brand String, customer_id String, event_time_ms Int64, `via.share_id` String, `via.sharer_id` String,
    code String, sku String, batch String, campaign String, region UInt32, channel String, device String, purpose Int32, role Int32
) ENGINE = Kafka SETTINGS kafka_broker_list = '{brokers}', kafka_topic_list = 'scans', kafka_group_name = '{database}',
    kafka_format = 'ProtobufSingle', kafka_schema = '{schema}:Scan', kafka_num_consumers = 1, kafka_max_block_size = 200000, kafka_flush_interval_ms = 5000;

CREATE TABLE {database}.purchases_queue (
    event_id String, brand String, customer_id String, event_time_ms Int64, `via.share_id` String, `via.sharer_id` String,
    order_id String, kind Int32, amount Int64, currency String, `lines.sku` Array(String), `lines.quantity` Array(UInt32), `lines.amount` Array(Int64),
    campaign String, region UInt32, channel String, store String
) ENGINE = Kafka SETTINGS kafka_broker_list = '{brokers}', kafka_topic_list = 'purchases', kafka_group_name = '{database}',
    kafka_format = 'ProtobufSingle', kafka_schema = '{schema}:Purchase', kafka_num_consumers = 1, kafka_max_block_size = 200000, kafka_flush_interval_ms = 5000;

CREATE TABLE {database}.shares_queue (
    event_id String, brand String, customer_id String, event_time_ms Int64, `via.share_id` String, `via.sharer_id` String,
    share_id String, campaign String, sku String, region UInt32, channel String, rewarded Bool
) ENGINE = Kafka SETTINGS kafka_broker_list = '{brokers}', kafka_topic_list = 'shares', kafka_group_name = '{database}',
    kafka_format = 'ProtobufSingle', kafka_schema = '{schema}:Share', kafka_num_consumers = 1, kafka_max_block_size = 200000, kafka_flush_interval_ms = 5000;

-- ARCHIVE

CREATE TABLE {database}.scans (
    brand LowCardinality(String), code String CODEC(ZSTD(1)), event_time DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)), event_id String CODEC(ZSTD(1)),
    customer_id String CODEC(ZSTD(1)), share_id String CODEC(ZSTD(1)), sharer_id String CODEC(ZSTD(1)), sku LowCardinality(String), batch LowCardinality(String),
    campaign LowCardinality(String), region UInt32, channel LowCardinality(String), device String CODEC(ZSTD(1)), purpose UInt8, role UInt8
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(event_time) ORDER BY (brand, code, event_time, customer_id, event_id)
SETTINGS min_bytes_for_wide_part = 67108864;

CREATE TABLE {database}.purchases (
    brand LowCardinality(String), customer_id String CODEC(ZSTD(1)), event_time DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)), event_id String CODEC(ZSTD(1)),
    order_id String CODEC(ZSTD(1)), kind UInt8, amount Int64, currency LowCardinality(String), `lines.sku` Array(String) CODEC(ZSTD(1)),
    `lines.quantity` Array(UInt32), `lines.amount` Array(Int64), share_id String CODEC(ZSTD(1)), sharer_id String CODEC(ZSTD(1)),
    campaign LowCardinality(String), region UInt32, channel LowCardinality(String), store LowCardinality(String)
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(event_time) ORDER BY (brand, customer_id, event_time, event_id)
SETTINGS min_bytes_for_wide_part = 67108864;

CREATE TABLE {database}.share_events (
    brand LowCardinality(String), customer_id String CODEC(ZSTD(1)), event_time DateTime64(3, 'UTC') CODEC(Delta(8), ZSTD(1)), event_id String CODEC(ZSTD(1)),
    share_id String CODEC(ZSTD(1)), parent_share_id String CODEC(ZSTD(1)), parent_sharer_id String CODEC(ZSTD(1)), campaign LowCardinality(String),
    sku LowCardinality(String), region UInt32, channel LowCardinality(String), rewarded Bool
) ENGINE = ReplacingMergeTree PARTITION BY toYYYYMM(event_time) ORDER BY (brand, customer_id, event_time, event_id)
SETTINGS min_bytes_for_wide_part = 67108864;

CREATE MATERIALIZED VIEW {database}.scans_archive TO {database}.scans AS
SELECT brand, code, fromUnixTimestamp64Milli(event_time_ms, 'UTC') AS event_time, event_id, customer_id, via.share_id AS share_id, via.sharer_id AS sharer_id,
    sku, batch, campaign, region, channel, device, purpose, role
FROM {database}.scans_queue;

CREATE MATERIALIZED VIEW {database}.purchases_archive TO {database}.purchases AS
SELECT brand, customer_id, fromUnixTimestamp64Milli(event_time_ms, 'UTC') AS event_time, event_id, order_id, kind, amount, currency,
    lines.sku, lines.quantity, lines.amount, via.share_id AS share_id, via.sharer_id AS sharer_id, campaign, region, channel, store
FROM {database}.purchases_queue;

CREATE MATERIALIZED VIEW {database}.shares_archive TO {database}.share_events AS
SELECT brand, customer_id, fromUnixTimestamp64Milli(event_time_ms, 'UTC') AS event_time, event_id, share_id, via.share_id AS parent_share_id,
    via.sharer_id AS parent_sharer_id, campaign, sku, region, channel, rewarded
FROM {database}.shares_queue;

-- COUNTERS AND CELLS

CREATE MATERIALIZED VIEW {database}.scans_customers TO {database}.customers AS
SELECT brand, customer_id, fromUnixTimestamp64Milli(min(event_time_ms), 'UTC') AS first_event_time, fromUnixTimestamp64Milli(max(event_time_ms), 'UTC') AS last_event_time,
    last_event_time AS last_scan_time, count() AS scans, countIf(purpose = 1) AS verifies, countIf(purpose = 2) AS draws, countIf(purpose IN (3, 4)) AS joins,
    countIf(via.share_id != '' AND via.sharer_id != customer_id) AS visits
FROM {database}.scans_queue WHERE role = 0 GROUP BY brand, customer_id;

CREATE MATERIALIZED VIEW {database}.purchases_customers TO {database}.customers AS
SELECT brand, customer_id, fromUnixTimestamp64Milli(min(event_time_ms), 'UTC') AS first_event_time, fromUnixTimestamp64Milli(max(event_time_ms), 'UTC') AS last_event_time,
    fromUnixTimestamp64Milli(maxIf(event_time_ms, kind = 1), 'UTC') AS last_purchase_time, countIf(kind = 1) AS orders, countIf(kind = 2) AS refunds,
    sumIf(amount, kind = 1) AS paid, sumIf(amount, kind = 2) AS refunded
FROM {database}.purchases_queue GROUP BY brand, customer_id;

CREATE MATERIALIZED VIEW {database}.shares_customers TO {database}.customers AS
SELECT brand, customer_id, fromUnixTimestamp64Milli(min(event_time_ms), 'UTC') AS first_event_time, fromUnixTimestamp64Milli(max(event_time_ms), 'UTC') AS last_event_time,
    last_event_time AS last_share_time, count() AS shares
FROM {database}.shares_queue GROUP BY brand, customer_id;

CREATE MATERIALIZED VIEW {database}.scans_customer_days TO {database}.customer_days AS
SELECT brand, customer_id, toDate(fromUnixTimestamp64Milli(event_time_ms, 'Asia/Shanghai')) AS day, count() AS scans, countIf(purpose = 2) AS draws,
    countIf(purpose IN (3, 4)) AS joins, countIf(via.share_id != '' AND via.sharer_id != customer_id) AS visits
FROM {database}.scans_queue WHERE role = 0 GROUP BY brand, customer_id, day;

CREATE MATERIALIZED VIEW {database}.purchases_customer_days TO {database}.customer_days AS
SELECT brand, customer_id, toDate(fromUnixTimestamp64Milli(event_time_ms, 'Asia/Shanghai')) AS day, countIf(kind = 1) AS orders, countIf(kind = 2) AS refunds,
    sumIf(amount, kind = 1) AS paid, sumIf(amount, kind = 2) AS refunded
FROM {database}.purchases_queue GROUP BY brand, customer_id, day;

CREATE MATERIALIZED VIEW {database}.shares_customer_days TO {database}.customer_days AS
SELECT brand, customer_id, toDate(fromUnixTimestamp64Milli(event_time_ms, 'Asia/Shanghai')) AS day, count() AS shares
FROM {database}.shares_queue GROUP BY brand, customer_id, day;

CREATE MATERIALIZED VIEW {database}.scans_minute TO {database}.activity_minute AS
SELECT brand, toStartOfMinute(fromUnixTimestamp64Milli(event_time_ms, 'UTC')) AS minute, campaign, channel, intDiv(region, 10000) * 10000 AS region, count() AS scans,
    countIf(purpose = 1) AS verifies, countIf(purpose = 2) AS draws, countIf(via.share_id != '' AND via.sharer_id != customer_id) AS visits
FROM {database}.scans_queue WHERE role = 0 GROUP BY brand, minute, campaign, channel, region;

CREATE MATERIALIZED VIEW {database}.purchases_minute TO {database}.activity_minute AS
SELECT brand, toStartOfMinute(fromUnixTimestamp64Milli(event_time_ms, 'UTC')) AS minute, campaign, channel, intDiv(region, 10000) * 10000 AS region,
    countIf(kind = 1) AS orders, countIf(kind = 2) AS refunds, sumIf(amount, kind = 1) AS paid, sumIf(amount, kind = 2) AS refunded
FROM {database}.purchases_queue GROUP BY brand, minute, campaign, channel, region;

CREATE MATERIALIZED VIEW {database}.shares_minute TO {database}.activity_minute AS
SELECT brand, toStartOfMinute(fromUnixTimestamp64Milli(event_time_ms, 'UTC')) AS minute, campaign, channel, intDiv(region, 10000) * 10000 AS region, count() AS shares
FROM {database}.shares_queue GROUP BY brand, minute, campaign, channel, region;

CREATE MATERIALIZED VIEW {database}.scans_day TO {database}.activity_day AS
SELECT brand, toDate(fromUnixTimestamp64Milli(event_time_ms, 'Asia/Shanghai')) AS day, campaign, sku, channel, region, count() AS scans,
    countIf(purpose = 1) AS verifies, countIf(purpose = 2) AS draws, countIf(via.share_id != '' AND via.sharer_id != customer_id) AS visits
FROM {database}.scans_queue WHERE role = 0 GROUP BY brand, day, campaign, sku, channel, region;

CREATE MATERIALIZED VIEW {database}.purchases_day TO {database}.activity_day AS
SELECT brand, toDate(fromUnixTimestamp64Milli(event_time_ms, 'Asia/Shanghai')) AS day, campaign, '' AS sku, channel, region,
    countIf(kind = 1) AS orders, countIf(kind = 2) AS refunds, sumIf(amount, kind = 1) AS paid, sumIf(amount, kind = 2) AS refunded
FROM {database}.purchases_queue GROUP BY brand, day, campaign, sku, channel, region;

CREATE MATERIALIZED VIEW {database}.shares_day TO {database}.activity_day AS
SELECT brand, toDate(fromUnixTimestamp64Milli(event_time_ms, 'Asia/Shanghai')) AS day, campaign, sku, channel, region, count() AS shares
FROM {database}.shares_queue GROUP BY brand, day, campaign, sku, channel, region;

-- EDGES

-- Who brought whom (by a customer's first event), what each share brought, and what each customer's shares brought. No chain further than one step.
CREATE TABLE {database}.referrals (
    brand LowCardinality(String), child_id String CODEC(ZSTD(1)),
    parent AggregateFunction(argMin, Tuple(sharer_id String, share_id String), Tuple(event_time_ms Int64, event_id String))
) ENGINE = AggregatingMergeTree ORDER BY (brand, child_id) SETTINGS min_bytes_for_wide_part = 67108864;

CREATE TABLE {database}.shares (
    brand LowCardinality(String), sharer_id String CODEC(ZSTD(1)), share_id String CODEC(ZSTD(1)),
    event AggregateFunction(argMin, Tuple(parent_share_id String, parent_sharer_id String, campaign String, sku String, channel String, region UInt32, rewarded Bool, event_time_ms Int64),
        Tuple(event_time_ms Int64, event_id String)),
    visits SimpleAggregateFunction(sum, UInt64), visitors AggregateFunction(uniqExact, String), orders SimpleAggregateFunction(sum, UInt64),
    paid SimpleAggregateFunction(sum, Int64), refunded SimpleAggregateFunction(sum, Int64), reshares SimpleAggregateFunction(sum, UInt64)
) ENGINE = AggregatingMergeTree ORDER BY (brand, sharer_id, share_id) SETTINGS min_bytes_for_wide_part = 67108864;

CREATE TABLE {database}.sharers (
    brand LowCardinality(String), customer_id String CODEC(ZSTD(1)),
    share_visits UInt64, share_orders UInt64, share_paid Int64, share_refunded Int64, reshares UInt64
) ENGINE = SummingMergeTree ORDER BY (brand, customer_id) SETTINGS min_bytes_for_wide_part = 67108864;

CREATE MATERIALIZED VIEW {database}.scans_referrals TO {database}.referrals AS
SELECT brand, customer_id AS child_id, argMinState((via.sharer_id, via.share_id), (event_time_ms, event_id)) AS parent
FROM {database}.scans_queue WHERE role = 0 GROUP BY brand, child_id;

CREATE MATERIALIZED VIEW {database}.purchases_referrals TO {database}.referrals AS
SELECT brand, customer_id AS child_id, argMinState((via.sharer_id, via.share_id), (event_time_ms, event_id)) AS parent
FROM {database}.purchases_queue GROUP BY brand, child_id;

CREATE MATERIALIZED VIEW {database}.shares_referrals TO {database}.referrals AS
SELECT brand, customer_id AS child_id, argMinState((via.sharer_id, via.share_id), (event_time_ms, event_id)) AS parent
FROM {database}.shares_queue GROUP BY brand, child_id;

CREATE MATERIALIZED VIEW {database}.shares_own TO {database}.shares AS
SELECT brand, customer_id AS sharer_id, share_id,
    argMinState((via.share_id, via.sharer_id, campaign, sku, channel, region, rewarded, event_time_ms), (event_time_ms, event_id)) AS event
FROM {database}.shares_queue GROUP BY brand, sharer_id, share_id;

CREATE MATERIALIZED VIEW {database}.scans_shares TO {database}.shares AS
SELECT brand, via.sharer_id AS sharer_id, via.share_id AS share_id, count() AS visits, uniqExactState(customer_id) AS visitors
FROM {database}.scans_queue WHERE role = 0 AND via.share_id != '' AND via.sharer_id != customer_id GROUP BY brand, sharer_id, share_id;

CREATE MATERIALIZED VIEW {database}.purchases_shares TO {database}.shares AS
SELECT brand, via.sharer_id AS sharer_id, via.share_id AS share_id, uniqExactState(customer_id) AS visitors, countIf(kind = 1) AS orders,
    sumIf(amount, kind = 1) AS paid, sumIf(amount, kind = 2) AS refunded
FROM {database}.purchases_queue WHERE via.share_id != '' AND via.sharer_id != customer_id GROUP BY brand, sharer_id, share_id;

CREATE MATERIALIZED VIEW {database}.shares_shares TO {database}.shares AS
SELECT brand, via.sharer_id AS sharer_id, via.share_id AS share_id, uniqExactState(customer_id) AS visitors, count() AS reshares
FROM {database}.shares_queue WHERE via.share_id != '' AND via.sharer_id != customer_id GROUP BY brand, sharer_id, share_id;

CREATE MATERIALIZED VIEW {database}.scans_sharers TO {database}.sharers AS
SELECT brand, sharer AS customer_id, count() AS share_visits
FROM (SELECT brand, via.sharer_id AS sharer, customer_id AS visitor, via.share_id AS share, role FROM {database}.scans_queue)
WHERE role = 0 AND share != '' AND sharer != visitor GROUP BY brand, customer_id;

CREATE MATERIALIZED VIEW {database}.purchases_sharers TO {database}.sharers AS
SELECT brand, sharer AS customer_id, countIf(kind = 1) AS share_orders, sumIf(amount, kind = 1) AS share_paid, sumIf(amount, kind = 2) AS share_refunded
FROM (SELECT brand, via.sharer_id AS sharer, customer_id AS buyer, via.share_id AS share, kind, amount FROM {database}.purchases_queue)
WHERE share != '' AND sharer != buyer GROUP BY brand, customer_id;

CREATE MATERIALIZED VIEW {database}.shares_sharers TO {database}.sharers AS
SELECT brand, sharer AS customer_id, count() AS reshares
FROM (SELECT brand, via.sharer_id AS sharer, customer_id AS resharer, via.share_id AS share FROM {database}.shares_queue)
WHERE share != '' AND sharer != resharer GROUP BY brand, customer_id;
