"""The Faust application: who reads which partition of `hydra.spend`, and the agent that takes its messages."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import faust
import msgspec
from faust.types import TP

from adapters.process_metrics import STATE_BAD_RECORDS
from domain.plausible import Implausible, check_plausible
from schemas import codec
from schemas.spend import SpendStated
from schemas.topics import SPEND
from streams.live_spend.from_the_beginning import FromTheBeginning
from streams.live_spend.known_partitions import KnownPartitions
from streams.live_spend.settings import LiveSpendSettings
from streams.live_spend.spend_view import SpendView
from streams.metrics import StreamMetrics

logger = logging.getLogger(__name__)

OnAssigned = Callable[[frozenset[int]], Awaitable[None]]


def live_spend_app(
    bootstrap: str,
    data_dir: Path,
    settings: LiveSpendSettings,
    view: SpendView,
    metrics: StreamMetrics,
    on_assigned: OnAssigned,
) -> faust.App:
    """An application that is not started yet. It serves nothing and declares no topic.

    `acks=False` is what makes it safe: Faust commits a message whose agent was stopped or raised, so here nothing is
    committed at all, and every assignment begins at the beginning.
    """
    # Warns of "missing sensor state" at every first rebalance when no monitor is attached.
    logging.getLogger("faust.app.base").setLevel(logging.ERROR)
    app = faust.App(
        settings.group,
        broker=f"kafka://{bootstrap}",
        store="memory://",
        datadir=str(data_dir),
        autodiscover=False,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 5,
        broker_max_poll_records=settings.batch_records_max,
        PartitionAssignor=KnownPartitions,
    )
    app.transport.Consumer = FromTheBeginning
    STATE_BAD_RECORDS[SPEND.name] += 0
    spend = app.topic(
        SPEND.name, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw", acks=False
    )

    @app.agent(spend, name="live_spend")  # type: ignore[untyped-decorator]  # Faust ships no usable types
    async def take_spend(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            view.take(message.partition, message.offset, _stated(message.offset, event.value))
            metrics.events.inc()

    @app.on_partitions_assigned.connect(weak=False)  # type: ignore[untyped-decorator]
    async def assigned(_app: faust.App, partitions: set[TP], **_: Any) -> None:
        await on_assigned(frozenset(tp.partition for tp in partitions if tp.topic == SPEND.name))

    return app


def _stated(offset: int, value: bytes | None) -> SpendStated | None:
    if not value:
        return None
    try:
        stated = codec.decode(value, SpendStated).data
        check_plausible(stated)
    except (msgspec.DecodeError, Implausible) as error:
        STATE_BAD_RECORDS[SPEND.name] += 1
        logger.error("record of hydra.spend ignored", extra={"offset": offset, "cause": str(error)[:200]})
        return None
    return stated
