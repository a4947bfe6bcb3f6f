"""`hydra.usage`: one event for every authenticated inference request. Key: account."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.scalars import Count, Instant

BillingMode = Literal["token", "time", "operator"]
"""What a service's customer pays for; `operator`: nothing (an instance of `public` itself)."""

Endpoint = Literal["chat.completions", "completions"]

UsageOutcome = Literal[
    "completed",  # answered in full
    "client_gone",  # the client left, or asked for an event too large to pass on; the engine reported what it had done
    "client_gone_unreported",  # the client left and no usage was ever reported
    "engine_lost",  # the engine died or broke off
    "engine_refused",  # the engine answered with an error of its own
    "gateway_lost",  # the gateway died (then built from the intent alone), or its stop broke the request off
    "upstream_timeout",
    "refused",  # 400, 401, 402, 403, 404, 408, 413, 429, 503 before an engine took it
]


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One dispatch to an instance that did not answer. Tokens here are recorded, never billed."""

    instance: str
    epoch: Count
    engine_request_id: str
    started: Instant
    ended: Instant
    outcome: UsageOutcome


class TokensUsed(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`hydra.usage.v1`: what one request used. The event's id is `request_id`, its time is `ended`.

    Tokens are as the engine reported them last; None where it reported none. `cached_tokens` None means
    that the engine does not report them, which is not zero. `billing` is the mode in force at dispatch.
    A refused request may lack all that was not yet known (model, service, instance). `time_doubtful` is set where the
    gateway's wall clock jumped meanwhile or stood more than a second off Kafka's: `ended` decides price and month all
    the same.
    """

    request_id: str
    account: str
    key_id: str
    access_path: str
    endpoint: Endpoint
    streamed: bool
    received: Instant
    ended: Instant
    outcome: UsageOutcome
    status: Count
    service_id: str | None = None
    model: str | None = None
    region: str | None = None
    billing: BillingMode | None = None
    instance: str | None = None
    epoch: Count | None = None
    first_token: Instant | None = None
    prompt_tokens: Count | None = None
    cached_tokens: Count | None = None
    completion_tokens: Count | None = None
    error_code: str | None = None
    client_request_id: str | None = None
    attempts: tuple[Attempt, ...] = ()
    gateway: str | None = None
    time_doubtful: bool = False
