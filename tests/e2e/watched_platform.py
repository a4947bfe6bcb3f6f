"""A platform on which alerts really fire: watched by a Prometheus with the shipped rules, their durations divided."""

from __future__ import annotations

import asyncio
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from runner.kafka import KafkaNode, java_command
from schemas import codec
from schemas.instances import BillableInterval, InstanceChanged
from schemas.topics import INSTANCES, Topic
from tests.e2e.shortened_rules import shortened
from tests.faults.harms import Clocks
from tests.observability.observed_platform import RULES, Observed, observed_platform
from tests.servers.platform import Platform, wait_until
from tests.servers.prometheus import PrometheusPackage
from tests.servers.topic_reading import records_of

FIRES_WITHIN_S = 180.0
SILENT_WITHIN_S = 360.0
"""The longest shortened window is 3 minutes."""
LOOK_EVERY_S = 0.5
COMMAND_WITHIN_S = 120.0

HOSTED, REGION = "qwen2.5-7b-instruct", "sh-02"
SPOOL_BYTES = 1 << 20
SETTINGS = {
    # Small, so that a short outage fills it.
    "HYDRA_GATEWAY_SPOOL_BYTES_MAX": str(SPOOL_BYTES),
    "HYDRA_GATEWAY_SPOOL_SEGMENT_BYTES": "65536",
    "HYDRA_LIFECYCLE_INTERVAL_S": "5",
    "HYDRA_LIFECYCLE_WRITE_OFF_AFTER_S": "20",
    "HYDRA_WORKER_HEARTBEAT_SECONDS": "2",
    # A stream lasts, and a request for one token does not.
    "HYDRA_WORKER_SIMULATED_TOKENS_PER_SECOND": "1",
}

FiringAlert = dict[str, dict[str, str]]
"""Prometheus' own: `labels` and `annotations`."""


@dataclass
class Watched:
    """The platform, what moves its clocks, and Prometheus' word on alerts; `told` holds how long each took."""

    observed: Observed
    clocks: Clocks
    told: list[str] = field(default_factory=list)

    @property
    def platform(self) -> Platform:
        return self.observed.platform

    def firing(self, alert: str) -> list[FiringAlert]:
        """Past their `for`, not merely pending."""
        active: list[dict[str, Any]] = self.observed.prometheus.get("/api/v1/alerts")["alerts"]
        return [one for one in active if one["state"] == "firing" and one["labels"]["alertname"] == alert]

    def is_silent(self, alert: str) -> bool:
        return not self.firing(alert)

    def fires(self, alert: str, meanwhile: Callable[[], object] = lambda: None) -> list[FiringAlert]:
        """Wait until it fires."""
        begun = time.monotonic()

        def fires() -> list[FiringAlert]:
            meanwhile()
            return self.firing(alert)

        found: list[FiringAlert] = wait_until(fires, f"{alert} fires", FIRES_WITHIN_S, LOOK_EVERY_S)
        for one in found:
            of = one["labels"]
            said = f"{one['annotations']['summary']}. {one['annotations']['description']}"
            self._tell(f"{alert} fired after {time.monotonic() - begun:.0f} s for {of['job']}: {said}")
        return found

    def falls_silent(self, alert: str, meanwhile: Callable[[], object] = lambda: None) -> None:
        """Wait until it does not fire."""
        begun = time.monotonic()

        def silent() -> bool:
            meanwhile()
            return self.is_silent(alert)

        wait_until(silent, f"{alert} falls silent", SILENT_WITHIN_S, LOOK_EVERY_S)
        self._tell(f"{alert} was silent {time.monotonic() - begun:.0f} s after the cause was gone")

    def _tell(self, line: str) -> None:
        self.told.append(line)
        print(line, flush=True)

    def deploy(self, name: str) -> str:
        """A service of the customer's with one instance that serves; the instance."""
        account = self.observed.account
        where = ("--model", HOSTED, "--region", REGION, "--replicas", "1")
        self.platform.hydra("service", "deploy", name, *where, "--account", account)
        (instance,) = self.platform.await_ready(name, account, 1)["instances"]
        return str(instance["id"])

    def shown(self, name: str) -> list[dict[str, Any]]:
        """The instances of a service of the customer's."""
        instances: list[dict[str, Any]] = self.platform.service(name, self.observed.account)["instances"]
        return instances

    def delete(self, name: str) -> None:
        self.platform.hydra("service", "delete", name, "--confirm", name, "--account", self.observed.account)

    def log(self, process: str) -> str:
        """What a process has logged."""
        return (self.platform.home / "logs" / f"{process}.log").read_text()

    def sql(self, query: str) -> list[dict[str, Any]]:
        """`hydra sql`, as a person types it."""
        rows: list[dict[str, Any]] = self.platform.hydra("sql", query)["data"]
        return rows

    def intervals(self, instance: str) -> list[BillableInterval]:
        """What is billed of an instance so far."""
        records = asyncio.run(records_of(self.platform.kafka, INSTANCES))
        changes = [codec.decode(record.value, InstanceChanged).data for record in records]
        of_it = sorted((one for one in changes if one.instance == instance), key=lambda one: one.sequence)
        return [one.interval for one in of_it if one.interval is not None]

    def engine_says(self, instance: str, metric: str) -> float:
        """A gauge of an engine, by the address that stands in its log."""
        log = (self.platform.home / "logs" / f"engine-{instance}.log").read_text()
        address = re.findall(r"engine of epoch \d+ starts on (\S+)", log)[-1]
        text = httpx.get(f"http://{address}/metrics", timeout=30, trust_env=False).text
        return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(metric + "{"))


