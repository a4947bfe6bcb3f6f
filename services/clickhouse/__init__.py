"""The embedded ClickHouse: the engine itself (chDB) behind ClickHouse's HTTP interface, for machines without a server.

Lives here: users, the analyst's limits, statements, sessions, inserts, streamed answers, the HTTP server. Does not live
here: tables, views and their migrations (adapters/clickhouse), which are the same on a real server.
"""
