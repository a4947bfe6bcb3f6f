CREATE OR REPLACE VIEW v_prices
(
    price_id LowCardinality(String) COMMENT '<model>/<meter> for tokens, <region>/<spec>/instance_seconds for time',
    version UInt32 COMMENT 'Version of the price, from 1',
    meter LowCardinality(String) COMMENT 'input_tokens, cached_input_tokens, output_tokens or instance_seconds',
    model LowCardinality(String) COMMENT 'Model that it prices; empty for time',
    region LowCardinality(String) COMMENT 'Region that it prices; empty for tokens',
    spec LowCardinality(String) COMMENT 'Spec that it prices; empty for tokens',
    unit_price Decimal(38, 12) COMMENT 'Price of `per` units in currency',
    per UInt32 COMMENT '1000000 tokens or 3600 seconds',
    currency LowCardinality(String) COMMENT 'ISO 4217 code',
    effective_from DateTime64(6, 'UTC') COMMENT 'In force for event times from here on (UTC)',
    effective_until Nullable(DateTime64(6, 'UTC')) COMMENT 'In force for event times before this (UTC); NULL: until a later version begins',
    recorded_at DateTime64(6, 'UTC') COMMENT 'When it became known to the platform (UTC)',
    source LowCardinality(String) COMMENT 'published, or example: a price that was made up'
)
AS SELECT
    price_id, version, meter, model, region, spec, unit_price, per, currency, effective_from, effective_until,
    recorded_at, source
FROM prices FINAL
COMMENT 'Every recorded version of every price';

CREATE OR REPLACE VIEW v_late_events
(
    kind LowCardinality(String) COMMENT 'usage, instance or charge',
    account String COMMENT 'Account of the event',
    id String COMMENT 'Id of the event or the charge',
    event_time DateTime64(6, 'UTC') COMMENT 'When it happened (UTC)',
    event_date Date COMMENT 'UTC date of event_time: a filter on it is the fastest',
    arrived_at DateTime64(3, 'UTC') COMMENT 'When it reached Kafka (UTC)',
    late_seconds Int64 COMMENT 'Seconds between the two',
    month String COMMENT 'Month of event_time in the platform''s time zone, YYYY-MM',
    arrived_after_month Bool COMMENT 'Whether it arrived only when that month was over'
)
AS SELECT
    kind, account, id, event_time, event_date, arrived_at, dateDiff('second', event_time, arrived_at, 'UTC') AS late_seconds,
    formatDateTime(event_time, '%Y-%m', {{time_zone}}) AS month,
    formatDateTime(arrived_at, '%Y-%m', {{time_zone}}) > month AS arrived_after_month
FROM
(
    SELECT CAST('usage' AS LowCardinality(String)) AS kind, account, id, event_time, event_date, arrived_at
    FROM usage FINAL WHERE arrived_at > event_time + INTERVAL 5 MINUTE
    UNION ALL
    SELECT CAST('instance' AS LowCardinality(String)) AS kind, account, id, event_time, event_date, arrived_at
    FROM instance_events FINAL WHERE arrived_at > event_time + INTERVAL 5 MINUTE
    UNION ALL
    SELECT CAST('charge' AS LowCardinality(String)) AS kind, account, id, segment_until AS event_time, event_date, arrived_at
    FROM charges FINAL WHERE arrived_at > segment_until + INTERVAL 5 MINUTE
)
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Events and charges that reached Kafka more than 5 minutes after they happened (conflicting ones too)';

CREATE OR REPLACE VIEW conflicts
(
    kind LowCardinality(String) COMMENT 'What has two hashes: source (a usage or instance event), charge or price',
    id String COMMENT 'Its id',
    payload_hash String COMMENT 'One of its hashes: each has a row',
    source_event String COMMENT 'Source event whose charges are all left out of every bill; empty for prices',
    account String COMMENT 'Account of this side; empty for prices',
    found_at DateTime64(3, 'UTC') COMMENT 'When the warehouse found the conflict (UTC)'
)
AS SELECT h.kind AS kind, h.id AS id, h.payload_hash AS payload_hash, h.source_event AS source_event,
    h.account AS account, c.first_found AS found_at
