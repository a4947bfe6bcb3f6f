"""From a message's bytes to a heartbeat that can be reckoned with; what could not be stored or added is refused."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime

from domain.ids import INSTANCE, NODE
from schemas import codec
from schemas.heartbeats import InstanceHeartbeat, NodeHeartbeat
from schemas.topics import TYPE_NAMES

NUMBER_MAX = 2**53
SECONDS_MAX = 1_000_000_000
WORD_MAX = 32
ADDRESS_MAX = 255
PORT_MAX = 65_535
PERIODS_MAX = 4_096
DETAIL_MAX = 1_000
"""It becomes the reason of events, which nobody takes once it is longer than domain/plausible.py allows."""
INSTANCES_MAX = 4_096
"""All are looked up by one query, whose driver takes 32,767 parameters."""
_EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
_LATEST = datetime(2900, 1, 1, tzinfo=UTC)
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")


class ImpossibleHeartbeat(ValueError):
    """It decodes, and yet no agent of ours can have meant it; the text quotes nothing of it."""


def heartbeat_in(raw: bytes) -> InstanceHeartbeat | NodeHeartbeat:
    """The heartbeat of an instance or a node. Raises msgspec.DecodeError, or ImpossibleHeartbeat."""
    if codec.decode_head(raw).type == TYPE_NAMES[NodeHeartbeat]:
        node = codec.decode(raw, NodeHeartbeat).data
        _check_node(node)
        return node
    heartbeat = codec.decode(raw, InstanceHeartbeat).data
    _check_instance(heartbeat)
    return heartbeat


def _check_node(heartbeat: NodeHeartbeat) -> None:
    _must(bool(NODE.fullmatch(heartbeat.node)), "its node is no node's id")
    _must(_counts(heartbeat.start) and _counts(heartbeat.beat), "its numbers are out of range")
    _must(_is_instant(heartbeat.sent), "its instant is out of range or has no time zone")
    _must(len(heartbeat.region) <= WORD_MAX and len(heartbeat.gpu) <= WORD_MAX, "its words are too long")
    _must("\0" not in heartbeat.region + heartbeat.gpu, "its words hold a NUL")
    sizes = (heartbeat.gpus, heartbeat.memory_gb)
    _must(all(0 <= size <= 1_000_000 for size in sizes), "its sizes are out of range")
    _must(len(heartbeat.instances) <= INSTANCES_MAX, "it lists too many instances")
    _must(all(INSTANCE.fullmatch(name) for name in heartbeat.instances), "what it lists is no instance's id")


def _check_instance(heartbeat: InstanceHeartbeat) -> None:
    _must(bool(INSTANCE.fullmatch(heartbeat.instance)), "its instance is no instance's id")
    _must("\0" not in heartbeat.node, "its node holds a NUL")
    _must(_counts(heartbeat.epoch) and _counts(heartbeat.beat), "its numbers are out of range")
    _must(_is_instant(heartbeat.sent), "its instant is out of range or has no time zone")
    _must(heartbeat.address is None or _is_address(heartbeat.address), "its address is not host:port")
    detail = heartbeat.detail or ""
    _must(len(detail) <= DETAIL_MAX, "its detail is too long")
    _must("\0" not in detail, "its detail holds a NUL")  # PostgreSQL stores none
    _must(len(heartbeat.periods) <= PERIODS_MAX, "it has too many periods")
    for period in heartbeat.periods:
        _must(_counts(period.number), "a period's number is out of range")
        _must(0 <= period.ready_seconds <= SECONDS_MAX, "a period's seconds are out of range")
        _must(_is_instant(period.began), "a period's beginning is out of range or has no time zone")


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ImpossibleHeartbeat(otherwise)


def _counts(number: int) -> bool:
    return 1 <= number <= NUMBER_MAX


def _is_instant(instant: datetime) -> bool:
    return instant.tzinfo is not None and _EARLIEST <= instant <= _LATEST


def _is_address(text: str) -> bool:
    """`host:port` as the agent writes it and the gateway takes it apart: a name or an IP, brackets or none."""
    if len(text) > ADDRESS_MAX:
        return False
    host, _, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    return bool(_PORT.fullmatch(port)) and int(port) <= PORT_MAX and (_is_ip(host) or bool(_HOST_NAME.fullmatch(host)))


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host
