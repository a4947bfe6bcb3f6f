ALTER TABLE usage ADD COLUMN IF NOT EXISTS time_doubtful Bool COMMENT 'Whether the gateway''s wall clock was wrong when it gave these times'
