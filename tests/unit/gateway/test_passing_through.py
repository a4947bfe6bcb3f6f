"""Requests and answers pass whole, whatever pieces they come in, and are metered once."""

import asyncio
import random

import pytest

from tests.servers.gateway_in_process import InProcess, read_answer
from tests.servers.scripted_engine import (
    DONE,
    ReceivedRequest,
    chat_answer,
    chat_chunk,
    chunked,
    compact,
    scripted_engine,
    stream_head,
    usage,
    usage_chunk,
    whole,
)

TRAP = 'a trap: "usage":{"prompt_tokens":99} data: [DONE]\n\ndata: {"error": and {"id":"x"}'


async def answer_whole(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(whole(chat_answer(request, TRAP, prompt=11, completion=5, cached=4)))


def streamed(request: ReceivedRequest) -> bytes:
    rid, model = request.body["rid"], request.body["model"]
    parts = [chat_chunk(rid, model, text) for text in ("one", TRAP, "three")]
    if (request.body.get("stream_options") or {}).get("include_usage"):
        parts.append(usage_chunk(rid, model, prompt=11, completion=3, cached=0))
    return stream_head() + b"".join(chunked(part) for part in (*parts, DONE, b""))


async def send_in_pieces(writer: asyncio.StreamWriter, data: bytes, cuts: list[int]) -> None:
    for begin, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
        writer.write(data[begin:end])
        await asyncio.sleep(0)


def cuts_of(data: bytes, seed: int) -> list[int]:
    draw = random.Random(seed)
    return sorted(draw.sample(range(1, len(data)), min(draw.choice((1, 2, 5, 40)), len(data) - 1)))


async def test_a_whole_answer_passes_untouched_and_its_usage_is_on_disk(made: InProcess) -> None:
    async with scripted_engine(answer_whole) as engine:
        made.service(engine.port)
        answer = await made.ask(made.request())
        (usage,) = made.ends()
        sent = engine.requests[0]
    assert answer.status == 200 and answer.body == chat_answer(sent, TRAP, prompt=11, completion=5, cached=4)
    assert answer.json["id"] == usage.request_id
    assert (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens) == (11, 5, 4)
    assert (usage.outcome, usage.status, usage.streamed) == ("completed", 200, False)
    assert sent.body["cache_salt"] == made.account
    assert sent.headers["authorization"].startswith("Bearer ") and made.key not in sent.headers["authorization"]


@pytest.mark.parametrize("seed", range(12))
async def test_any_split_of_pipelined_requests_gives_the_same_answers(made: InProcess, seed: int) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        if request.body.get("stream"):
            writer.write(streamed(request))
        else:
            await answer_whole(request, writer)

    body = b'{"model":"public/m","messages":[{"role":"user","content":"chunked"}]}'
    in_chunks = (
        f"POST /chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {made.key}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    ).encode() + b"".join(chunked(piece) for piece in (body[:10], body[10:11], body[11:], b""))
    listing = f"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {made.key}\r\n\r\n".encode()
    data = made.request() + listing + in_chunks + made.request(stream=True) + made.request(model="public/none")
    async with scripted_engine(answering) as engine:
        made.service(engine.port)
        reader, writer = await made.connect()
        await send_in_pieces(writer, data, cuts_of(data, seed))
        answers = [await read_answer(reader) for _ in range(5)]
        writer.close()
        assert [answer.status for answer in answers] == [200, 200, 200, 200, 404]
        assert answers[1].json["data"][0]["id"] == "public/m"
        assert engine.requests[1].body["messages"][0]["content"] == "chunked"
        assert [event["choices"][0]["delta"]["content"] for event in answers[3].events] == ["one", TRAP, "three"]
        ends = await made.ended(4)
    assert [end.outcome for end in ends] == ["completed", "completed", "completed", "refused"]
    assert ends[2].completion_tokens == 3 and ends[2].cached_tokens == 0


@pytest.mark.parametrize("asked", [False, True])
@pytest.mark.parametrize("seed", range(12))
async def test_any_split_of_a_stream_looks_as_the_client_asked(made: InProcess, seed: int, asked: bool) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        data = streamed(request)
        await send_in_pieces(writer, data, cuts_of(data, seed))

    options = {"stream_options": {"include_usage": True}} if asked else {}
    async with scripted_engine(answering) as engine:
        made.service(engine.port)
        answer = await made.ask(made.request(stream=True, **options))
        (end,) = await made.ended()
    contents = [event["choices"][0]["delta"]["content"] for event in answer.events if event["choices"]]
    assert contents == ["one", TRAP, "three"] and answer.body.endswith(DONE)
    reported = [event["usage"] for event in answer.events if not event["choices"]]
    assert reported == ([usage(prompt=11, completion=3, cached=0)] if asked else [])
    assert (end.prompt_tokens, end.completion_tokens, end.cached_tokens) == (11, 3, 0)
    assert all(event["id"] == end.request_id for event in answer.events)


async def test_several_choices_are_metered_by_choice_and_get_our_id(made: InProcess) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        assert request.body["stream_options"]["continuous_usage_stats"] is True
        parts = [
            chat_chunk("chatcmpl-own", "public/m", "a", 0, usage(5, 1)),
            chat_chunk("chatcmpl-own", "public/m", "b", 1, usage(5, 1)),
            chat_chunk("chatcmpl-own", "public/m", "c", 1, usage(5, 2)),
            usage_chunk("chatcmpl-own", "public/m", prompt=5, completion=3),
        ]
        writer.write(stream_head() + b"".join(chunked(part) for part in (*parts, DONE, b"")))

    async with scripted_engine(answering) as engine:
        made.service(engine.port)
        answer = await made.ask(made.request(stream=True, n=2))
        (end,) = await made.ended()
    assert (end.prompt_tokens, end.completion_tokens) == (5, 3)
    assert {event["id"] for event in answer.events} == {end.request_id}
    assert [event["usage"] for event in answer.events] == [None, None, None]


async def test_a_list_of_prompts_is_answered_under_our_id(made: InProcess) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        body = compact({"id": request.body["rid"] + "_0", "object": "text_completion", "usage": usage(9, 9)})
        writer.write(whole(body))

    async with scripted_engine(answering) as engine:
        made.service(engine.port)
        answer = await made.ask(made.request("/completions", prompt=["a", "b"]))
    (end,) = made.ends()
    assert answer.json["id"] == end.request_id and end.prompt_tokens == 9
    assert end.cached_tokens is None, "absent is not zero"


async def test_what_a_client_sends_under_our_names_is_overridden(made: InProcess) -> None:
    async with scripted_engine(answer_whole) as engine:
        made.service(engine.port)
        await made.ask(made.request(rid="cmp-mine", cache_salt="u-other", priority=100))
    sent = engine.requests[0].body
    assert sent["rid"] == made.ends()[0].request_id and sent["cache_salt"] == made.account


async def test_connections_are_kept_on_both_sides(made: InProcess) -> None:
    async with scripted_engine(answer_whole) as engine:
        made.service(engine.port)
        reader, writer = await made.connect()
        for _ in range(5):
            writer.write(made.request())
            assert (await read_answer(reader)).status == 200
        writer.close()
    assert {request.connection for request in engine.requests} == {1}


async def test_a_client_that_reads_slowly_holds_the_engine_back(made: InProcess) -> None:
    sent = 0

    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(stream_head())
        for _ in range(2000):
            writer.write(chunked(chat_chunk(request.body["rid"], "public/m", "x" * 20_000)))
            await writer.drain()
            sent += 1
        writer.write(chunked(usage_chunk(request.body["rid"], "public/m")) + chunked(DONE) + chunked(b""))

    async with scripted_engine(answering) as engine:
        made.service(engine.port)
        reader, writer = await asyncio.open_connection("127.0.0.1", made.port, limit=1 << 14)
        writer.write(made.request(stream=True))
        await reader.readuntil(b"\r\n\r\n")
        before = -1
        while sent != before:
            before = sent
            await asyncio.sleep(0.5)
        assert sent < 2000, "the engine was never held back"
        rest = b""
        while not rest.endswith(b"0\r\n\r\n"):
            rest = (rest + await reader.read(1 << 16))[-64:]
        writer.close()
        assert sent == 2000
        assert (await made.ended())[0].outcome == "completed"
