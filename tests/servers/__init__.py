"""Real servers for tests, each a child process on free loopback ports: Apache Kafka, ClickHouse's engine, PostgreSQL.

Fixtures live in tests/conftest.py; here is only how each server is started and stopped. No fakes.
"""
