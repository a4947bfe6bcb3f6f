"""The only shared code that touches the outside: Kafka, ClickHouse, database, clock, keys, settings, telemetry.

No rule of the business lives here."""
