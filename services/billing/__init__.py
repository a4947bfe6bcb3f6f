"""What was used and what it costs, read-only from ClickHouse; and the one recorder of price versions.

Nothing here computes a charge: streams/ do, once.
"""
