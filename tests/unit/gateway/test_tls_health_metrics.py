"""TLS by setting, health and metrics, and a drain."""

import asyncio
import ssl
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

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


async def test_a_drain_breaks_off_what_does_not_end(tmp_path: Path) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        await until(lambda: engine.aborted)
        writer.write(whole(chat_answer(request)))

    async with scripted_engine(answering) as engine, gateway_in_process(tmp_path, drain_s=0.1) as made:
        made.service(engine.port)
        _, writer = await made.connect()
        writer.write(made.request())
        await until(lambda: engine.requests)
        await made.gateway.drain()
        (end,) = made.ends()
        assert (end.outcome, end.completion_tokens) == ("client_gone", 3)
        writer.close()
