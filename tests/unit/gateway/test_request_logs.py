"""A request that failed for a reason of ours is logged with its id, and with nothing that its client said."""

from __future__ import annotations

import asyncio
import logging

import pytest

from services.worker.simulated_engine.refusals import Refused
from tests.servers.gateway_in_process import InProcess
from tests.servers.scripted_engine import (
    DONE,
    ReceivedRequest,
    chat_answer,
    chat_chunk,
    chunked,
    scripted_engine,
    stream_head,
    whole,
)

SAID = "a secret that only the engine may read"


async def break_off(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def answer_whole(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(whole(chat_answer(request)))


def lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    return [vars(record) for record in caplog.records if record.name.startswith("services.gateway")]


async def test_what_an_engine_failed_is_logged_with_the_requests_id(
    made: InProcess, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "services.gateway")
    async with scripted_engine(break_off) as engine:
        made.service(engine.port)
        answer = await made.ask(made.request(messages=[{"role": "user", "content": SAID}]))
    (end,) = made.ends()
    assert answer.status == end.status == 502
    (line,) = [line for line in lines(caplog) if "request_id" in line]
    told = {name: line[name] for name in ("message", "request_id", "account", "instance", "outcome", "status")}
    assert told == {
        "message": "request failed",
        "request_id": end.request_id,
        "account": made.account,
        "instance": end.instance,
        "outcome": "engine_lost",
        "status": 502,
    }
    assert answer.headers["x-request-id"] == end.request_id
    everything = repr(lines(caplog))
    assert SAID not in everything and made.key not in everything


async def fail_inside_a_stream(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    begun = stream_head() + chunked(chat_chunk(request.body["rid"], "public/m", "a"))
    writer.write(begun + chunked(Refused("out of memory", "Error", 500).chunk()) + chunked(DONE) + chunked(b""))


async def refuse(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(stream_head() + chunked(Refused("`top_k` is a number.", "Error", 400).chunk()) + chunked(b""))


async def test_an_engines_error_inside_a_stream_is_logged_though_its_status_was_200(
    made: InProcess, caplog: pytest.LogCaptureFixture
) -> None:
    async with scripted_engine(fail_inside_a_stream) as engine:
        made.service(engine.port)
        await made.ask(made.request(stream=True))
    (line,) = [line for line in lines(caplog) if "request_id" in line]
    told = line["message"], line["outcome"], line["status"], line["code"]
    assert told == ("request failed", "engine_refused", 200, "upstream_error")


async def test_a_wrong_request_is_not_logged(made: InProcess, caplog: pytest.LogCaptureFixture) -> None:
    async with scripted_engine(refuse) as engine:
        made.service(engine.port)
        assert (await made.ask(made.request(stream=True))).status == 400
    assert lines(caplog) == []


async def test_what_went_well_is_not_logged(made: InProcess, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "services.gateway")
    async with scripted_engine(answer_whole) as engine:
        made.service(engine.port)
        assert (await made.ask(made.request())).status == 200
    assert lines(caplog) == []
