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
ANSWERS_HALTED = "halted"
"""The status that a container answers in the place of a process that has stopped on purpose."""
NODE_FOLDER_SETTING = "HYDRA_WORKER_FOLDER"


def own_address() -> str:
    """The container's address in the network of its platform."""
    return socket.gethostbyname(socket.gethostname())


def listen_address(process: Process) -> str:
    """Where a process listens: everywhere in its container. The node agent tells others where its engines are, so it
    needs the address by which other containers reach it."""
    return own_address() if process.kind == "agent" else EVERY_ADDRESS


def addressed(process: Process, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process with the address on which it listens, whatever was set: the container's probe, its
    halted door and the other containers look there."""
    if process.port is None:
        return dict(environment)
    return {**environment, process.host_setting: listen_address(process)}


class NodeClaim:
    """One of the folders `node-1`, `node-2` ... of the nodes' volume, this container's until its first process ends.

    So a container that replaces another becomes the same node, and its instances start again where they were.
    """

    def __init__(self, root: Path) -> None:
        for number in itertools.count(1):
            self.folder = root / f"node-{number}"
            # Beside the folder, not in it: the agent makes that, and has a lock of its own there.
            handle = os.open(self.folder.with_suffix(".claim"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                continue
            # Kept open: the kernel lets go of it when this process is gone, however it ends.
            self._handle = handle
            return

    def release(self) -> None:
        """Give the folder free for another container."""
        os.close(self._handle)


def with_node_folder(process: Process, environment: Mapping[str, str]) -> tuple[dict[str, str], NodeClaim | None]:
    """For the node agent: with a folder of its own, which the claim keeps, whatever was set: that would be the same for
    all nodes."""
    if process.kind != "agent":
        return dict(environment), None
    claim = NodeClaim(Path(environment["HYDRA_HOME"]) / "nodes")
    return {**environment, NODE_FOLDER_SETTING: str(claim.folder)}, claim
