"""A gateway inside the test's own loop: real sockets and a real spool, states handed in instead of read from Kafka."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

from domain import ids
from schemas import codec
from schemas.accounts import AccountState, ApiKeyState
from schemas.deployments import DeploymentState, Endpoint
from schemas.spend import BalanceStated
from schemas.usage import TokensUsed
from services.gateway.admission import Admission
from services.gateway.routing import Routes
from services.gateway.server import Gateway
from services.gateway.settings import GatewaySettings
from services.gateway.spool import Spool
from services.gateway.spool_files import End, Intent, parsed, payloads, segments
from services.gateway.upstream_pool import UpstreamPool

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


class Caught:
    """Keys and services are known, as after Kafka's end offsets."""

    ready = True
    degraded = False
    age = 0.0

    def age_s(self) -> float:
        return self.age


@dataclass
class InProcess:
    gateway: Gateway
    port: int
    folder: Path
    state: Caught
    key: str
    account: str
    key_id: str
    version: int = 1

    def customer(
        self,
        *,
        scopes: tuple[Any, ...] = ("inference",),
        status: Any = "active",
        account_status: Any = "active",
        limit: Decimal | None = None,
        spent: Decimal | None = None,
        account: str | None = None,
    ) -> tuple[str, str]:
        """(account, key) of a new customer."""
        account = account or ids.account_id(os.urandom(32))
        key, key_id = ids.api_key(os.urandom(32)), ids.key_id(os.urandom(32))
        admission = self.gateway.admission
        admission.apply_account(
            account,
            AccountState(
                account=account,
                version=1,
                name="test",
                status=account_status,
                created=LONG_AGO,
                currency="CNY",
                spend_limit=limit,
            ),
        )
        admission.apply_key(
            key_id,
            ApiKeyState(
                key_id=key_id,
                version=1,
                account=account,
                name="test",
                key_hash=ids.key_hash(key),
                masked=ids.masked_key(key),
                scopes=scopes,
                status=status,
                created=LONG_AGO,
            ),
        )
        if spent is not None:
            admission.apply_balance(
                account,
                BalanceStated(
                    account=account,
                    version=1,
                    hour=LONG_AGO,
                    day=LONG_AGO,
                    month=LONG_AGO,
                    spent_hour={},
                    spent_day={},
                    spent_month={},
                    spent_total={"CNY": spent},
                    covers_offset=0,
                ),
            )
        return account, key

    def service(self, *ports: int, path: str = "public/m", **fields: Any) -> DeploymentState:
        self.version += 1
        account = path.split("/")[0]
        known: dict[str, Any] = {
            "service_id": "s-" + sha256(path.encode()).hexdigest()[:12],
            "version": self.version,
            "account": account,
            "access_path": path,
            "model": "m",
            "region": "sh-02",
            "billing": "token" if account == "public" else "time",
            "status": "running",
            "created": LONG_AGO,
            "instances_wanted": len(ports),
            "endpoints": tuple(
                Endpoint(instance=f"i-{port:012x}", epoch=1, address=f"127.0.0.1:{port}") for port in ports
            ),
            "ever_ready": bool(ports),
        }
        state = DeploymentState(**(known | fields))
        self.gateway.routes.apply(state.service_id, state)
        return state

    def records(self) -> list[Intent | End]:
        return [parsed(payload) for path in segments(self.folder) for payload, _ in payloads(path.read_bytes())]

    def ends(self) -> list[TokensUsed]:
        """The usage events on disk, oldest first; each request's once."""
        found = [record for record in self.records() if isinstance(record, End)]
        assert len({end.request_id for end in found}) == len(found), "one request, two usage events"
        return [codec.decode(end.event, TokensUsed).data for end in found]

    async def ended(self, count: int = 1, within_s: float = 30) -> list[TokensUsed]:
        """The usage events once there are `count`."""
        await until(lambda: len(self.ends()) >= count, within_s)
        return self.ends()

    def request(
        self, path: str = "/v1/chat/completions", *, key: str | None = None, extra: str = "", **body: Any
    ) -> bytes:
        """An inference request's bytes."""
        known: dict[str, Any] = {"model": "public/m", "messages": [{"role": "user", "content": "hello"}]}
        if path.endswith("/completions") and "chat" not in path:
            known = {"model": "public/m", "prompt": "hello"}
        raw = json.dumps(known | body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key or self.key}\r\n{extra}"
        return f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 26)

    async def ask(self, raw: bytes) -> "Answer":
        """One request on a connection of its own."""
        reader, writer = await self.connect()
        writer.write(raw)
        try:
            return await read_answer(reader)
        finally:
            writer.close()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["error"]
        assert set(found) == {"message", "type", "param", "code"}
        return found

    @property
    def events(self) -> list[Any]:
        """The stream's JSON events; it must end with [DONE] or an error."""
        parts = [part for part in self.body.split(b"\n\n") if part]
        assert all(part.startswith(b"data: ") for part in parts), self.body
        return [json.loads(part[6:]) for part in parts if part != b"data: [DONE]"]


async def until(condition: Callable[[], object], within_s: float = 30) -> None:
    """Ask again and again until it holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.02)


async def read_answer(reader: asyncio.StreamReader, *, head_only: bool = False) -> Answer:
    """The next answer on a connection, by its length, its chunks or the connection's end."""
    async with asyncio.timeout(60):
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        status = int(lines[0].split(" ")[1])
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:] if line)}
        body = b""
        if head_only or status in (100, 204):
            pass
        elif headers.get("transfer-encoding") == "chunked":
            while size := int(await reader.readuntil(b"\r\n"), 16):
                body += await reader.readexactly(size)
                assert await reader.readexactly(2) == b"\r\n"
            assert await reader.readexactly(2) == b"\r\n"
        elif "content-length" in headers:
            body = await reader.readexactly(int(headers["content-length"]))
        else:
            body = await reader.read()
        return Answer(status, headers, body)


@asynccontextmanager
async def gateway_in_process(folder: Path, **fields: Any) -> AsyncIterator[InProcess]:
    loop = asyncio.get_running_loop()
    write = fields.pop("write", os.write)
    settings = GatewaySettings(**({"port": 0, "abort_wait_s": 5.0, "linger_s": 0.5} | fields))
    pool = UpstreamPool(
        loop,
        size=settings.pool_size_per_instance,
        idle_s=settings.pool_idle_s,
        connect_timeout_s=settings.connect_timeout_s,
    )
    state = Caught()
    spool = Spool(
        folder,
        loop,
        bytes_max=settings.spool_bytes_max,
        segment_bytes=settings.spool_segment_bytes,
        sync=settings.spool_sync,
        write=write,
    )
    gateway = Gateway(
        "g-test",
        settings,
        loop,
        admission=Admission(),
        routes=Routes(pool, "a cluster secret", cooldown_s=settings.cooldown_s),
        pool=pool,
        spool=spool,
        state=state,
    )
    port = await gateway.serve()
    sweeping = loop.create_task(gateway.sweep_for_ever())
    made = InProcess(gateway, port, folder, state, "", "", "")
    made.account, made.key = made.customer()
    try:
        yield made
    finally:
        sweeping.cancel()
        gateway.draining = True
        gateway.stop_listening()
        for connection in list(gateway.connections):
            connection.abort()
        for instance in gateway.routes.instances:
            pool.withdraw(instance)
        await asyncio.sleep(0.05)
