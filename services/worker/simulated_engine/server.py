"""Routes, the engine key, and a process that drains at SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import msgspec
import uvicorn

from services.worker.simulated_engine.coercions import mapping, number, optional, string, truth
from services.worker.simulated_engine.engine import Engine
from services.worker.simulated_engine.faults import Faults
from services.worker.simulated_engine.http_wire import (
    TEXT,
    BodyTooLarge,
    ClientGone,
    Receive,
    Scope,
    Send,
    answer,
    header,
    read_body,
)
from services.worker.simulated_engine.inference import serve
from services.worker.simulated_engine.options import Options
from services.worker.simulated_engine.refusals import Refused

SGLANG_VERSION = "0.5.23"
KEEP_ALIVE_S = 5
# SGLang asks neither for the key.
UNGUARDED = {"/health", "/health_generate", "/metrics"}

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


class App:
    """The ASGI application of one engine."""

    def __init__(self, options: Options) -> None:
        self.engine = Engine(options)
        self._options = options
        self._faults = Faults()
        self._key = f"Bearer {options.api_key}".encode() if options.api_key else None
        self._routes: dict[str, tuple[set[str], Handler]] = {
            "/v1/chat/completions": ({"POST"}, self._chat),
            "/v1/completions": ({"POST"}, self._completion),
            "/abort_request": ({"POST"}, self._abort),
            "/health": ({"GET"}, self._health),
            "/health_generate": ({"GET"}, self._health),
            "/ready": ({"GET"}, self._health),
            "/get_model_info": ({"GET"}, self._model_info),
            "/model_info": ({"GET"}, self._model_info),
            "/v1/models": ({"GET"}, self._models),
            "/v1/loads": ({"GET"}, self._loads),
            "/metrics": ({"GET"}, self._metrics),
            "/": ({"GET"}, self._root),
        }
        if options.faults:
            self._routes["/simulate"] = ({"POST"}, self._simulate)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        path = scope["path"]
        if path not in UNGUARDED and not self._may(scope):
            await answer(send, 401, b'{"error":"Unauthorized"}')
            return
        route = self._routes.get(path)
        if route is None:
            await self._unknown_path(path, send)
        elif scope["method"] not in route[0]:
            await answer(send, 405, b'{"detail":"Method Not Allowed"}')
        else:
            try:
                await route[1](scope, receive, send)
            except ClientGone:
                return
            except BodyTooLarge:
                await answer(send, 413, Refused("the body is too large", "413", 413).body())
            except Refused as refusal:
                await answer(send, refusal.status, refusal.body())

    def _may(self, scope: Scope) -> bool:
        return self._key is None or hmac.compare_digest(header(scope, b"authorization") or b"", self._key)

    async def _chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        await serve(self.engine, self._faults, True, scope, receive, send)

    async def _completion(self, scope: Scope, receive: Receive, send: Send) -> None:
        await serve(self.engine, self._faults, False, scope, receive, send)

    async def _abort(self, _scope: Scope, receive: Receive, send: Send) -> None:
        wanted = mapping(_decoded(await read_body(receive)), ())
        if truth(wanted.get("abort_all", False), ("abort_all",)):
            self.engine.abort_all()
        elif rid := optional(string)(wanted.get("rid"), ("rid",)):
            self.engine.abort(rid)
        await answer(send, 200)

    async def _health(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, 503 if self.engine.draining or self._faults.unhealthy() else 200)

    async def _model_info(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        name = self._options.served_model_name
        info = {"model_path": name, "served_model_name": name, "is_generation": True, "weight_version": "simulated"}
        await _answer_json(send, info | {"model_type": "simulated", "simulated": True})

    async def _models(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await _answer_json(send, {"object": "list", "data": [self._card()]})

    async def _loads(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        engine = self.engine
        load = {
            "dp_rank": 0,
            "num_running_reqs": engine.running,
            "num_waiting_reqs": engine.waiting,
            "max_running_requests": self._options.max_running_requests,
        }
        await _answer_json(send, {"version": SGLANG_VERSION, "simulated": True, "loads": [load]})

    async def _metrics(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        engine = self.engine
        text = engine.counters.render(self._options.served_model_name, engine.running, engine.waiting)
        await answer(send, 200, text, TEXT)

    async def _root(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        await _answer_json(send, "A simulated engine is running, not SGLang")

    async def _simulate(self, _scope: Scope, receive: Receive, send: Send) -> None:
        wanted = mapping(_decoded(await read_body(receive)), ())
        self._faults.order(wanted)
        if "tokens_per_second" in wanted:
            self.engine.tokens_per_second = max(0.0, number(wanted["tokens_per_second"], ("tokens_per_second",)))
        await answer(send, 200)

    async def _unknown_path(self, path: str, send: Send) -> None:
        if not path.startswith("/v1/models/"):
            await answer(send, 404, b'{"detail":"Not Found"}')
            return
        name = path.removeprefix("/v1/models/")
        if name == self._options.served_model_name:
            await _answer_json(send, self._card())
            return
        error = {"message": f"The model '{name}' does not exist", "type": "invalid_request_error", "param": "model"}
        await _answer_json(send, {"error": error | {"code": "model_not_found"}}, 404)

    def _card(self) -> dict[str, Any]:
        name = self._options.served_model_name
        return {
            "id": name,
            "object": "model",
            "created": int(time.time()),
            "owned_by": "simulated",
            "root": name,
            "parent": None,
            "max_model_len": self._options.context_length,
        }


class Server(uvicorn.Server):
    """uvicorn, but a signal ends it only when nothing runs any more."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves signals to `run`."""
        yield


async def run(options: Options) -> None:
    """Loads for as long as asked, serves until SIGTERM or SIGINT, answers what runs and what still comes, returns."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), options.load_seconds)
    if stop.is_set():
        return
    app = App(options)
    config = uvicorn.Config(
        app,
        host=options.host,
        port=options.port,
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        server_header=False,
        log_level="warning",
        # As SGLang: what pools connections to an engine must expect an idle one to be closed.
        timeout_keep_alive=KEEP_ALIVE_S,
        backlog=4096,
    )
    server = Server(config)
    serving = asyncio.ensure_future(server.serve())
    waiting = asyncio.ensure_future(stop.wait())
    await asyncio.wait([serving, waiting], return_when=asyncio.FIRST_COMPLETED)
    app.engine.draining = True
    idle = asyncio.ensure_future(app.engine.idle.wait())
    await asyncio.wait([serving, idle], return_when=asyncio.FIRST_COMPLETED)
    server.should_exit = True
    waiting.cancel()
    idle.cancel()
    await serving
    app.engine.close()


def _decoded(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError as cause:
        raise Refused("JSON decode error", "Bad Request") from cause


async def _answer_json(send: Send, content: object, status: int = 200) -> None:
    await answer(send, status, json.dumps(content).encode())
