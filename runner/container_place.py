"""What only a container knows of itself: its address, its node's folder, and whether its process has halted."""

from __future__ import annotations

import fcntl
import itertools
import os
import socket
from collections.abc import Mapping
from pathlib import Path

from runner.processes import Process

EVERY_ADDRESS = "0.0.0.0"
HALTED = Path("/tmp/hydra-halted")  # noqa: S108 - the container's own, in memory
NODE_FOLDER_SETTING = "HYDRA_WORKER_FOLDER"


def own_address() -> str:
    """The container's address in the network of its platform."""
    return socket.gethostbyname(socket.gethostname())


def listen_address(process: Process) -> str:
    """Where a process listens: everywhere in its container. The node agent tells others where its engines are, so it
    needs the address by which other containers reach it."""
    return own_address() if process.kind == "agent" else EVERY_ADDRESS


def addressed(process: Process, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process with the address on which it listens, unless that is set."""
    if process.port is None:
        return dict(environment)
    return {process.host_setting: listen_address(process), **environment}


def with_node_folder(process: Process, environment: Mapping[str, str]) -> dict[str, str]:
    """For the node agent: with a folder of its own among those in the nodes' volume, unless that is set."""
    if process.kind != "agent" or NODE_FOLDER_SETTING in environment:
        return dict(environment)
    return {**environment, NODE_FOLDER_SETTING: str(free_node_folder(Path(environment["HYDRA_HOME"]) / "nodes"))}


def free_node_folder(root: Path) -> Path:
    """The first of `node-1`, `node-2` ... whose lock no agent holds.

    So a container that replaces another becomes the same node, and its instances start again where they were. Two that
    take the same at once are no harm: the agent's own lock lets one in, the other ends and looks again.
    """
    for number in itertools.count(1):
        folder = root / f"node-{number}"
        try:
            handle = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return folder
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return folder
        except BlockingIOError:
            continue
        finally:
            os.close(handle)
    raise AssertionError("counting ends nowhere")
