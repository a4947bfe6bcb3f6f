"""The independent truth: the engines' own ledgers, the agents' logs of readiness, and the prices as they are published.

Nothing here knows how bills are made. The rules of who pays for what are DESIGN's, written down a second time.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from tests.bills import Mismatch

ROOT = Path(__file__).resolve().parent.parent.parent

PAID = frozenset({"completed", "client_gone"})
"""Outcomes of a request that cost its customer something, where its service is paid by token."""

_REQUEST_ID = re.compile(r"cmp-[0-9a-f]{32}")


def ledger_settings(home: Path, **settings: str) -> dict[str, str]:
    """Settings of a platform at `home` whose simulated engines keep ledgers; others of the worker by their short name,
    as `GPUS="24"`."""
    (home / "ledgers").mkdir(exist_ok=True)
    worker = {"SIMULATED_LEDGERS": str(home / "ledgers"), "SIMULATED_TOKENS_PER_SECOND": "300", "GPUS": "24"}
    return {f"HYDRA_WORKER_{name}": value for name, value in (worker | settings).items()}


@dataclass(frozen=True)
class Served:
    """One line of an engine's ledger: what it did for one request. `n` is the number of choices.

    `ended` is `running` or `killed` where the engine did not come to the request's end: the counts are then those of
    its last report on the stream.
    """

    engine_request_id: str
    prompt_tokens: int
    completion_tokens: int
    prompts: int
    n: int
    ended: str

    @property
    def finished(self) -> bool:
        """Whether the engine came to the request's end."""
        return self.ended not in ("running", "killed")

    def agrees(self, outcome: str, prompt: int, completion: int) -> bool:
        """Whether a request of this outcome may be recorded with these tokens."""
        if not self.finished:
            # The client left, the engine died before it had said more: not every prompt may have been reported.
            seen = 0 < prompt <= self.prompt_tokens and 0 < completion <= self.completion_tokens
            return outcome == "client_gone" and seen
        if outcome == "client_gone" and self.n > 1:
            # What the stream last reported: never more than the engine did.
            return prompt == self.prompt_tokens and 0 < completion <= self.completion_tokens
        return (prompt, completion) == (self.prompt_tokens, self.completion_tokens)

    @property
    def request_id(self) -> str | None:
        """The platform's request id, which a retry's engine request id begins with; None: not the platform's."""
        found = _REQUEST_ID.match(self.engine_request_id)
        return found.group() if found else None


class Truth:
    """What the engines and the agents of the platform at `home` wrote down by themselves."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def served(self) -> dict[str, Served]:
        """By engine request id, each of which was finished at most once. Raises Mismatch."""
        found: dict[str, Served] = {}
        texts = [path.read_text() for path in (self._home / "ledgers").iterdir()]
        for line in (json.loads(text) for whole in texts for text in whole.splitlines() if text.strip()):
            counts = (line["prompt_tokens"], line["completion_tokens"], line["prompts"], line["n"])
            served = Served(line["rid"], *counts, line["ended"])
            known = found.setdefault(line["rid"], served)
            if served.finished:
                if known is not served and known.finished:
                    raise Mismatch(f"two requests had the engine request id {line['rid']}")
                found[line["rid"]] = served
        return found

    def served_by_request(self) -> Mapping[str, list[Served]]:
        """By the platform's request id: more than one line where a request was tried again."""
        found: dict[str, list[Served]] = defaultdict(list)
        for served in self.served().values():
            if served.request_id is not None:
                found[served.request_id].append(served)
        return found

    def seconds(self, instance: str, stopped: datetime | None) -> int:
        """Whole ready seconds of the instance over all its epochs and periods, as far as heartbeats prove them that
        Kafka acknowledged and that the agent stamped before `stopped`, when its end was accepted."""
        proven: dict[tuple[int, int], int] = {}
        for line in self._readiness():
            if line["instance"] != instance or (stopped and datetime.fromisoformat(line["sent"]) >= stopped):
                continue
            key = (line["epoch"], line["period"])
            proven[key] = max(proven.get(key, 0), line["ready_seconds"])
        return sum(proven.values())

    def ready_instances(self) -> set[str]:
        """Every instance of which Kafka has acknowledged a ready second."""
        return {line["instance"] for line in self._readiness() if line["ready_seconds"] > 0}

    def _readiness(self) -> list[Mapping[str, Any]]:
        texts = [path.read_text() for path in (self._home / "worker").glob("**/readiness.jsonl*")]
        return [json.loads(line) for text in texts for line in text.splitlines()]


class Prices:
    """The published text of prices, read by itself. Amounts are exact."""

    def __init__(self, path: Path = ROOT / "config" / "prices.yaml") -> None:
        text = yaml.load(path.read_text(), Loader=yaml.BaseLoader)  # nothing but text
        self._tokens = {model: versions[-1] for model, versions in text["tokens"].items()}
        self._instances = text["instances"]

    def of_tokens(self, model: str, prompt: int, cached: int | None, completion: int) -> Fraction:
        """What a request's tokens cost. Without a price for cached input all of the prompt is input."""
        price = self._tokens[model]
        apart = cached if cached and "cached_input" in price else 0
        total = (prompt - apart) * Fraction(price["input"]) + completion * Fraction(price["output"])
        return (total + (apart * Fraction(price["cached_input"]) if apart else 0)) / 1_000_000

    def of_time(self, region: str, spec: str, start: datetime, end: datetime) -> Fraction:
        """What an interval of ready time costs: cut at full UTC hours, rounded to 12 places where a cut falls."""
        per_hour = Fraction(self._instances[region][spec][-1]["price_per_hour"])
        total, at = Fraction(), start.astimezone(UTC)
        while at < end:
            hour = at.replace(minute=0, second=0, microsecond=0)
            until = min(hour + timedelta(hours=1), end)
            total += _up_to(per_hour, until - hour) - _up_to(per_hour, at - hour)
            at = until
        return total


def _up_to(per_hour: Fraction, since_hour: timedelta) -> Fraction:
    return Fraction(round(per_hour * int(since_hour.total_seconds()) / 3600 * 10**12), 10**12)
