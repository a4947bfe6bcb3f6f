"""Alembic migrations of lifecycle's database, run at its start. Once released, one is never edited."""
