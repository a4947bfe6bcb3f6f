"""Kafka by plain aiokafka: topics, a producer, followers of state topics, and the batch shell of the money path.

What a message means is decided by whoever uses these; Faust lives in streams/live_spend alone.
"""

from adapters.kafka.lost_connections import tell_lost_connections

tell_lost_connections()
