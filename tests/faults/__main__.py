"""Rounds of harm under load, drawn from a seed: `python -m tests.faults --rounds 10 --seed 7`.

Each round prints what it did and what the comparison found. The first mismatch ends the run with exit code 1, and tells
how to play that round again.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.faults import rounds
from tests.faults.comparison import compare
from tests.faults.truth import ledger_settings
from tests.servers.platform import Platform, running_platform

SETTINGS = {"GPUS": "32", "SIMULATED_LOAD_SECONDS": "1"}


def main() -> int:
    """Exit code 0 when every comparison is equal."""
    wanted = _arguments()
    seed: int = wanted.seed if wanted.seed is not None else random.SystemRandom().randrange(1 << 32)
    numbers = range(wanted.rounds) if wanted.round is None else range(wanted.round, wanted.round + 1)
    home = Path(tempfile.mkdtemp(prefix="hydra-faults-"))
    _say(f"{len(numbers)} rounds of seed {seed}, at most {wanted.minutes:g} min, in {home}")
    ends = time.monotonic() + wanted.minutes * 60
    try:
        with running_platform(home, **ledger_settings(home, **SETTINGS)) as platform:
            _play(platform, seed, numbers, ends)
    except AssertionError as error:
        _say(f"FAILED: {error}\nlogs are in {home}/logs")
        return 1
    shutil.rmtree(home)
    return 0


def _play(platform: Platform, seed: int, numbers: range, ends: float) -> None:
    played: list[rounds.Round] = []
    for number in numbers:
        if time.monotonic() > ends:
            _say(f"no more rounds: the time is over after {number} of {len(numbers)}")
            break
        try:
            played.append(rounds.play(platform, seed, number, _say))
        except AssertionError as error:
            again = f"python -m tests.faults --seed {seed} --round {number}"
            raise AssertionError(f"round {number} of seed {seed}: {error}\nto play it again: {again}") from error
        _say(f"round {number}: {played[-1].compared.line()}")
    # All rounds once more: what came late, or twice, must not have changed an older bill.
    _say(f"all rounds: {compare(platform, *(one.load for one in played)).line()}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("HYDRA_FAULTS_ROUNDS", "8")))
    seed = os.environ.get("HYDRA_FAULTS_SEED")
    parser.add_argument("--seed", type=int, default=None if seed is None else int(seed), help="drawn where not given")
    parser.add_argument("--round", type=int, help="play only this round of the seed")
    minutes = float(os.environ.get("HYDRA_FAULTS_MINUTES", "18"))
    parser.add_argument("--minutes", type=float, default=minutes, help="begin no round after so long")
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
