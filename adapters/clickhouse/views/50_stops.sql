CREATE OR REPLACE VIEW v_stops
(
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
AS SELECT process, what, at, reason, by, topic, topic_partition, first_offset, last_offset
FROM stops FINAL
COMMENT 'Why processes stopped on purpose, who accepted what was missing, and when they went on';

CREATE OR REPLACE VIEW v_gaps
(
    topic LowCardinality(String) COMMENT 'Topic whose log has lost messages',
    topic_partition UInt32 COMMENT 'Partition of it',
    first_offset UInt64 COMMENT 'First offset lost',
    last_offset UInt64 COMMENT 'Last offset lost',
    messages UInt64 COMMENT 'How many messages are lost to this process',
    process LowCardinality(String) COMMENT 'Process that has not read them',
    accepted_at DateTime64(6, 'UTC') COMMENT 'When an operator accepted that first (UTC)',
    reason String COMMENT 'The words of the operator',
    by String COMMENT 'Who accepted it'
)
AS SELECT topic, topic_partition, assumeNotNull(first) AS first_offset, assumeNotNull(last) AS last_offset,
    last_offset - first_offset + 1 AS messages, process, min(at) AS accepted_at, argMin(why, at) AS reason,
    argMin(who, at) AS by
FROM
(
    SELECT topic, topic_partition, first_offset AS first, last_offset AS last, process, at, reason AS why, by AS who
    FROM stops FINAL
    WHERE what = 'accepted' AND first_offset IS NOT NULL
)
GROUP BY topic, topic_partition, first, last, process
COMMENT 'Messages that were lost before a process had read them: no bill holds what they said';
