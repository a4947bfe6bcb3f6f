"""Each refusal in OpenAI's envelope, and recorded where the caller is known."""

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.servers.gateway_in_process import Answer, InProcess, gateway_in_process, until
from tests.servers.scripted_engine import ReceivedRequest, chat_answer, scripted_engine, whole


async def answer_whole(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(whole(chat_answer(request)))


async def refused(made: InProcess, raw: bytes, status: int, code: str, *, recorded: bool = True) -> Answer:
    before = len(made.ends())
    answer = await made.ask(raw)
    assert (answer.status, answer.error["code"]) == (status, code), answer.body
    ends = made.ends()[before:]
    assert [(end.outcome, end.status, end.error_code) for end in ends] == (
        [("refused", status, code)] if recorded else []
    )
    assert len(answer.error["message"]) > 10
    return answer


async def test_without_a_key_that_counts_nothing_is_recorded(made: InProcess) -> None:
    made.service(1)
    for lines in (b"", b"Authorization: Basic abc\r\n", b"Authorization: Bearer\r\n"):
        raw = made.request().replace(f"Authorization: Bearer {made.key}\r\n".encode(), lines)
        answer = await refused(made, raw, 401, "missing_api_key", recorded=False)
        assert answer.error["type"] == "authentication_error" and answer.headers["www-authenticate"] == "Bearer"
    await refused(made, made.request(key="sk-" + "x" * 43), 401, "invalid_api_key", recorded=False)
    for status in ("disabled", "deleted"):
        _, key = made.customer(status=status)
        await refused(made, made.request(key=key), 401, "revoked_api_key", recorded=False)


async def test_scope_account_and_spend(made: InProcess) -> None:
    async with scripted_engine(answer_whole) as engine:
        made.service(engine.port)
        _, key = made.customer(scopes=("billing",))
        await refused(made, made.request(key=key), 403, "missing_scope")
        _, key = made.customer(account_status="suspended")
        await refused(made, made.request(key=key), 403, "account_inactive")
        _, key = made.customer(limit=Decimal("1.5"), spent=Decimal("1.5"))
        answer = await refused(made, made.request(key=key), 402, "insufficient_quota")
        assert answer.error["type"] == "insufficient_quota"
        _, key = made.customer(limit=Decimal("1.5"), spent=Decimal("1.499999999999"))
        assert (await made.ask(made.request(key=key))).status == 200


async def test_someone_elses_service_is_as_unknown_as_none(made: InProcess) -> None:
    other, other_key = made.customer()
    async with scripted_engine(answer_whole) as engine:
        made.service(engine.port, path=f"{other}/own")
        theirs = await refused(made, made.request(model=f"{other}/own"), 404, "model_not_found")
        unknown = await refused(made, made.request(model=f"{other}/none"), 404, "model_not_found")
        assert theirs.body.replace(b"/own", b"/none") == unknown.body
        assert theirs.error["param"] == "model"
        assert (await made.ask(made.request(model=f"{other}/own", key=other_key))).status == 200
        assert made.ends()[-1].billing == "time"


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"{", "invalid_json"),
        (b"[]", "invalid_json"),
        (b'"text"', "invalid_json"),
        (b"\xff\xfe", "invalid_json"),
        (b"", "invalid_json"),
        (b'{"messages":[]}', "missing_field"),
        (b"[" * 100_000, "invalid_json"),
        (b'{"model":"public/m","messages":[]} x', "invalid_json"),
    ],
)
async def test_bodies_that_cannot_be_read(made: InProcess, raw: bytes, code: str) -> None:
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {made.key}\r\n"
    await refused(made, f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw, 400, code)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", "hot"),
        ("temperature", -1),
        ("messages", "hello"),
        ("model", 5),
        ("n", "2"),
        ("n", 0),
        ("stream", "yes"),
        ("stream_options", {"include_usage": "yes"}),
        ("lora_path", "/etc"),
        ("session_params", {"id": "1"}),
        ("custom_logit_processor", "x"),
        ("data_parallel_rank", 1),
        ("bootstrap_host", "10.0.0.1"),
    ],
)
async def test_fields_that_are_wrong_or_refused_are_named(made: InProcess, field: str, value: Any) -> None:
    made.service(1)
    answer = await refused(made, made.request(**{field: value}), 400, "invalid_field")
    assert answer.error["param"] == field and field in answer.error["message"]


async def test_what_a_client_calls_its_model_is_not_recorded(made: InProcess) -> None:
    made.service(1)
    other, _ = made.customer()
    made.service(2, path=f"{other}/own")
    for model in ("public/a-secret", "a secret", f"{other}/own", "public/m" + "x" * 100_000):
        await refused(made, made.request(model=model), 404, "model_not_found")
    await refused(made, made.request(model="a secret", n=0), 400, "invalid_field")
    assert {(end.access_path, end.service_id, end.model) for end in made.ends()} == {("", None, None)}
    assert b"secret" not in b"".join(path.read_bytes() for path in made.folder.glob("*.spool"))
    made.service(path="public/gone", status="stopped")
    await refused(made, made.request(model="public/gone"), 503, "service_stopped")
    assert made.ends()[-1].access_path == "public/gone", "the platform's own name for it is"


