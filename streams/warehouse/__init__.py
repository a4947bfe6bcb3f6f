"""The only writer to ClickHouse: usage, instances, charges, prices and parked messages in, rows and stated totals out.

What a table holds and how conflicts are found is adapters/clickhouse's.
"""