FROM
(
    SELECT DISTINCT kind, id, payload_hash, source_event, account FROM event_hashes
    WHERE (kind, id) IN (SELECT kind, id FROM conflicting_events)
) AS h
INNER JOIN (SELECT kind, id, min(found_at) AS first_found FROM conflicting_events GROUP BY kind, id) AS c
    ON c.kind = h.kind AND c.id = h.id
COMMENT 'Both sides of every id that has two hashes, anywhere in time. Its charges are in no bill until a person decides';

CREATE OR REPLACE VIEW v_conflicting_charges
(
    account String COMMENT 'Account that would pay',
    source_event String COMMENT 'Source event in conflict',
    id String COMMENT 'Charge id',
    payload_hash String COMMENT 'Hash of this side of the charge',
    event_time DateTime64(6, 'UTC') COMMENT 'Begin of the charged segment (UTC)',
    meter LowCardinality(String) COMMENT 'input_tokens, cached_input_tokens, output_tokens or instance_seconds',
    quantity UInt64 COMMENT 'Tokens or whole seconds',
    amount Decimal(38, 12) COMMENT 'What it would charge in currency',
    currency LowCardinality(String) COMMENT 'ISO 4217 code'
)
AS SELECT account, source_event, id, payload_hash, event_time, meter, quantity, amount, currency
FROM charges FINAL
WHERE source_event IN (SELECT source_event FROM conflicting_events)
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'The charges that conflicts leave out of every bill, both sides';

CREATE OR REPLACE VIEW v_parked
(
    id String COMMENT 'Processor, topic, partition and offset of the parked message',
    processor LowCardinality(String) COMMENT 'Stream that parked it',
    topic LowCardinality(String) COMMENT 'Topic that it came from',
    topic_partition UInt32 COMMENT 'Partition that it came from',
    topic_offset UInt64 COMMENT 'Offset that it came from',
    reason LowCardinality(String) COMMENT 'undecodable, invalid, unpriced, too_large or unknown_type',
    detail String COMMENT 'What was wrong, in one sentence',
    parked_at DateTime64(6, 'UTC') COMMENT 'When it was parked (UTC)',
    replayed_at Nullable(DateTime64(6, 'UTC')) COMMENT 'When it was published again last (UTC); NULL: not yet'
)
AS SELECT p.id AS id, processor, topic, topic_partition, topic_offset, reason, detail, parked_at, r.last AS replayed_at
FROM (SELECT * FROM parked FINAL) AS p
LEFT JOIN (SELECT id, CAST(max(replayed_at) AS Nullable(DateTime64(6, 'UTC'))) AS last FROM parked_replays GROUP BY id) AS r
    ON r.id = p.id
COMMENT 'One row a message that could not be processed';

CREATE OR REPLACE VIEW v_as_of
(
    topic LowCardinality(String) COMMENT 'Kafka topic',
    partitions UInt64 COMMENT 'How many of its partitions have been noted',
    as_of Nullable(DateTime64(6, 'UTC')) COMMENT 'What happened before this (UTC) is in the tables, but for late events and what waits to be rated; NULL: nothing read yet',
    noted_at DateTime64(3, 'UTC') COMMENT 'When the slowest partition was noted last (UTC)'
)
AS SELECT topic, count() AS partitions,
    if(countIf(NOT caught_up AND event_time IS NULL) > 0, NULL,
       min(if(caught_up, toDateTime64(p.noted_at, 6, 'UTC'), p.event_time))) AS as_of,
    min(p.noted_at) AS noted_at
FROM warehouse_offsets AS p FINAL
GROUP BY topic
COMMENT 'How far the warehouse has come, a row a topic';
