"""The control services as real processes on one Kafka and one ClickHouse, with customers made through their API."""

import asyncio
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import pytest

from adapters.clickhouse.client import ADMIN, ClickHouse, ClickHouseAddress
from adapters.clickhouse.migrations import migrate
from adapters.kafka.topics import create_topics
from tests.servers.clickhouse import ClickHouseProcess
from tests.servers.control_process import ControlProcess, running_control
from tests.servers.kafka import running_kafka

KNOWN_WITHIN_S = 120
SCOPES = ("inference", "billing", "manage")


@dataclass
class Control:
    """The services by name; `database` is the one that billing reads; `keys` by account and scopes."""

    services: dict[str, ControlProcess]
    database: ClickHouseAddress
    keys: dict[tuple[str, str], str] = field(default_factory=dict)
    accounts: list[str] = field(default_factory=list)
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60))

    @property
    def operator(self) -> dict[str, str]:
        return self.services["accounts"].operator

    def ask(self, service: str, method: str, path: str, key: str | None, **request: Any) -> httpx.Response:
        """One request; `key` None sends no credentials, `operator` the operator's token."""
        headers = {} if key is None else self.operator if key == "operator" else {"Authorization": f"Bearer {key}"}
        headers |= request.pop("headers", {})
        return self.client.request(method, self.services[service].url + path, headers=headers, **request)

    def new_key(self, account: str, *scopes: str) -> str:
        """A key that every service knows."""
        path = f"/v1/accounts/{account}/keys"
        made = self.ask("accounts", "POST", path, "operator", json={"name": "k", "scopes": list(scopes)})
        assert made.status_code == 201, made.text
        key = str(made.json()["key"])
        known = {"accounts": f"/v1/accounts/{account}", "lifecycle": "/v1/models", "billing": "/v1/prices"}
        for service, path in known.items():
            deadline = time.monotonic() + KNOWN_WITHIN_S
            while self.ask(service, "GET", path, key).status_code == 401:
                assert time.monotonic() < deadline, f"{service} never learnt of a new key"
                time.sleep(0.05)
        return key


@pytest.fixture(scope="package")
def control(clickhouse_server: ClickHouseProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Control]:
    """Two accounts, each with a key of every single scope and one of all."""
    folder = tmp_path_factory.mktemp("control")
    home = folder / "home"
    shutil.copytree(clickhouse_server.secrets_dir, home / "secrets")
    (home / "secrets").chmod(0o700)
    database = ClickHouseAddress.with_password_file(
        clickhouse_server.url, ADMIN, clickhouse_server.admin_password_file, f"t_{uuid4().hex[:12]}"
    )
    with ExitStack() as stack:
        # A Kafka of its own: whatever stands on hydra.prices must be in the price text.
        kafka = stack.enter_context(running_kafka(folder / "kafka")).node.bootstrap
        asyncio.run(prepare(kafka, database))
        where = {"HYDRA_CLICKHOUSE_URL": database.url, "HYDRA_CLICKHOUSE_DATABASE": database.database}
        services = {
            name: stack.enter_context(running_control(name, home, kafka, **where))
            for name in ("accounts", "lifecycle", "billing")
        }
        control = Control(services, database)
        for name in ("one", "two"):
            made = control.ask("accounts", "POST", "/v1/accounts", "operator", json={"name": name})
            account = str(made.json()["id"])
            control.accounts.append(account)
            control.keys[account, "all"] = control.new_key(account, *SCOPES)
            for scope in SCOPES:
                control.keys[account, scope] = control.new_key(account, scope)
        yield control
        control.client.close()


async def prepare(kafka: str, address: ClickHouseAddress) -> None:
    await create_topics(kafka)
    clickhouse = ClickHouse(address)
    await migrate(clickhouse, "Asia/Shanghai")
    await clickhouse.close()
