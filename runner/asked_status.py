"""A platform without a supervisor of this machine, as its processes tell it themselves when they are asked.

So in containers, and wherever something else starts the processes: the settings name where each answers. What stands in
for one that has stopped on purpose knows no reason. Kafka does: there the process has noted it for `hydra resume`.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from adapters.errors import Unavailable
from adapters.kafka.stops import Stops
from domain.stops import command_to_go_on, unanswered
from runner.processes import PROCESSES, Process
from runner.readiness import PROBE_TIMEOUT_S, Answer, Readiness
from runner.settings import RunnerSettings
from schemas.stops import StopNoted

DEFAULT_PORTS = {"http": 80, "https": 443}


NotedOf = Callable[[str], Awaitable[Sequence[StopNoted]]]
"""What a process has noted of its stops, oldest first. Raises Unavailable."""


@dataclass(frozen=True)
class AskedProcess:
    """One process at one address. `answered` is False where nothing came back; `reason` is its own word, as in
    `Answer`, and the whole of it where it has `halted`: then `to_go_on` is what the operator types."""

    name: str
    address: str
    ready: bool
    answered: bool
    reason: str
    halted: bool = False
    to_go_on: str = ""


async def ask_all(settings: RunnerSettings, noted_of: NotedOf | None = None) -> tuple[AskedProcess, ...]:
    """Every process of the table that can be asked, all at once; of one that runs more than once each of them."""
    readiness = Readiness(settings)
    try:
        found = await asyncio.gather(*(_asked(readiness, settings, each) for each in PROCESSES if each.probe != "exit"))
    finally:
        await readiness.close()
    asked = tuple(process for of_one in found for process in of_one)
    halted = {process.name for process in asked if process.halted}
    # Without Kafka each would only wait for its bound.
    if not halted or not all(process.ready for process in asked if process.name == "kafka"):
        return asked
    noted = await _noted(halted, noted_of or (lambda name: Stops(settings.kafka, name).noted()))
    return tuple(with_stop(process, noted[process.name]) if process.halted else process for process in asked)


def with_stop(process: AskedProcess, noted: Sequence[StopNoted]) -> AskedProcess:
    """A halted process with the reason and the command of its last stop, as far as it could note that."""
    stop = unanswered(noted)
    if stop is None:
        return process
    if noted[-1].what == "accepted":
        reason = f"{stop.reason}; accepted by {noted[-1].by or 'an operator'}, so it goes on once it is started again"
        return replace(process, reason=reason)
    return replace(process, reason=stop.reason, to_go_on=command_to_go_on(stop.process, stop.gaps, stop.reread))


async def _noted(names: set[str], noted_of: NotedOf) -> dict[str, Sequence[StopNoted]]:
    async def of(name: str) -> tuple[str, Sequence[StopNoted]]:
        try:
            return name, await noted_of(name)
        except Unavailable:
            return name, ()

    return dict(await asyncio.gather(*(of(name) for name in sorted(names))))


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
    return AskedProcess(process.name, address, answer.ready, answer.answered, answer.reason, answer.halted)


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
