CREATE OR REPLACE VIEW v_instance_hours
(
    account String COMMENT 'Account (u-..., or public) that owns the service',
    day Date COMMENT 'Day in the platform''s time zone in which the ready time begins',
    region LowCardinality(String) COMMENT 'Region of the instance',
    spec LowCardinality(String) COMMENT 'Spec of the instance: GPU type, count and memory',
    billing LowCardinality(String) COMMENT 'time: charged by time; operator or token: recorded, not charged by time',
    access_path LowCardinality(String) COMMENT '<account>/<service>',
    model LowCardinality(String) COMMENT 'Model of the catalogue',
    instance String COMMENT 'Instance (i-...)',
    seconds Int128 COMMENT 'Whole seconds in which it was proven ready',
    hours Decimal(38, 6) COMMENT 'The same in hours, cut at 6 places; for sums use seconds'
)
AS SELECT
    account, toDate(assumeNotNull(billable_from), {{time_zone}}) AS day, region, spec, billing, access_path, model,
    instance, sum(toInt128(billable_seconds)) AS seconds, CAST(toDecimal128(seconds, 6) / 3600 AS Decimal(38, 6)) AS hours
FROM instance_events FINAL
WHERE billable_from IS NOT NULL AND id NOT IN (SELECT source_event FROM conflicting_events)
GROUP BY account, day, region, spec, billing, access_path, model, instance
SETTINGS do_not_merge_across_partitions_select_final = 1
COMMENT 'Proven ready time of each instance a day, whoever pays for it';
