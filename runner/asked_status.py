"""A platform without a supervisor of this machine, as its processes tell it themselves when they are asked.

So in containers, and wherever something else starts the processes: the settings name where each answers.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from runner.processes import PROCESSES, Process
from runner.readiness import PROBE_TIMEOUT_S, Answer, Readiness
from runner.settings import RunnerSettings

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class AskedProcess:
    """One process at one address. `answered` is False where nothing came back; `reason` is its own word, as in
    `Answer`."""

    name: str
    address: str
    ready: bool
    answered: bool
    reason: str


async def ask_all(settings: RunnerSettings) -> tuple[AskedProcess, ...]:
    """Every process of the table that can be asked, all at once; of one that runs more than once each of them."""
    readiness = Readiness(settings)
    try:
        found = await asyncio.gather(*(_asked(readiness, settings, each) for each in PROCESSES if each.probe != "exit"))
    finally:
        await readiness.close()
    return tuple(process for of_one in found for process in of_one)


async def _asked(readiness: Readiness, settings: RunnerSettings, process: Process) -> list[AskedProcess]:
    if process.probe == "kafka":
        answer = await readiness.ask_kafka(settings.kafka)
        return [_told(process, settings.kafka, answer)]
    places = {url: await _addresses(url) for url in settings.urls(process)}
    # Of several names only those count that stand for anybody: nodes with and without GPUs are rarely both there.
    known = [(url, address) for url, addresses in places.items() for address in addresses]
    if not known:
        return [_told(process, ", ".join(places), Answer(False, False, "its name leads to no address"))]
    one_each = all(len(addresses) <= 1 for addresses in places.values())
    asked = [url if one_each else _at(url, address) for url, address in known]
    answers = await asyncio.gather(*(readiness.ask_at(process, url) for url in asked))
    return [_told(process, url, answer) for url, answer in zip(asked, answers, strict=True)]


def _told(process: Process, address: str, answer: Answer) -> AskedProcess:
    return AskedProcess(process.name, address, answer.ready, answer.answered, answer.reason)


async def _addresses(url: str) -> list[str]:
    """The addresses for which the URL's name stands, each of which may be a process of its own; none where it is not
    known."""
    parts = urlsplit(url)
    port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            found = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError):
        return []
    return sorted({str(address[0]) for *_, address in found})


def _at(url: str, address: str) -> str:
    parts = urlsplit(url)
    host = f"[{address}]" if ":" in address else address
    return parts._replace(netloc=host if parts.port is None else f"{host}:{parts.port}").geturl()
