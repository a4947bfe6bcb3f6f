CREATE OR REPLACE VIEW v_charges
(
    account String COMMENT 'Account that pays',
    id String COMMENT 'Charge id',
    event_time DateTime64(6, 'UTC') COMMENT 'Begin of the charged segment (tokens: when the request ended): decides hour, day and month',
    event_date Date COMMENT 'UTC date of event_time: a filter on it is the fastest',
    day Date COMMENT 'Day of event_time in the platform''s time zone',
    month String COMMENT 'Month of event_time in the platform''s time zone, YYYY-MM',
    source_event String COMMENT 'Usage or instance event that it charges',
    source_type LowCardinality(String) COMMENT 'usage or instance',
    meter LowCardinality(String) COMMENT 'input_tokens, cached_input_tokens, output_tokens or instance_seconds',
    quantity UInt64 COMMENT 'How many units: tokens or whole seconds',
    unit LowCardinality(String) COMMENT 'token or second',
    unit_price Decimal(38, 12) COMMENT 'Price of `per` units in currency',
    per UInt32 COMMENT 'Units that unit_price is for: 1000000 tokens or 3600 seconds',
    amount Decimal(76, 12) COMMENT 'What is charged in currency, 12 places; wide enough that no sum wraps',
    currency LowCardinality(String) COMMENT 'ISO 4217 code of unit_price and amount',
    price_id LowCardinality(String) COMMENT 'Price that was applied',
    price_version UInt32 COMMENT 'Its version',
    price_source LowCardinality(String) COMMENT 'published, or example: a price that was made up',
    segment_from DateTime64(6, 'UTC') COMMENT 'Begin of the charged time (UTC)',
    segment_until DateTime64(6, 'UTC') COMMENT 'End of the charged time (UTC), not part of it',
    access_path LowCardinality(String) COMMENT '<account>/<service> that was called or runs',
    resource String COMMENT 'What the line is for: the access path for tokens, the instance for time',
    service_id LowCardinality(String) COMMENT 'Service (s-...); empty: not known',
    model LowCardinality(String) COMMENT 'Model of the catalogue; empty: not known',
    region LowCardinality(String) COMMENT 'Region; empty: not known',
    spec LowCardinality(String) COMMENT 'Instance spec; empty for tokens',
    instance String COMMENT 'Instance (i-...); empty: none',
    key_id LowCardinality(String) COMMENT 'API key (k-...) of the request; empty for time',
    rating_version UInt16 COMMENT 'Version of the rating rules that made it',
    corrects String COMMENT 'Charge that this one corrects; empty: none',
    arrived_at DateTime64(3, 'UTC') COMMENT 'When the charge reached Kafka (UTC)'
)
AS SELECT
    account, id, event_time, event_date, toDate(event_time, {{time_zone}}) AS day,
    formatDateTime(event_time, '%Y-%m', {{time_zone}}) AS month, source_event, source_type, meter, quantity, unit,
    unit_price, per, toDecimal256(c.amount, 12) AS amount, currency, price_id, price_version, price_source, segment_from,
    segment_until, access_path, resource, service_id, model, region, spec, instance, key_id, rating_version, corrects,
    arrived_at
FROM charges AS c FINAL
WHERE source_event NOT IN (SELECT source_event FROM conflicting_events)
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'One row a charge line, each once; every charge of a source event in conflict is left out (view conflicts)';

CREATE OR REPLACE VIEW v_bill_lines
(
    account String COMMENT 'Account that pays',
    month String COMMENT 'Month in the platform''s time zone, YYYY-MM',
    meter LowCardinality(String) COMMENT 'input_tokens, cached_input_tokens, output_tokens or instance_seconds',
    model LowCardinality(String) COMMENT 'Model of the catalogue; empty: not known',
    resource String COMMENT 'What the line is for: the access path for tokens, the instance for time',
    region LowCardinality(String) COMMENT 'Region of an instance; empty for tokens',
    spec LowCardinality(String) COMMENT 'Spec of an instance; empty for tokens',
    unit LowCardinality(String) COMMENT 'token or second',
    unit_price Decimal(38, 12) COMMENT 'Price of `per` units in currency',
    per UInt32 COMMENT '1000000 tokens or 3600 seconds',
    currency LowCardinality(String) COMMENT 'ISO 4217 code',
    quantity Int128 COMMENT 'Tokens or whole seconds of the line',
    amount Decimal(76, 12) COMMENT 'Sum of its charges in currency, 12 places, not rounded to the currency',
    charges UInt64 COMMENT 'How many charges it sums'
)
AS SELECT
    account, month, meter, model, resource, if(meter = 'instance_seconds', region, '') AS region, spec, unit, unit_price,
    per, currency, sum(toInt128(c.quantity)) AS quantity, sum(c.amount) AS amount, count() AS charges
FROM v_charges AS c
GROUP BY account, month, meter, model, resource, region, spec, unit, unit_price, per, currency
COMMENT 'The lines of every account''s bill of every month: one a meter, model, resource, unit price and currency';

CREATE OR REPLACE VIEW v_spend_daily
(
    account String COMMENT 'Account that pays',
    day Date COMMENT 'Day in the platform''s time zone',
    currency LowCardinality(String) COMMENT 'ISO 4217 code of amount',
    amount Decimal(76, 12) COMMENT 'Sum of the day''s charges in currency, 12 places',
    charges UInt64 COMMENT 'How many charges it sums'
)
AS SELECT account, day, currency, sum(c.amount) AS amount, count() AS charges
FROM v_charges AS c
GROUP BY account, day, currency
COMMENT 'What each account spends a day';

CREATE OR REPLACE VIEW v_spend_hourly
(
    account String COMMENT 'Account that pays',
    hour DateTime('UTC') COMMENT 'Begin of the UTC hour',
    currency LowCardinality(String) COMMENT 'ISO 4217 code of amount',
    amount Decimal(76, 12) COMMENT 'Sum of the hour''s charges in currency, 12 places',
    charges UInt64 COMMENT 'How many charges it sums'
)
AS SELECT account, toStartOfHour(toDateTime(event_time, 'UTC')) AS hour, currency, sum(c.amount) AS amount, count() AS charges
FROM v_charges AS c
GROUP BY account, hour, currency
COMMENT 'What each account spends a UTC hour: what the platform states as spend';
