"""A gateway process for tests, its simulated engines, and the state topics that a test fills for it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from adapters import secret_files
from adapters.engine_keys import engine_key
from adapters.kafka.producer import EventProducer
from adapters.kafka.topics import create_topics
from domain import ids
from schemas import codec, topics
from schemas.accounts import AccountState, ApiKeyState
from schemas.deployments import DeploymentState, Endpoint
from schemas.spend import BalanceStated
from schemas.usage import TokensUsed
from tests.servers.child_process import end_with_parent
from tests.servers.ports import free_port

ROOT = Path(__file__).resolve().parent.parent.parent
READY_WITHIN_S = 120
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def _get(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


class Process:
    """A child process that is ready when its `ready` address answers 200."""

    def __init__(self, command: list[str], ready: str, log: Path, environment: dict[str, str]) -> None:
        self.log = log
        self._ready = ready
        clean = {key: value for key, value in os.environ.items() if not key.startswith("HYDRA_")}
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=clean | environment, stdout=file, stderr=file, preexec_fn=end_with_parent
            )

    async def ready(self) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while await asyncio.to_thread(_get, self._ready) != 200:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"not ready: {self.log.read_text()[-3000:]}")
            await asyncio.sleep(0.1)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(60)

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)


@dataclass
class Engine:
    """A simulated engine under the key of one instance and epoch."""

    instance: str
    epoch: int
    port: int
    process: Process
    ledger: Path
    key: str

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(instance=self.instance, epoch=self.epoch, address=f"127.0.0.1:{self.port}")

    def finished(self) -> list[dict[str, Any]]:
        """What the engine says that it has done: the independent count."""
        if not self.ledger.exists():
            return []
        return [json.loads(line) for line in self.ledger.read_text().splitlines() if line.endswith("}")]

    def order(self, **body: Any) -> None:
        """Make requests fail: see services/worker/simulated_engine/faults.py."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/simulate",
            json.dumps(body).encode(),
            {"content-type": "application/json", "authorization": f"Bearer {self.key}"},
        )
        with urllib.request.urlopen(request, timeout=10):
            pass


@dataclass
class Customer:
    account: str
    key_id: str
    key: str


