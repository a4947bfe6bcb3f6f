"""Reviewed YAML read node by node, so that every error names the file, the line, what was wrong and what to do."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import yaml

from adapters.errors import Misconfigured

FILE_BYTES_MAX = 1_048_576
_DECIMAL = re.compile(r"(?:0|[1-9][0-9]{0,11})(?:\.([0-9]+))?")
_INTEGER = re.compile(r"0|[1-9][0-9]{0,8}")


class Value:
    """One value of the text and where it stands. Its readers raise Misconfigured with file and line."""

    def __init__(self, node: yaml.Node, file: Path, name: str) -> None:
        self._node = node
        self._file = file
        self.name = name
        self.line = int(node.start_mark.line) + 1

    def wrong(self, what: str, what_to_do: str) -> Misconfigured:
        """The error for this place, to be raised by whoever found it: `<file>:<line>: <what>; <what to do>`."""
        return Misconfigured(f"{self._file}:{self.line}: {what}; {what_to_do}")

    def mapping(
        self, *, required: Collection[str] = (), optional: Collection[str] = (), any_key: bool = False
    ) -> dict[str, Value]:
        """The fields of a mapping in the order of the text. Refuses a field twice, an unknown one, a missing one."""
        if not isinstance(self._node, yaml.MappingNode):
            raise self.wrong(f"{self.name} must be a mapping", "write its fields below it, each as `name: value`")
        known = {*required, *optional}
        found: dict[str, Value] = {}
        for key_node, value_node in self._node.value:
            key = Value(key_node, self._file, f"a field's name in {self.name}")
            name = key.text()
            if name in found:
                raise key.wrong(f"{self.name} has {name!r} twice (first on line {found[name].line})", "remove one")
            if not any_key and name not in known:
                raise key.wrong(f"{self.name} has an unknown field {name!r}", f"known are {', '.join(sorted(known))}")
            found[name] = Value(value_node, self._file, name)
        for name in required:
            if name not in found:
                raise self.wrong(f"{self.name} lacks the field {name!r}", "add it")
        return found

    def items(self) -> list[Value]:
        """The entries of a list."""
        if not isinstance(self._node, yaml.SequenceNode):
            raise self.wrong(f"{self.name} must be a list", "write its entries as `- entry` or `[entry, entry]`")
        return [Value(node, self._file, f"an entry of {self.name}") for node in self._node.value]

    def texts(self) -> list[Value]:
        """The entries of a list of words, none of them twice."""
        entries = self.items()
        seen: set[str] = set()
        for entry in entries:
            if entry.text() in seen:
                raise entry.wrong(f"{self.name} names {entry.text()!r} twice", "remove one")
            seen.add(entry.text())
        return entries

    def text(self) -> str:
        """A scalar as it stands in the text."""
        if not isinstance(self._node, yaml.ScalarNode) or not str(self._node.value).strip():
            raise self.wrong(f"{self.name} must be a word or a number", "write one value there")
        return str(self._node.value)

    def matching(self, pattern: re.Pattern[str], shape: str) -> str:
        """A scalar of a given shape, which `shape` describes for people."""
        text = self.text()
        if not pattern.fullmatch(text):
            raise self.wrong(f"{self.name} is {text!r}", f"it must be {shape}")
        return text

    def one_of(self, choices: Collection[str]) -> str:
        """A scalar out of a fixed set."""
        text = self.text()
        if text not in choices:
            raise self.wrong(f"{self.name} is {text!r}", f"it must be one of {', '.join(sorted(choices))}")
        return text

    def integer(self, *, at_least: int, at_most: int) -> int:
        text = self.matching(_INTEGER, f"a whole number from {at_least} to {at_most}")
        if not at_least <= int(text) <= at_most:
            raise self.wrong(f"{self.name} is {text}", f"it must be a whole number from {at_least} to {at_most}")
        return int(text)

    def decimal(self, *, places: int) -> Decimal:
        """A decimal of zero or more in fixed point with at most `places` decimals; never read as a float."""
        text = self.text()
        match = _DECIMAL.fullmatch(text)
        if match is None:
            raise self.wrong(f"{self.name} is {text!r}", "it must be a decimal of zero or more, such as 0.5")
        if len(match[1] or "") > places:
            raise self.wrong(f"{self.name} is {text} with {len(match[1])} decimals", f"it may have at most {places}")
        return Decimal(text)

    def instant(self) -> datetime:
        """An instant with an explicit UTC offset, as UTC."""
        text = self.text()
        try:
            instant = datetime.fromisoformat(text)
        except ValueError:
            instant = datetime.min
        if instant.tzinfo is None:
            raise self.wrong(
                f"{self.name} is {text!r}, no instant with a UTC offset", "write it as 2025-01-01T00:00:00+08:00"
            )
        return instant.astimezone(UTC)


def read_yaml(file: Path) -> Value:
    """The document's root. Raises Misconfigured where the file is absent, too large, empty or no YAML."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise Misconfigured(f"{file} cannot be read ({error.strerror}); restore it or set HYDRA_CONFIG_DIR") from error
    if len(raw) > FILE_BYTES_MAX:
        raise Misconfigured(f"{file} has {len(raw)} bytes; at most {FILE_BYTES_MAX} are read, split or shorten it")
    try:
        node = yaml.compose(raw.decode(), Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise Misconfigured(f"{file}:{line}: {error.problem or 'no YAML'}; correct the YAML there") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise Misconfigured(f"{file}:1: the file is no UTF-8 YAML; save it as such") from error
    if node is None:
        raise Misconfigured(f"{file}:1: the file is empty; restore it from the repository")
    return Value(node, file, file.name)
