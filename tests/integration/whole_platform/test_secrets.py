"""After traffic of every kind, no key, token, prompt or answer is in any file of the platform or on any topic."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition

from adapters.engine_keys import engine_key
from schemas.topics import TOPICS
from tests.servers.platform import Platform, wait_until

SHARED = "public/deepseek-r1"


def make_traffic(platform: Platform, key: str, marker: str) -> list[str]:
    """Answered, streamed, refused and malformed requests that carry `marker`; returns the answers' texts."""
    url = platform.url("gateway")
    said = {"role": "user", "content": f"please keep {marker} to yourself"}
    answers = []
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        body: dict[str, Any] = {"model": SHARED, "messages": [said], "max_tokens": 24}
        answer = client.post("/v1/chat/completions", json=body)
        answers.append(answer.raise_for_status().json()["choices"][0]["message"]["content"])
        streamed = client.post("/v1/chat/completions", json=body | {"stream": True}).text
        chunks = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
        deltas = [choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]]
        answers.append("".join(deltas))
        completion = client.post("/v1/completions", json={"model": SHARED, "prompt": marker, "max_tokens": 24})
        answers.append(completion.raise_for_status().json()["choices"][0]["text"])
        for bad in (body | {"temperature": marker}, body | {marker: 1}, body | {"model": f"public/{marker}"}):
            assert client.post("/v1/chat/completions", json=bad).status_code in (200, 400, 404)
        client.post("/v1/chat/completions", content=f'{{"model": "{marker}'.encode())
        with contextlib.suppress(httpx.HTTPError):
            client.post("/v1/chat/completions", json=body | {"max_tokens": 4000}, timeout=0.2)
    for wrong in (f"sk-{marker}", f"Basic {marker}", f"op-{marker}"):
        httpx.get(url + "/v1/models", headers={"Authorization": f"Bearer {wrong}"})
        httpx.get(platform.url("accounts") + "/v1/accounts", headers={"Authorization": f"Bearer {wrong}"})
    return answers


def misplace(platform: Platform, account: str, secret: str, key: str) -> None:
    """Send a secret in every place of a request where it does not belong; no answer says it back."""
    hidden = "".join(f"%25{byte:02X}" for byte in secret.encode())
    bearer = {"Authorization": f"Bearer {key}"}
    paths = [f"/v1/accounts/{account}/keys/{secret}", f"/v1/accounts/{secret}/keys", f"/v1/services/{secret}"]
    paths += [f"/{secret}", f"/{hidden}", f"/v1/charges?source={secret}", f"/v1/models?api_key={secret}"]
    requests = [(method, path, bearer) for method in ("GET", "PATCH") for path in paths]
    requests += [("GET", "/v1/models", bearer | {name: secret}) for name in ("Host", "X-Request-Id", "User-Agent")]
    requests += [("GET", "/v1/models", {"Authorization": f"Basic {secret}"})]
    for name in ("accounts", "lifecycle", "billing", "gateway", "clickhouse"):
        for method, path, headers in requests:
            answer = httpx.request(method, platform.url(name) + path, headers=headers, timeout=60)
            assert secret not in answer.text, (name, method, path.replace(secret, "SECRET"), headers.keys())
    for model in (secret, f"public/{secret}", f"{account}/{secret}"):
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        answer = httpx.post(platform.url("gateway") + "/v1/chat/completions", json=body, headers=bearer, timeout=60)
        assert answer.status_code == 404 and secret not in answer.text
    served = {"model": SHARED, "max_tokens": 2, "messages": [{"role": "user", "content": "hello"}]}
    url = platform.url("gateway") + "/v1/chat/completions"
    answer = httpx.post(url, json=served, headers=bearer | {"X-Request-Id": secret}, timeout=60)
    assert answer.status_code == 200 and secret not in str(answer.headers)
    analyst = ("analyst", (platform.home / "secrets" / "analyst_password").read_text().strip())
    for statement in (f"SELECT '{secret}'", f"SELECT `{secret}`", f"{secret} is no statement"):
        httpx.post(platform.url("clickhouse"), content=statement, auth=analyst, timeout=60)


def engine_keys(platform: Platform) -> list[str]:
    """The key of every engine that ran."""
    secret = (platform.home / "secrets" / "cluster_secret").read_text().strip()
    found = []
    for record in (platform.home / "worker").glob("**/i-*.json"):
        kept = json.loads(record.read_text())
        found += [engine_key(secret, kept["instance"], epoch) for epoch in range(1, kept.get("epoch", 0) + 1)]
    return found


def places_of(needles: dict[str, bytes], home: Path) -> Iterable[str]:
    """Where a needle stands in a file of `home`, its `secrets/` aside."""
    # Databases make and remove files and folders meanwhile; `walk` leaves out those that have gone.
    for folder, _, names in os.walk(home):
        for path in (Path(folder) / name for name in names):
            if not path.is_file() or path.is_relative_to(home / "secrets"):
                continue
            with contextlib.suppress(FileNotFoundError):
                content = path.read_bytes()
                where = path.relative_to(home)
                yield from (f"{name} in {where}" for name, needle in needles.items() if needle in content)


async def messages_with(needles: dict[str, bytes], bootstrap: str) -> list[str]:
    """Where a needle stands in a message of any topic (Kafka's files are compressed, so they are read as messages)."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="earliest")
    await consumer.start()
    found, read = [], 0
    try:
        partitions = [TopicPartition(topic.name, n) for topic in TOPICS for n in range(topic.partitions)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        await consumer.seek_to_beginning(*partitions)
        while [tp for tp in partitions if await consumer.position(tp) < ends[tp]]:
            for tp, records in (await consumer.getmany(timeout_ms=500)).items():
                for record in records:
                    read += 1
                    content = b" ".join([record.key or b"", record.value or b"", *(v for _, v in record.headers)])
                    found += [f"{name} on {tp.topic}" for name, needle in needles.items() if needle in content]
    finally:
        await consumer.stop()
    assert read > 50, "the topics were read"
    return found


def test_no_secret_is_written_anywhere(platform: Platform) -> None:
    account = platform.new_account("discreet")
    key = platform.new_key(account)
    marker = f"marker{secrets.token_hex(12)}"
    answers = make_traffic(platform, key, marker)
    assert all(len(answer) > 40 for answer in answers)
    wait_until(
        lambda: len(platform.hydra("charge", "--account", account)["data"]) >= 6, "the traffic's charges have come"
    )
    for secret in (key, platform.operator_token):
        misplace(platform, account, secret, key)
    slip = platform.run("key", "disable", key, "--account", account, check=False)
    assert slip.returncode == 2 and "that is the key itself" in slip.stderr
    needles = {"the API key": key.encode(), "a prompt": marker.encode()}
    needles |= {f"answer {number}": answer[:40].encode() for number, answer in enumerate(answers)}
    for path in (platform.home / "secrets").iterdir():
        needles[path.name] = path.read_text().strip().encode()
    needles |= {f"engine key {number}": found.encode() for number, found in enumerate(engine_keys(platform))}
    assert any(name.startswith("engine key") for name in needles)
    assert sorted(places_of(needles, platform.home)) == []
    assert asyncio.run(messages_with(needles, platform.kafka)) == []


def test_the_search_finds_what_is_there(platform: Platform, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "x.log").write_text("a line with sk-found in it")
    assert list(places_of({"a key": b"sk-found"}, tmp_path)) == ["a key in logs/x.log"]
    assert set(asyncio.run(messages_with({"an account": b'"name":"discreet"'}, platform.kafka))) == {
        "an account on hydra.accounts"
    }
