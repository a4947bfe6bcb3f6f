ALTER TABLE event_hashes ADD COLUMN IF NOT EXISTS batch UInt64 COMMENT 'Number of the insert that wrote it last: the time of the insert, then chance';

ALTER TABLE event_hashes ADD INDEX IF NOT EXISTS batch_range batch TYPE minmax GRANULARITY 1