@pytest.mark.parametrize("piece", [b"[],", b'{"a":1},', b"[[]],"])
async def test_bodies_of_too_many_values_are_refused_before_they_are_decoded(tmp_path: Path, piece: bytes) -> None:
    async with scripted_engine(answer_whole) as engine, gateway_in_process(tmp_path, body_values_max=1000) as made:
        made.service(engine.port)
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {made.key}\r\n"
        raw = b'{"x":[' + piece * 1000 + b"and no JSON at all"
        answer = await refused(
            made, f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw, 413, "request_too_large"
        )
        assert "1000" in answer.error["message"]
        many = [{"role": "user", "content": "hello " * 50}] * 900
        assert (await made.ask(made.request(messages=many))).status == 200


async def test_a_spend_limit_is_said_before_the_body_is_looked_at(made: InProcess) -> None:
    _, key = made.customer(limit=Decimal(1), spent=Decimal(1))
    await refused(made, made.request(key=key, messages="no list"), 402, "insufficient_quota")


async def test_services_without_an_instance(made: InProcess) -> None:
    made.service(path="public/new", status="deploying", instances_wanted=1)
    made.service(path="public/gone", status="degraded", instances_wanted=1, ever_ready=True)
    made.service(path="public/off", status="stopped", instances_wanted=0, ever_ready=True)
    for path, code in (
        ("public/new", "service_deploying"),
        ("public/gone", "no_instance_available"),
        ("public/off", "service_stopped"),
    ):
        answer = await refused(made, made.request(model=path), 503, code)
        assert int(answer.headers["retry-after"]) > 0


async def test_knowledge_that_is_too_old_is_not_acted_on(made: InProcess) -> None:
    made.service(1)
    made.state.age = made.gateway.settings.state_age_max_s + 1
    await refused(made, made.request(), 503, "state_too_old")
    # A key that is not known may have been made meanwhile: nobody is told that it is wrong.
    await refused(made, made.request(key="sk-" + "0" * 43), 503, "state_too_old", recorded=False)


@pytest.mark.parametrize("bound", ["in_flight_max", "pool_size_per_instance"])
async def test_requests_in_flight_are_bounded(tmp_path: Path, bound: str) -> None:
    release = asyncio.Event()

    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await answer_whole(request, writer)

    async with scripted_engine(answering) as engine, gateway_in_process(tmp_path, **{bound: 1}) as made:
        made.service(engine.port)
        first = asyncio.create_task(made.ask(made.request()))
        await until(lambda: engine.requests)
        await refused(made, made.request(), 503, "overloaded")
        release.set()
        assert (await first).status == 200


async def test_a_full_spool_refuses_and_counts(tmp_path: Path) -> None:
    async with scripted_engine(answer_whole) as engine:
        async with gateway_in_process(tmp_path, spool_bytes_max=1 << 20) as made:
            made.service(engine.port)
            text = "x" * 128
            while (answer := await made.ask(made.request(extra=f"X-Request-Id: {text}\r\n"))).status == 200:
                pass
            assert answer.status == 503 and answer.error["code"] == "spool_full"
            assert made.gateway.metrics.spool_full > 0


async def test_refusals_for_a_spool_that_is_ill_take_no_capacity(tmp_path: Path) -> None:
    async with scripted_engine(answer_whole) as engine, gateway_in_process(tmp_path, pool_size_per_instance=2) as made:
        made.service(engine.port)
        (instance,) = made.gateway.routes.instances
        made.gateway.spool.healthy = False
        for _ in range(4):
            await refused(made, made.request(), 503, "spool_full", recorded=False)
        assert instance.in_flight == 0 and made.gateway.in_flight == 0
        made.gateway.spool.healthy = True
        assert (await made.ask(made.request())).status == 200
        assert instance.in_flight == 0


async def test_hosts_decide_what_is_served(tmp_path: Path) -> None:
    async with scripted_engine(answer_whole) as engine, gateway_in_process(tmp_path, domain="hydra.example") as made:
        made.service(engine.port)
        own = f"{made.account}/own"
        made.service(engine.port, path=own)
        for host, shared, owned in (
            ("localhost:8000", 200, 200),
            ("127.0.0.1", 200, 200),
            ("[::1]:8000", 200, 200),
            ("chat.hydra.example", 200, 404),
            ("CHAT.Hydra.Example:443", 200, 404),
            ("sh-02.hydra.example", 404, 200),
            ("bj-01.hydra.example", 404, 404),
            ("hydra.example", 404, 404),
            ("chat.elsewhere.example", 404, 404),
        ):
            for path, status in (("public/m", shared), (own, owned)):
                raw = made.request(model=path).replace(b"Host: localhost", f"Host: {host}".encode())
                assert (await made.ask(raw)).status == status, (host, path)


@pytest.mark.parametrize("prefix", ["/v1", ""])
async def test_models_are_listed_and_shown(made: InProcess, prefix: str) -> None:
    other, _ = made.customer()
    own = f"{made.account}/own"
    made.service(1)
    made.service(2, path=own)
    made.service(3, path=f"{other}/theirs")
    made.service(path="public/new", status="deploying", instances_wanted=1)

    def get(path: str) -> bytes:
        return f"GET {prefix}{path} HTTP/1.1\r\nHost: h\r\nAuthorization: Bearer {made.key}\r\n\r\n".encode()

    listing = (await made.ask(get("/models"))).json
    assert listing["object"] == "list" and [model["id"] for model in listing["data"]] == ["public/m", own]
    for quoted in (own, own.replace("/", "%2F")):
        model = (await made.ask(get(f"/models/{quoted}"))).json
        assert model == {"id": own, "object": "model", "created": 1767225600, "owned_by": made.account}
    for absent in ("public/new", f"{other}/theirs", "none"):
        assert (await made.ask(get(f"/models/{absent}"))).status == 404
    assert made.ends() == []
