"""Alerts that a real harm makes fire on a real platform, what docs/operations.md says to do, and the silence after it.

Not collected by `make test`; `make e2e` runs it. The rules are the shipped ones with their durations divided by
SHORTER_BY. The other alerts are tried in tests/observability/test_running_platform.py. Tests run in this order; each
leaves the platform whole.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from schemas.topics import CHARGES
from tests.e2e.watched_platform import Watched, streams_at_once, take_messages_of, watched_platform
from tests.faults.away import kept_away
from tests.faults.harms import await_order, engines, kill, kill_engine, no_room
from tests.observability.observed_platform import MODEL
from tests.servers.platform import wait_until
from tests.servers.prometheus import PrometheusMissing, prometheus_package

AHEAD_S = 1800.0
"""Of the node's clock: longer than it takes until the engine starts again after the clock was set right."""
ASKED_AT_ONCE = 50
STREAMS, CHOICES, FEW_TOKENS = 48, 64, 3
"""Of an engine with 256 places each stream takes 64 of them for about 2 s, so 48 at once wait for about 20 s."""
ENOUGH_INSTANCES = 4
LONG_ANSWER = 600


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    try:
        package = prometheus_package()
    except PrometheusMissing as missing:
        pytest.skip(str(missing))
    with watched_platform(package, tmp_path_factory.mktemp("watched")) as watched:
        yield watched
        print("\n" + "\n".join(watched.told))


def ask(watched: Watched, model: str = MODEL) -> httpx.Response:
    """One short request to its end."""
    body = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "hello"}]}
    headers = {"Authorization": f"Bearer {watched.observed.key}"}
    url = watched.platform.url("gateway") + "/v1/chat/completions"
    return httpx.post(url, json=body, headers=headers, timeout=400, trust_env=False)


def await_billed(watched: Watched, instance: str) -> None:
    wait_until(lambda: watched.intervals(instance), "an interval of the instance is written", pause_s=2)


def test_a_node_whose_clock_is_ahead_and_what_setting_it_right_moves(watched: Watched) -> None:
    instance = watched.deploy("timed")
    await_billed(watched, instance)
    assert watched.is_silent("ClockDrift")
    watched.clocks.move("worker", AHEAD_S)
    watched.fires("ClockDrift")
    wait_until(lambda: len(watched.firing("ClockDrift")) == 2, "it fires for the node and for its agent")
    found = watched.firing("ClockDrift")
    assert {one["labels"]["job"] for one in found} == {"lifecycle", "worker"}
    assert [one for one in found if one["labels"].get("node", "").startswith("n-")]
    kill_engine(watched.platform, instance)  # what is ready from now on is billed by the wrong clock
    ahead = datetime.now(UTC) + timedelta(seconds=AHEAD_S / 2)
    wait_until(lambda: watched.intervals(instance)[-1].billable_until > ahead, "time ahead is billed", pause_s=2)

    watched.clocks.move("worker", 0)
    watched.falls_silent("ClockDrift")
    assert watched.is_silent("ReadyPeriodMoved")
    kill_engine(watched.platform, instance)
    watched.fires("ReadyPeriodMoved")
    assert "a ready period was moved" in watched.log("lifecycle")
    # The clock is right, as the alert's paragraph says it may be by now; and nothing is billed twice.
    assert watched.observed.prometheus.query("max(abs(hydra_node_clock_drift_seconds)) < 1")
    billed = watched.intervals(instance)
    assert [one.start_moved for one in billed].count(True) == 1
    assert all(one.billable_from >= before.billable_until for before, one in itertools.pairwise(billed))
    watched.delete("timed")


