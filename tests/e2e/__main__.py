"""`make e2e`: the long runs, three lanes side by side, then `docker compose` where there is an engine.

python -m tests.e2e [PART ...]     all parts, or those named
Each part's output goes to build/e2e/PART.log and, line by line, to the terminal. Exit code 1 when one failed. What this
machine lacks the means for is left out, and counted as that.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from runner.linux_processes import marked, send, send_to_group, snapshot

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / "build" / "e2e"
END_GRACE_S = 30.0
KILL_GRACE_S = 10.0
LEFT_BEHIND_GRACE_S = 20.0
"""For platforms that a part has left behind: they run in sessions of their own, and stop in order when asked."""
PART_MARK = "E2E_PART_MARK"
"""A variable in the environment of everything that a part starts, also of what it starts in a session of its own."""
END_POLL_S = 0.1
LINE_BYTES_MAX = 1_048_576
ALL_WITHIN_MINUTES = 80
"""`make e2e` promises it: no lane's limits and graces, with those of the compose run after all, may add up to more."""
BEFORE_AND_BETWEEN_MINUTES = 2
"""Of it, for set-up and what the runner does itself."""
ALL_SKIPPED = re.compile(r"(\d+ deselected, )?\d+ skipped(, \d+ (deselected|warnings?))* in ")
"""pytest's last line where it ran nothing and failed nothing."""
SKIPPED_FOR = re.compile(r"SKIPPED \[\d+\] \S+: (.+)")

Outcome = Literal["passed", "left out", "FAILED"]


@dataclass(frozen=True)
class Part:
    """One long run. It is ended, and has failed, after `limit_minutes`; then it has `end_grace_s` for what it does when
    it is asked to end. `settings` hold where the caller sets none."""

    name: str
    does: str
    command: Sequence[str]
    limit_minutes: float
    settings: dict[str, str] = field(default_factory=dict)
    end_grace_s: float = END_GRACE_S

    @property
    def longest_minutes(self) -> float:
        """Until nothing of it is left, come what may: it is asked to end, and then killed."""
        return self.limit_minutes + (self.end_grace_s + KILL_GRACE_S + LEFT_BEHIND_GRACE_S + KILL_GRACE_S) / 60


def _pytest(*words: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "pytest", "-q", "-rfEs", "-o", "timeout=4000", *words)


