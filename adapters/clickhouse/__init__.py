"""ClickHouse: its client, its tables and views, how rows are written, and the questions that billing asks of them.

Only the warehouse stream writes here. Does not live here: the embedded engine (services/clickhouse), which is only
another address.
"""
