"""What engines, clients and disks break: who hears what, and what is recorded."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.servers.gateway_in_process import InProcess, gateway_in_process, read_answer, until
from tests.servers.ports import free_port
from tests.servers.scripted_engine import (
    DONE,
    ReceivedRequest,
    chat_answer,
    chat_chunk,
    chunked,
    compact,
    event,
    scripted_engine,
    stream_head,
    usage_chunk,
    whole,
)


async def answer_whole(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(whole(chat_answer(request)))


async def break_off(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.close()


def first_chunk(request: ReceivedRequest) -> bytes:
    return stream_head() + chunked(chat_chunk(request.body["rid"], "public/m", "a"))


async def test_a_request_goes_to_another_instance_under_a_new_engine_id(made: InProcess) -> None:
    async with scripted_engine(break_off) as bad, scripted_engine(answer_whole) as good:
        made.service(bad.port, good.port)
        made.gateway.routes.services["public/m"].instances[1].in_flight += 1  # so that the bad one is picked
        answer = await made.ask(made.request())
        (end,) = made.ends()
        assert answer.status == 200 and answer.json["id"] == end.request_id
        assert end.outcome == "completed" and end.instance == f"i-{good.port:012x}"
        (attempt,) = end.attempts
        assert attempt.instance == f"i-{bad.port:012x}" and attempt.engine_request_id == end.request_id
        assert attempt.outcome == "engine_lost"
        assert good.requests[0].body["rid"] != bad.requests[0].body["rid"]
        # The bad one cools down now.
        for _ in range(3):
            assert (await made.ask(made.request())).status == 200
        assert len(bad.requests) == 1


async def test_a_connection_that_went_stale_is_replaced_unseen(made: InProcess) -> None:
    answered = 0

    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        nonlocal answered
        answered += 1
        if answered == 2:
            writer.close()  # as an engine does that closed it just before our bytes came
        else:
            await answer_whole(request, writer)

    async with scripted_engine(answering) as engine:
        made.service(engine.port)
        for _ in range(2):
            answer = await made.ask(made.request())
            assert answer.status == 200
        first, second = made.ends()
    assert not first.attempts and len(second.attempts) == 1
    assert answer.json["id"] == second.request_id
    assert made.gateway.routes.services["public/m"].instances[0].cooled_until == 0.0


async def test_no_engine_answers(made: InProcess) -> None:
    made.service(free_port(), free_port())
    answer = await made.ask(made.request())
    assert answer.status == 503 and answer.error["code"] == "no_instance_available"
    assert b"127.0.0.1" not in answer.body
    (end,) = made.ends()
    assert (end.outcome, end.status, end.prompt_tokens, len(end.attempts)) == ("engine_lost", 503, None, 1)


@pytest.mark.parametrize("piece", [b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", b"garbage\r\n\r\n"])
async def test_an_answer_that_breaks_is_not_tried_again(made: InProcess, piece: bytes) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(piece)
        await writer.drain()
        writer.close()

    async with scripted_engine(answering) as engine:
        made.service(engine.port)
        answer = await made.ask(made.request())
        assert answer.status == 502 and len(engine.requests) == 1
    assert made.ends()[0].outcome == "engine_lost"


async def test_a_stream_that_breaks_ends_with_an_error_event(made: InProcess) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(first_chunk(request))
        await writer.drain()
        writer.close()

    async with scripted_engine(answering) as engine:
        made.service(engine.port)
        reader, writer = await made.connect()
        for count in (1, 2):  # the client's connection is still good
            writer.write(made.request(stream=True))
            answer = await read_answer(reader)
            assert answer.status == 200 and answer.events[-1]["error"]["code"] == "upstream_error"
            ends = await made.ended(count)
            assert (ends[-1].outcome, ends[-1].status) == ("engine_lost", 200)
        writer.close()


async def test_an_engines_error_inside_a_stream_is_put_in_the_envelope(made: InProcess) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        error = {"object": "error", "message": "at 10.1.2.3:30000 it failed", "code": 500}
        writer.write(first_chunk(request) + chunked(event({"error": error})) + chunked(DONE) + chunked(b""))

    async with scripted_engine(answering) as engine:
        made.service(engine.port)
        answer = await made.ask(made.request(stream=True))
    assert answer.events[-1]["error"]["code"] == "upstream_error" and b"10.1.2.3" not in answer.body
    assert made.ends()[0].outcome == "engine_refused"


@pytest.mark.parametrize(
    ("status", "message", "seen", "kept"),
    [
        (400, "The input is longer than the model's context length.", 400, True),
        (422, "temperature is odd", 400, True),
        (400, "failed at http://10.0.0.7:30000/generate", 400, False),
        (400, "no file /srv/models/secret/config.json", 400, False),
        (400, "1 validation error:\n {'type': 'int_parsing_size', 'loc': ('body', 'max_tokens')}", 400, False),
        (422, "[{'type': 'x', 'loc': ('body',), 'msg': 'Input should be a valid integer'}]", 400, False),
        (500, "CUDA error", 502, False),
        (404, "Not Found", 502, False),
        (503, "queue is full", 503, False),
    ],
)
async def test_an_engines_refusal_is_translated(
    made: InProcess, status: int, message: str, seen: int, kept: bool
) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        body = {"object": "error", "message": message, "type": "BadRequestError", "param": None, "code": status}
        writer.write(whole(compact(body), status))

    async with scripted_engine(answering) as engine:
        made.service(engine.port)
        answer = await made.ask(made.request())
    assert answer.status == seen and (answer.error["message"] == message) is kept
    (end,) = made.ends()
    assert (end.outcome, end.status, end.prompt_tokens) == ("engine_refused", seen, None)


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_engine_that_says_nothing_times_out_and_is_told_to_stop(tmp_path: Path, streamed: bool) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        if streamed:
            writer.write(first_chunk(request))
            await writer.drain()
        await asyncio.sleep(600)

    limits = {"first_byte_timeout_s": 60.0 if streamed else 0.2, "between_bytes_timeout_s": 0.2}
    async with scripted_engine(answering) as engine, gateway_in_process(tmp_path, **limits) as made:
        made.service(engine.port)
        answer = await made.ask(made.request(stream=streamed))
        if streamed:
            assert answer.events[-1]["error"]["code"] == "upstream_timeout"
        else:
            assert answer.status == 504 and answer.error["code"] == "upstream_timeout"
        (end,) = await made.ended()
        assert end.outcome == "upstream_timeout"
        await until(lambda: engine.aborted == [end.request_id])


@pytest.mark.parametrize("half", [False, True])
async def test_a_client_that_leaves_pays_what_the_engine_reports(made: InProcess, half: bool) -> None:
    asked_to_stop = asyncio.Event()

    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        rid = request.body["rid"]
        writer.write(first_chunk(request))
        await asked_to_stop.wait()
        writer.write(chunked(usage_chunk(rid, "public/m", prompt=7, completion=2)) + chunked(DONE) + chunked(b""))

    async with scripted_engine(answering) as engine:
        made.service(engine.port)
        reader, writer = await made.connect()
        writer.write(made.request(stream=True))
        await reader.readuntil(b"\r\n\r\n")
        if half:
            writer.write_eof()
        else:
            writer.close()
        # Said again, as long as the original has not ended.
        await until(lambda: len(engine.aborted) >= 2)
        asked_to_stop.set()
        (end,) = await made.ended()
        assert set(engine.aborted) == {end.request_id}
        assert (end.outcome, end.status, end.prompt_tokens, end.completion_tokens) == ("client_gone", 499, 7, 2)
        assert made.gateway.in_flight == 0 and not made.gateway.orphans
        writer.close()


async def test_several_prompts_are_each_aborted(made: InProcess) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        await until(lambda: len(engine.aborted) >= 2)
        writer.write(whole(compact({"id": "x", "usage": {"prompt_tokens": 4, "completion_tokens": 1}})))

    async with scripted_engine(answering) as engine:
        made.service(engine.port)
        _, writer = await made.connect()
        writer.write(made.request("/v1/completions", prompt=["a", "b"]))
        await until(lambda: engine.requests)
        writer.close()
        (end,) = await made.ended()
        assert set(engine.aborted[:2]) == {f"{end.request_id}_0", f"{end.request_id}_1"}
        assert (end.outcome, end.prompt_tokens) == ("client_gone", 4)


async def test_several_choices_are_closed_and_the_last_report_is_charged(made: InProcess) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        counts = {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}
        writer.write(stream_head() + chunked(chat_chunk("own", "public/m", "a", 0, counts)))
        writer.write(chunked(chat_chunk("own", "public/m", "b", 1, counts)))
        await writer.drain()
        await asyncio.sleep(600)

    async with scripted_engine(answering) as engine:
        made.service(engine.port)
        reader, writer = await made.connect()
        writer.write(made.request(stream=True, n=2))
        await reader.readuntil(b'"content":"b"')
        writer.close()
        (end,) = await made.ended()
        assert (end.outcome, end.prompt_tokens, end.completion_tokens) == ("client_gone", 5, 8)
        assert engine.aborted == []


async def test_several_choices_unstreamed_are_closed_and_cost_nothing(made: InProcess) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(600)

    async with scripted_engine(answering) as engine:
        made.service(engine.port)
        _, writer = await made.connect()
        writer.write(made.request(n=2))
        await until(lambda: engine.requests)
        writer.close()
        (end,) = await made.ended()
        assert (end.outcome, end.prompt_tokens) == ("client_gone_unreported", None)


async def test_an_engine_that_never_reports_is_given_up(tmp_path: Path) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(600)

    async with scripted_engine(answering) as engine, gateway_in_process(tmp_path, abort_wait_s=0.3) as made:
        made.service(engine.port)
        _, writer = await made.connect()
        writer.write(made.request())
        await until(lambda: engine.requests)
        writer.close()
        (end,) = await made.ended()
        assert end.outcome == "client_gone_unreported"


async def test_a_client_that_stops_reading_is_gone(tmp_path: Path) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(stream_head())
        while not engine.aborted:
            writer.write(chunked(chat_chunk(request.body["rid"], "public/m", "x" * 50_000)))
            await writer.drain()
        writer.write(chunked(usage_chunk(request.body["rid"], "public/m")) + chunked(DONE) + chunked(b""))

    async with scripted_engine(answering) as engine, gateway_in_process(tmp_path, client_write_timeout_s=0.5) as made:
        made.service(engine.port)
        _, writer = await asyncio.open_connection("127.0.0.1", made.port, limit=1 << 12)
        writer.write(made.request(stream=True))
        (end,) = await made.ended()
        assert end.outcome == "client_gone" and end.completion_tokens == 3
        writer.close()


@pytest.mark.parametrize("short", [False, True])
async def test_no_answer_leaves_before_its_end_is_on_disk(tmp_path: Path, short: bool) -> None:
    broken = False

    def write(handle: int, data: bytes) -> int:
        if broken:
            if short:
                return os.write(handle, data[: len(data) // 2])
            raise OSError(28, "No space left on device")
        return os.write(handle, data)

    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        nonlocal broken
        broken = True
        await answer_whole(request, writer)

    async with scripted_engine(answering) as engine, gateway_in_process(tmp_path, write=write) as made:
        made.service(engine.port)
        reader, writer = await made.connect()
        writer.write(made.request())
        await until(lambda: made.gateway.spool.write_failures >= 2)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(1), 0.3)
        assert made.ends() == []
        refused = await made.ask(made.request())
        assert refused.status == 503 and refused.error["code"] == "spool_full"
        broken = False
        assert (await read_answer(reader)).status == 200
        assert [end.outcome for end in made.ends()] == ["completed"]
        writer.close()


async def test_fdatasync_holds_to_the_same_rule(tmp_path: Path) -> None:
    async with scripted_engine(answer_whole) as engine, gateway_in_process(tmp_path, spool_sync="fdatasync") as made:
        made.service(engine.port)
        answers = await asyncio.gather(*(made.ask(made.request()) for _ in range(50)))
        assert {answer.status for answer in answers} == {200}
        assert len(made.ends()) == 50


async def test_the_intent_is_on_disk_before_the_engine_sees_the_request(made: InProcess) -> None:
    seen: list[object] = []

    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        seen.extend(made.records())
        await answer_whole(request, writer)

    async with scripted_engine(answering) as engine:
        made.service(engine.port)
        await made.ask(made.request(extra="X-Request-Id: mine\r\n"))
    (end,) = made.ends()
    assert [(intent.request_id, intent.instance) for intent in seen] == [(end.request_id, end.instance)]  # type: ignore[attr-defined]
    assert end.client_request_id == "mine"


@pytest.mark.parametrize("status", [401, 403, 429, 503])
async def test_a_full_or_wrong_engine_is_left_for_another(made: InProcess, status: int) -> None:
    async def refusing(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(b'{"message":"no"}', status))

    async with scripted_engine(refusing) as bad, scripted_engine(answer_whole) as good:
        made.service(bad.port, good.port)
        made.gateway.routes.services["public/m"].instances[1].in_flight += 1
        answer = await made.ask(made.request())
        (end,) = made.ends()
        assert answer.status == 200 and answer.json["id"] == end.request_id
        assert [attempt.outcome for attempt in end.attempts] == ["engine_refused"]
        assert [instance.in_flight for instance in made.gateway.routes.services["public/m"].instances] == [0, 1]


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_too_large_is_given_up(tmp_path: Path, streamed: bool) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        if streamed:
            writer.write(first_chunk(request) + chunked(b"data: {" + b"x" * 9000))
        else:
            writer.write(whole(b"x" * 9000))

    async with scripted_engine(answering) as engine:
        async with gateway_in_process(tmp_path, answer_bytes_max=8000, event_bytes_max=8000) as made:
            made.service(engine.port)
            answer = await made.ask(made.request(stream=streamed))
            assert b'"code":"upstream_error"' in answer.body
            (end,) = await made.ended()
            assert end.outcome == "engine_lost"


async def test_chunks_that_come_close_together_leave_together(tmp_path: Path) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        rid = request.body["rid"]
        writer.write(stream_head())
        for number in range(200):
            writer.write(chunked(chat_chunk(rid, "public/m", f"{number},")))
            await writer.drain()
            await asyncio.sleep(0.001)
        writer.write(chunked(usage_chunk(rid, "public/m")) + chunked(DONE) + chunked(b""))

    async with scripted_engine(answering) as engine, gateway_in_process(tmp_path, coalesce_ms=20) as made:
        made.service(engine.port)
        reader, writer = await made.connect()
        writer.write(made.request(stream=True))
        raw = await reader.readuntil(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        text = raw.decode()
        positions = [text.index(f'"content":"{number},"') for number in range(200)]
        assert positions == sorted(positions)
        assert text.count("\r\n") < 200, "far fewer chunks than the engine sent"
        writer.close()
