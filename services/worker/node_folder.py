"""The folder that makes a machine a node: its identity, its lock, the number of the agent's starts."""

from __future__ import annotations

import fcntl
import os
import secrets
from pathlib import Path

import msgspec

from adapters.errors import Misconfigured
from domain import ids
from services.worker.records import InstanceRecords, write_synced


class NodeIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """`start` counts the starts of this node's agent, from 1."""

    node: str
    start: int


class NodeFolder:
    """Opened once a process; a folder that is gone is made anew and is a new node.

    `identity` is this start's. Raises Misconfigured where another agent holds the folder or it cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.readiness_log = folder / "readiness.jsonl"
        try:
            instances = folder / "instances"
            instances.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = self._locked()
            self.identity = self._started()
        except OSError as error:
            raise Misconfigured(
                f"the node agent's folder {folder} cannot be used ({error.strerror}); HYDRA_WORKER_FOLDER moves it"
            ) from error
        self.records = InstanceRecords(instances)

    def close(self) -> None:
        """Give the folder free for the next agent."""
        os.close(self._lock)

    def _locked(self) -> int:
        handle = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise Misconfigured(
                f"another node agent uses the folder {self.folder}; give this one its own by HYDRA_WORKER_FOLDER"
            ) from error
        return handle

    def _started(self) -> NodeIdentity:
        path = self.folder / "node.json"
        try:
            known = msgspec.json.decode(path.read_bytes(), type=NodeIdentity)
        except FileNotFoundError:
            known = NodeIdentity(node=ids.node_id(secrets.token_bytes(ids.ENTROPY_BYTES)), start=0)
        except msgspec.DecodeError as error:
            raise Misconfigured(
                f"{path} is damaged; remove the folder {self.folder} to make this machine a new node"
            ) from error
        identity = NodeIdentity(node=known.node, start=known.start + 1)
        write_synced(path, msgspec.json.encode(identity))
        return identity
