"""Types as SGLang reads them: lax, so "5" is an integer and "yes" a truth.

Each function takes a JSON value and its place and returns the value read, or raises `Refused`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from services.worker.simulated_engine.refusals import wrong_type

Place = tuple[str | int, ...]
Coercion = Callable[[Any, Place], Any]

# What is larger reaches SGLang as no integer any more.
MAX_INTEGER = 2**64 - 1
_TRUE = {"true", "1", "yes", "on", "t", "y"}
_FALSE = {"false", "0", "no", "off", "f", "n"}
_INTEGER = re.compile(r"\s*[+-]?\d[\d_]*(\.0*)?\s*")


def integer(value: Any, place: Place) -> int:
    read = _whole(value, place)
    if not -MAX_INTEGER <= read <= MAX_INTEGER:
        raise wrong_type(place, "Unable to parse input string as an integer, exceeded maximum size")
    return read


def _whole(value: Any, place: Place) -> int:
    if isinstance(value, (bool, int)):
        return int(value)
    if isinstance(value, float):
        if value.is_integer():
            return int(value)
        raise wrong_type(place, "Input should be a valid integer, got a number with a fractional part")
    if isinstance(value, str):
        if _INTEGER.fullmatch(value):
            return int(value.split(".")[0])
        raise wrong_type(place, "Input should be a valid integer, unable to parse string as an integer")
    raise wrong_type(place, "Input should be a valid integer")


def number(value: Any, place: Place) -> float:
    if isinstance(value, (bool, int, float, str)):
        try:
            return float(value)
        except (ValueError, OverflowError):
            raise wrong_type(place, "Input should be a valid number, unable to parse string as a number") from None
    raise wrong_type(place, "Input should be a valid number")


def truth(value: Any, place: Place) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, (int, float)) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    if isinstance(value, (int, float, str)):
        raise wrong_type(place, "Input should be a valid boolean, unable to interpret input")
    raise wrong_type(place, "Input should be a valid boolean")


def string(value: Any, place: Place) -> str:
    if isinstance(value, str):
        return value
    raise wrong_type(place, "Input should be a valid string")


def mapping(value: Any, place: Place) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise wrong_type(place, "Input should be a valid dictionary")


def anything(value: Any, _place: Place) -> Any:
    return value


def list_of(item: Coercion) -> Coercion:
    def read(value: Any, place: Place) -> list[Any]:
        if not isinstance(value, list):
            raise wrong_type(place, "Input should be a valid list")
        return [item(each, (*place, index)) for index, each in enumerate(value)]

    return read


def map_to(item: Coercion) -> Coercion:
    def read(value: Any, place: Place) -> dict[str, Any]:
        return {key: item(each, (*place, key)) for key, each in mapping(value, place).items()}

    return read


def optional(item: Coercion) -> Coercion:
    def read(value: Any, place: Place) -> Any:
        return None if value is None else item(value, place)

    return read


def one_of(*names: str) -> Coercion:
    def read(value: Any, place: Place) -> str:
        if value in names and isinstance(value, str):
            return value
        raise wrong_type(place, f"Input should be one of {', '.join(names)}")

    return read


def string_or_list(item: Coercion) -> Coercion:
    as_list = list_of(item)

    def read(value: Any, place: Place) -> Any:
        return value if isinstance(value, str) else as_list(value, place)

    return read
