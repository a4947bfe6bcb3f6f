"""Looks at every port before the platform starts, so that a taken one is named at once, with the setting to change."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from runner.processes import Process
from runner.settings import RunnerSettings


@dataclass(frozen=True)
class Claim:
    """A port that a process of ours wants, and the environment variable that moves it."""

    name: str
    host: str
    port: int
    setting: str


def claims(settings: RunnerSettings, processes: Sequence[Process]) -> list[Claim]:
    """Every port on which these processes will listen, engines aside: they take free ones."""
    wanted = []
    for process in processes:
        port = settings.port(process)
        if port is not None:
            host = settings.listen_host(process)
            wanted.append(Claim(process.name, host, port, process.port_setting))
        if process.probe == "kafka":
            port = settings.kafka_controller_port
            wanted.append(Claim("kafka's controller", "127.0.0.1", port, "HYDRA_KAFKA_CONTROLLER_PORT"))
    return wanted


def port_problems(wanted: list[Claim]) -> list[str]:
    """One sentence for each port that cannot be had; empty when all can."""
    problems = []
    owners: dict[int, Claim] = {}
    for claim in wanted:
        if claim.port in owners:
            other = owners[claim.port]
            problems.append(
                f"port {claim.port} is wanted by {other.name} and by {claim.name}: set {claim.setting} to another"
            )
            continue
        owners[claim.port] = claim
        if reason := _why_not(claim):
            problems.append(f"port {claim.port} ({claim.name}) {reason}: set {claim.setting} to a free one")
    return problems


def _why_not(claim: Claim) -> str:
    family = socket.AF_INET6 if ":" in claim.host else socket.AF_INET
    with socket.socket(family) as probe:
        # As servers do: connections of a former run that linger in TIME_WAIT do not take the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((claim.host, claim.port))
            # Another socket may be bound with the same option; listening is what only one can do.
            probe.listen(1)
        except OSError as error:
            return "is taken" if error.errno == errno.EADDRINUSE else f"cannot be had ({error.strerror})"
    return ""
