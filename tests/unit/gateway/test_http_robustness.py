"""What is no sound HTTP request never reaches an engine, is bounded, and leaves the server as it was."""

import asyncio
import json
from pathlib import Path

import pytest

from tests.servers.gateway_in_process import InProcess, gateway_in_process, read_answer, until
from tests.servers.scripted_engine import ReceivedRequest, chat_answer, chunked, scripted_engine, whole


async def answer_whole(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(whole(chat_answer(request)))


def head(made: InProcess, lines: str, method: str = "POST", path: str = "/v1/chat/completions") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {made.key}\r\n{lines}\r\n".encode()


BODY = b'{"model":"public/m","messages":[{"role":"user","content":"hi"}]}'
LENGTH = f"Content-Length: {len(BODY)}\r\n"
HIDDEN = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"

SMUGGLING = {
    "length and chunks": f"{LENGTH}Transfer-Encoding: chunked\r\n",
    "chunks and length": f"Transfer-Encoding: chunked\r\n{LENGTH}",
    "two lengths": f"{LENGTH}Content-Length: 5\r\n",
    "two equal lengths": LENGTH + LENGTH,
    "a list of lengths": f"Content-Length: {len(BODY)}, {len(BODY)}\r\n",
    "a signed length": f"Content-Length: +{len(BODY)}\r\n",
    "a hexadecimal length": "Content-Length: 0x10\r\n",
    "an unknown coding last": "Transfer-Encoding: chunked, identity\r\n",
    "an unknown coding": "Transfer-Encoding: xchunked\r\n",
    "chunked twice": "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "two codings": "Transfer-Encoding: gzip, chunked\r\n",
    "a blank before the colon": f"Content-Length : {len(BODY)}\r\n",
    "a folded header": f"X-Folded: one\r\n two\r\n{LENGTH}",
    "a bare line feed": f"X-One: 1\n{LENGTH}",
    "a bare carriage return": f"X-One: 1\rX-Two: 2\r\n{LENGTH}",
    "a zero byte": f"X-One: a\x00b\r\n{LENGTH}",
    "two hosts": f"Host: chat.example\r\n{LENGTH}",
}


@pytest.mark.parametrize("lines", SMUGGLING.values(), ids=SMUGGLING.keys())
async def test_smuggling_attempts_are_refused_and_end_the_connection(made: InProcess, lines: str) -> None:
    async with scripted_engine(answer_whole) as engine:
        made.service(engine.port)
        reader, writer = await made.connect()
        writer.write(head(made, lines) + BODY + HIDDEN)
        answer = await read_answer(reader)
        assert answer.status == 400 and answer.error["type"] == "invalid_request_error"
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()
        assert engine.requests == []


@pytest.mark.parametrize(
    "raw",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\xff" * 100,
    ],
)
async def test_what_is_no_http_is_answered_400_and_closed(made: InProcess, raw: bytes) -> None:
    reader, writer = await made.connect()
    writer.write(raw)
    assert (await read_answer(reader)).status == 400
    assert await reader.read() == b""
    writer.close()


@pytest.mark.parametrize("endless", [False, True])
async def test_headers_are_bounded(tmp_path: Path, endless: bool) -> None:
    async with gateway_in_process(tmp_path, header_bytes_max=2048) as made:
        reader, writer = await made.connect()
        many = b"".join(b"X-%d: %b\r\n" % (number, b"v" * 50) for number in range(100))
        writer.write(b"GET /v1/models HTTP/1.1\r\n" + (b"X: " + b"v" * 9000 if endless else many))
        assert (await read_answer(reader)).status == 431
        writer.close()


@pytest.mark.parametrize("chunks", [False, True])
async def test_a_body_too_large_is_refused_before_it_is_read_and_recorded(tmp_path: Path, chunks: bool) -> None:
    async with gateway_in_process(tmp_path, body_bytes_max=5000) as made:
        reader, writer = await made.connect()
        if chunks:
            data = head(made, "Transfer-Encoding: chunked\r\n") + b"".join(chunked(b"x" * 1000) for _ in range(6))
        else:
            data = head(made, "Content-Length: 5001\r\n")
        writer.write(data)
        answer = await read_answer(reader)
        assert answer.status == 413 and answer.error["code"] == "request_too_large"
        (end,) = await made.ended()
        assert (end.outcome, end.status, end.account) == ("refused", 413, made.account)
        writer.close()


