"""What the gateway shows of its spool and of itself, computed from the files when someone asks."""

from __future__ import annotations

import asyncio
import shutil
import struct
import zlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from adapters.kafka.producer import EventProducer
from adapters.process_metrics import release
from services.gateway.adoption import Adoption
from services.gateway.metrics import Metrics
from services.gateway.spool import Spool
from services.gateway.spool_age import oldest_unpublished
from services.gateway.spool_files import Intent, intent_record, lost_usage, segment_path, usage_event
from tests.servers.gateway_in_process import InProcess, until
from tests.servers.scripted_engine import ReceivedRequest, chat_answer, scripted_engine, whole

LONG_AGO = datetime(2026, 11, 20, 12, 0, 0, 123456, tzinfo=UTC)
ACCOUNT = "u-0123456789ab"


async def answer_whole(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(whole(chat_answer(request, "x")))


def intent(number: int, received: datetime) -> Intent:
    return Intent(
        f"cmp-{number:032x}", ACCOUNT, "k-0123456789ab", "public/m", "chat.completions", True, received,
        "s-0123456789ab", "m", "sh-02", "token", "i-0123456789ab", 3, "mine", "g-dead",
    )  # fmt: skip


async def finish(spool: Spool, started: Intent) -> None:
    """The request's end, on disk; it ended when it was received."""
    done = asyncio.Event()
    spool.append_end(started.request_id, ACCOUNT, usage_event(lost_usage(started)), done.set)
    await done.wait()


async def test_the_spools_age_is_that_of_the_oldest_end_that_kafka_lacks(tmp_path: Path) -> None:
    spool = Spool(tmp_path, asyncio.get_running_loop(), bytes_max=1 << 20, segment_bytes=1 << 16, sync="write")
    first, second = intent(1, LONG_AGO), intent(2, LONG_AGO + timedelta(hours=1))
    for started in (first, second):
        assert spool.reserve()
        spool.append_intent(started, lambda: None)
    await until(lambda: spool.settled)
    assert oldest_unpublished(spool.segments) is None, "running requests do not wait for Kafka"
    await finish(spool, first)
    after_first = spool.segments[-1].size
    await finish(spool, second)
    assert oldest_unpublished(spool.segments) == first.received
    spool.mark_published(spool.segments[-1], after_first)
    assert oldest_unpublished(spool.segments) == second.received
    spool.mark_published(spool.segments[-1], spool.segments[-1].size)
    assert oldest_unpublished(spool.segments) is None


async def shown(made: InProcess) -> dict[str, float]:
    """The unlabelled samples of /metrics, and `hydra_build_info` by its version."""
    text = (await made.ask(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")).body.decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    found = {sample.name: sample.value for sample in samples if not sample.labels}
    found |= {sample.labels["version"]: sample.value for sample in samples if sample.name == "hydra_build_info"}
    return found


async def test_age_room_and_readiness_are_shown(made: InProcess) -> None:
    before = await shown(made)
    assert before["hydra_gateway_spool_oldest_seconds"] == 0
    async with scripted_engine(answer_whole) as engine:
        made.service(engine.port)
        await made.ask(made.request())
    # Nothing publishes here, so what was answered waits.
    after = await shown(made)
    assert after["hydra_gateway_spool_oldest_seconds"] > 0
    assert after["hydra_gateway_spool_limit_bytes"] == made.gateway.settings.spool_bytes_max
    assert (after["hydra_ready"], after[release()], before["hydra_gateway_adoption_waiting_seconds"]) == (1, 1, 0)
    assert after["process_resident_memory_bytes"] > 0
    assert not [name for name in after if name.endswith("_created")]
    made.state.degraded = True
    degraded = await shown(made)
    assert (degraded["hydra_ready"], degraded["hydra_gateway_degraded"]) == (1, 1), "it still serves"
    made.state.ready = False
    assert (await shown(made))["hydra_ready"] == 0


async def test_a_dead_gateways_spool_that_kafka_does_not_take_is_seen(
    tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    own, dead = tmp_path / "own", tmp_path / "dead"
    own.mkdir()
    dead.mkdir()
    segment_path(dead, 1).write_bytes(intent_record(intent(1, LONG_AGO)))
    metrics = Metrics()
    producer = EventProducer(f"127.0.0.1:{unused_port()}", timeout_s=1)
    adoption = Adoption(tmp_path, own, producer, metrics, interval_s=0.05, batch_max=10)
    running = asyncio.create_task(adoption.run([]))
    try:
        await until(lambda: metrics.adoption_waits_since is not None)
        shutil.rmtree(dead)  # as when another gateway has adopted it
        await until(lambda: metrics.adoption_waits_since is None)
    finally:
        running.cancel()
        await producer.stop()


@pytest.mark.parametrize("name", ["own", "dead"])
async def test_a_spool_that_cannot_be_read_is_counted_for_as_long_as_it_lies_there(
    tmp_path: Path, unused_port: Callable[[], int], name: str
) -> None:
    """Its own leftovers as well as another gateway's: an alert on what is counted must not fall silent before."""
    own = tmp_path / "own"
    for folder in {own, tmp_path / name}:
        folder.mkdir()
    of_a_later_release = b"?a record"
    segment = segment_path(tmp_path / name, 1)
    segment.write_bytes(
        struct.pack("<II", len(of_a_later_release), zlib.crc32(of_a_later_release)) + of_a_later_release
    )
    metrics = Metrics()
    producer = EventProducer(f"127.0.0.1:{unused_port()}", timeout_s=1)
    adoption = Adoption(tmp_path, own, producer, metrics, interval_s=0.05, batch_max=10)
    running = asyncio.create_task(adoption.run([segment] if name == "own" else []))
    try:
        await until(lambda: metrics.unreadable_spools >= 3)
        assert segment.exists()
    finally:
        running.cancel()
        await producer.stop()
