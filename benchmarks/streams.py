"""The money path: usage events through rating and into ClickHouse, each process's own share of the CPU told apart.

Figures are of the steady part: what a process spends on its start is left out.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adapters.kafka.producer import EventProducer
from adapters.kafka.topics import create_topics
from benchmarks import usage_events
from benchmarks.cpu import cpu_seconds
from domain.prices import PriceBook
from domain.rating import charges_for, charges_id
from schemas import codec
from schemas.usage import TokensUsed
from tests.servers.clickhouse import running_clickhouse
from tests.servers.kafka import running_kafka
from tests.servers.stream import StreamProcess, running_stream

EVENTS = 300_000
STEADY_FROM = 0.15
"""Share of the events that a process may take to warm up."""
LOOK_EVERY_S = 0.3
"""Each look at /metrics costs the process that is measured some ms."""
DEADLINE_S = 600.0
PURE_EVENTS = 20_000
PURE_ROUNDS = 3


@dataclass(frozen=True)
class Steady:
    """What the steady part took: how many items, wall seconds, and CPU seconds of each process."""

    items: float
    seconds: float
    cpu_s: Mapping[str, float]

    def figures(self, item: str, own: str) -> dict[str, float]:
        shares = {f"{name}_us_per_{item}": spent * 1e6 / self.items for name, spent in self.cpu_s.items()}
        return {
            f"{item}s_per_s": self.items / self.seconds,
            f"{item}s_per_core_s": self.items / self.cpu_s[own],
        } | shares


async def measure() -> dict[str, float]:
    """Aims: 50,000 events a second and core through rating, 100,000 rows a second into ClickHouse."""
    figures = {"rating_alone_events_per_core_s": rated_alone()}
    with (
        tempfile.TemporaryDirectory() as folder,
        running_kafka(Path(folder) / "kafka") as kafka,
        running_clickhouse(Path(folder) / "home") as clickhouse,
    ):
        bootstrap = kafka.node.bootstrap
        await create_topics(bootstrap)
        async with EventProducer(bootstrap) as producer:
            await usage_events.publish(producer, EVENTS)
        environment = {
            "HYDRA_HOME": str(Path(folder) / "home"),
            "HYDRA_KAFKA_BOOTSTRAP": bootstrap,
            "HYDRA_CLICKHOUSE_URL": clickhouse.url,
        }
        assert kafka.pid is not None and clickhouse.pid is not None
        with running_stream("token_charges", Path(folder), environment) as rater:
            pids = {"token_charges": rater.pid, "broker": kafka.pid}
            figures |= (await steady(rater, "events", EVENTS, pids)).figures("event", "token_charges")
        # A usage row and two charge rows of each event, and the row of each price.
        rows = 3 * EVENTS + len(usage_events.prices())
        with running_stream("warehouse", Path(folder), environment) as warehouse:
            pids = {"warehouse": warehouse.pid, "clickhouse": clickhouse.pid, "broker": kafka.pid}
            written = (await steady(warehouse, "rows", rows, pids)).figures("row", "warehouse")
            figures |= written
    return figures


def rated_alone() -> float:
    """Events a core decodes, rates and encodes in a second, with no Kafka: the best of some rounds."""
    book = PriceBook(usage_events.prices())
    raw = [usage_events.encoded(number) for number in range(PURE_EVENTS)]
    best = float("inf")
    for _ in range(PURE_ROUNDS):
        began = time.process_time()
        for one in raw:
            event = codec.decode(one, TokensUsed)
            raised = charges_for(event.data, event, book)
            codec.encode(
                codec.event(raised, id=charges_id(raised), source="/bench", subject=raised.account, time=event.time)
            )
        best = min(best, time.process_time() - began)
    return PURE_EVENTS / best


async def steady(stream: StreamProcess, counter: str, total: int, pids: Mapping[str, int]) -> Steady:
    """Wait until `stream` has counted `total`; what the part behind its warm-up took."""
    deadline = time.monotonic() + DEADLINE_S
    begun: tuple[float, float, dict[str, float]] | None = None
    while True:
        count, now = await asyncio.to_thread(counted, stream, counter), time.monotonic()
        cpu = {name: cpu_seconds(pid) for name, pid in pids.items()}
        if begun is None and count >= STEADY_FROM * total:
            begun = (count, now, cpu)
        if count >= total:
            break
        if now > deadline:
            raise RuntimeError(f"{stream.name} counted {count:.0f} of {total} {counter} in {DEADLINE_S:.0f} s")
        await asyncio.sleep(LOOK_EVERY_S)
    assert begun is not None
    if begun[0] >= total:
        raise RuntimeError(f"{stream.name} was through before it was looked at: raise EVENTS")
    return Steady(total - begun[0], now - begun[1], {name: cpu[name] - begun[2][name] for name in pids})


def counted(stream: StreamProcess, counter: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{stream.port}/metrics", timeout=30) as answer:
        found = re.search(rf"^hydra_stream_{counter}_total\{{[^}}]*\}} (\S+)$", answer.read().decode(), re.MULTILINE)
    return float(found[1]) if found else 0.0
