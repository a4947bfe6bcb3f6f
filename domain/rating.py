"""Rating: one usage or instance event in, its charge lines out, or why it has none. The rules are numbered.

A rule that changes an amount, an id or a hash gets a new number in RATING_VERSIONS, from an instant of event time on;
the older function stays, so that a replay by any later release gives the same charges.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from domain import payload_hash
from domain.calendar import utc
from domain.ids import charges_event_id, instance_event_id
from domain.instance_lines import instance_lines
from domain.outcome import unbilled_instance, unbilled_usage
from domain.plausible import Implausible, check_plausible
from domain.prices import PriceBook
from domain.rated_line import Unpriced
from domain.token_lines import token_lines
from schemas.charges import ChargeLine, ChargesRaised, UnbilledReason
from schemas.envelope import Event
from schemas.instances import InstanceChanged
from schemas.usage import TokensUsed

Data = TypeVar("Data", TokensUsed, InstanceChanged)

SOURCE_TOKENS = "/hydra/token_charges"
SOURCE_INSTANCES = "/hydra/instance_charges"


class Unratable(ValueError):
    """The event contradicts its contract and will never be ratable: `str()` says why, quoting no field of it."""


@dataclass(frozen=True)
class RatingVersion:
    """The rules in force for events from `effective_from` on, until the next version's instant."""

    number: int
    effective_from: datetime
    token_lines: Callable[[TokensUsed, str, str, PriceBook, int], tuple[ChargeLine, ...]]
    instance_lines: Callable[[InstanceChanged, str, str, PriceBook, int], tuple[ChargeLine, ...]]


RATING_VERSIONS: tuple[RatingVersion, ...] = (
    RatingVersion(1, datetime(1970, 1, 1, tzinfo=UTC), token_lines, instance_lines),
)


def rating_version_at(instant: datetime) -> RatingVersion:
    """The rules for an event of this time. Raises Unratable for one before the first rules."""
    for version in reversed(RATING_VERSIONS):
        if version.effective_from <= instant:
            return version
    raise Unratable("its time lies before the first rating rules")


def charges_for(usage: TokensUsed, event: Event[TokensUsed], prices: PriceBook) -> ChargesRaised:
    """The charges of one request, or the reason why it has none; `unpriced` where a price is missing, never zero.

    Raises Unratable where the event contradicts its contract.
    """
    if event.id != usage.request_id:
        raise Unratable("its id is not its request id")
    _check(usage)
    version = rating_version_at(usage.ended)
    source_hash = payload_hash.of_usage(usage)
    lines, reason = _lines_or_reason(unbilled_usage, version.token_lines, usage, source_hash, event, prices, version)
    return ChargesRaised(
        source_event=event.id,
        source_type="usage",
        source_hash=source_hash,
        account=usage.account,
        rating_version=version.number,
        access_path=usage.access_path,
        resource=usage.access_path,
        service_id=usage.service_id,
        model=usage.model,
        region=usage.region,
        instance=usage.instance,
        key_id=usage.key_id,
        lines=lines,
        unbilled=reason,
    )


def instance_charges_for(changed: InstanceChanged, event: Event[InstanceChanged], prices: PriceBook) -> ChargesRaised:
    """The charges of one instance event, or the reason why it has none. Raises Unratable as `charges_for` does."""
    if event.id != instance_event_id(changed.instance, changed.epoch, changed.sequence):
        raise Unratable("its id is not its instance, epoch and sequence")
    _check(changed)
    version = rating_version_at(event_time_of(changed))
    source_hash = payload_hash.of_instance(changed)
    lines, reason = _lines_or_reason(
        unbilled_instance, version.instance_lines, changed, source_hash, event, prices, version
    )
    return ChargesRaised(
        source_event=event.id,
        source_type="instance",
        source_hash=source_hash,
        account=changed.account,
        rating_version=version.number,
        access_path=changed.access_path,
        resource=changed.instance,
        service_id=changed.service_id,
        model=changed.model,
        region=changed.region,
        spec=changed.spec,
        instance=changed.instance,
        lines=lines,
        unbilled=reason,
    )


def _lines_or_reason(
    unbilled: Callable[[Data], UnbilledReason | None],
    lines: Callable[[Data, str, str, PriceBook, int], tuple[ChargeLine, ...]],
    data: Data,
    source_hash: str,
    event: Event[Data],
    prices: PriceBook,
    version: RatingVersion,
) -> tuple[tuple[ChargeLine, ...], UnbilledReason | None]:
    """The lines, or why there are none; what contradicts the contract raises Unratable."""
    try:
        reason = unbilled(data)
        return ((), reason) if reason else (lines(data, event.id, source_hash, prices, version.number), None)
    except Unpriced:
        return (), "unpriced"
    except ValueError as error:
        raise Unratable(str(error)) from error


def event_time_of(data: TokensUsed | InstanceChanged) -> datetime:
    """Event time in UTC, from what the hash covers rather than the envelope: `ended`, or the end of the interval."""
    if isinstance(data, TokensUsed):
        return utc(data.ended)
    return utc(data.interval.billable_until if data.interval is not None else data.at)


def charges_id(raised: ChargesRaised) -> str:
    return charges_event_id(raised.source_event, raised.rating_version)


def _check(data: TokensUsed | InstanceChanged) -> None:
    try:
        check_plausible(data)
    except Implausible as error:
        raise Unratable(str(error)) from error
