"""The compose file as a stranger starts it: the main job from outside, harm in the middle, and nothing left behind.

In the order of the file: each test goes on where the one before it ended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from openai import OpenAI

from adapters import secret_files
from adapters.clickhouse.client import BILLING
from runner.container_secrets import handed_to_readers
from runner.processes import PROCESSES
from tests.compose.books import compare
from tests.compose.load import OfficialLoad
from tests.compose.project import BACK_WITHIN_S, PROFILES, ComposeProject, say
from tests.servers.platform import wait_until

SHARED = "public/deepseek-r1"
NODES = 2
ANSWERS_BETWEEN_HARMS = 60
ANSWERS_IN_A_BACKLOG = 200
"""Their ids are more than a request of HTTP carries in its URL."""
SEED = 20261121
STEPS = {process.name for process in PROCESSES if process.kind == "step"} | {"secrets"}
ANOTHERS_IMAGE = {"kafka", "clickhouse"}
OUR_USER = 10001
LIST_ACCESS = "import os; print(*os.listdir('/var/lib/hydra/access'))"


@pytest.fixture(scope="module")
def project(request: pytest.FixtureRequest) -> Iterator[ComposeProject]:
    project = ComposeProject(f"hydra-compose-test-{os.getpid()}")
    try:
        project.start("--scale", f"node={NODES}")
        failed_before = request.session.testsfailed
        yield project
        if request.session.testsfailed > failed_before:
            project.tell()
    finally:
        if project.left():
            say("taking it down")
            project.stop()


@dataclass(frozen=True)
class Customer:
    """An account with a key and an own service that is ready."""

    account: str
    key: str = field(repr=False)

    @property
    def own(self) -> str:
        return f"{self.account}/test"


def new_customer(project: ComposeProject, name: str) -> Customer:
    """As the operator makes one, with the command in a container."""
    account = project.hydra("account", "create", name)["id"]
    key = project.hydra("key", "create", "--account", account)["key"]
    project.hydra("service", "deploy", "test", "--model", "qwen2.5-7b-instruct", "--account", account)

    def ready() -> bool:
        shown = [
            project.hydra("service", "show", service, "--account", of)
            for service, of in (("test", account), ("deepseek-r1", "public"))
        ]
        return all(service["ready"] == service["replicas"] > 0 for service in shown)

    wait_until(ready, "the own service and the shared model are ready", 120, 1.0)
    return Customer(account, key)


@pytest.fixture(scope="module")
def customer(project: ComposeProject) -> Customer:
    return new_customer(project, "acme")


def test_everything_runs_as_nobody_in_particular(project: ComposeProject) -> None:
    found = {(of["Config"]["Labels"]["com.docker.compose.service"], of["Name"]): of for of in project.containers()}
    running = {name for (name, _), container in found.items() if container["State"]["Status"] == "running"}
    assert running == {of.name for of in PROCESSES if of.kind != "step"} - {"worker"} | {"node"}
    assert sum(name == "node" for name, _ in found) == NODES
    for (service, _), container in found.items():
        if service in STEPS:
            assert container["State"]["ExitCode"] == 0, service
            continue
        assert container["State"]["Health"]["Status"] == "healthy", service
        assert container["HostConfig"]["ReadonlyRootfs"] or service in ANOTHERS_IMAGE
        assert container["HostConfig"]["LogConfig"]["Config"]["max-size"], service
        assert project.compose("exec", "-T", service, "id", "-u").strip() != "0", service
    assert not [
        text
        for container in found.values()
        for text in container["Config"]["Env"]
        if "PASSWORD" in text and "PASSWORD_FILE=" not in text
    ]


def test_only_nodes_do_not_get_the_settings_of_all_others(project: ComposeProject) -> None:
    told = "OTEL_EXPORTER_OTLP_HEADERS=authorization=of-no-node"
    for container in project.containers():
        service = container["Config"]["Labels"]["com.docker.compose.service"]
        if service in ANOTHERS_IMAGE:
            continue
        assert (told in container["Config"]["Env"]) is (service != "node"), service
        limits = {limit["Name"]: (limit["Soft"], limit["Hard"]) for limit in container["HostConfig"]["Ulimits"]}
        assert limits == {"nofile": (project.open_files, project.open_files)}, service


def test_the_file_is_whole_with_every_profile(project: ComposeProject) -> None:
    profiles = [word for profile in PROFILES for word in ("--profile", profile)]
    plain, whole = (
        set(json.loads(project.compose(*words, "config", "--format", "json"))["services"]) for words in ((), profiles)
    )
    assert whole - plain == {"node-gpu", "prometheus", "grafana"}
    assert plain == {of.name for of in PROCESSES} - {"worker"} | {"node", "secrets"}


def test_the_operator_is_told_what_is_ready_and_what_is_wrong(project: ComposeProject) -> None:
    in_order, told = project.status()
    assert in_order, told
    names = [row["name"] for row in told["processes"]]
    assert set(names) == {of.name for of in PROCESSES if of.kind != "step"} and names.count("worker") == NODES
    # One of two: a ClickHouse with SQL users, or one without, whose owner billing reads as.
    billing = next(row["reason"] for row in told["processes"] if row["name"] == "billing")
    owner_reads = told["analyst"].startswith("no analyst:") and "billing reads as hydra" in told["analyst"]
    assert owner_reads or told["analyst"] == "analyst: SQL user on the server"
    assert ("reads ClickHouse as hydra" in billing) is owner_reads
    held = {name for name in project.python("billing", LIST_ACCESS).split() if name != "clickhouse.json"}
    assert held == ({secret_files.CLICKHOUSE_ADMIN_PASSWORD} if owner_reads else set())
    in_order, told_there = project.status(asked_in="billing")
    assert in_order and told_there["analyst"] == told["analyst"], told_there
    of_its_own = ("run", "--rm", "--no-deps", "-T", "--entrypoint", "hydra", "accounts")
    assert json.loads(project.compose(*of_its_own, "status", "--json"))["ready"]
    asked = project.compose("exec", "-T", "accounts", "hydra", "sql", "--format", "TSV", "SELECT 6 * 7")
    assert asked.strip() == "42", "the analysts' way in works on both"
    project.compose("stop", "live_spend")
    in_order, told = project.status()
    assert not in_order
    assert [row["name"] for row in told["processes"] if row["state"] != "ready"] == ["live_spend"]
    project.compose("start", "live_spend")
    wait_until(lambda: project.status()[0], "everything is ready again", BACK_WITHIN_S, 1.0)


def test_a_container_sees_the_secrets_that_it_reads_and_no_other(project: ComposeProject) -> None:
    look = """