def test_a_spool_that_fills_while_kafka_is_away(watched: Watched) -> None:
    assert watched.is_silent("SpoolFilling")
    answered = 0
    with (
        watched.observed.paused("kafka"),
        httpx.Client(base_url=watched.platform.url("gateway"), timeout=120, trust_env=False) as client,
    ):
        refused: set[str] = set()

        def ask_on() -> bool:
            nonlocal answered
            body = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "hello"}]}
            headers = {"Authorization": f"Bearer {watched.observed.key}"}
            for _ in range(ASKED_AT_ONCE):
                answer = client.post("/v1/chat/completions", json=body, headers=headers)
                if answer.status_code == 200:
                    answered += 1
                else:
                    refused.add(f"{answer.status_code} {answer.json()['error']['code']}")
            return bool(refused)

        watched.fires("SpoolFilling", meanwhile=ask_on)
        wait_until(ask_on, "a full spool refuses requests", 180)
        assert refused == {"503 spool_full"}
    watched.falls_silent("SpoolFilling")
    wait_until(lambda: ask(watched).status_code == 200, "requests are served again")
    of_all = f"SELECT count() AS requests FROM v_usage WHERE account = '{watched.observed.account}' AND status = 200"
    wait_until(lambda: int(watched.sql(of_all)[0]["requests"]) == answered + 1, "all that waited is there", 120, 2)


def test_a_spool_that_cannot_be_written(watched: Watched) -> None:
    assert watched.is_silent("SpoolBroken")
    with ThreadPoolExecutor(1) as pool:
        with no_room(watched.platform, "gateway"):
            waits = pool.submit(ask, watched)
            watched.fires("SpoolBroken")
            assert "spool write failed" in watched.log("gateway")
            assert ask(watched).status_code == 503
            assert not waits.done(), "nothing is answered that is not on disk"
        assert waits.result().status_code == 200
    watched.falls_silent("SpoolBroken")


def test_a_gateway_that_is_killed_again_and_again_in_mid_answer(watched: Watched) -> None:
    """Each of its lives counts one request: the second one is no increase, and must be seen all the same."""
    for lives in (1, 2):
        assert watched.is_silent("RequestsLost")
        kill_in_mid_answer(watched)
        watched.fires("RequestsLost")
        await_order(watched.platform)
        await_lost_requests(watched, lives)
        watched.falls_silent("RequestsLost")


def await_lost_requests(watched: Watched, count: int) -> None:
    def recorded() -> bool:
        (row,) = watched.sql("SELECT count() AS requests FROM v_usage WHERE outcome = 'gateway_lost'")
        return int(row["requests"]) == count

    wait_until(recorded, f"{count} lost requests are recorded", pause_s=1)


def kill_in_mid_answer(watched: Watched) -> None:
    body = {"model": MODEL, "max_tokens": LONG_ANSWER, "ignore_eos": True, "stream": True}
    with httpx.stream(
        "POST",
        watched.platform.url("gateway") + "/v1/chat/completions",
        headers={"Authorization": f"Bearer {watched.observed.key}"},
        json=body | {"messages": [{"role": "user", "content": "count"}]},
        timeout=120,
        trust_env=False,
    ) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        next(lines)
        kill(watched.platform, "gateway")
        with pytest.raises(httpx.HTTPError):
            list(lines)


def test_an_engine_that_is_full(watched: Watched) -> None:
    account = watched.observed.account
    instance = watched.deploy("full")
    assert watched.is_silent("SlowFirstToken")
    model = f"{account}/full"
    wait_until(lambda: ask(watched, model).status_code == 200, "the gateway knows the service")
    with streams_at_once(watched.observed, model, STREAMS, n=CHOICES, max_tokens=FEW_TOKENS, ignore_eos=True):
        watched.fires("SlowFirstToken")
        wait_until(lambda: is_loaded(watched), "the load is on")
        wait_until(lambda: watched.engine_says(instance, "sglang:num_queue_reqs") > STREAMS / 2, "they queue there")
        watched.platform.run("service", "scale", "full", str(ENOUGH_INSTANCES), "--account", account)
        watched.falls_silent("SlowFirstToken")
        wait_until(lambda: is_loaded(watched), "the load goes on")
    watched.delete("full")


def is_loaded(watched: Watched) -> bool:
    return bool(watched.observed.prometheus.query(f"hydra_gateway_in_flight > {STREAMS / 2}"))


