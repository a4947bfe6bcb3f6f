"""One process each: token_charges, instance_charges, warehouse, live_spend. Events in, events or rows out.

Beside them lives what they share: the process around a stream, its metrics, the recorded prices. Rules of billing live
in domain/, Kafka and ClickHouse in adapters/.
"""
