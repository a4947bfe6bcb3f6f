"""The embedded ClickHouse behind a door that answers statements on users as a server with SQL access control does.

What makes users is noted and answered, each kind by what the test asks for; everything else goes to the real engine.
"""

import base64
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import httpx

from tests.servers.clickhouse import ClickHouseProcess

_MAKES_USERS = ("CREATE SETTINGS PROFILE", "CREATE USER", "CREATE QUOTA", "CREATE ROW POLICY", "GRANT")
_ENDS_HERE = frozenset({"connection", "transfer-encoding", "content-length", "content-encoding"})


@dataclass
class ServerWithUsers:
    """`made` is every statement on users, in order. `user_stores`: places that keep users; None is an old server
    without such a table. `refusals`: by a statement's first words, ClickHouse's code. `forgotten`: users whom nobody
    has made. `analyst_writes`: somebody has given the analyst every right. `asked`: who asked the engine, with the
    parameters of the URL."""

    url: str = ""
    made: list[str] = field(default_factory=list)
    user_stores: int | None = 1
    refusals: dict[str, int] = field(default_factory=dict)
    forgotten: set[str] = field(default_factory=set)
    failures_left: int = 0
    analyst_writes: bool = False
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def answer(self, statement: str, user: str) -> tuple[int, str, int] | None:
        """Status, text and ClickHouse's code, or None for the engine to answer."""
        if self.failures_left:
            self.failures_left -= 1
            return 500, "Code: 999. DB::Exception: just started (KEEPER_EXCEPTION)", 999
        if user in self.forgotten:
            return 403, f"Code: 516. DB::Exception: {user}: Authentication failed (AUTHENTICATION_FAILED)", 516
        if statement.startswith(_MAKES_USERS):
            for words, code in self.refusals.items():
                if statement.startswith(words):
                    return 500, f"Code: {code}. DB::Exception: refused", code
            self.made.append(statement)
            return 200, "", 0
        if "system.user_directories" in statement and self.user_stores is None:
            return 404, "Code: 60. DB::Exception: Table system.user_directories does not exist (UNKNOWN_TABLE)", 60
        return None


@contextmanager
def server_with_users(engine: ClickHouseProcess) -> Iterator[ServerWithUsers]:
    """The door, open until the end of the block."""
    state = ServerWithUsers()
    users = {
        _login(name, password): name
        for name, password in (
            ("hydra", engine.admin_password),
            ("analyst", engine.analyst_password),
            ("billing", engine.billing_password),
        )
    }

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            return

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            in_url = dict(parse_qsl(urlsplit(self.path).query))
            statement = (in_url.get("query") or body.decode("utf-8", "replace")).strip()
            by_header = _login(self.headers.get("X-ClickHouse-User", ""), self.headers.get("X-ClickHouse-Key", ""))
            name = users.get(self.headers.get("Authorization", by_header), "")
            said = state.answer(statement, name)
            if said is not None:
                status, text, code = said
                headers = {"X-ClickHouse-Exception-Code": str(code)} if code else {}
                self._send(status, headers, text.encode())
                return
            if "system.user_directories" in statement:
                body = body.replace(_where(statement), f"SELECT toUInt64({state.user_stores})".encode())
            state.asked.append((name, in_url))
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "content-length")}
            if name == "analyst" and state.analyst_writes:
                headers["Authorization"] = _login("hydra", engine.admin_password)
            answer = httpx.request(self.command, engine.url + self.path, headers=headers, content=body, timeout=60)
            kept = {k: v for k, v in answer.headers.items() if k.lower() not in _ENDS_HERE}
            self._send(answer.status_code, kept, answer.content)

        def _send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    server.daemon_threads = True
    state.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _login(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def _where(statement: str) -> bytes:
    """The question for user stores, up to the format that the client adds."""
    return statement.partition("FORMAT")[0].strip().encode()