@dataclass
class GatewayPlatform:
    """A home of its own on a shared Kafka. Names are drawn, so that several may live side by side."""

    home: Path
    bootstrap: str
    port: int = field(default_factory=free_port)
    settings: dict[str, str] = field(default_factory=dict)
    scheme: str = "http"
    started_by: tuple[str, ...] = ()
    processes: list[Process] = field(default_factory=list)
    gateway: Process | None = None

    def __post_init__(self) -> None:
        secret_files.make_missing(self.home / "secrets")
        self.secret = secret_files.read(self.home / "secrets", secret_files.CLUSTER_SECRET)
        self._producer = EventProducer(self.bootstrap)
        self._versions = iter(range(int(time.time() * 1000), 1 << 60))
        self._usage_from: dict[TopicPartition, int] | None = None

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}"

    async def prepare(self) -> None:
        await create_topics(self.bootstrap)
        async with self._consumer() as consumer:
            self._usage_from = await consumer.end_offsets(self._partitions())

    async def close(self) -> None:
        for process in self.processes:
            process.kill()
        await self._producer.stop()

    # -- processes -----------------------------------------------------------------------------------------------------

    def spawn_gateway(self, **settings: str) -> Process:
        environment = {
            "HYDRA_HOME": str(self.home),
            "HYDRA_KAFKA_BOOTSTRAP": self.bootstrap,
            "HYDRA_GATEWAY_PORT": str(self.port),
            "HYDRA_GATEWAY_ADOPTION_INTERVAL_S": "0.5",
            "HYDRA_GATEWAY_SNAPSHOT_INTERVAL_S": "0.3",
            "HYDRA_GATEWAY_KAFKA_WAIT_S": "2",
        }
        environment |= {f"HYDRA_GATEWAY_{name.upper()}": value for name, value in (self.settings | settings).items()}
        process = Process(
            [*self.started_by, sys.executable, "-m", "services.gateway"],
            f"http://127.0.0.1:{self.port}/health/ready",
            self.home / "gateway.log",
            environment,
        )
        self.processes.append(process)
        self.gateway = process
        return process

    async def start_gateway(self, **settings: str) -> Process:
        process = self.spawn_gateway(**settings)
        await process.ready()
        return process

    async def start_engine(self, *options: str, epoch: int = 1) -> Engine:
        instance = ids.instance_id(os.urandom(32))
        port = free_port()
        key = engine_key(self.secret, instance, epoch)
        ledger = self.home / f"{instance}.ledger"
        command = [sys.executable, "-m", "services.worker.simulated_engine", "--port", str(port), "--api-key", key]
        process = Process(
            [*command, "--ledger", str(ledger), "--faults", *options],
            f"http://127.0.0.1:{port}/health",
            self.home / f"{instance}.log",
            {},
        )
        self.processes.append(process)
        await process.ready()
        return Engine(instance, epoch, port, process, ledger, key)

    # -- state topics --------------------------------------------------------------------------------------------------

    async def _publish(self, topic: topics.Topic, key: str, data: Any) -> None:
        message = codec.event(data, id=f"{key}-{data.version}", source="/test", subject=key, time=datetime.now(UTC))
        await self._producer.publish(topic, key, codec.encode(message))

    async def customer(
        self,
        account: str | None = None,
        *,
        scopes: tuple[Any, ...] = ("inference", "billing"),
        limit: Decimal | None = None,
        status: Any = "active",
        account_status: Any = "active",
        key: "Customer | None" = None,
    ) -> Customer:
        entropy = os.urandom(32)
        account = account or (key.account if key else ids.account_id(os.urandom(32)))
        made = key or Customer(account, ids.key_id(entropy), ids.api_key(entropy))
        await self._publish(
            topics.ACCOUNTS,
            account,
            AccountState(
                account=account,
                version=next(self._versions),
                name="test",
                status=account_status,
                created=EPOCH,
                currency="CNY",
                spend_limit=limit,
            ),
        )
        await self._publish(
            topics.API_KEYS,
            made.key_id,
            ApiKeyState(
                key_id=made.key_id,
                version=next(self._versions),
                account=account,
                name="test",
                key_hash=ids.key_hash(made.key),
                masked=ids.masked_key(made.key),
                scopes=scopes,
                status=status,
                created=EPOCH,
            ),
        )
        return made

    async def balance(self, account: str, spent: Decimal) -> None:
        await self._publish(
            topics.BALANCES,
            account,
            BalanceStated(
                account=account,
                version=next(self._versions),
                hour=EPOCH,
                day=EPOCH,
                month=EPOCH,
                spent_hour={"CNY": spent},
                spent_day={"CNY": spent},
                spent_month={"CNY": spent},
                spent_total={"CNY": spent},
                covers_offset=1,
            ),
        )

    async def service(
        self,
        *engines: Engine,
        account: str = "public",
        path: str | None = None,
        service_id: str | None = None,
        **fields: Any,
    ) -> DeploymentState:
        known: dict[str, Any] = {
            "service_id": service_id or ids.service_id(os.urandom(32)),
            "version": next(self._versions),
            "account": account,
            "access_path": path or f"{account}/m-{uuid.uuid4().hex[:8]}",
            "model": "deepseek-r1",
            "region": "sh-02",
            "billing": "token" if account == "public" else "time",
            "status": "running",
            "created": datetime.now(UTC),
            "instances_wanted": len(engines),
            "endpoints": tuple(engine.endpoint for engine in engines),
            "ever_ready": bool(engines),
        }
        state = DeploymentState(**(known | fields))
        await self._publish(topics.DEPLOYMENTS, state.service_id, state)
        return state

    async def in_force(self, customer: Customer, path: str) -> None:
        """Wait until the gateway lists the service for this customer."""
        await self.until_listed(customer, path, True)

    async def until_listed(self, customer: Customer, path: str, listed: bool) -> None:
        deadline = time.monotonic() + 60
        while (path in await asyncio.to_thread(self.listed, customer)) is not listed:
            assert time.monotonic() < deadline, f"{path} is {'not ' if listed else ''}listed still"
            await asyncio.sleep(0.05)

    def listed(self, customer: Customer) -> list[str]:
        request = urllib.request.Request(f"{self.url}/v1/models", headers={"authorization": f"Bearer {customer.key}"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return [model["id"] for model in json.load(answer)["data"]]
        except urllib.error.HTTPError:
            return []

    # -- usage ---------------------------------------------------------------------------------------------------------

    def _partitions(self) -> list[TopicPartition]:
        return [TopicPartition(topics.USAGE.name, number) for number in range(topics.USAGE.partitions)]

    def _consumer(self) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False)

    async def usage(
        self, account: str, count: int, *, known: Collection[str] = (), within_s: float = 150
    ) -> list[TokensUsed]:
        """The usage events of an account, once there are `count` by different ids and all of `known`; repeats must be
        equal."""
        found: dict[str, bytes] = {}
        assert self._usage_from is not None
        async with self._consumer() as consumer:
            consumer.assign(self._partitions())
            for partition, offset in self._usage_from.items():
                consumer.seek(partition, offset)
            deadline = time.monotonic() + within_s
            while len(found) < count or not found.keys() >= set(known):
                missing = set(known) - found.keys()
                assert time.monotonic() < deadline, f"{len(found)} of {count} usage events, without {missing}"
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    for record in records:
                        event = codec.decode(record.value, TokensUsed)
                        if event.data.account != account:
                            continue
                        assert record.key == account.encode() and event.id == event.data.request_id
                        assert found.setdefault(event.id, record.value) == record.value, "one id, two events"
        return sorted((codec.decode(raw, TokensUsed).data for raw in found.values()), key=lambda usage: usage.received)
