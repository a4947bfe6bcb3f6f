"""The official clients, unchanged, from environments of their own: what they see and which errors they raise."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.integration.whole_platform.client_environments import node_with_openai, python_with
from tests.servers.gateway import GatewayPlatform
from tests.servers.platform import Platform, wait_until

CLIENTS = ("current", "old", "node")
SHARED = "public/deepseek-r1"
SCRIPTS = Path(__file__).parent / "clients"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def trouble(tmp_path_factory: pytest.TempPathFactory, kafka: str) -> AsyncIterator[dict[str, str]]:
    """A gateway that waits for no engine longer than a second: one engine says nothing, one breaks off in the middle of
    an answer, and one service has lost all its instances."""
    made = GatewayPlatform(tmp_path_factory.mktemp("trouble"), kafka, settings={"first_byte_timeout_s": "1"})
    await made.prepare()
    try:
        await made.start_gateway()
        silent, breaking = await made.start_engine(), await made.start_engine()
        silent.order(fault="stall", seconds=600, count=len(CLIENTS))
        breaking.order(fault="break", count=len(CLIENTS))
        customer = await made.customer()
        models = {
            "silent_model": await made.service(silent),
            "breaking_model": await made.service(breaking),
            "gone_model": await made.service(silent),
        }
        for service in models.values():
            await made.in_force(customer, service.access_path)
        gone = models["gone_model"]
        await made.service(path=gone.access_path, service_id=gone.service_id, instances_wanted=1, ever_ready=True)
        await made.until_listed(customer, gone.access_path, False)
        yield {
            "troubled_url": made.url,
            "troubled_key": customer.key,
            **{name: service.access_path for name, service in models.items()},
        }
    finally:
        await made.close()


@pytest.fixture(scope="module")
def facts(platform: Platform, trouble: dict[str, str]) -> dict[str, str]:
    """A customer with a full key, one without scope, a revoked one, one over its limit, a service that never gets
    ready, and a platform in trouble."""
    account = platform.new_account("clients")
    limited = platform.new_account("limited", spend_limit="0.000001")
    limited_key = platform.new_key(limited)
    stranger = platform.new_account("stranger")
    # Nothing runs in bj-01 on this platform, so this one stays deploying.
    where = ("--region", "bj-01", "--model", "phi-4")
    platform.hydra("service", "deploy", "waits", *where, "--account", account)
    platform.hydra("service", "deploy", "foreign", *where, "--account", stranger)
    spend(platform, limited_key)
    return trouble | {
        "key": platform.new_key(account),
        "revoked_key": revoked_key(platform, account),
        "unscoped_key": platform.new_key(account, "billing"),
        "limited_key": limited_key,
        "model": SHARED,
        "deploying_model": f"{account}/waits",
        "foreign_model": f"{stranger}/foreign",
    }


def revoked_key(platform: Platform, account: str) -> str:
    """A key that was in force, and is deleted."""
    made = platform.hydra("key", "create", "--account", account)
    key: str = made["key"]
    platform.await_key(key)
    platform.hydra("key", "delete", made["id"], "--account", account)
    asked = {"Authorization": f"Bearer {key}"}
    models = platform.url("gateway") + "/v1/models"
    wait_until(lambda: httpx.get(models, headers=asked).status_code == 401, "the deleted key is refused")
    return key


def spend(platform: Platform, key: str) -> None:
    """Call until the spend limit is in force."""
    import openai

    client = openai.OpenAI(base_url=platform.url("gateway") + "/v1", api_key=key, max_retries=0)

    def refused() -> bool:
        try:
            client.chat.completions.create(model=SHARED, messages=[{"role": "user", "content": "x"}], max_tokens=4)
        except openai.APIStatusError as error:
            assert error.status_code == 402, error
            return True
        return False

    wait_until(refused, "the spend limit is in force")


def run(command: list[Any], cwd: Path, base_url: str, facts: dict[str, str]) -> dict[str, Any]:
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd)}
    done = subprocess.run(
        [*map(str, command), base_url, json.dumps(facts)],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


@pytest.fixture(scope="module")
def current(platform: Platform, facts: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    command = [python_with("openai"), SCRIPTS / "openai_current.py"]
    return run(command, tmp_path_factory.mktemp("current"), platform.url("gateway") + "/v1", facts)


@pytest.fixture(scope="module")
def old(platform: Platform, facts: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    # An api_base without /v1, as customers of that client write it.
    command = [python_with("openai-0.28"), SCRIPTS / "openai_0_28.py"]
    return run(command, tmp_path_factory.mktemp("old"), platform.url("gateway"), facts)


@pytest.fixture(scope="module")
def node(platform: Platform, facts: dict[str, str]) -> dict[str, Any]:
    executable, folder = node_with_openai()
    script = folder / "openai_node.mjs"  # imports are looked up beside the script
    shutil.copyfile(SCRIPTS / "openai_node.mjs", script)
    return run([executable, script], folder, platform.url("gateway") + "/v1", facts)


@pytest.fixture(params=["current", "old", "node"])
def seen(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What one of the three clients saw."""
    found: dict[str, Any] = request.getfixturevalue(request.param)
    return found


