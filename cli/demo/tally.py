"""What the customer saw, counted by the client alone, and how it compares with what the platform billed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from domain.money import total

TOKEN_METERS = ("input_tokens", "cached_input_tokens", "output_tokens")


@dataclass
class Tally:
    """Tokens per (access path, direction) as answers stated them; seconds per instance that were possible at most."""

    prompt_tokens: Counter[str] = field(default_factory=Counter)
    completion_tokens: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    seconds_max: dict[str, float] = field(default_factory=dict)

    def saw(self, access_path: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Note one answer's usage."""
        self.requests[access_path] += 1
        self.prompt_tokens[access_path] += prompt_tokens
        self.completion_tokens[access_path] += completion_tokens


def disagreements(tally: Tally, bill: Mapping[str, Any], shared: str) -> list[str]:
    """One sentence for each way in which the bill contradicts what the client saw; empty when they agree.

    Tokens of `shared` must be equal to the token. Every instance that served must be on the bill with at least one
    second and no more than the client saw it exist. Every total must be the sum of its lines.
    """
    lines = bill["lines"]
    found = _tokens(tally, lines, shared) + _instances(tally, lines)
    for name, key in (("by_model", "model"), ("by_resource", "resource")):
        for row in bill["totals"][name]:
            amount = _sum(line for line in lines if line[key] == row[key] and line["currency"] == row["currency"])
            if amount != Decimal(row["amount"]):
                found.append(f"the total of {row[key]} is {row['amount']}, its lines sum to {amount}")
    overall = {row["currency"]: Decimal(row["amount"]) for row in bill["totals"]["overall"]}
    for currency, amount in overall.items():
        if amount != (summed := _sum(line for line in lines if line["currency"] == currency)):
            found.append(f"the total is {amount} {currency}, the lines sum to {summed}")
    if not overall:
        found.append("the bill has no total")
    return found


def _tokens(tally: Tally, lines: Iterable[Mapping[str, Any]], shared: str) -> list[str]:
    billed: Counter[str] = Counter()
    for line in lines:
        if line["meter"] in TOKEN_METERS:
            if line["resource"] != shared:
                return [f"tokens of {line['resource']} are on the bill; only {shared} is paid by token"]
            billed[line["meter"]] += int(line["quantity"])
    found = []
    if (paid := billed["input_tokens"] + billed["cached_input_tokens"]) != (seen := tally.prompt_tokens[shared]):
        found.append(f"{paid} input tokens are billed, the client saw {seen}")
    if (paid := billed["output_tokens"]) != (seen := tally.completion_tokens[shared]):
        found.append(f"{paid} output tokens are billed, the client saw {seen}")
    return found


def _instances(tally: Tally, lines: Iterable[Mapping[str, Any]]) -> list[str]:
    seconds: Counter[str] = Counter()
    for line in lines:
        if line["meter"] == "instance_seconds":
            seconds[line["resource"]] += int(line["quantity"])
    found = [f"instance {name} is on the bill but was never seen" for name in seconds.keys() - tally.seconds_max.keys()]
    for name, most in tally.seconds_max.items():
        if not 1 <= seconds[name] <= most:
            found.append(f"instance {name} is billed {seconds[name]} s; the client saw it exist for {most:.0f} s")
    return found


def _sum(lines: Iterable[Mapping[str, Any]]) -> Decimal:
    return total(Decimal(line["amount"]) for line in lines)
