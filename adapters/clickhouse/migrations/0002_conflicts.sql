-- What makes conflicts cheap to know: every id with its hash, sorted by id, whatever its time.

CREATE TABLE IF NOT EXISTS event_hashes
(
    kind LowCardinality(String) COMMENT 'source (usage and instance events), charge or price',
    id String COMMENT 'Id of the event or the charge',
    payload_hash String COMMENT 'A hash that was seen for it',
    source_event String COMMENT 'Source event whose charges a conflict leaves out of every bill; empty for prices',
    account String COMMENT 'Account; empty for prices'
)
ENGINE = ReplacingMergeTree
ORDER BY (kind, id, payload_hash, source_event, account)
SETTINGS index_granularity = 512
COMMENT 'Every id with every hash that was seen for it. Written before the rows themselves, to find conflicts';

CREATE TABLE IF NOT EXISTS conflicting_events
(
    account String COMMENT 'Account of the source event; empty for prices',
    source_event String COMMENT 'Source event whose charges are left out of every bill; empty for prices',
    kind LowCardinality(String) COMMENT 'What has two hashes: source, charge or price',
    id String COMMENT 'Its id',
    found_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When the warehouse found it (UTC)'
)
ENGINE = ReplacingMergeTree
ORDER BY (account, source_event, kind, id)
COMMENT 'Every id with two hashes, anywhere in time. The view conflicts shows both sides';
