"""Apache Kafka itself for tests: one KRaft node on free ports with a folder of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.kafka import KafkaNode, KafkaServer
from tests.servers.child_process import end_with_parent
from tests.servers.ports import free_port


def new_kafka(folder: Path, port: int | None = None) -> KafkaServer:
    """A node that is not started yet, for tests that stop, kill and start it themselves."""
    node = KafkaNode(port=port or free_port(), controller_port=free_port(), folder=folder, heap_mb=256)
    return KafkaServer(node, folder / "kafka.log")


@contextmanager
def running_kafka(folder: Path) -> Iterator[KafkaServer]:
    """A node that serves, stopped at the end whatever happened."""
    server = new_kafka(folder)
    server.start(before_exec=end_with_parent)
    try:
        yield server
    finally:
        # Nobody reads this folder again: a clean shutdown would only take time.
        server.kill()
