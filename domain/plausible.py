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
        kind = type(value)
        if kind is str:
            if len(value) <= TEXT_MAX:
                continue
        elif value is None or kind is bool:
            continue
        elif kind is int:
            if 0 <= value <= INTEGER_MAX:
                continue
        elif kind is datetime and value.tzinfo is not None and EARLIEST <= value < LATEST:
            continue
        _check(data.__struct_fields__[position], value)


def _check(name: str, value: object) -> None:
    if value is None or isinstance(value, bool | bytes):
        return
    if isinstance(value, str):
        plausible = len(value) <= TEXT_MAX
    elif isinstance(value, int):
        plausible = 0 <= value <= INTEGER_MAX
    elif isinstance(value, datetime):
        plausible = value.tzinfo is not None and EARLIEST <= value < LATEST
    elif isinstance(value, Decimal):
        plausible = value.is_finite() and abs(value) <= DECIMAL_MAX and _places(value) <= DECIMAL_PLACES_MAX
    else:
        _check_inside(name, value)
        return
    if not plausible:
        raise Implausible(f"{name} is out of bounds")


def _check_inside(name: str, value: object) -> None:
    if isinstance(value, msgspec.Struct):
        check_plausible(value)
    elif isinstance(value, tuple):
        for item in value:
            _check(name, item)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check(name, key)
            _check(name, item)


def _places(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else DECIMAL_PLACES_MAX + 1
