"""A control service's own database, SQLite or PostgreSQL: transactions, migrations, outbox, idempotency keys.

The tables of a service's business and its migrations live in that service; no service reads another's database.
"""
