"""Asks a process whether it is ready, in the way that the table of processes names."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx

from runner.container_place import ANSWERS_HALTED
from runner.kafka import brokers_in_metadata
from runner.processes import Process
from runner.settings import RunnerSettings

PROBE_TIMEOUT_S = 3.0
REASON_LENGTH_MAX = 300


@dataclass(frozen=True)
class Answer:
    """`answered` is False where nothing came back at all; `reason` is the process's own word on why it is not ready, or
    on what is wrong although it is, or at least should be known. `halted`: it has stopped on purpose."""

    ready: bool
    answered: bool
    reason: str = ""
    halted: bool = False


Ask = Callable[[Process], Awaitable[Answer]]


class Readiness:
    """Asks over HTTP or Kafka's protocol. One instance asks for a whole platform."""

    def __init__(self, settings: RunnerSettings) -> None:
        self._settings = settings
        # Certificates are for the customers' names, and we ask by an address; nothing secret is asked or told.
        self._client = httpx.AsyncClient(timeout=PROBE_TIMEOUT_S, verify=False, trust_env=False)  # noqa: S501

    async def ask(self, process: Process) -> Answer:
        """Whether the process is ready now; never raises for what the process does."""
        if process.probe == "kafka":
            return await self.ask_kafka(f"{self._settings.reachable_host(process)}:{self._settings.port(process)}")
        url = self._settings.url(process)
        return Answer(ready=False, answered=False) if url is None else await self.ask_at(process, url)

    async def ask_kafka(self, bootstrap: str) -> Answer:
        """Whether a broker of `host:port[,host:port]` answers and lists brokers."""
        for place in bootstrap.split(","):
            host, _, port = place.strip().rpartition(":")
            if not port.isdecimal():
                continue
            brokers = await asyncio.to_thread(brokers_in_metadata, host.strip("[]"), int(port), PROBE_TIMEOUT_S)
            if brokers > 0:
                return Answer(ready=True, answered=True)
        return Answer(ready=False, answered=False, reason="does not answer")

    async def ask_at(self, process: Process, url: str) -> Answer:
        """As `ask`, at an address of HTTP other than this machine's."""
        try:
            response = await self._client.get(url + process.health_path)
        except httpx.HTTPError:
            return Answer(ready=False, answered=False, reason="does not answer")
        if response.status_code == 200:
            return Answer(ready=True, answered=True, reason=_text_in(response, "warning", "note"))
        reason = _text_in(response, "reason") or f"answers {response.status_code}"
        return Answer(ready=False, answered=True, reason=reason, halted=_text_in(response, "status") == ANSWERS_HALTED)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()


def _text_in(response: httpx.Response, *names: str) -> str:
    """What the answer's JSON says under these names, the first that it has; empty where it has none."""
    try:
        body = response.json()
    except ValueError:
        body = None
    texts = [body.get(name) for name in names] if isinstance(body, dict) else []
    return str(next(filter(None, texts), ""))[:REASON_LENGTH_MAX]