@contextmanager
def watched_platform(package: PrometheusPackage, folder: Path) -> Iterator[Watched]:
    """Up and watched; down at the end."""
    rules = folder / "alerts.yml"
    rules.write_text(shortened(RULES.read_text()))
    clocks = Clocks(folder / "clocks")
    settings = SETTINGS | {"HYDRA_CLOCK_OFFSETS": str(clocks.folder)}
    with observed_platform(package, folder, rules=rules, **settings) as observed:
        yield Watched(observed, clocks)


def take_messages_of(platform: Platform, topic: Topic, bytes_max: int) -> None:
    """Have Kafka refuse a topic's larger messages from now on, by Kafka's own command."""
    node = KafkaNode(port=platform.ports["kafka"], controller_port=0, folder=platform.home / "kafka")
    where = ("--bootstrap-server", node.bootstrap, "--entity-type", "topics", "--entity-name", topic.name)
    wanted = ("--alter", "--add-config", f"max.message.bytes={bytes_max}")
    command = java_command(node, "kafka.admin.ConfigCommand", *where, *wanted)
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_WITHIN_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def streams_at_once(observed: Observed, model: str, count: int, **fields: Any) -> Iterator[None]:
    """So many clients, each of which streams an answer and then the next. All end well, or the test fails."""
    over = threading.Event()
    broken: list[BaseException] = []
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": True} | fields

    async def client(http: httpx.AsyncClient) -> None:
        while not over.is_set():
            async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
                assert answer.status_code == 200, await answer.aread()
                async for _ in answer.aiter_raw():
                    pass

    async def run() -> None:
        headers = {"Authorization": f"Bearer {observed.key}"}
        limits = httpx.Limits(max_connections=count)
        url = observed.platform.url("gateway")
        async with (
            httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=120, trust_env=False) as http,
            asyncio.TaskGroup() as group,
        ):
            for _ in range(count):
                group.create_task(client(http))

    def play() -> None:
        try:
            asyncio.run(run())
        except BaseException as error:  # carried to the thread that waits
            broken.append(error)

    thread = threading.Thread(target=play, name="streams", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if broken:
        raise broken[0]
