"""What is no body behind a head (sizes and extensions of chunks, trailers) is bounded; small chunks are served."""

import asyncio
import json
import random
from pathlib import Path

import pytest

from tests.servers.gateway_in_process import InProcess, gateway_in_process, read_answer
from tests.servers.scripted_engine import ReceivedRequest, chat_answer, scripted_engine, whole

HEADER_BYTES_MAX = 2048
WITHIN_S = 60
# (what it begins with, what comes again and again).
UNENDING = {
    "trailer": (b"0\r\nX: ", b"a" * 1000),
    "trailer's name": (b"0\r\n", b"a" * 1000),
    "trailers": (b"0\r\n", b"X: abcdef\r\n" * 100),
    "chunk's extension": (b"1;x=", b"a" * 1000),
    "trailer behind a large body": (b"2710\r\n" + b" " * 10_000 + b"\r\n0\r\nX: ", b"a" * 1000),
    "chunks that are all extension": (b"", b"1;x=" + b"a" * 1000 + b"\r\n \r\n"),
}


def head(made: InProcess, method: str = "POST") -> bytes:
    return (
        f"{method} /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {made.key}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    ).encode()


def body(content: str) -> bytes:
    return json.dumps({"model": "public/m", "messages": [{"role": "user", "content": content}]}).encode()


async def answer_whole(request: ReceivedRequest, writer: asyncio.StreamWriter) -> None:
    writer.write(whole(chat_answer(request)))


@pytest.mark.parametrize("method", ["POST", "GET"])
@pytest.mark.parametrize(("begun", "more"), UNENDING.values(), ids=UNENDING.keys())
async def test_what_does_not_end_behind_a_head_is_refused_and_recorded(
    tmp_path: Path, method: str, begun: bytes, more: bytes
) -> None:
    async with gateway_in_process(
        tmp_path, header_bytes_max=HEADER_BYTES_MAX, request_read_timeout_s=2.0 * WITHIN_S
    ) as made:
        reader, writer = await made.connect()
        writer.write(head(made, method) + begun)
        answered = asyncio.ensure_future(read_answer(reader))
        async with asyncio.timeout(WITHIN_S):
            while not answered.done():
                writer.write(more)
                await writer.drain()
                await asyncio.sleep(0.001)
        answer = answered.result()
        assert (answer.status, answer.error["code"]) == (431, "request_headers_too_large")
        assert str(HEADER_BYTES_MAX) in answer.error["message"]
        if method == "POST":
            (end,) = await made.ended()
            assert (end.outcome, end.status, end.account) == ("refused", 431, made.account)
        writer.close()


@pytest.mark.parametrize("seed", range(5))
async def test_however_a_body_is_cut_into_chunks_and_pieces_it_is_served(tmp_path: Path, seed: int) -> None:
    """All framing together is many times the bound, in pieces of any size, request behind request."""
    rng = random.Random(seed)
    texts = [f"{number} " + "x" * rng.randint(1, 20_000) for number in range(4)]
    async with (
        scripted_engine(answer_whole) as engine,
        gateway_in_process(tmp_path, header_bytes_max=HEADER_BYTES_MAX) as made,
    ):
        made.service(engine.port)
        sent = b"".join(head(made) + cut_into_chunks(body(text), rng) for text in texts)
        reader, writer = await made.connect()
        largest = rng.choice([500, 5_000, 300_000])
        while sent:
            piece = rng.randint(1, largest)
            writer.write(sent[:piece])
            sent = sent[piece:]
            await writer.drain()
            await asyncio.sleep(0)
        for _ in texts:
            assert (await read_answer(reader)).status == 200
        writer.close()
    assert [request.body["messages"][0]["content"] for request in engine.requests] == texts


def cut_into_chunks(data: bytes, rng: random.Random) -> bytes:
    """Chunks of 1 to 3 bytes with a trailer behind them."""
    parts: list[bytes] = []
    while data:
        size = rng.randint(1, 3)
        parts.append(b"%04x;a=b\r\n%b\r\n" % (len(data[:size]), data[:size]))
        data = data[size:]
    return b"".join(parts) + b"0\r\nX: " + b"a" * rng.randint(1, HEADER_BYTES_MAX // 4) + b"\r\n\r\n"