def test_an_answer_looks_as_documented(seen: dict[str, Any]) -> None:
    for kind, object_name in (("chat", "chat.completion"), ("completion", "text_completion")):
        answer = seen[kind]
        assert answer["id"].startswith("cmp-")
        assert answer["object"] == object_name
        assert answer["model"] == SHARED
        assert isinstance(answer["created"], int)
        usage = answer["usage"]
        assert usage["completion_tokens"] > 0
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert seen["chat"]["choices"][0]["message"]["content"]


def test_a_stream_carries_text_and_no_usage_that_was_not_asked_for(seen: dict[str, Any]) -> None:
    chunks = seen["chat_stream_plain"]
    assert "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    assert all(chunk["id"].startswith("cmp-") for chunk in chunks)
    assert all(chunk["choices"] for chunk in chunks)
    assert not any(chunk.get("usage") for chunk in chunks + seen["completion_stream"])


@pytest.mark.parametrize("client", ["current", "node"])
def test_a_stream_that_asks_for_usage_ends_with_it(client: str, request: pytest.FixtureRequest) -> None:
    chunks = request.getfixturevalue(client)["chat_stream"]
    *others, last = chunks
    assert not any(chunk.get("usage") for chunk in others)
    assert last["usage"]["completion_tokens"] == 8
    assert last["choices"] == []


def test_several_choices_have_an_id_of_ours(current: dict[str, Any]) -> None:
    assert current["several"]["id"].startswith("cmp-")
    assert [choice["index"] for choice in current["several"]["choices"]] == [0, 1]
    assert current["several"]["usage"]["completion_tokens"] == 16
    assert [choice["index"] for choice in current["completion"]["choices"]] == [0, 1]


def test_only_callable_models_are_listed(seen: dict[str, Any], facts: dict[str, str]) -> None:
    listed = {entry["id"] for entry in seen["models"]}
    assert SHARED in listed
    assert facts["foreign_model"] not in listed
    assert facts["deploying_model"] not in listed
    assert seen["model"]["id"] == SHARED
    assert seen["model"]["object"] == "model"


# error -> (status, code, class of the current client, class of 0.28, class of Node)
ERRORS = {
    "no_key": (401, "missing_api_key", "AuthenticationError", None, None),
    "wrong_key": (401, "invalid_api_key", "AuthenticationError", "AuthenticationError", "AuthenticationError"),
    "revoked_key": (401, "revoked_api_key", "AuthenticationError", "AuthenticationError", "AuthenticationError"),
    "without_scope": (403, "missing_scope", "PermissionDeniedError", "PermissionError", "PermissionDeniedError"),
    "spend_limit": (402, "insufficient_quota", "APIStatusError", None, "APIError"),
    "unknown_model": (404, "model_not_found", "NotFoundError", "InvalidRequestError", "NotFoundError"),
    "foreign_model": (404, "model_not_found", "NotFoundError", None, None),
    "unknown_model_retrieved": (404, "model_not_found", "NotFoundError", None, None),
    "deploying": (503, "service_deploying", "InternalServerError", "ServiceUnavailableError", "InternalServerError"),
    "silent_engine": (504, "upstream_timeout", "InternalServerError", "APIError", "InternalServerError"),
    "lost_engine": (502, "upstream_error", "InternalServerError", "APIError", "InternalServerError"),
    "no_instance": (
        503,
        "no_instance_available",
        "InternalServerError",
        "ServiceUnavailableError",
        "InternalServerError",
    ),
    "wrong_type": (400, "invalid_field", "BadRequestError", None, "BadRequestError"),
    "out_of_range": (400, None, "BadRequestError", "InvalidRequestError", "BadRequestError"),
    "refused_field": (400, "invalid_field", "BadRequestError", None, None),
    "too_large": (413, "request_too_large", "APIStatusError", None, None),
}


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("client", CLIENTS)
def test_each_error_is_the_class_that_the_client_names_for_it(
    client: str, error: str, request: pytest.FixtureRequest
) -> None:
    status, code, *classes = ERRORS[error]
    expected = classes[CLIENTS.index(client)]
    errors = request.getfixturevalue(client)["errors"]
    if expected is None:
        assert error not in errors, "this client's script makes the call: name its class here"
        return
    assert errors[error]["status"] == status, errors[error]
    if code is not None and client != "old":  # 0.28 keeps the code of few of its errors
        assert errors[error]["code"] == code, errors[error]
    assert errors[error]["class"] == expected, errors[error]
    assert "127.0.0.1" not in errors[error]["message"]


def test_someone_elses_service_looks_like_an_unknown_one(current: dict[str, Any], facts: dict[str, str]) -> None:
    unknown, foreign = current["errors"]["unknown_model"], current["errors"]["foreign_model"]
    assert foreign["message"].replace(facts["foreign_model"], "X") == unknown["message"].replace(
        "public/no-such-model", "X"
    )
