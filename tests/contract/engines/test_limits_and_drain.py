"""Room that is bounded, usage without cached tokens, and SIGTERM. The last test ends the module's engine."""

import asyncio
import signal

from tests.contract.engines.running_engine import (
    CHAT,
    COMPLETIONS,
    DONE_WITHIN_S,
    MESSAGES,
    RunningEngine,
    health,
    post,
    stream,
    until,
    until_running,
    waiting_requests,
)

LONG = {"prompt": "a", "max_tokens": 7000, "ignore_eos": True, "temperature": 0}
QUEUE_FULL = "The request queue is full."


async def test_cached_tokens_are_absent_unless_the_engine_reports_them(narrow_engine: RunningEngine) -> None:
    async with narrow_engine.client() as client:
        for _ in range(2):
            whole = await post(client, CHAT, messages=MESSAGES, max_tokens=2)
            read = await stream(client, CHAT, messages=MESSAGES, max_tokens=2, stream_options={"include_usage": True})
            assert whole["usage"]["prompt_tokens_details"] is None
            assert read.usages[-1].get("prompt_tokens_details") is None


async def test_a_request_past_the_queue_is_refused(narrow_engine: RunningEngine) -> None:
    async with narrow_engine.client() as client:
        await until_running(client, 0)
        running = []
        for n in range(2):  # one after the other: two at once could themselves be one too many for the queue
            running.append(asyncio.create_task(post(client, COMPLETIONS, **LONG, rid=f"run-{n}")))
            await until_running(client, n + 1)
        waiting = asyncio.create_task(post(client, COMPLETIONS, **LONG, rid="wait"))
        await until(waiting_requests, client, 1)
        refused = await client.post(COMPLETIONS, json={"model": "m", **LONG})
        streamed = await client.post(
            CHAT, json={"model": "m", "messages": MESSAGES, "stream": True, "stream_options": {"include_usage": True}}
        )
        await client.post("/abort_request", json={"rid": "wait"})
        never_ran = await waiting
        for n in range(2):
            await client.post("/abort_request", json={"rid": f"run-{n}"})
        await asyncio.gather(*running)
    assert refused.status_code == 503
    assert refused.json()["message"] == QUEUE_FULL
    # A stream has its 200 before the refusal, which is an event in it.
    assert streamed.status_code == 200
    assert QUEUE_FULL in streamed.text.split("\n")[0]
    assert '"code":503' in streamed.text.replace(" ", "")
    assert never_ran["choices"][0]["finish_reason"] == "abort"
    assert never_ran["usage"]["completion_tokens"] == 0
    assert never_ran["usage"]["prompt_tokens"] == 0


async def test_sigterm_lets_running_requests_end_and_exits_cleanly(narrow_engine: RunningEngine) -> None:
    body = {"prompt": "a", "max_tokens": 1500, "ignore_eos": True}
    async with narrow_engine.client() as client:
        await until_running(client, 0)
        # One after the other: two at once could themselves be one too many for the queue, which then refuses one.
        whole = asyncio.create_task(post(client, COMPLETIONS, **body))
        await until_running(client, 1)
        streamed = asyncio.create_task(stream(client, COMPLETIONS, **body))
        await until_running(client, 2)
        narrow_engine.process.send_signal(signal.SIGTERM)
        await until(health, client, 503)
        assert (await whole)["usage"]["completion_tokens"] == 1500
        read = await streamed
        assert read.done
        assert read.finish_reasons == {0: "length"}
    assert await asyncio.to_thread(narrow_engine.process.wait, DONE_WITHIN_S) == 0
