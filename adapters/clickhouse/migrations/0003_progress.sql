CREATE TABLE IF NOT EXISTS warehouse_progress
(
    topic LowCardinality(String) COMMENT 'Kafka topic',
    topic_partition UInt32 COMMENT 'Its partition',
    next_offset UInt64 COMMENT 'Everything below this offset is in the tables',
    event_time Nullable(DateTime64(6, 'UTC')) COMMENT 'Latest event time among what is in the tables (UTC); NULL: nothing yet',
    caught_up Bool COMMENT 'Whether the partition held nothing more at noted_at',
    noted_at DateTime64(3, 'UTC') COMMENT 'When this was noted (UTC)'
)
ENGINE = ReplacingMergeTree(noted_at)
ORDER BY (topic, topic_partition)
COMMENT 'How far the warehouse has come, per partition. Read with FINAL, or better read v_as_of';
