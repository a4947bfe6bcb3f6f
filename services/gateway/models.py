"""What the data plane passes around: a parsed request, who sends it, and the instance that may take it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from schemas.accounts import ApiKeyState
from schemas.deployments import DeploymentState

if TYPE_CHECKING:
    from services.gateway.answers import Refusal
    from services.gateway.upstream_connection import UpstreamConnection


_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):([0-9]{1,5})")


class Request:
    """One HTTP request, whole. `problem` is set where it could not be read (too large, too slow, broken).

    It began at `received` by the wall clock, and at `began` by the monotonic one.
    """

    __slots__ = (
        "authorization",
        "began",
        "body",
        "client_request_id",
        "content_length",
        "expects_continue",
        "host",
        "http10",
        "keep_alive",
        "method",
        "problem",
        "received",
        "target",
    )

    def __init__(self, received: datetime, began: float) -> None:
        self.received = received
        self.began = began
        self.method = b""
        self.target = b""
        self.authorization: bytes | None = None
        self.host: bytes | None = None
        self.client_request_id: bytes | None = None
        self.content_length: int | None = None
        self.expects_continue = False
        self.body = b""
        self.http10 = False
        self.keep_alive = True
        self.problem: Refusal | None = None


class Instance:
    """One engine start that takes requests; a new epoch is a new object. `in_flight` guides the pick.

    Raises ValueError where `address` is no `<host>:<port>`.
    """

    __slots__ = (
        "address",
        "cooled_until",
        "epoch",
        "head_prefix",
        "host",
        "id",
        "idle",
        "in_flight",
        "key",
        "opened",
        "port",
        "withdrawn",
    )

    def __init__(self, id: str, epoch: int, address: str, key: str) -> None:
        self.id = id
        self.epoch = epoch
        self.address = address
        self.host, self.port = _host_and_port(address)
        self.key = key
        self.in_flight = 0
        self.cooled_until = 0.0
        self.withdrawn = False
        self.idle: list[UpstreamConnection] = []
        self.opened = 0
        common = f" HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {key}\r\ncontent-type: application/json\r\n"
        self.head_prefix = {
            path: f"POST {path}{common}content-length: ".encode()
            for path in ("/v1/chat/completions", "/v1/completions", "/abort_request")
        }


def _host_and_port(address: str) -> tuple[str, int]:
    found = _ADDRESS.fullmatch(address)
    if found is None or not 0 < int(found[2]) < 65_536:
        raise ValueError("an engine's address must be <host>:<port>")
    return found[1].strip("[]"), int(found[2])


class Service:
    """A service as the gateway routes to it."""

    __slots__ = ("instances", "state")

    def __init__(self, state: DeploymentState, instances: list[Instance]) -> None:
        self.state = state
        self.instances = instances


class Caller:
    """Who a key belongs to, and what it may do now. `refused` says why it may not, where it may not."""

    __slots__ = ("account", "key_id", "may_infer", "over_limit", "refused")

    def __init__(self, key: ApiKeyState) -> None:
        self.account = key.account
        self.key_id = key.key_id
        self.may_infer = "inference" in key.scopes
        self.over_limit = False
        self.refused: Refusal | None = None
