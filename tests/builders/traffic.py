"""A mixed traffic of many accounts, the same for the same seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from itertools import count as counted
from itertools import islice
from typing import Any, get_args

from schemas.instances import InstanceChanged
from schemas.usage import TokensUsed, UsageOutcome
from tests.builders.billing_events import NOON, instance, usage


def requests(count: int, seed: int = 1, accounts: int = 7, first: int = 0) -> list[TokensUsed]:
    """Requests of every outcome and billing mode, over three hours."""
    return list(islice(endless_requests(seed, accounts, first), count))


def endless_requests(seed: int = 1, accounts: int = 7, first: int = 0) -> Iterator[TokensUsed]:
    """See `requests`; as many as are taken."""
    drawn = random.Random(seed)
    for number in counted(first):
        prompt = drawn.randint(1, 5_000)
        fields: dict[str, Any] = {
            "account": f"u-{drawn.randrange(accounts):012x}",
            "ended": NOON + timedelta(seconds=drawn.randrange(3 * 3600), microseconds=drawn.randrange(1_000_000)),
            "prompt_tokens": prompt,
            "cached_tokens": drawn.choice([None, 0, drawn.randint(0, prompt)]),
            "completion_tokens": drawn.randint(0, 2_000),
        }
        if drawn.random() < 0.3:
            fields["outcome"] = drawn.choice(get_args(UsageOutcome))
        if drawn.random() < 0.1:
            fields["billing"] = "time"
        yield usage(number, **fields)


def instance_minutes(count: int, seed: int = 2, accounts: int = 7) -> list[InstanceChanged]:
    """Proven intervals of one instance an account, of uneven length, back to back."""
    return list(islice(endless_instance_minutes(seed, accounts), count))


def endless_instance_minutes(seed: int = 2, accounts: int = 7) -> Iterator[InstanceChanged]:
    """See `instance_minutes`; as many as are taken."""
    drawn = random.Random(seed)
    starts = {account: NOON + timedelta(seconds=drawn.randrange(3600)) for account in range(accounts)}
    for number in counted():
        account = number % accounts
        until = starts[account] + timedelta(seconds=drawn.randint(1, 4_000))
        yield instance(
            starts[account],
            until,
            instance=f"i-{account:012x}",
            sequence=number,
            account=f"u-{account:012x}",
            access_path=f"u-{account:012x}/test",
        )
        starts[account] = until
