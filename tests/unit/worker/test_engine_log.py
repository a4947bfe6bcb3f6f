"""Engine logs: without the key however it is cut, and bounded."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from services.worker.engine_log import LINE_KEPT_MAX, LINE_READ_MAX, EngineLog, prune

KEY = "5ec2e7" * 10


def content(path: Path) -> bytes:
    return path.read_bytes()


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


async def copied(path: Path, *pieces: bytes, bytes_max: int = 1_000_000) -> bytes:
    """What the log holds once an engine has written these pieces."""
    source = asyncio.StreamReader()
    log = EngineLog(path, bytes_max)
    task = asyncio.create_task(log.copy(source, KEY))
    for piece in pieces:
        source.feed_data(piece)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    source.feed_eof()
    await task
    return content(path)


async def test_lines_are_kept_also_the_last_without_an_end(tmp_path: Path) -> None:
    assert await copied(tmp_path / "log", b"one\ntw", b"o\n\nthree") == b"one\ntwo\n\nthree\n"


@pytest.mark.parametrize("cut", [1, 7, 30, 59])
async def test_the_key_is_hidden_also_when_it_comes_in_pieces(tmp_path: Path, cut: int) -> None:
    line = f"api_key='{KEY}' twice {KEY}\n".encode()
    written = await copied(tmp_path / "log", line[: 9 + cut], line[9 + cut :])
    assert written == b"api_key='***' twice ***\n"


@pytest.mark.parametrize("before", [LINE_KEPT_MAX - 30, LINE_READ_MAX - 30, LINE_READ_MAX * 2 - 30])
async def test_no_piece_of_the_key_stands_where_a_long_line_is_cut(tmp_path: Path, before: int) -> None:
    written = await copied(tmp_path / "log", b"x" * before + KEY.encode() + b"y" * LINE_READ_MAX, b"\nnext\n")
    assert KEY[:4].encode() not in written
    assert written.endswith(b"\nnext\n")
    assert len(written) <= LINE_KEPT_MAX + len(b"\nnext\n")


async def test_two_files_bound_what_is_kept(tmp_path: Path) -> None:
    await copied(tmp_path / "log", *[b"%06d" % number + b"." * 93 + b"\n" for number in range(100)], bytes_max=2_000)
    assert content(tmp_path / "log").rstrip().split(b"\n")[-1].startswith(b"000099")
    assert sorted(sizes(tmp_path)) == ["log", "log.1"]
    assert max(sizes(tmp_path).values()) <= 2_000


async def test_an_engine_is_not_stopped_by_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    source = asyncio.StreamReader()
    source.feed_data(b"line\n" * 1000)
    source.feed_eof()
    await asyncio.wait_for(EngineLog(tmp_path / "log", 1_000).copy(source, KEY), 10)


def test_the_oldest_logs_go_but_not_those_of_living_instances(tmp_path: Path) -> None:
    for age, instance in enumerate(("a", "b", "c", "d")):
        path = tmp_path / f"engine-{instance}.log"
        path.write_text("x")
        path.with_name(path.name + ".1").write_text("x")
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
    prune(tmp_path, 2, keep={"d"})
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f"engine-{instance}.log{suffix}" for instance in "abd" for suffix in ("", ".1")}
