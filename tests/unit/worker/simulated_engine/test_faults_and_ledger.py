"""Failures on order, and the engine's own count of every way in which a request can end."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from services.worker.simulated_engine.ledger import Ledger
from tests.unit.worker.simulated_engine.conftest import SimulatedEngine

PATH = "/v1/completions"


def _body(rid: str, **fields: Any) -> dict[str, Any]:
    return {"model": "public/m", "prompt": "one two three", "max_tokens": 5, "ignore_eos": True, "rid": rid} | fields


def _order(engine: SimulatedEngine, **body: Any) -> int:
    return httpx.post(f"{engine.url}/simulate", json=body).status_code


def test_the_ledger_counts_what_usage_says_and_holds_no_text(engine: SimulatedEngine) -> None:
    usage = httpx.post(engine.url + PATH, json=_body("whole")).json()["usage"]
    httpx.post(engine.url + PATH, json=_body("whole-again"))
    httpx.post(engine.url + PATH, json=_body("two-prompts", prompt=["one", "two"], n=3, stream=True))
    first, again, two = (engine.entry(rid) for rid in ("whole", "whole-again", "two-prompts"))
    for name in ("prompt_tokens", "completion_tokens"):
        assert first[name] == usage[name]
    assert (first["cached_tokens"], again["cached_tokens"]) == (0, usage["prompt_tokens"] - 1)
    assert first["ended"] == "complete"
    assert (two["prompts"], two["n"], two["prompt_tokens"], two["completion_tokens"]) == (2, 3, 2, 30)
    assert two["finish_reasons"] == ["length"] * 6
    assert "three" not in engine.ledger.read_text()


def test_a_refused_request_is_not_in_the_ledger(engine: SimulatedEngine) -> None:
    assert httpx.post(engine.url + PATH, json=_body("refused", temperature=-1)).status_code == 400
    httpx.post(engine.url + PATH, json=_body("served"))
    engine.entry("served")
    assert [line["rid"] for line in engine.entries()] == ["served"]


def test_a_killed_engine_has_left_what_its_streams_had_reported(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    killed = Ledger(path)
    tokens = {"prompts": 1, "n": 1, "prompt_tokens": 3}
    for count in (1, 2):
        killed.report("died", **tokens, completion_tokens=count)
        killed.report("done", **tokens, completion_tokens=count)
    killed.record("done", **tokens, completion_tokens=3, ended="complete")
    killed.report("begun", **tokens, completion_tokens=1)
    started_again = Ledger(path)
    started_again.report("new", **tokens, completion_tokens=1)
    lines = [json.loads(text) for text in path.read_text().splitlines()]
    assert {line["rid"]: (line["ended"], line["completion_tokens"]) for line in lines} == {
        "done": ("complete", 3),
        "died": ("killed", 2),
        "begun": ("killed", 1),
    }
    assert [json.loads(text)["rid"] for text in (tmp_path / "ledger.running").read_text().splitlines()] == ["new"]
    killed.close()
    started_again.close()


def test_what_a_stream_reports_is_written_down_before(engine: SimulatedEngine) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    _order(engine, tokens_per_second=100)
    with httpx.stream(
        "POST", engine.url + PATH, json=_body("dies", max_tokens=9000, stream=True, stream_options=options)
    ) as answer:
        reported = 0
        for line in answer.iter_lines():
            if line:
                reported = json.loads(line.removeprefix("data: "))["usage"]["completion_tokens"]
            if reported >= 20:
                engine.process.kill()
                engine.process.wait(60)
                break
    (left,) = (json.loads(text) for text in Path(f"{engine.ledger}.running").read_text().splitlines() if text.strip())
    assert left["rid"] == "dies" and left["completion_tokens"] >= reported
    assert left["ended"] == "running"


async def test_an_aborted_request_is_written_down_as_one(engine: SimulatedEngine) -> None:
    assert _order(engine, tokens_per_second=100) == 200
    async with httpx.AsyncClient(base_url=engine.url, timeout=60) as client:
        request = asyncio.create_task(client.post(PATH, json=_body("aborted", max_tokens=9000)))
        while (await client.get("/v1/loads")).json()["loads"][0]["num_running_reqs"] == 0:
            pass
        await client.post("/abort_request", json={"rid": "aborted"})
        usage = (await request).json()["usage"]
    entry = engine.entry("aborted")
    assert entry["ended"] == "aborted"
    assert entry["completion_tokens"] == usage["completion_tokens"] < 9000


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_left_is_written_down_as_one(engine: SimulatedEngine, stream: bool) -> None:
    _order(engine, tokens_per_second=100)
    body = _body("left", max_tokens=9000, stream=stream)
    async with httpx.AsyncClient(base_url=engine.url, timeout=60) as client:
        request = asyncio.create_task(client.post(PATH, json=body))
        async with httpx.AsyncClient(base_url=engine.url, timeout=60) as other:
            while (await other.get("/v1/loads")).json()["loads"][0]["num_running_reqs"] == 0:
                pass
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
    entry = await asyncio.to_thread(engine.entry, "left")
    assert entry["ended"] == "disconnected"
    assert 0 < entry["completion_tokens"] < 9000


def test_a_status_on_order(engine: SimulatedEngine) -> None:
    assert _order(engine, fault="status", status=502, count=2) == 200
    answers = [httpx.post(engine.url + PATH, json=_body(f"r{n}")).status_code for n in range(3)]
    assert answers == [502, 502, 200]


def test_a_broken_answer_ends_the_connection(engine: SimulatedEngine) -> None:
    _order(engine, fault="break")
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(engine.url + PATH, json=_body("broken"))
    assert engine.entry("broken")["ended"] == "error"


def test_a_stream_broken_after_some_chunks(engine: SimulatedEngine) -> None:
    _order(engine, fault="break", after_chunks=3)
    lines = []
    with (
        pytest.raises(httpx.RemoteProtocolError),
        httpx.stream("POST", engine.url + PATH, json=_body("broken", stream=True, max_tokens=50)) as answer,
    ):
        lines += [line for line in answer.iter_lines() if line]
    assert lines == [] or all(line.startswith("data: {") for line in lines)
    assert engine.entry("broken")["ended"] == "error"
    assert httpx.post(engine.url + PATH, json=_body("next")).status_code == 200


def test_an_error_in_a_stream(engine: SimulatedEngine) -> None:
    _order(engine, fault="error_chunk", after_chunks=2)
    lines = httpx.post(engine.url + PATH, json=_body("error", stream=True, max_tokens=50)).text.split("\n\n")
    assert [line.startswith('data: {"error"') for line in lines[:3]] == [False, False, True]
    assert lines[3:] == ["data: [DONE]", ""]
    assert engine.entry("error")["ended"] == "error"


def test_a_stall_lasts_until_the_client_leaves(engine: SimulatedEngine) -> None:
    _order(engine, fault="stall", seconds=600)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(engine.url + PATH, json=_body("stalled"), timeout=1)
    assert engine.entry("stalled")["ended"] == "disconnected"


def test_unhealthy_on_order(engine: SimulatedEngine) -> None:
    _order(engine, fault="unhealthy", count=1)
    assert [httpx.get(f"{engine.url}/health").status_code for _ in range(2)] == [503, 200]


def test_an_exit_on_order(engine: SimulatedEngine) -> None:
    _order(engine, fault="exit")
    with pytest.raises(httpx.TransportError):
        httpx.post(engine.url + PATH, json=_body("never"))
    assert engine.process.wait(60) == 1


def test_all_failures_can_be_taken_back(engine: SimulatedEngine) -> None:
    _order(engine, fault="status", count=100)
    _order(engine, fault=None)
    assert httpx.post(engine.url + PATH, json=_body("fine")).status_code == 200


@pytest.mark.parametrize(
    "body", [{"fault": "nonsense"}, {"fault": "status", "count": 0}, {"fault": "status", "count": "x"}]
)
def test_a_senseless_order_is_refused(engine: SimulatedEngine, body: dict[str, Any]) -> None:
    assert _order(engine, **body) == 400


def test_a_simulated_engine_says_that_it_is_one(engine: SimulatedEngine) -> None:
    answer = httpx.post(engine.url + PATH, json=_body("labelled"))
    assert answer.headers["server"] == "hydra-simulated-engine"
    assert answer.json()["metadata"]["weight_version"] == "simulated"
    assert httpx.get(f"{engine.url}/get_model_info").json()["simulated"] is True
