"""One trace carries a request to its charge, and an instance's interval to its own, on a whole platform."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.servers.otlp_receiver import OtlpReceiver, ReceivedSpan, running_otlp_receiver
from tests.servers.platform import Platform, running_platform, wait_until

PROMPT = "a prompt that no span may hold"
FOREIGN = "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01"


def one_request(platform: Platform, key: str) -> str:
    """Its id. The client brings a trace of its own, which must not choose ours."""
    answer = httpx.post(
        platform.url("gateway") + "/v1/chat/completions",
        json={
            "model": "public/deepseek-r1",
            "max_tokens": 8,
            "messages": [{"role": "user", "content": PROMPT}],
        },
        headers={"Authorization": f"Bearer {key}", "traceparent": FOREIGN},
        timeout=60,
    )
    id: str = answer.raise_for_status().json()["id"]
    return id


def whole(receiver: OtlpReceiver, trace_id: str) -> dict[str, ReceivedSpan] | None:
    spans = receiver.of_trace(trace_id)
    return spans if len(spans) == 4 else None  # each process sends its own, in its own time


def test_one_trace_from_request_to_charge(tmp_path: Path) -> None:
    with (
        running_otlp_receiver() as receiver,
        running_platform(tmp_path / "home", HYDRA_TRACES_ENDPOINT=receiver.url) as platform,
    ):
        account = platform.new_account("traced")
        key = platform.new_key(account)
        request_id = one_request(platform, key)
        spans = wait_until(lambda: whole(receiver, request_id.removeprefix("cmp-")), "the trace is whole")

        request, rating = spans["POST /v1/chat/completions"], spans["rate usage"]
        assert {span.service for span in spans.values()} == {"hydra-gateway", "hydra-token_charges", "hydra-warehouse"}
        assert request.parent_id == ""
        assert rating.parent_id == request.span_id
        assert spans["write usage"].parent_id == request.span_id
        assert spans["write charges"].parent_id == rating.span_id
        assert request.started_ns <= request.ended_ns <= rating.ended_ns <= spans["write charges"].ended_ns
        assert request.attributes["http.response.status_code"] == 200
        assert request.attributes["gen_ai.usage.output_tokens"] == 8
        assert request.attributes["hydra.account"] == account
        assert rating.attributes["hydra.charge_lines"] == 2

        charges = httpx.get(
            platform.url("billing") + "/v1/charges",
            params={"account": account, "source": request_id},
            headers={"Authorization": f"Bearer {platform.operator_token}"},
            timeout=60,
        )
        assert len(charges.raise_for_status().json()["data"]) == 2, "the charge is there when its span is"

        wait_until(lambda: instance_trace(receiver), "an instance's interval has a trace of its own")
        assert not receiver.of_trace(FOREIGN.split("-")[1])
        told = b"".join(receiver.raw)
        assert PROMPT.encode() not in told
        assert key.encode() not in told


def instance_trace(receiver: OtlpReceiver) -> bool:
    rated = [span for span in list(receiver.spans) if span.name == "rate instance"]
    return any(
        written.name == "write charges" and written.parent_id == span.span_id and span.parent_id == ""
        for span in rated
        for written in receiver.of_trace(span.trace_id).values()
    )
