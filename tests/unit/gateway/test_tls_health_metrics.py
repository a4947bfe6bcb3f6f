"""TLS by setting, health and metrics, and a drain."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from domain.outcome import unbilled_usage
from services.gateway.settings import GatewaySettings
from tests.servers.gateway_in_process import InProcess, gateway_in_process, read_answer, until
from tests.servers.scripted_engine import (
    DONE,
    ReceivedRequest,
    chat_answer,
    chat_chunk,
    chunked,
    scripted_engine,
    stream_head,
    usage,
    usage_chunk,
    whole,
)

HERE = Path(__file__).parent
CERTIFICATE, KEY = HERE / "localhost_certificate.pem", HERE / "localhost_key.pem"


async def answer_whole(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(whole(chat_answer(request, "x" * 300_000)))


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


async def test_tls(tmp_path: Path) -> None:
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    async with scripted_engine(answer_whole) as engine:
        async with gateway_in_process(tmp_path, tls_certificate=CERTIFICATE, tls_key=KEY) as made:
            made.service(engine.port)
            reader, writer = await asyncio.open_connection("localhost", made.port, ssl=context, limit=1 << 22)
            for _ in range(2):
                writer.write(made.request())
                assert (await read_answer(reader)).status == 200
            writer.write(b"nonsense\r\n\r\n")
            assert (await read_answer(reader)).status == 400
            writer.close()


async def test_an_answer_over_tls_has_its_time_before_its_connection_gives_way(tmp_path: Path) -> None:
    # What of it still waits to be sent is not told there.
    context = ssl.create_default_context(cafile=str(CERTIFICATE))
    settings: dict[str, Any] = {"tls_certificate": CERTIFICATE, "tls_key": KEY, "connections_max": 1}
    async with gateway_in_process(tmp_path, **settings, client_write_timeout_s=3) as made:
        reader, writer = await asyncio.open_connection("localhost", made.port, ssl=context)
        writer.write(get("/health/live"))
        assert (await read_answer(reader)).status == 200

        async def status_of_another() -> int:
            reader, writer = await asyncio.open_connection("localhost", made.port, ssl=context)
            writer.write(get("/health/live"))
            status = (await read_answer(reader)).status
            writer.close()
            return status

        assert await status_of_another() == 503
        await asyncio.sleep(3)
        assert await status_of_another() == 200
        assert await reader.read() == b""


def test_a_certificate_needs_its_key() -> None:
    with pytest.raises(ValueError, match="TLS_KEY"):
        GatewaySettings(tls_certificate=CERTIFICATE)


async def test_readiness_says_why(made: InProcess) -> None:
    async def ready() -> tuple[int, str]:
        answer = await made.ask(get("/health/ready"))
        return answer.status, answer.json["status"]

    assert await ready() == (200, "ok")
    made.state.degraded = True
    assert await ready() == (200, "degraded")
    made.state.age = 1e9
    assert await ready() == (503, "stale")
    made.state.ready = False
    assert await ready() == (503, "starting")
    assert (await made.ask(get("/health/live"))).status == 200


async def test_metrics_count_with_bounded_labels(made: InProcess) -> None:
    async with scripted_engine(answer_whole) as engine:
        made.service(engine.port)
        await made.ask(made.request())
        for number in range(5):
            await made.ask(made.request(model=f"public/{number}"))
        text = (await made.ask(get("/metrics"))).body.decode()
    samples = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    labels = (("endpoint", "chat.completions"), ("outcome", "completed"), ("status", "200"))
    assert samples[("hydra_gateway_requests_total", *labels)] == 1
    refused = (("code", "model_not_found"), ("endpoint", "chat.completions"))
    assert samples[("hydra_gateway_refusals_total", *refused)] == 5
    assert samples[("hydra_gateway_tokens_total", ("kind", "prompt"))] == 7
    assert samples[("hydra_gateway_request_seconds_count",)] == 1
    assert made.key not in text and "public/" not in text


async def test_a_drain_lets_streams_end_and_takes_nothing_new(made: InProcess) -> None:
    release = asyncio.Event()

    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        rid = request.body["rid"]
        writer.write(stream_head() + chunked(chat_chunk(rid, "public/m", "a")))
        await release.wait()
        writer.write(chunked(usage_chunk(rid, "public/m")) + chunked(DONE) + chunked(b""))

    async with scripted_engine(answering) as engine:
        made.service(engine.port)
        idle_reader, idle_writer = await made.connect()
        idle_writer.write(get("/health/live"))
        await read_answer(idle_reader)
        reader, writer = await made.connect()
        writer.write(made.request(stream=True))
        await until(lambda: engine.requests)
        draining = asyncio.create_task(made.gateway.drain())
        assert await idle_reader.read() == b"", "an idle connection is closed"
        with pytest.raises(OSError):
            await made.connect()
        release.set()
        answer = await read_answer(reader)
        assert answer.body.endswith(DONE)
        assert await reader.read() == b""
        await draining
        assert made.ends()[0].outcome == "completed"
        writer.close()
        idle_writer.close()


async def test_what_a_drain_breaks_off_is_not_charged(tmp_path: Path) -> None:
    """Its client is still there: it is told to come again, and the engine to stop."""

    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        if request.body["stream"]:
            counts = usage(7, 2)
            chunk = chat_chunk(request.body["rid"], "public/m", "a", counts=counts)
            writer.write(stream_head() + chunked(chunk))
        await until(lambda: request.body["rid"] in engine.aborted)
        writer.write(whole(chat_answer(request)))

    async with scripted_engine(answering) as engine, gateway_in_process(tmp_path, drain_s=0.1) as made:
        made.service(engine.port)
        reader, writer = await made.connect()
        writer.write(made.request(stream=False))
        stream_reader, stream_writer = await made.connect()
        continuous = {"include_usage": True, "continuous_usage_stats": True}
        stream_writer.write(made.request(stream=True, stream_options=continuous))
        await stream_reader.readuntil(b'"a"')
        await until(lambda: len(engine.requests) == 2)
        await made.gateway.drain()
        assert set(engine.aborted) == {request.body["rid"] for request in engine.requests}
        answer = await read_answer(reader)
        assert (answer.status, answer.error["code"]) == (503, "gateway_stopped")
        assert int(answer.headers["retry-after"]) > 0 and answer.headers["connection"] == "close"
        last = await stream_reader.read()
        assert b'"code":"gateway_stopped"' in last and last.endswith(b"0\r\n\r\n"), "the stream says it, then ends"
        ends = {end.streamed: end for end in made.ends()}
        assert {(end.outcome, unbilled_usage(end)) for end in ends.values()} == {("gateway_lost", "gateway_lost")}
        assert (ends[False].status, ends[False].prompt_tokens) == (503, None)
        assert (ends[True].status, ends[True].completion_tokens) == (200, 2), "what was seen is recorded"
        assert made.gateway.metrics.lost_requests == 2
        for each in (writer, stream_writer):
            each.close()


@pytest.mark.parametrize("reports", [True, False])
async def test_a_client_that_left_before_the_drain_was_over_pays_up_to_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, reports: bool
) -> None:
    """Its engine reports after the drain's time, or never."""
    over = asyncio.Event()

    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        counts = usage(7, 2)
        writer.write(stream_head() + chunked(chat_chunk(request.body["rid"], "public/m", "a", counts=counts)))
        await over.wait()
        if reports:
            rid = request.body["rid"]
            writer.write(chunked(usage_chunk(rid, "public/m")) + chunked(DONE) + chunked(b""))
        else:
            await asyncio.Event().wait()

    async with (
        scripted_engine(answering) as engine,
        gateway_in_process(tmp_path, drain_s=0.1, abort_wait_s=2.0) as made,
    ):
        made.service(engine.port)
        reader, writer = await made.connect()
        continuous = {"include_usage": True, "continuous_usage_stats": True}
        writer.write(made.request(stream=True, stream_options=continuous))
        await reader.readuntil(b'"a"')
        writer.close()
        await until(lambda: made.gateway.orphans)
        draining = asyncio.create_task(made.gateway.drain())
        await until(lambda: "drain time is over" in caplog.text)
        over.set()
        await draining
        (end,) = made.ends()
        assert (end.outcome, end.completion_tokens) == ("client_gone", 3 if reports else 2)
        assert unbilled_usage(end) is None
        assert made.gateway.metrics.lost_requests == 0
