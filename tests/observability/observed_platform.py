"""A whole platform that a real Prometheus scrapes, with the alert rules as they are shipped."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from adapters.kafka.producer import EventProducer
from runner.processes import PROCESSES
from schemas.topics import Topic
from tests.servers.platform import ROOT, Platform, running_platform, wait_until
from tests.servers.prometheus import Prometheus, PrometheusPackage, running_prometheus

RULES = ROOT / "config" / "prometheus" / "alerts.yml"
SCRAPE_EVERY_S = 2
ALERT_WITHIN_S = 150.0
MODEL = "public/deepseek-r1"
SERVING = {process.name: process for process in PROCESSES if process.probe == "http"}


@dataclass
class Observed:
    """The platform, its Prometheus, and a customer's key."""

    platform: Platform
    prometheus: Prometheus
    account: str
    key: str

    def scraped(self, process: str) -> str:
        """What a process shows on /metrics now."""
        return httpx.get(self.platform.url(process) + "/metrics", timeout=30, trust_env=False).raise_for_status().text

    def ask(self, *, stream: bool = False, path: str = "chat/completions", **fields: Any) -> int:
        """One inference request to its end; the status."""
        body: dict[str, Any] = {"model": MODEL, "max_tokens": 8, "stream": stream} | fields
        said = {"prompt": "hello"} if path == "completions" else {"messages": [{"role": "user", "content": "hello"}]}
        headers = {"Authorization": f"Bearer {self.key}"}
        url = f"{self.platform.url('gateway')}/v1/{path}"
        return httpx.post(url, json=body | said, headers=headers, timeout=60, trust_env=False).status_code

    def pid(self, process: str) -> int:
        """Of a process of the platform."""
        record = json.loads((self.platform.home / "run" / "platform.json").read_text())
        pid: int = next(one["pid"] for one in record["processes"] if one["name"] == process)
        return pid

    def engine_pids(self) -> list[int]:
        """Of every engine that runs."""
        records = [json.loads(path.read_text()) for path in (self.platform.home / "worker").glob("**/i-*.json")]
        return [record["process"]["pid"] for record in records if record.get("process")]

    @contextmanager
    def paused(self, process: str) -> Iterator[None]:
        """A process that hangs: it is there, and answers nothing."""
        pid = self.pid(process)
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    def publish(self, topic: Topic, *messages: bytes) -> None:
        """Put messages on a topic, whatever they are."""

        async def send() -> None:
            async with EventProducer(self.platform.kafka) as producer:
                for message in messages:
                    await producer.publish(topic, "u-0123456789ab", message)

        asyncio.run(send())

    def await_alert(
        self, alert: str, *lowered: tuple[str, str], true: bool = True, meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        """Wait until an alert's shipped expression, each (shipped, lower) part replaced, is so."""
        expression = expressions()[alert]
        for shipped, lower in lowered:
            assert shipped in expression, (shipped, expression)
            expression = expression.replace(shipped, lower)

        def so() -> bool:
            meanwhile()
            return bool(self.prometheus.query(expression)) is true

        wait_until(so, f"{alert} is {true}: {expression}", ALERT_WITHIN_S, 0.5)


def expressions() -> dict[str, str]:
    """Each alert's expression."""
    return {
        rule["alert"]: rule["expr"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
    }


@contextmanager
def observed_platform(
    package: PrometheusPackage, folder: Path, *, rules: Path = RULES, **settings: str
) -> Iterator[Observed]:
    """Up, scraped, with a customer; both are down at the end."""
    quick = {f"HYDRA_{name.upper()}_LAG_EVERY_S": "1" for name, one in SERVING.items() if one.kind == "stream"}
    quick |= {"HYDRA_WAREHOUSE_OPEN_MATTERS_EVERY_S": "1"}
    with running_platform(folder / "platform", **quick | settings) as platform:
        jobs = {name: platform.ports[name] for name in SERVING}
        with running_prometheus(package, folder / "prometheus", jobs, [rules], SCRAPE_EVERY_S) as prometheus:
            account = platform.new_account("watched")
            yield Observed(platform, prometheus, account, platform.new_key(account))