import json, pathlib
files = pathlib.Path("/var/lib/hydra/secrets").iterdir()
print(json.dumps({file.name: [oct(file.stat().st_mode & 0o777), file.stat().st_uid] for file in files}))
"""
    handed = dict(handed_to_readers(BILLING))
    assert handed.pop("analyst")  # a step, which has ended
    for service, names in {**handed, "accounts": secret_files.ALL}.items():
        found = json.loads(project.python(service, look))
        assert found == {name: ["0o600", OUR_USER] for name in names}, service


def test_a_customer_calls_both_ways_to_be_served(project: ComposeProject, customer: Customer) -> None:
    client = OpenAI(base_url=f"{project.url('gateway')}/v1", api_key=customer.key)
    assert {SHARED, customer.own} <= {model.id for model in client.models.list()}
    for model in (SHARED, customer.own):
        answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}])
        assert answer.model == model and answer.choices[0].message.content
        assert answer.usage is not None and answer.usage.completion_tokens > 0


def test_the_bill_is_the_engines_count_whatever_is_killed(project: ComposeProject, tmp_path: Path) -> None:
    customer = new_customer(project, "load")
    load = OfficialLoad(
        project.url("gateway"), customer.key, customer.account, [SHARED, SHARED, customer.own], seed=SEED
    )

    def more_answers(number: int = ANSWERS_BETWEEN_HARMS) -> None:
        wanted = load.answered() + number
        wait_until(lambda: load.answered() >= wanted, f"{wanted} answers; seen: {load.seen()}", 120)

    with load.running():
        more_answers()
        say("killing Kafka")
        kafka = project.strike("kafka")
        before = served = load.answered()

        def kafka_answers() -> bool:
            nonlocal served
            seen = load.answered()
            if kafka.answers():
                return True
            served = seen  # looked at before Kafka was seen away, so all of them had no Kafka
            return False

        wait_until(kafka_answers, "Kafka answers again", BACK_WITHIN_S)
        assert served > before, "the gateway serves without Kafka"
        kafka.await_back()
        more_answers()
        say("stopping the warehouse, so that it comes back to a long batch")
        project.compose("stop", "warehouse")
        more_answers(ANSWERS_IN_A_BACKLOG)
        project.compose("start", "warehouse")
        say("killing the gateway")
        with load.long_streams():
            wait_until(lambda: load.streaming() > 0, "a stream has begun")
            gateway = project.strike("gateway")
        gateway.await_back()
        more_answers()
    say(f"{len(load.sent)} requests were sent; clients saw {dict(load.seen())}")
    project.hydra("service", "delete", "test", "--confirm", "test", "--account", customer.account)
    compared = compare(project, load, tmp_path)
    say(compared.line())
    assert compared.outcomes["gateway_lost"] > 0, "the gateway was killed with requests in its hands"
    assert compared.billed_tokens > 0 and compared.billed_seconds > 0
    bill: Any = project.hydra("bill", "--account", customer.account)
    assert sum(int(line["quantity"]) for line in bill["lines"] if line["meter"] != "instance_seconds") == (
        compared.billed_tokens
    )
    asking: dict[str, Any] = {"params": {"limit": 500}, "headers": {"Authorization": f"Bearer {customer.key}"}}
    page = httpx.get(f"{project.url('billing')}/v1/requests", **asking, timeout=60)
    assert page.status_code == 200 and len(page.json()["data"]) > ANSWERS_IN_A_BACKLOG, page.text[:1000]


def test_billing_answers_a_customer_from_outside(project: ComposeProject, customer: Customer) -> None:
    headers = {"Authorization": f"Bearer {customer.key}"}

    def charged() -> list[dict[str, Any]]:
        answer = httpx.get(f"{project.url('billing')}/v1/bill", headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text
        return [line for line in answer.json()["lines"] if line["resource"] == SHARED]

    lines = wait_until(charged, "the shared model on the bill", 60, 1.0)
    assert {line["meter"] for line in lines} == {"input_tokens", "output_tokens"}


def test_a_node_that_is_killed_comes_back_as_itself(project: ComposeProject, customer: Customer) -> None:
    def nodes() -> set[str]:
        return {row["node"] for row in project.sql("SELECT DISTINCT node FROM hydra.instance_events WHERE node != ''")}

    before = nodes()
    say("killing a node")
    project.kill("node")
    client = OpenAI(base_url=f"{project.url('gateway')}/v1", api_key=customer.key, max_retries=0)

    def served() -> bool:
        try:
            return bool(client.chat.completions.create(model=SHARED, messages=[{"role": "user", "content": "Hello"}]))
        except Exception:
            return False

    wait_until(served, "the shared model answers again", 120, 1.0)
    assert nodes() == before


def test_nothing_is_left(project: ComposeProject) -> None:
    say("taking it down")
    project.stop()
    assert project.left() == {}
