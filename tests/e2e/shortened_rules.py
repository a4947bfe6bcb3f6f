"""Alert rules with their durations divided, so that a test need not wait for an hour; nothing else of them changes."""

from __future__ import annotations

import re

SHORTER_BY = 20
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"(?P<before>\bfor: |\[)(?P<count>\d+)(?P<unit>[smh])\b")
"""How long an expression must hold, and the windows that expressions look back over."""
_AGE = re.compile(r"(?P<before>time\(\) - process_start_time_seconds < )(?P<seconds>\d+)")
"""A window too: what a young process has counted at all."""


def shortened(rules: str) -> str:
    """The text of a rule file with every duration divided by SHORTER_BY. Raises ValueError for an odd one."""
    rules = _DURATION.sub(lambda found: f"{found['before']}{_shorter(found['count'], found['unit'])}s", rules)
    return _AGE.sub(lambda found: f"{found['before']}{_shorter(found['seconds'], 's')}", rules)


def _shorter(count: str, unit: str) -> int:
    seconds, rest = divmod(int(count) * _SECONDS[unit], SHORTER_BY)
    if rest or not seconds:
        raise ValueError(f"{count}{unit} is no whole number of {SHORTER_BY} seconds")
    return seconds
