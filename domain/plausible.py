"""What no event of ours can hold, so that a broken message is parked instead of wrapping unseen in a database.

ClickHouse wraps dates that it cannot hold and integers that do not fit; a naive instant could be any instant.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import msgspec

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
INTEGER_MAX = 10**15
DECIMAL_MAX = Decimal(10) ** 20
DECIMAL_PLACES_MAX = 12
TEXT_MAX = 4_096
"""Characters. Ids, names and reasons are far shorter; larger ones would not fit what is made of them."""


class Implausible(ValueError):
    """A field lies outside what an event can hold: `str()` names the field and never its value."""


def check_plausible(data: msgspec.Struct) -> None:
    """Raise Implausible for the first field, of `data` or of a struct inside it, that is out of bounds."""
    # Every event of the money path comes through here: what nearly every field is takes the short way.
    for position, value in enumerate(msgspec.structs.astuple(data)):
        if value is None:
            continue
        kind = type(value)
        if kind is str:
            if len(value) <= TEXT_MAX:
                continue
        elif kind is bool:
            continue
        elif kind is int:
            if 0 <= value <= INTEGER_MAX:
                continue
        elif kind is datetime:
            if value.tzinfo is not None and EARLIEST <= value < LATEST:
                continue
        elif kind is Decimal and _fits(value):
            continue
        _check(data.__struct_fields__[position], value)


def _check(name: str, value: object) -> None:
    if isinstance(value, msgspec.Struct):
        check_plausible(value)
    elif isinstance(value, tuple):
        for item in value:
            _check(name, item)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check(name, key)
            _check(name, item)
    elif not _plausible(value):
        raise Implausible(f"{name} is out of bounds")


def _plausible(value: object) -> bool:
    if isinstance(value, str):
        return len(value) <= TEXT_MAX
    if isinstance(value, int):
        return 0 <= value <= INTEGER_MAX
    if isinstance(value, datetime):
        return value.tzinfo is not None and EARLIEST <= value < LATEST
    return _fits(value) if isinstance(value, Decimal) else True


def _fits(value: Decimal) -> bool:
    return value.is_finite() and -DECIMAL_MAX <= value <= DECIMAL_MAX and _places(value) <= DECIMAL_PLACES_MAX


def _places(value: Decimal) -> int:
    text = str(value)
    if "E" not in text:
        return len(text.partition(".")[2])  # a third of what its exponent costs
    exponent = value.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else DECIMAL_PLACES_MAX + 1
