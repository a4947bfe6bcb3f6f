"""A statement as the engine has parsed it: the text of `EXPLAIN AST`, read back into nodes and checked to be whole.

A name in a statement may hold line breaks and whatever else would forge a line, and an output format may leave lines
out. So each node must have as many children as it says; a text that does not add up is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_LINE = re.compile(r"( *)([A-Za-z][A-Za-z:]*)(?: (.*?))??(?: \(children (\d+)\))?")
_ALIAS = re.compile(r" ?\(alias .*\)$")


class Incomplete(ValueError):
    """The text is not one whole tree."""


@dataclass(frozen=True)
class Node:
    """`kind` as the engine calls it; `name` is a function's or an identifier's, in lower case, without its alias."""

    kind: str
    name: str


def nodes_of(text: str) -> list[Node]:
    """Every node, the root first. Raises Incomplete unless the text is exactly one tree."""
    nodes: list[Node] = []
    depths: list[int] = []
    declared: list[int] = []
    for line in text.removesuffix("\n").split("\n"):
        found = _LINE.fullmatch(line)
        if found is None:
            raise Incomplete
        spaces, kind, rest, children = found.groups()
        if rest and "(children" in rest and kind != "Literal":  # several nodes on one line, or a name that looks so
            raise Incomplete
        nodes.append(Node(kind, _ALIAS.sub("", rest or "").lower()))
        depths.append(len(spaces))
        declared.append(int(children or 0))
    _check_whole(depths, declared)
    return nodes


def _check_whole(depths: Sequence[int], declared: Sequence[int]) -> None:
    """Follows the tree down: each line must be the child that its place above waits for."""
    waiting: list[int] = [1]
    for depth, children in zip(depths, declared, strict=True):
        while waiting and waiting[-1] == 0:
            waiting.pop()
        if depth != len(waiting) - 1:
            raise Incomplete
        waiting[-1] -= 1
        waiting.append(children)
    if any(waiting):
        raise Incomplete
