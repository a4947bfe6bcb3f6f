"""A process stops on purpose in its container: `hydra status` says why and what to type, from what Kafka has of it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adapters.kafka.topics import create_topics
from runner.processes import PROCESSES
from tests.servers.platform import wait_until
from tests.servers.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
WITHIN_S = 120.0
LOST = "accounts: hydra.accounts has lost messages that were not read" + "; and it is a long story" * 20
COMMAND = "hydra resume accounts --gap hydra.accounts/3:120-180"

PLAYED = f"""
import os
from adapters.errors import StopOnPurpose
from adapters.kafka.stops import stopped
from schemas.stops import Gap
stop = StopOnPurpose({LOST!r}, gaps=[Gap("hydra.accounts", 3, 120, 180)])
print(stopped(os.environ["HYDRA_KAFKA_BOOTSTRAP"], "accounts", stop), flush=True)
raise SystemExit(78)
"""
RUN = """
import sys
from dataclasses import replace
from pathlib import Path
from runner import container
from runner.processes import PROCESSES
container.HALTED = Path(sys.argv[1])
container.PROCESSES = tuple(replace(each, module="played", port=int(sys.argv[2])) for each in PROCESSES)
sys.exit(container.main(["accounts"]))
"""
"""The container's first process, whose child is the module `played`."""


@contextmanager
def halted_container(folder: Path, environment: dict[str, str], port: int) -> Iterator[None]:
    (folder / "played.py").write_text(PLAYED)
    running = subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder / "halted"), str(port)],
        env={**environment, "PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"},
    )
    try:
        wait_until((folder / "halted").exists, "the process has stopped on purpose")
        yield
    finally:
        running.kill()
        running.wait()


def hydra(environment: dict[str, str], *words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "cli", *words, "--json"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=WITHIN_S, check=False,
    )  # fmt: skip
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_why_it_stopped_what_to_type_and_that_it_was_typed(tmp_path: Path, kafka: str) -> None:
    # Of all that share this Kafka, nobody else stops accounts on purpose.
    asyncio.run(create_topics(kafka))
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HYDRA_")}
    environment |= {
        # Nobody listens there, whatever else runs on this machine.
        **{each.port_setting: str(free_port()) for each in PROCESSES if each.port is not None},
        "HYDRA_HOME": str(tmp_path / "home"),
        "HYDRA_KAFKA_BOOTSTRAP": kafka,
        "HYDRA_ACCOUNTS_URL": f"http://127.0.0.1:{port}",
    }

    def shown() -> dict[str, Any]:
        processes = hydra(environment, "status")["processes"]
        row: dict[str, Any] = next(row for row in processes if row["name"] == "accounts")
        return row

    with halted_container(tmp_path, environment, port):
        wait_until(lambda: shown()["state"] == "halted", "its container answers in its place")
        row = shown()
        assert (row["reason"], row["to_go_on"]) == (LOST, COMMAND)
        assert hydra(environment, *COMMAND.split()[1:])["accepted"] == ["hydra.accounts/3:120-180"]
        row = shown()
        assert row["state"] == "halted" and row["to_go_on"] == ""
        assert row["reason"].startswith(LOST) and row["reason"].endswith("so it goes on once it is started again")
