"""An engine that refuses a request after its stream's head: the simulated engine's bytes, which are SGLang's."""

import asyncio

import pytest

from services.worker.simulated_engine.refusals import Refused
from tests.servers.gateway_in_process import InProcess
from tests.servers.scripted_engine import DONE, ReceivedRequest, chat_chunk, chunked, scripted_engine, stream_head


@pytest.mark.parametrize(
    ("status", "sentence", "told", "code", "message"),
    [
        (400, "The prompt has 40 tokens, 8 may be.", 400, "invalid_request", "The prompt has 40 tokens, 8 may be."),
        (413, "The image is too large.", 413, "invalid_request", "The image is too large."),
        (422, "`top_k` is a number.", 400, "invalid_request", "`top_k` is a number."),
        (400, "at 10.1.2.3:30000 it failed", 400, "invalid_request", "The model refused this request."),
        (503, "The request queue is full.", 503, "overloaded", "Try again in a few seconds."),
        (429, "Too many requests.", 503, "overloaded", "Try again in a few seconds."),
        (500, 'Internal error: "code":400, "code": 400', 502, "upstream_error", "Nothing is charged"),
    ],
)
@pytest.mark.parametrize("begun", [True, False])
async def test_an_engines_refusal_inside_a_stream_keeps_its_meaning(
    made: InProcess, begun: bool, status: int, sentence: str, told: int, code: str, message: str
) -> None:
    """As the first event of a stream it is still an answer with a status of its own."""

    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        head = stream_head() + (chunked(chat_chunk(request.body["rid"], "public/m", "a")) if begun else b"")
        refusal = chunked(Refused(sentence, "Error", status).chunk())
        writer.write(head + refusal + chunked(DONE) + chunked(b""))

    async with scripted_engine(answering) as engine:
        made.service(engine.port)
        answer = await made.ask(made.request(stream=True))
    error = answer.events[-1]["error"] if begun else answer.error
    assert (answer.status, error["code"]) == (200 if begun else told, code)
    assert message in error["message"] and b"10.1.2.3" not in answer.body
    assert begun or ("retry-after" in answer.headers) == (code == "overloaded")
    (end,) = made.ends()
    assert (end.outcome, end.status, end.error_code) == ("engine_refused", answer.status, code)
