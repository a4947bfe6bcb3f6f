CREATE OR REPLACE VIEW v_usage
(
    account String COMMENT 'Account (u-...) that made the request',
    id String COMMENT 'Request id (cmp-...)',
    event_time DateTime64(6, 'UTC') COMMENT 'When the request ended (UTC): decides price, day and month',
    event_date Date COMMENT 'UTC date of event_time: a filter on it is the fastest',
    day Date COMMENT 'Day of event_time in the platform''s time zone',
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
    arrived_at DateTime64(3, 'UTC') COMMENT 'When the event reached Kafka (UTC)',
    time_doubtful Bool COMMENT 'Whether the gateway''s wall clock was wrong when it gave these times'
)
AS SELECT
    account, id, event_time, event_date, toDate(event_time, {{time_zone}}) AS day, received, first_token, key_id,
    access_path, endpoint, streamed, outcome, status, error_code, billing, service_id, model, region, instance,
    prompt_tokens, cached_tokens, completion_tokens, attempts, arrived_at, time_doubtful
FROM usage FINAL
WHERE id NOT IN (SELECT source_event FROM conflicting_events)
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'One row an authenticated inference request, each once; requests in conflict are in the view conflicts instead';

CREATE OR REPLACE VIEW v_unbilled_usage
(
    account String COMMENT 'Account (u-...) that made the request',
    id String COMMENT 'Request id (cmp-...)',
    event_time DateTime64(6, 'UTC') COMMENT 'When the request ended (UTC)',
    event_date Date COMMENT 'UTC date of event_time: a filter on it is the fastest',
    day Date COMMENT 'Day of event_time in the platform''s time zone',
    reason LowCardinality(String) COMMENT 'Why it has no charge: billed_by_time, operator, refused, engine_lost, unpriced, ...',
    key_id LowCardinality(String) COMMENT 'API key (k-...) used',
    access_path LowCardinality(String) COMMENT 'Model as the request named it: <account>/<service>',
    model LowCardinality(String) COMMENT 'Model of the catalogue; empty: not known',
    outcome LowCardinality(String) COMMENT 'How it ended; empty while its usage row has not arrived',
    prompt_tokens Nullable(UInt64) COMMENT 'Prompt tokens reported; NULL: not reported',
    completion_tokens Nullable(UInt64) COMMENT 'Output tokens reported; NULL: not reported'
)
AS SELECT
    n.account AS account, n.id AS id, n.event_time AS event_time, n.event_date AS event_date,
    toDate(n.event_time, {{time_zone}}) AS day, n.reason AS reason, n.key_id AS key_id, n.access_path AS access_path,
    n.model AS model, u.outcome AS outcome, u.prompt_tokens AS prompt_tokens, u.completion_tokens AS completion_tokens
FROM
(
    SELECT r.account AS account, r.event_date AS event_date, r.id AS id, any(r.event_time) AS event_time,
        any(r.access_path) AS access_path, any(r.model) AS model, any(r.key_id) AS key_id,
        argMin(r.reason, r.reason = 'unpriced') AS reason
    FROM unrated AS r FINAL
    WHERE r.source_type = 'usage'
        AND r.id NOT IN (SELECT source_event FROM conflicting_events)
        AND (r.reason != 'unpriced' OR (r.account, r.event_date, r.id) NOT IN
            (SELECT account, event_date, source_event FROM charges
             WHERE (account, event_date) IN (SELECT account, event_date FROM unrated WHERE reason = 'unpriced')))
    GROUP BY account, event_date, id
) AS n
LEFT JOIN
(
    SELECT account, event_date, id, outcome, prompt_tokens, completion_tokens
    FROM usage FINAL
    WHERE (account, event_date, id) IN (SELECT account, event_date, id FROM unrated WHERE source_type = 'usage')
) AS u ON u.account = n.account AND u.event_date = n.event_date AND u.id = n.id
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'One row a request that has no charge, with the reason; one that was unpriced leaves once it is charged';