def _faults(*names: str) -> tuple[str, ...]:
    """Tests of faults, those that take longest first. They wait more than they work, so two play at a time."""
    files = (f"tests/faults/test_{name}.py" for name in names)
    return _pytest("-vv", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder", *files)


SOAK = Part("soak", "30 minutes of steady load: nothing grows", _pytest("tests/e2e/test_soak.py", "-s"), 40)
ALERTS = Part(
    "alerts",
    "alerts made to fire on a platform by a real harm, and silent after it",
    _pytest("tests/e2e/test_alerts_on_a_platform.py", "-s"),
    15,
)
BILL = Part(
    "bill",
    "20,000 mixed requests against the engines' own count",
    _pytest("tests/integration/whole_platform/test_bill_equals_the_engines_count.py"),
    17,
    {"HYDRA_TEST_REQUESTS": "20000"},
)
ROUNDS = Part(
    "faults",
    "rounds of harm drawn from a seed",
    (sys.executable, "-m", "tests.faults"),
    21,
    {"HYDRA_FAULTS_MINUTES": "15"},
)
OUTAGES = Part(
    "outages",
    "Kafka and ClickHouse away for a minute each time",
    _pytest("tests/faults/test_outages.py"),
    15,
    {"HYDRA_FAULTS_OUTAGE_S": "60"},
)
LONG_FAULTS = Part(
    "long_faults",
    "garbage, zombies, wall clocks, lost logs and replays: what `make test` has of each, for longer",
    _faults("garbage", "zombies", "clocks_and_replays", "truncated_topics", "replays"),
    27,
    {
        "HYDRA_FAULTS_GARBAGE": "0",
        "HYDRA_FAULTS_CALLS": "0",
        "HYDRA_FAULTS_OUTAGE_S": "20",
        "HYDRA_FAULTS_CLOCK_JUMPS": "42",
        "HYDRA_FAULTS_TRUNCATIONS": "3",
        "HYDRA_FAULTS_REPLAYED": "3000",
    },
)
TWO_AT_ONCE = sorted(path.stem.removeprefix("test_") for path in (ROOT / "tests" / "faults").glob("test_two_*.py"))
LONG_PAIRS = Part(
    "long_pairs",
    "two of each at once: processors of a group that rebalances, control services of one database; for longer",
    _faults("rebalances", *TWO_AT_ONCE),
    20,
    {"HYDRA_FAULTS_REBALANCES": "2", "HYDRA_FAULTS_RELAY_ROUNDS": "3", "HYDRA_FAULTS_OUTAGE_S": "20"},
)
FULL_DISK = Part("full_disk", "a disk that is really full, as root", _pytest("tests/e2e/test_full_tmpfs.py"), 5)
# It takes everything down when it is asked to end, for which Docker needs longer.
COMPOSE = Part("compose", "docker compose up, seen to work", ("make", "compose-test"), 18, end_grace_s=90)

# Each lane runs its parts one after the other.
LANES: tuple[tuple[Part, ...], ...] = ((SOAK, ALERTS), (BILL, ROUNDS, OUTAGES), (LONG_FAULTS, LONG_PAIRS, FULL_DISK))
PARTS = {part.name: part for part in (*(part for lane in LANES for part in lane), COMPOSE)}


def main() -> int:
    """Exit code 0 when every part passed, 1 when one failed, 2 for a part that does not exist."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = parser.add_argument("parts", nargs="*", metavar="PART")
    names.help = "; ".join(f"{part.name}: {part.does}" for part in PARTS.values())
    wanted = parser.parse_args().parts or list(PARTS)
    if unknown := [name for name in wanted if name not in PARTS]:
        print(f"no part {', '.join(unknown)}; there are: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    LOGS.mkdir(parents=True, exist_ok=True)
    outcomes = asyncio.run(_play(wanted))
    print(f"\n{summary(outcomes)}")
    return 1 if "FAILED" in outcomes.values() else 0


def summary(outcomes: Mapping[str, Outcome]) -> str:
    """How many parts ended how, those by name that did not pass."""
    kinds: tuple[Outcome, ...] = ("passed", "left out", "FAILED")
    named = {kind: [name for name, outcome in outcomes.items() if outcome == kind] for kind in kinds}
    return ", ".join(
        f"{len(names)} {kind}" + (f" ({', '.join(names)})" if names and kind != "passed" else "")
        for kind, names in named.items()
    )


async def _play(wanted: Sequence[str]) -> dict[str, Outcome]:
    lanes = [[part for part in lane if part.name in wanted] for lane in LANES]
    outcomes = {name: outcome for lane in await asyncio.gather(*map(_lane, lanes)) for name, outcome in lane.items()}
    if COMPOSE.name not in wanted:
        return outcomes
    if why := _no_engine():
        print(f"compose: left out, {why}")
        return outcomes | {COMPOSE.name: "left out"}
    return outcomes | await _lane([COMPOSE])


async def _lane(parts: Sequence[Part]) -> dict[str, Outcome]:
    return {part.name: await _outcome(part) for part in parts}


async def _outcome(part: Part) -> Outcome:
    begun, mark = time.monotonic(), secrets.token_hex(8)
    print(f"{part.name}: {part.does} (at most {part.limit_minutes:g} min)", flush=True)
    process = await asyncio.create_subprocess_exec(
        *part.command,
        cwd=ROOT,
        env={**part.settings, **os.environ, PART_MARK: mark},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        limit=LINE_BYTES_MAX,
    )
    assert process.stdout is not None
    why, skipped = "", None
    try:
        async with asyncio.timeout(part.limit_minutes * 60):
            skipped = await _tell(part.name, process.stdout)
            code = await process.wait()
            why = "" if code == 0 else f"exit code {code}"
    except TimeoutError:
        why = f"not done after {part.limit_minutes:g} min"
    finally:
        await _end(process.pid, part.end_grace_s, mark)
    outcome: Outcome = "FAILED" if why else "passed" if skipped is None else "left out"
    minutes = (time.monotonic() - begun) / 60
    said = ", ".join(filter(None, (outcome, why or skipped)))
    print(f"{part.name}: {said} after {minutes:.1f} min", flush=True)
    return outcome


async def _tell(name: str, output: asyncio.StreamReader) -> str | None:
    """Passes the output on. Why all of it was skipped; None where something ran."""
    last, skipped = "", ""
    with (LOGS / f"{name}.log").open("wb") as log:
        while line := await _line(output):
            log.write(line)
            log.flush()
            if text := line.decode(errors="replace").rstrip():
                last = text
                found = SKIPPED_FOR.match(text)
                skipped = found[1] if found else skipped
                print(f"[{name}] {text}", flush=True)
    return (skipped or last) if ALL_SKIPPED.match(last) else None


async def _line(output: asyncio.StreamReader) -> bytes:
    """The next line; empty at the end."""
    try:
        return await output.readline()
    except ValueError:  # the reader has thrown away what it holds of the line, and goes on behind that
        return f"(left out: a line of more than {LINE_BYTES_MAX} bytes)\n".encode()


async def _end(group: int, grace_s: float, mark: str) -> None:
    """Ends whatever still runs of the part, then what it has left behind outside its group: asked first, so that it
    stops its servers, then killed."""

    def of_its_group(number: signal.Signals) -> None:
        send_to_group(group, number)

    def left_behind(number: signal.Signals) -> None:
        pids, parents = marked(mark, PART_MARK), snapshot().parents
        for pid in pids:
            # Who is asked ends those that it started itself, in its own order.
            if number == signal.SIGKILL or parents.get(pid) not in pids:
                send(pid, number)

    await _end_all(of_its_group, lambda: _is_there(group), grace_s)
    await _end_all(left_behind, lambda: bool(marked(mark, PART_MARK)), LEFT_BEHIND_GRACE_S)


async def _end_all(tell: Callable[[signal.Signals], None], there: Callable[[], bool], grace_s: float) -> None:
    for asked, within_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_GRACE_S)):
        if not there():
            return
        tell(asked)
        ends = time.monotonic() + within_s
        while there() and time.monotonic() < ends:
            await asyncio.sleep(END_POLL_S)


def _is_there(group: int) -> bool:
    """Whether anybody of the group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def _no_engine() -> str:
    """Why `docker compose` cannot be seen to work here; empty where it can."""
    if shutil.which("docker") is None:
        return "there is no `docker` on this machine"
    asked = subprocess.run(["docker", "info"], capture_output=True, text=True, timeout=60, check=False)
    if asked.returncode:
        return f"no Docker engine answers: {asked.stderr.strip().splitlines()[-1] if asked.stderr.strip() else '?'}"
    compose = subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=60, check=False)
    return "docker has no `compose` of version 2" if compose.returncode else ""


if __name__ == "__main__":
    sys.exit(main())
