CREATE TABLE IF NOT EXISTS warehouse_offsets
(
    topic LowCardinality(String) COMMENT 'Kafka topic',
    topic_partition UInt32 COMMENT 'Its partition',
    next_offset UInt64 COMMENT 'Everything below this offset is in the tables',
    event_time Nullable(DateTime64(6, 'UTC')) COMMENT 'Latest event time among what is in the tables (UTC); NULL: nothing yet',
    caught_up Bool COMMENT 'Whether the partition held nothing more at noted_at',
    noted_at DateTime64(3, 'UTC') COMMENT 'When this was noted (UTC)'
)
ENGINE = ReplacingMergeTree(next_offset)
ORDER BY (topic, topic_partition)
COMMENT 'How far the warehouse has come, per partition: the furthest note stands, whichever writer''s it is. Read with FINAL';

INSERT INTO warehouse_offsets SELECT topic, topic_partition, next_offset, event_time, caught_up, noted_at
FROM warehouse_progress FINAL;

ALTER TABLE warehouse_progress MODIFY COMMENT 'Written no more: its last note stood, not its furthest. See warehouse_offsets';