async def test_a_body_that_never_ends_times_out_and_is_recorded(tmp_path: Path) -> None:
    async with gateway_in_process(tmp_path, request_read_timeout_s=0.2) as made:
        reader, writer = await made.connect()
        writer.write(head(made, LENGTH) + BODY[:5])
        assert (await read_answer(reader)).status == 408
        assert (await made.ended())[0].status == 408
        writer.close()


async def test_bytes_of_bodies_are_given_back(tmp_path: Path) -> None:
    async with scripted_engine(answer_whole) as engine:
        async with gateway_in_process(tmp_path, body_bytes_total_max=20_000) as made:
            made.service(engine.port)
            for _ in range(5):
                text = "x" * 15_000
                answer = await made.ask(made.request(messages=[{"role": "user", "content": text}]))
                assert answer.status == 200
            broken = await made.ask(made.request(messages=[{"role": "user", "content": "x" * 21_000}]))
            assert broken.status == 503
            assert (await made.ask(made.request())).status == 200


async def test_pipelining_is_bounded(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        await answer_whole(request, writer)

    async with scripted_engine(answering) as engine:
        async with gateway_in_process(tmp_path, pipeline_max=3) as made:
            made.service(engine.port)
            reader, writer = await made.connect()
            writer.write(made.request() * 20)
            await asyncio.sleep(0.2)
            release.set()
            answers = 0
            while not reader.at_eof():
                try:
                    assert (await read_answer(reader)).status == 200
                    answers += 1
                except asyncio.IncompleteReadError:
                    break
            assert 3 <= answers <= 5
            writer.close()


LARGE = b'{"id":"x","usage":{"prompt_tokens":1,"completion_tokens":1},"pad":"' + b"a" * (12 << 20) + b'"}'
"""More than the kernel's buffers take for a client that does not read."""


async def answer_large(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(whole(LARGE) if request.body.get("user") != "small" else whole(chat_answer(request)))


async def connect_and_read_nothing(made: InProcess) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The reader's buffer is tiny, so what is not read stays with the gateway."""
    return await asyncio.open_connection("127.0.0.1", made.port, limit=1024)


def paused(made: InProcess) -> bool:
    return any(connection.paused_since is not None for connection in made.gateway.connections)


async def test_a_client_that_pipelines_and_does_not_read_has_one_answer_waiting(made: InProcess) -> None:
    async with scripted_engine(answer_large) as engine:
        made.service(engine.port)
        reader, writer = await connect_and_read_nothing(made)
        writer.write(made.request() + made.request(user="small") * 5)
        await until(lambda: paused(made))
        # Others are served meanwhile, each over several turns of the loop.
        for _ in range(5):
            assert (await made.ask(made.request(user="small"))).status == 200
        assert len(engine.requests) == 6, "a request began for a client that does not read"
        for _ in range(6):
            assert (await read_answer(reader)).status == 200
        assert len(engine.requests) == 11
        writer.close()


async def test_answers_held_are_bounded_and_given_back(tmp_path: Path) -> None:
    async with (
        scripted_engine(answer_large) as engine,
        gateway_in_process(tmp_path, answer_bytes_total_max=len(LARGE) + (1 << 20)) as made,
    ):
        made.service(engine.port)
        _, writer = await connect_and_read_nothing(made)
        writer.write(made.request())
        await until(lambda: paused(made))
        answer = await made.ask(made.request())
        assert (answer.status, answer.error["code"]) == (503, "overloaded")
        assert made.ends()[-1].prompt_tokens is None
        assert (await made.ask(made.request(user="small"))).status == 200
        writer.close()
        await until(lambda: not paused(made))
        for _ in range(2):
            assert (await made.ask(made.request())).status == 200


async def test_thousands_of_pipelined_requests_do_not_recurse(tmp_path: Path) -> None:
    async with gateway_in_process(tmp_path, pipeline_max=5000) as made:
        reader, writer = await made.connect()
        one = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
        writer.write(one * 3000)
        for _ in range(3000):
            assert (await read_answer(reader)).status == 200
        writer.close()


async def test_http_1_0_gets_a_whole_answer_and_a_closed_connection(made: InProcess) -> None:
    async def answering(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
        from tests.servers.scripted_engine import DONE, chat_chunk, stream_head, usage_chunk

        rid = request.body["rid"]
        parts = (chat_chunk(rid, "public/m", "a"), usage_chunk(rid, "public/m"), DONE, b"")
        writer.write(stream_head() + b"".join(map(chunked, parts)))

    async with scripted_engine(answering) as engine:
        made.service(engine.port)
        reader, writer = await made.connect()
        writer.write(made.request(stream=True).replace(b"HTTP/1.1", b"HTTP/1.0", 1))
        answer = await read_answer(reader)
        assert answer.status == 200 and "transfer-encoding" not in answer.headers
        assert len(answer.events) == 1 and answer.body.endswith(b"data: [DONE]\n\n")
        writer.close()


async def test_expect_100_continue(made: InProcess) -> None:
    async with scripted_engine(answer_whole) as engine:
        made.service(engine.port)
        reader, writer = await made.connect()
        writer.write(head(made, f"{LENGTH}Expect: 100-continue\r\n"))
        assert (await read_answer(reader)).status == 100
        writer.write(BODY)
        assert (await read_answer(reader)).status == 200
        writer.close()


async def test_head_options_and_wrong_methods(made: InProcess) -> None:
    async with scripted_engine(answer_whole) as engine:
        made.service(engine.port)
        reader, writer = await made.connect()
        writer.write(head(made, "", "HEAD", "/v1/models"))
        answer = await read_answer(reader, head_only=True)
        assert answer.status == 200 and int(answer.headers["content-length"]) > 10
        for method, path, status in (
            ("OPTIONS", "/v1/chat/completions", 204),
            ("GET", "/v1/chat/completions", 405),
            ("DELETE", "/v1/models", 405),
            ("GET", "/v1/nothing", 404),
            ("POST", "/", 404),
        ):
            writer.write(head(made, "Content-Length: 0\r\n", method, path))
            assert (await read_answer(reader)).status == status, (method, path)
        writer.close()


async def test_an_offer_of_another_protocol_is_not_taken_up(made: InProcess) -> None:
    async with scripted_engine(answer_whole) as engine:
        made.service(engine.port)
        answer = await made.ask(head(made, f"Connection: Upgrade\r\nUpgrade: h2c\r\n{LENGTH}") + BODY + HIDDEN)
        assert answer.status == 400 and "Upgrade" in answer.error["message"]
        assert engine.requests == []


async def test_trailers_decide_nothing(made: InProcess) -> None:
    _, other_key = made.customer()
    trailers = f"0\r\nAuthorization: Bearer {other_key}\r\nX-Request-Id: trailing\r\nHost: elsewhere\r\n\r\n"
    data = head(made, "Transfer-Encoding: chunked\r\n") + chunked(BODY) + trailers.encode()
    async with scripted_engine(answer_whole) as engine:
        made.service(engine.port)
        assert (await made.ask(data)).status == 200
    (end,) = made.ends()
    assert end.account == made.account and end.client_request_id is None


async def test_idle_connections_are_closed(tmp_path: Path) -> None:
    async with gateway_in_process(tmp_path, idle_timeout_s=0.2) as made:
        reader, writer = await made.connect()
        writer.write(head(made, "", "GET", "/health/live"))
        assert json.loads((await read_answer(reader)).body)["status"] == "ok"
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()


@pytest.mark.parametrize("lines", ["Content-Length: 100000\r\n", "Transfer-Encoding: chunked\r\n"])
async def test_a_strangers_large_body_is_not_taken_in(made: InProcess, lines: str) -> None:
    reader, writer = await made.connect()
    writer.write(head(made, lines).replace(made.key.encode(), b"sk-" + b"0" * 43))
    answer = await read_answer(reader)
    assert answer.status == 401 and answer.error["code"] == "invalid_api_key"
    writer.close()


async def test_an_answer_arrives_though_the_body_was_not_read(tmp_path: Path) -> None:
    """Closing on unread bytes would reset the connection, and the client would never see why."""
    async with gateway_in_process(tmp_path, body_bytes_max=5000, linger_s=10.0) as made:
        reader, writer = await made.connect()
        writer.write(head(made, "Content-Length: 8000000\r\n") + b"x" * 8_000_000)
        await writer.drain()
        assert (await read_answer(reader)).status == 413
        writer.close()
