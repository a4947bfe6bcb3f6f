"""The two endpoints that generate: from a body to an answer, whole or streamed, and every way in which one can end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator

import msgspec

from services.worker.simulated_engine.answers import DONE, StreamWriter, whole
from services.worker.simulated_engine.engine import Engine, QueueFull, Run
from services.worker.simulated_engine.faults import Fault, Faults
from services.worker.simulated_engine.http_wire import (
    SSE,
    Receive,
    Scope,
    Send,
    answer,
    answer_half,
    begin_stream,
    header,
    read_body,
)
from services.worker.simulated_engine.orders import Order, read_order
from services.worker.simulated_engine.refusals import Refused, wrong_type

# Tokens that an unpaced answer draws before it lets others in.
UNPACED_BLOCK = 64
_QUEUE_FULL = "The request queue is full."


class Broken(Exception):
    """A fault asked for the connection to be cut."""


async def serve(engine: Engine, faults: Faults, chat: bool, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers one request to generate."""
    try:
        order = read_order(chat, await _json_body(scope, receive), engine.options.context_length)
    except Refused as refusal:
        await answer(send, refusal.status, refusal.body())
        return
    fault = faults.take()
    if fault is not None and fault.kind == "exit":
        os._exit(1)
    if fault is not None and fault.kind == "status":
        await answer(send, fault.status, Refused("simulated failure", str(fault.status), fault.status).body())
        return
    try:
        run = engine.begin(order)
    except Refused as refusal:
        await answer(send, refusal.status, refusal.body())
    except QueueFull:
        await _answer_queue_full(order, send)
    else:
        await _run_to_its_end(engine, run, fault, receive, send)


async def _json_body(scope: Scope, receive: Receive) -> object:
    body = await read_body(receive)
    kind = (header(scope, b"content-type") or b"").lower().split(b";")[0]
    if kind != b"application/json":
        raise wrong_type(("content-type",), "Unsupported Media Type: Only 'application/json' is allowed")
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as cause:
        raise wrong_type((), "JSON decode error") from cause


async def _answer_queue_full(order: Order, send: Send) -> None:
    if not order.stream:
        await answer(send, 503, Refused(_QUEUE_FULL, "503", 503).body())
        return
    # A stream has its 200 before the scheduler refuses, so the refusal is an event in it.
    refusal = Refused(_QUEUE_FULL, "SERVICE_UNAVAILABLE", 503)
    await answer(send, 200, refusal.chunk() + DONE, SSE)


async def _run_to_its_end(engine: Engine, run: Run, fault: Fault | None, receive: Receive, send: Send) -> None:
    watch = asyncio.ensure_future(_finish_when_gone(engine, run, receive))
    try:
        if run.order.stream:
            await _answer_stream(engine, run, fault, send)
        else:
            await _answer_whole(engine, run, fault, send)
    except (Broken, asyncio.CancelledError):
        # Returning with the answer unfinished makes the server close the connection.
        engine.finish(run, "error")
    finally:
        watch.cancel()
        engine.finish(run, "error")


async def _finish_when_gone(engine: Engine, run: Run, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    engine.finish(run, "disconnected")
    run.wake()


async def _answer_whole(engine: Engine, run: Run, fault: Fault | None, send: Send) -> None:
    if fault is not None and fault.kind == "stall":
        await run.sleep(fault.seconds)
    async for _ in _words(engine, run, UNPACED_BLOCK):
        pass
    if run.ended is not None:
        return
    body = whole(run, engine.options.enable_cache_report)
    if fault is not None and fault.kind == "break":
        await answer_half(send, body)
        raise Broken
    engine.finish(run, run.how_it_ended())
    await answer(send, 200, body)


async def _answer_stream(engine: Engine, run: Run, fault: Fault | None, send: Send) -> None:
    order, report = run.order, engine.options.enable_cache_report
    write = StreamWriter(run, report)
    begun: set[int] = set()
    ended: set[int] = set()
    chunks = 0
    await begin_stream(send)
    async for drawn in _words(engine, run, 1):
        if fault is not None and chunks >= fault.after_chunks:
            await _fail_stream(engine, run, fault, send)
            fault = None
        if run.ended is not None:
            return
        engine.note_report(run)
        for chunk in _chunks(run, write, drawn, begun, ended):
            await send({"type": "http.response.body", "body": chunk.encode(), "more_body": True})
            chunks += 1
    if fault is not None and run.ended is None:
        await _fail_stream(engine, run, fault, send)
    if run.ended is not None:
        return
    last = [write.chat_end(index, each) for index, each in enumerate(run.sequences)] if order.chat else []
    if order.include_usage:
        last.append(write.usage())
    engine.finish(run, run.how_it_ended())
    await send({"type": "http.response.body", "body": "".join(last).encode() + DONE, "more_body": False})


def _chunks(
    run: Run, write: StreamWriter, drawn: dict[int, list[str]], begun: set[int], ended: set[int]
) -> Iterator[str]:
    """The chunks for what was just drawn; `begun` and `ended` keep which sequences have said so."""
    order = run.order
    for index, sequence in enumerate(run.sequences):
        parts = drawn.get(index, [])
        finished = sequence.words.finish_reason is not None
        if index in ended or (not parts and not finished):
            continue
        first = index not in begun
        begun.add(index)
        if finished:
            ended.add(index)
        if not order.chat:
            echo = order.echoes[index // order.n] if first and order.echoes else ""
            yield write.text(index, sequence, parts, echo)
            continue
        if first:
            yield write.role(index, sequence)
        if "".join(parts):
            yield write.chat(index, sequence, parts)


async def _fail_stream(engine: Engine, run: Run, fault: Fault, send: Send) -> None:
    if fault.kind == "stall":
        await run.sleep(fault.seconds)
        return
    if fault.kind == "error_chunk":
        refusal = Refused("simulated failure", "INTERNAL_SERVER_ERROR", 500)
        engine.finish(run, "error")
        await send({"type": "http.response.body", "body": refusal.chunk() + DONE, "more_body": False})
        return
    raise Broken


async def _words(engine: Engine, run: Run, unpaced_block: int) -> AsyncIterator[dict[int, list[str]]]:
    """Draws words for all sequences of a run, at the engine's pace, and once more when all have ended.

    Yields the new parts by sequence; ends when the run has been finished from outside."""
    loop = asyncio.get_running_loop()
    await run.wait_for_places()
    begun, drawn = loop.time(), 0
    while run.ended is None and any(each.words.finish_reason is None for each in run.sequences):
        rate = engine.tokens_per_second
        due = int((loop.time() - begun) * rate) + 1 - drawn if rate else unpaced_block
        if due <= 0:
            await run.sleep(drawn / rate - (loop.time() - begun))
            continue
        new: dict[int, list[str]] = {}
        for index, sequence in enumerate(run.sequences):
            words, parts = sequence.words, []
            for _ in range(due):
                if words.finish_reason is not None:
                    break
                parts.append(words.step())
            if parts:
                new[index] = parts
        drawn += due
        yield new
        # Lets aborts, goodbyes and other requests in between two tokens.
        await asyncio.sleep(0)
    if run.ended is None:
        yield {}
