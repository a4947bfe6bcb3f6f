-- One row an event (charges: one row a charge line). Rows come at least once; reading with FINAL makes them once.
-- The payload's hash is in the sorting key, so that both sides of a conflict survive.

CREATE TABLE IF NOT EXISTS usage
(
    id String COMMENT 'Request id (cmp-...), derived by the gateway; the id of the event hydra.usage.v1',
    payload_hash String COMMENT 'Hash over what bears on the price; two hashes of one id are a conflict',
    account String COMMENT 'Account (u-...) that made the request',
    event_time DateTime64(6, 'UTC') COMMENT 'When the request ended (UTC): decides price, day and month',
    event_date Date MATERIALIZED toDate(event_time, 'UTC') COMMENT 'UTC date of event_time',
    received DateTime64(6, 'UTC') COMMENT 'When the gateway had the request (UTC)',
    first_token Nullable(DateTime64(6, 'UTC')) COMMENT 'When the first token left for the client (UTC); NULL: none did',
    key_id LowCardinality(String) COMMENT 'API key (k-...) used',
    access_path LowCardinality(String) COMMENT 'Model as the request named it: <account>/<service>',
    endpoint LowCardinality(String) COMMENT 'chat.completions or completions',
    streamed Bool COMMENT 'Whether the answer was streamed',
    outcome LowCardinality(String) COMMENT 'How it ended: completed, client_gone, engine_lost, refused, ...',
    status UInt16 COMMENT 'HTTP status that the client got',
    error_code LowCardinality(String) COMMENT 'Error code that the client got; empty: none',
    billing LowCardinality(String) COMMENT 'What pays for it: token, time or operator; empty: refused before that was known',
    service_id LowCardinality(String) COMMENT 'Service (s-...); empty: not known',
    model LowCardinality(String) COMMENT 'Model of the catalogue; empty: not known',
    region LowCardinality(String) COMMENT 'Region that served it; empty: not known',
    instance String COMMENT 'Instance (i-...) that answered; empty: none',
    prompt_tokens Nullable(UInt64) COMMENT 'Prompt tokens as the engine reported them; NULL: not reported',
    cached_tokens Nullable(UInt64) COMMENT 'Prompt tokens taken from the cache; NULL: not reported, which is not zero',
    completion_tokens Nullable(UInt64) COMMENT 'Output tokens as the engine reported them; NULL: not reported',
    attempts UInt16 COMMENT 'Dispatches to other instances that did not answer; never billed',
    client_request_id String COMMENT 'The client''s own request id, as sent; empty: none',
    gateway LowCardinality(String) COMMENT 'Gateway that wrote the event; empty: not said',
    arrived_at DateTime64(3, 'UTC') COMMENT 'When the event reached Kafka (UTC), the earliest of its copies',
    precedence UInt64 MATERIALIZED toUInt64(greatest(0, 99999999999999 - toUnixTimestamp64Milli(arrived_at)))
        COMMENT 'Of several copies of one event the earliest arrived stays',
    INDEX event_time_range event_time TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY toYYYYMM(event_date)
ORDER BY (account, event_date, id, payload_hash)
COMMENT 'One row an authenticated inference request. Read with FINAL, or better read v_usage';

CREATE TABLE IF NOT EXISTS instance_events
(
    id String COMMENT 'Instance, epoch and sequence; the id of the event hydra.instances.v1',
    payload_hash String COMMENT 'Hash over what bears on the price; two hashes of one id are a conflict',
    account String COMMENT 'Account (u-..., or public) that owns the service',
    event_time DateTime64(6, 'UTC') COMMENT 'End of the proven interval, or when the state was taken (UTC)',
    event_date Date MATERIALIZED toDate(event_time, 'UTC') COMMENT 'UTC date of event_time',
    at DateTime64(6, 'UTC') COMMENT 'When lifecycle wrote the event (UTC)',
    instance String COMMENT 'Instance (i-...), never reused',
    epoch UInt32 COMMENT 'Number of the instance''s engine start',
    sequence UInt64 COMMENT 'Number of the event within the instance',
    state LowCardinality(String) COMMENT 'placed, starting, ready, not_ready, draining, ended or written_off',
    service_id LowCardinality(String) COMMENT 'Service (s-...)',
    access_path LowCardinality(String) COMMENT '<account>/<service>',
    model LowCardinality(String) COMMENT 'Model of the catalogue',
    region LowCardinality(String) COMMENT 'Region of the instance',
    spec LowCardinality(String) COMMENT 'Spec of the instance: GPU type, count and memory',
    billing LowCardinality(String) COMMENT 'time, token or operator: whether the interval is charged by time',
    node LowCardinality(String) COMMENT 'Machine that runs it; empty: none yet',
    reason String COMMENT 'Why the state changed; empty: not said',
    billable_from Nullable(DateTime64(6, 'UTC')) COMMENT 'Begin of the proven ready interval (UTC); NULL: no interval',
    billable_until Nullable(DateTime64(6, 'UTC')) COMMENT 'End of that interval (UTC), not part of it',
    billable_seconds UInt64 COMMENT 'Whole seconds of the interval; 0 without one',
    start_moved Bool COMMENT 'Whether the interval''s start had to be moved behind the one before it',
    arrived_at DateTime64(3, 'UTC') COMMENT 'When the event reached Kafka (UTC), the earliest of its copies',
    precedence UInt64 MATERIALIZED toUInt64(greatest(0, 99999999999999 - toUnixTimestamp64Milli(arrived_at)))
        COMMENT 'Of several copies of one event the earliest arrived stays',
    INDEX event_time_range event_time TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY toYYYYMM(event_date)
ORDER BY (account, event_date, id, payload_hash)
COMMENT 'One row an instance event, with its proven interval of ready time. Read with FINAL, or better read v_instance_hours';

CREATE TABLE IF NOT EXISTS charges
(
    id String COMMENT 'Charge id, derived from source event, meter, segment''s start and rating version',
    payload_hash String COMMENT 'Hash over the charge and its source''s hash; two hashes of one id are a conflict',
    account String COMMENT 'Account that pays',
    event_time DateTime64(6, 'UTC') COMMENT 'Begin of the charged segment (tokens: when the request ended): decides hour, day and month',
    event_date Date MATERIALIZED toDate(event_time, 'UTC') COMMENT 'UTC date of event_time',
    source_event String COMMENT 'Id of the usage or instance event that it charges',
    source_type LowCardinality(String) COMMENT 'usage or instance',
    source_hash String COMMENT 'Hash of that event',
    rating_version UInt16 COMMENT 'Version of the rating rules that made it',
    meter LowCardinality(String) COMMENT 'input_tokens, cached_input_tokens, output_tokens or instance_seconds',
    quantity UInt64 COMMENT 'How many units: tokens or whole seconds',
    unit LowCardinality(String) COMMENT 'token or second',
    unit_price Decimal(38, 12) COMMENT 'Price of `per` units in currency',
    per UInt32 COMMENT 'Units that unit_price is for: 1000000 tokens or 3600 seconds',
    amount Decimal(38, 12) COMMENT 'What is charged in currency, 12 places, not rounded to the currency',
    currency LowCardinality(String) COMMENT 'ISO 4217 code of unit_price and amount',
    price_id LowCardinality(String) COMMENT 'Price that was applied',
    price_version UInt32 COMMENT 'Its version',
    price_source LowCardinality(String) COMMENT 'published, or example: a price that was made up',
    segment_from DateTime64(6, 'UTC') COMMENT 'Begin of the charged time (UTC); tokens: when the request ended',
    segment_until DateTime64(6, 'UTC') COMMENT 'End of the charged time (UTC), not part of it; tokens: as segment_from',
    access_path LowCardinality(String) COMMENT '<account>/<service> that was called or runs',
    resource String COMMENT 'What the line is for: the access path for tokens, the instance for time',
    service_id LowCardinality(String) COMMENT 'Service (s-...); empty: not known',
    model LowCardinality(String) COMMENT 'Model of the catalogue; empty: not known',
    region LowCardinality(String) COMMENT 'Region; empty: not known',
    spec LowCardinality(String) COMMENT 'Instance spec; empty for tokens',
    instance String COMMENT 'Instance (i-...); empty: none',
    key_id LowCardinality(String) COMMENT 'API key (k-...) of the request; empty for time',
    corrects String COMMENT 'Charge that this one corrects; empty: none',
    arrived_at DateTime64(3, 'UTC') COMMENT 'When the charge reached Kafka (UTC), the earliest of its copies',
    precedence UInt64 MATERIALIZED toUInt64(greatest(0, 99999999999999 - toUnixTimestamp64Milli(arrived_at)))
        COMMENT 'Of several copies of one charge the earliest arrived stays',
    INDEX event_time_range event_time TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY toYYYYMM(event_date)
ORDER BY (account, event_date, id, payload_hash)
COMMENT 'One row a charge line. Read with FINAL, or better read v_charges, which leaves conflicts out';

CREATE TABLE IF NOT EXISTS unrated
(
    id String COMMENT 'Source event that has no charge',
    payload_hash String COMMENT 'Hash of the source event',
    account String COMMENT 'Account of the source event',
    event_time DateTime64(6, 'UTC') COMMENT 'Event time of the source event (UTC)',
    event_date Date MATERIALIZED toDate(event_time, 'UTC') COMMENT 'UTC date of event_time',
    source_type LowCardinality(String) COMMENT 'usage or instance',
    rating_version UInt16 COMMENT 'Version of the rating rules that said so',
    reason LowCardinality(String) COMMENT 'Why it has no charge: billed_by_time, operator, refused, engine_lost, unpriced, ...',
    access_path LowCardinality(String) COMMENT '<account>/<service>',
    model LowCardinality(String) COMMENT 'Model of the catalogue; empty: not known',
    key_id LowCardinality(String) COMMENT 'API key (k-...) of the request; empty for instances',
    arrived_at DateTime64(3, 'UTC') COMMENT 'When it reached Kafka (UTC), the earliest of its copies',
    precedence UInt64 MATERIALIZED toUInt64(greatest(0, 99999999999999 - toUnixTimestamp64Milli(arrived_at)))
        COMMENT 'Of several copies the earliest arrived stays',
    INDEX event_time_range event_time TYPE minmax GRANULARITY 1
)
ENGINE = ReplacingMergeTree(precedence)
PARTITION BY toYYYYMM(event_date)
ORDER BY (account, event_date, id, payload_hash, reason)
COMMENT 'One row a source event that has no charge, with the reason. One that was unpriced may be charged later';

CREATE TABLE IF NOT EXISTS prices
(
    id String COMMENT 'Price id and version: <price_id>@<version>',
    payload_hash String COMMENT 'Hash over what bears on the price; two hashes of one id are a conflict',
    price_id LowCardinality(String) COMMENT '<model>/<meter> for tokens, <region>/<spec>/instance_seconds for time',
    version UInt32 COMMENT 'Version of the price, from 1',
    meter LowCardinality(String) COMMENT 'input_tokens, cached_input_tokens, output_tokens or instance_seconds',
    unit_price Decimal(38, 12) COMMENT 'Price of `per` units in currency',
    per UInt32 COMMENT '1000000 tokens or 3600 seconds',
    currency LowCardinality(String) COMMENT 'ISO 4217 code',
    effective_from DateTime64(6, 'UTC') COMMENT 'In force for event times from here on (UTC)',
    effective_until Nullable(DateTime64(6, 'UTC')) COMMENT 'In force for event times before this (UTC); NULL: until a later version begins',
    recorded_at DateTime64(6, 'UTC') COMMENT 'When it became known to the platform (UTC)',
    source LowCardinality(String) COMMENT 'published, or example: a price that was made up',
    model LowCardinality(String) COMMENT 'Model that it prices; empty for time',
    region LowCardinality(String) COMMENT 'Region that it prices; empty for tokens',
    spec LowCardinality(String) COMMENT 'Spec that it prices; empty for tokens'
)
ENGINE = ReplacingMergeTree
ORDER BY (price_id, version, payload_hash)
COMMENT 'One row a recorded version of a price. Read with FINAL, or better read v_prices';

CREATE TABLE IF NOT EXISTS parked
(
    id String COMMENT 'Processor, topic, partition and offset of the parked message',
    processor LowCardinality(String) COMMENT 'Stream that parked it',
    topic LowCardinality(String) COMMENT 'Topic that it came from',
    topic_partition UInt32 COMMENT 'Partition that it came from',
    topic_offset UInt64 COMMENT 'Offset that it came from',
    reason LowCardinality(String) COMMENT 'undecodable, invalid, unpriced, too_large or unknown_type',
    detail String COMMENT 'What was wrong, in one sentence; quotes nothing of the message',
    parked_at DateTime64(6, 'UTC') COMMENT 'When it was parked (UTC)'
)
ENGINE = ReplacingMergeTree
ORDER BY (id)
COMMENT 'One row a message that could not be processed. The message itself is on the topic hydra.parked alone';

CREATE TABLE IF NOT EXISTS parked_replays
(
    id String COMMENT 'Processor, topic, partition and offset of the parked message',
    replayed_at DateTime64(6, 'UTC') COMMENT 'When it was published again (UTC)'
)
ENGINE = ReplacingMergeTree
ORDER BY (id, replayed_at)
COMMENT 'One row a time that a parked message was published again';
