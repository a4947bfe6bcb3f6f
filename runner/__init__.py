"""Sets the platform up on one machine and keeps its processes running: set-up, process table, supervisor, Apache Kafka.

No rule of the business lives here; services are started as processes, never imported."""
