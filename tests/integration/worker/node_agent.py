"""A node agent as a real process on a folder of its own, and lifecycle's side of its topics."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import httpx
import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition

from adapters import secret_files
from adapters.engine_keys import engine_key
from adapters.kafka.producer import EventProducer
from domain import ids
from schemas import codec
from schemas.heartbeats import InstanceHeartbeat, NodeHeartbeat
from schemas.placements import PlacementState
from schemas.topics import HEARTBEATS, PLACEMENTS
from services.worker.readiness_log import ReadinessLine
from services.worker.records import InstanceRecord
from tests.servers.child_process import end_with_parent

DEADLINE_S = 90.0


async def until(what: str, condition: Callable[[], object], deadline_s: float = DEADLINE_S) -> None:
    """Wait until `condition` is true; fails with `what` was waited for."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        await asyncio.sleep(0.05)


def new_instance() -> str:
    return ids.instance_id(secrets.token_bytes(32))


class NodeAgent:
    """`start` it, `kill` or `terminate` it, and start it again on the same `home`."""

    def __init__(self, home: Path, root: Path, bootstrap: str, port: int, **settings: str) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{port}"
        self._root = root
        self._process: subprocess.Popen[bytes] | None = None
        secret_files.make_missing(home / "secrets")
        self.secret = secret_files.read(home / "secrets", secret_files.CLUSTER_SECRET)
        self._environment = {
            **os.environ,
            "HYDRA_HOME": str(home),
            "HYDRA_CONFIG_DIR": str(root / "config"),
            "HYDRA_KAFKA_BOOTSTRAP": bootstrap,
            "HYDRA_WORKER_PORT": str(port),
            "HYDRA_WORKER_HEARTBEAT_SECONDS": "0.5",
            "HYDRA_WORKER_CHECK_SECONDS": "0.2",
            "HYDRA_WORKER_CHECK_TIMEOUT_SECONDS": "10",
            "HYDRA_WORKER_DRAIN_SETTLE_SECONDS": "0.2",
            "HYDRA_WORKER_KAFKA_TIMEOUT_SECONDS": "3",
            **{f"HYDRA_WORKER_{name.upper()}": value for name, value in settings.items()},
        }

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        return (self.home / "worker.log").read_text()

    def start(self) -> None:
        with (self.home / "worker.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "services.worker"],
                cwd=self._root,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=end_with_parent,
            )

    def kill(self) -> None:
        """As a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> int:
        """Asked to end; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(DEADLINE_S)

    def exit_code(self) -> int:
        """Of an agent that ends by itself."""
        assert self._process is not None
        return self._process.wait(DEADLINE_S)

    def stop(self) -> None:
        """Whatever happened to it."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self.terminate()

    async def ready(self) -> tuple[int, dict[str, str]]:
        """The answer of /health/ready; (0, {}) where nobody answers."""
        try:
            async with httpx.AsyncClient(trust_env=False) as client:
                answer = await client.get(f"{self.url}/health/ready")
        except httpx.TransportError:
            return 0, {}
        return answer.status_code, answer.json()

    def record(self, instance: str) -> InstanceRecord:
        """What the agent keeps of the instance."""
        path = self.home / "worker" / "instances" / f"{instance}.json"
        return msgspec.json.decode(path.read_bytes(), type=InstanceRecord)

    def engine_pid(self, instance: str) -> int:
        process = self.record(instance).process
        assert process is not None
        return process.pid

    def node(self) -> str:
        return str(msgspec.json.decode((self.home / "worker" / "node.json").read_bytes())["node"])

    def proven(self, instance: str) -> dict[tuple[int, int], int]:
        """Ready seconds by (epoch, period), as the readiness log has them last."""
        lines = (self.home / "worker" / "readiness.jsonl").read_bytes().splitlines()
        decoded = [msgspec.json.decode(line, type=ReadinessLine) for line in lines]
        return {(line.epoch, line.period): line.ready_seconds for line in decoded if line.instance == instance}

    def key(self, instance: str, epoch: int) -> str:
        return engine_key(self.secret, instance, epoch)


class Lifecycle:
    """Publishes placements and hears heartbeats, in the order in which Kafka has them."""

    def __init__(self, bootstrap: str) -> None:
        self._bootstrap = bootstrap
        self._producer = EventProducer(bootstrap)
        self._placements: dict[str, PlacementState] = {}
        self._reader: asyncio.Task[None] | None = None
        self.nodes: list[NodeHeartbeat] = []
        self._heard: dict[str, list[InstanceHeartbeat]] = {}

    async def start(self) -> None:
        await self._producer.start()
        self._reader = asyncio.create_task(self._read())

    async def stop(self) -> None:
        if self._reader is not None:
            self._reader.cancel()
            await asyncio.gather(self._reader, return_exceptions=True)
        await self._producer.stop()

    async def place(self, instance: str, node: str, **changes: object) -> None:
        """A new placement, or a newer version of the one before."""
        before = self._placements.get(instance)
        if before is None:
            before = PlacementState(
                instance=instance,
                version=0,
                node=node,
                service_id="s-000000000001",
                access_path="u-000000000001/test",
                model="qwen2.5-7b-instruct",
                spec="h20-1x141g",
                wanted="running",
            )
        placement = msgspec.structs.replace(before, version=before.version + 1, **changes)
        self._placements[instance] = placement
        message = codec.event(
            placement,
            id=f"{instance}@{placement.version}",
            source="/hydra/test",
            subject=instance,
            time=datetime.now(UTC),
        )
        await self._producer.publish(PLACEMENTS, instance, codec.encode(message))

    async def remove(self, instance: str) -> None:
        """The placement's tombstone."""
        await self._producer.publish(PLACEMENTS, instance, None)

    def heard(self, instance: str) -> list[InstanceHeartbeat]:
        """All heartbeats of the instance so far."""
        return self._heard.get(instance, [])

    def last(self, instance: str) -> InstanceHeartbeat | None:
        heard = self.heard(instance)
        return heard[-1] if heard else None

    async def until_state(self, instance: str, state: str, *, epoch: int | None = None) -> InstanceHeartbeat:
        """Wait for a last heartbeat in this state (of this epoch) and return it."""

        def seen() -> bool:
            last = self.last(instance)
            return last is not None and last.state == state and epoch in (None, last.epoch)

        await until(f"{instance} {state}, epoch {epoch}; heard {self.heard(instance)[-3:]}", seen)
        last = self.last(instance)
        assert last is not None
        return last

    def states(self, instance: str) -> list[tuple[int, str]]:
        """(epoch, state) of each heartbeat, repeats left out."""
        states: list[tuple[int, str]] = []
        for heartbeat in self.heard(instance):
            if not states or states[-1] != (heartbeat.epoch, heartbeat.state):
                states.append((heartbeat.epoch, heartbeat.state))
        return states

    def periods(self, instance: str) -> dict[tuple[int, int], int]:
        """The most ready seconds heard by (epoch, period)."""
        seconds: dict[tuple[int, int], int] = {}
        for heartbeat in self.heard(instance):
            for period in heartbeat.periods:
                key = (heartbeat.epoch, period.number)
                seconds[key] = max(seconds.get(key, 0), period.ready_seconds)
        return seconds

    async def _read(self) -> None:
        consumer = AIOKafkaConsumer(bootstrap_servers=self._bootstrap, auto_offset_reset="earliest")
        await consumer.start()
        try:
            consumer.assign([TopicPartition(HEARTBEATS.name, number) for number in range(HEARTBEATS.partitions)])
            async for record in consumer:
                if codec.decode_head(record.value).type == "hydra.nodes.v1":
                    self.nodes.append(codec.decode(record.value, NodeHeartbeat).data)
                else:
                    heartbeat = codec.decode(record.value, InstanceHeartbeat).data
                    self._heard.setdefault(heartbeat.instance, []).append(heartbeat)
        finally:
            await consumer.stop()
