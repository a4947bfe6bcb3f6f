"""What a set of events costs, by arithmetic of its own: fractions and loops, nothing of domain/."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from schemas.instances import InstanceChanged
from schemas.usage import TokensUsed

INPUT, CACHED, OUTPUT = Fraction(4), Fraction(1), Fraction(16)
"""CNY per million, as `deepseek_prices` has them."""

HOURLY = Fraction(10)

Spent = dict[str, Fraction]


def cost_of_usage(usage: TokensUsed) -> dict[str, Fraction]:
    """By meter; empty where the platform pays."""
    if usage.outcome not in ("completed", "client_gone") or usage.billing != "token":
        return {}
    prompt, cached, output = usage.prompt_tokens or 0, usage.cached_tokens or 0, usage.completion_tokens or 0
    parts = {"input_tokens": INPUT * (prompt - cached), "cached_input_tokens": CACHED * cached}
    parts["output_tokens"] = OUTPUT * output
    return {meter: amount / 1_000_000 for meter, amount in parts.items() if amount}


def cost_of_time(changed: InstanceChanged) -> dict[datetime, Fraction]:
    """By UTC hour: price x seconds / 3600, cut at hours, rounded to 12 places where a cut falls inside an hour."""
    if changed.billing != "time" or changed.interval is None:
        return {}
    costs: dict[datetime, Fraction] = {}
    at = changed.interval.billable_from.astimezone(UTC)
    while at < changed.interval.billable_until:
        hour = datetime(at.year, at.month, at.day, at.hour, tzinfo=UTC)
        until = min(hour + timedelta(hours=1), changed.interval.billable_until)
        costs[hour] = _upto(_seconds(until - hour)) - _upto(_seconds(at - hour))
        at = until
    return costs


def _upto(seconds: int) -> Fraction:
    return Fraction(round(HOURLY * seconds / 3600 * 10**12), 10**12)


def spent_by_hour(
    usages: Iterable[TokensUsed], instances: Iterable[InstanceChanged] = ()
) -> dict[tuple[str, datetime], Fraction]:
    """By account and UTC hour; each event counts once however often it is in the lists."""
    hours: dict[tuple[str, datetime], Fraction] = defaultdict(Fraction)
    for usage in {usage.request_id: usage for usage in usages}.values():
        ended = usage.ended.astimezone(UTC)
        for amount in cost_of_usage(usage).values():
            hours[usage.account, datetime(ended.year, ended.month, ended.day, ended.hour, tzinfo=UTC)] += amount
    unique = {(changed.instance, changed.epoch, changed.sequence): changed for changed in instances}
    for changed in unique.values():
        for hour, amount in cost_of_time(changed).items():
            hours[changed.account, hour] += amount
    return dict(hours)


def spent(usages: Iterable[TokensUsed], instances: Iterable[InstanceChanged] = ()) -> Spent:
    """By account."""
    accounts: Spent = defaultdict(Fraction)
    for (account, _), amount in spent_by_hour(usages, instances).items():
        accounts[account] += amount
    return dict(accounts)


def _seconds(span: timedelta) -> int:
    return span.days * 86_400 + span.seconds
