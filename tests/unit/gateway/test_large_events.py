"""An event of a stream that is more than the gateway holds: who pays, and what is still read behind it."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from domain.outcome import unbilled_usage
from services.gateway.stream_usage import StreamFilter
from tests.servers.gateway_in_process import InProcess, gateway_in_process, read_answer, until
from tests.servers.scripted_engine import (
    DONE,
    ReceivedRequest,
    chat_answer,
    chat_chunk,
    chunked,
    event,
    scripted_engine,
    stream_head,
    usage_chunk,
    whole,
)

EVENT_BYTES_MAX = 8_000
LARGE = b'data: {"choices":[{"index":0,"logprobs":"' + b"x" * 5 * EVENT_BYTES_MAX + b'"}]}\n\n'
"""More than may be held, however it is cut."""
LIMITS = {"event_bytes_max": EVENT_BYTES_MAX}


def _end(request: ReceivedRequest) -> bytes:
    rid = request.body["rid"]
    return chunked(usage_chunk(rid, "public/m", prompt=7, completion=5)) + chunked(DONE) + chunked(b"")


async def _write_in_pieces(writer: asyncio.StreamWriter, data: bytes) -> None:
    """In reads of its own each, as an event of many megabytes comes."""
    for begin in range(0, len(data), 4_000):
        writer.write(chunked(data[begin : begin + 4_000]))
        await writer.drain()
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"logprobs": True, "top_logprobs": 20}),
        ("/v1/completions", {"logprobs": 20}),
        ("/v1/completions", {"echo": True}),
        ("/v1/completions", {"return_token_ids": True, "prompt": ["a", "b"]}),
    ],
)
async def test_whoever_asked_for_it_pays_up_to_there(
    tmp_path: Path, path: str, fields: dict[str, Any], begun: bool
) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        if not request.body.get("stream"):
            writer.write(whole(chat_answer(request)))
            return
        writer.write(stream_head())
        if begun:
            writer.write(chunked(chat_chunk(request.body["rid"], "public/m", "a")))
        await _write_in_pieces(writer, LARGE)
        await until(lambda: engine.aborted)
        writer.write(_end(request))

    async with scripted_engine(answering) as engine, gateway_in_process(tmp_path, **LIMITS) as made:
        made.service(engine.port)
        reader, writer = await made.connect()
        writer.write(made.request(path, stream=True, **fields))
        answer = await read_answer(reader)
        assert answer.status == 200 and len(answer.events) == 1 + begun
        error = answer.events[-1]["error"]
        assert error["code"] == "event_too_large" and "8000 bytes" in error["message"]
        (end,) = await made.ended()
        assert (end.outcome, end.prompt_tokens, end.completion_tokens) == ("client_gone", 7, 5)
        assert (end.status, end.error_code) == (200, "event_too_large")
        assert unbilled_usage(end) is None
        # Its stream ended as it should: the connection serves on.
        writer.write(made.request())
        assert (await read_answer(reader)).status == 200
        writer.close()
        assert made.gateway.in_flight == 0 and not made.gateway.orphans


async def test_of_several_choices_the_last_report_is_charged(tmp_path: Path) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        counts = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
        writer.write(stream_head() + chunked(chat_chunk("own", "public/m", "a", 0, counts)))
        await _write_in_pieces(writer, LARGE)
        await asyncio.sleep(600)

    async with scripted_engine(answering) as engine, gateway_in_process(tmp_path, **LIMITS) as made:
        made.service(engine.port)
        answer = await made.ask(made.request(stream=True, n=2, logprobs=True))
        assert answer.events[-1]["error"]["code"] == "event_too_large"
        (end,) = await made.ended()
        assert (end.outcome, end.prompt_tokens, end.completion_tokens) == ("client_gone", 5, 4)


async def test_an_engine_that_ends_no_event_unasked_is_not_paid(tmp_path: Path) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(stream_head())
        await _write_in_pieces(writer, LARGE)
        writer.write(_end(request))

    async with scripted_engine(answering) as engine, gateway_in_process(tmp_path, **LIMITS) as made:
        made.service(engine.port)
        answer = await made.ask(made.request(stream=True))
        assert (answer.status, answer.error["code"]) == (502, "upstream_error")
        (end,) = await made.ended()
        assert end.outcome == "engine_lost" and unbilled_usage(end) == "engine_lost"


async def _leave_in_the_middle(made: InProcess) -> None:
    reader, writer = await made.connect()
    writer.write(made.request(stream=True, logprobs=True))
    async with asyncio.timeout(60):
        await reader.readuntil(b'"content":"a"')
    writer.close()


async def test_what_is_reported_behind_it_counts_though_the_client_left_before(tmp_path: Path) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(stream_head() + chunked(chat_chunk(request.body["rid"], "public/m", "a")))
        await until(lambda: engine.aborted)
        await _write_in_pieces(writer, LARGE)
        writer.write(_end(request))

    async with scripted_engine(answering) as engine, gateway_in_process(tmp_path, **LIMITS) as made:
        made.service(engine.port)
        await _leave_in_the_middle(made)
        (end,) = await made.ended()
        assert (end.outcome, end.prompt_tokens, end.completion_tokens) == ("client_gone", 7, 5)
        assert (end.status, end.error_code) == (499, "client_gone")


async def test_a_drain_that_is_over_waits_for_what_is_reported_behind_it(tmp_path: Path) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(stream_head())
        await _write_in_pieces(writer, LARGE)
        await until(lambda: engine.aborted and made.gateway.draining)
        await asyncio.sleep(0.3)  # by now the drain has broken off what it breaks off
        writer.write(_end(request))

    limits = LIMITS | {"drain_s": 0}
    async with scripted_engine(answering) as engine, gateway_in_process(tmp_path, **limits) as made:
        made.service(engine.port)
        _, writer = await made.connect()
        writer.write(made.request(stream=True, logprobs=True))
        await until(lambda: engine.aborted)
        await made.gateway.drain()
        (end,) = await made.ended()
        assert (end.outcome, end.prompt_tokens, end.completion_tokens) == ("client_gone", 7, 5)
        writer.close()


@pytest.mark.parametrize("size", range(1, 40))
def test_only_the_large_event_is_left_out_however_the_stream_is_cut(size: int) -> None:
    before, after = chat_chunk("x", "m", "before"), chat_chunk("x", "m", "after")
    counted = usage_chunk("x", "m", prompt=7, completion=5)
    held_max = max(len(before), len(after), len(counted))
    stream = before + event({"text": "y" * (held_max + size)}) + after + counted + DONE
    passing = StreamFilter(
        keep_usage=False, keep_continuous=False, continuous=False, n=1, rewrite_id=None, event_bytes_max=held_max
    )
    passed = b"".join(passing.feed(stream[begin : begin + size]) for begin in range(0, len(stream), size))
    assert passed == before + after and passing.held == DONE
    assert passing.too_large and passing.usage is not None
    assert (passing.usage.prompt_tokens, passing.usage.completion_tokens) == (7, 5)
