CREATE TABLE IF NOT EXISTS stops
(
    id String COMMENT 'Process, what happened and when',
    process LowCardinality(String) COMMENT 'Process that stopped on purpose',
    what LowCardinality(String) COMMENT 'stopped, accepted (by an operator) or went_on',
    at DateTime64(6, 'UTC') COMMENT 'When it happened (UTC)',
    reason String COMMENT 'The sentence of the process, or the words of the operator',
    by String COMMENT 'Who accepted it; empty for what a process wrote',
    topic LowCardinality(String) COMMENT 'Topic concerned; empty where it is about none',
    topic_partition UInt32 COMMENT 'Partition concerned',
    first_offset Nullable(UInt64) COMMENT 'First offset that the log has lost; NULL: nothing is missing, it is read again',
    last_offset Nullable(UInt64) COMMENT 'Last offset that the log has lost'
)
ENGINE = ReplacingMergeTree
ORDER BY (process, id, topic, topic_partition)
COMMENT 'One row a partition that a stop on purpose, its acceptance or the going on was about';