def test_a_rater_whose_charges_kafka_refuses(watched: Watched) -> None:
    """Somebody has changed the topic: it takes next to nothing."""
    assert watched.is_silent("ConsumerStuck")
    take_messages_of(watched.platform, CHARGES, 1)
    request = ask(watched).headers["x-request-id"]
    found = watched.fires("ConsumerStuck")
    assert "token_charges" in {one["labels"]["job"] for one in found}
    ready = httpx.get(watched.platform.url("token_charges") + "/health/ready", timeout=30, trust_env=False)
    assert ready.status_code == 503 and "MessageSizeTooLarge" in ready.text, ready.text
    assert "batch waits" in watched.log("token_charges")
    # A kill mends nothing here, and harms nothing: the alert looks back on no lag for a while, and comes again.
    for rater in ("token_charges", "instance_charges"):
        kill(watched.platform, rater)
    watched.falls_silent("ConsumerStuck")
    watched.fires("ConsumerStuck")
    take_messages_of(watched.platform, CHARGES, CHARGES.max_message_bytes)
    watched.falls_silent("ConsumerStuck")
    await_charged_once(watched, request)
    await_order(watched.platform)


def await_charged_once(watched: Watched, request: str) -> None:
    lines = f"SELECT meter FROM v_charges WHERE source_event = '{request}' ORDER BY meter"
    wait_until(lambda: watched.sql(lines), "what waited is charged", pause_s=1)
    assert [row["meter"] for row in watched.sql(lines)] == ["input_tokens", "output_tokens"]


def down(watched: Watched) -> list[str]:
    return [one["labels"]["job"] for one in watched.firing("ProcessDown")]


def test_a_rater_that_hangs_altogether(watched: Watched) -> None:
    """It shows no lag any more, so another alert must tell of it."""
    assert watched.is_silent("ProcessDown")
    hanging = watched.observed.pid("token_charges")
    os.kill(hanging, signal.SIGSTOP)
    try:
        request = ask(watched).headers["x-request-id"]
        watched.fires("ProcessDown")
        # Another one may have answered too late, once.
        wait_until(lambda: down(watched) == ["token_charges"], "it alone is told of")
        assert watched.is_silent("ConsumerStuck")
    finally:
        os.kill(hanging, signal.SIGKILL)
    watched.falls_silent("ProcessDown")
    await_charged_once(watched, request)
    await_order(watched.platform)


def test_a_node_that_is_gone_for_longer_than_lifecycle_waits(watched: Watched) -> None:
    instance = watched.deploy("replaced")
    await_billed(watched, instance)
    of_it = engines(watched.platform)
    assert watched.is_silent("InstanceWrittenOff")
    with kept_away(watched.platform, "worker"):
        wait_until(lambda: not any(is_alive(pid) for pid in of_it), "engines end with their agent")
        gone_at = datetime.now(UTC)
        watched.fires("InstanceWrittenOff")
        assert "instance written off" in watched.log("lifecycle")
    await_replaced(watched, instance)
    assert watched.intervals(instance)[-1].billable_until <= gone_at
    watched.falls_silent("InstanceWrittenOff")


def test_a_node_that_is_only_cut_off_for_so_long(watched: Watched) -> None:
    """Its agent stands still and knows nothing of it, its engines live on."""
    (entry,) = [one for one in watched.shown("replaced") if one["state"] == "ready"]
    of_it = [pid for pid in engines(watched.platform) if is_alive(pid)]
    assert of_it and watched.is_silent("InstanceWrittenOff")
    with watched.observed.paused("worker"):
        watched.fires("InstanceWrittenOff")
        assert all(is_alive(pid) for pid in of_it)
    wait_until(lambda: not any(is_alive(pid) for pid in of_it), "the agent ends what it was told to end")
    await_replaced(watched, entry["id"])
    watched.falls_silent("InstanceWrittenOff")


def await_replaced(watched: Watched, instance: str) -> None:
    await_order(watched.platform)
    assert instance not in {one["id"] for one in watched.shown("replaced") if one["state"] == "ready"}
    wait_until(lambda: ask(watched).status_code == 200, "requests are served again")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except FileNotFoundError:
        return False


def test_in_the_end_every_alert_is_silent(watched: Watched) -> None:
    """The last to fall silent is the one that looks back for longest."""
    watched.falls_silent("ReadyPeriodMoved")

    def firing() -> list[str]:
        active = watched.observed.prometheus.get("/api/v1/alerts")["alerts"]
        return [alert["labels"]["alertname"] for alert in active if alert["state"] == "firing"]

    begun = time.monotonic()
    wait_until(lambda: not firing(), "no alert fires", 180, 1)
    print(f"nothing fires {time.monotonic() - begun:.0f} s later")
