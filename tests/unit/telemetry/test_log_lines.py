"""A line of a log is one JSON object, and holds no key by whatever field or way it came."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from adapters.telemetry import configure_logging
from domain.ids import api_key

KEY = api_key(bytes(range(32)))
TOKEN = f"op-{KEY[3:]}"
logger = logging.getLogger("tests.log_lines")


@contextmanager
def process_logging() -> Iterator[None]:
    """Logs as a process writes them; handlers and levels are as they were afterwards."""
    root = logging.getLogger()
    handlers = root.handlers[:]
    others = [one for one in logging.Logger.manager.loggerDict.values() if isinstance(one, logging.Logger)]
    levels = [(one, one.level) for one in (root, *others)]
    configure_logging("tested")
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for one, level in levels:
            one.setLevel(level)


def test_no_field_message_cause_or_traceback_holds_a_key(capsys: pytest.CaptureFixture[str]) -> None:
    with process_logging():
        logger.info("request", extra={"path": f"/v1/accounts/me/keys/{KEY}", "account": None, "status": 404})
        logger.warning("answered 503", extra={"path": f"/v1/services/{TOKEN}", "cause": ValueError(KEY)})
        logger.error("endpoint %s is no URL", f"http://{KEY.lower()}/")
        try:
            raise ValueError(f"no model public/{KEY}")
        except ValueError:
            logger.exception("request failed", extra={"parts": [KEY, {"k": TOKEN}]})
        logging.getLogger("httpx").warning("GET http://127.0.0.1:1/?api_key=%s", KEY.replace("-", "%2D", 1))
    written = capsys.readouterr().err
    told = [json.loads(line) for line in written.splitlines()]
    assert [line["message"].split()[0] for line in told] == ["request", "answered", "endpoint", "request", "GET"]
    assert told[0]["path"] == "/v1/accounts/me/keys/sk-AAEC...dHh8" and told[0]["status"] == 404
    assert told[1]["path"] == "/v1/services/op-AAEC...dHh8"
    assert "no model public/sk-AAEC...dHh8" in told[3]["exception"]
    assert KEY[10:40].lower() not in written.lower()


def test_a_path_that_is_cut_within_a_key_shows_too_little_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Callers cut what they log; of 43 characters at most 31 are left, and 12 cannot be guessed."""
    with process_logging():
        for length in range(1, len(KEY)):
            logger.info("request", extra={"path": f"/keys/{KEY}"[: 6 + length]})
    written = capsys.readouterr().err
    assert KEY[:34] in written
    assert KEY[:35] not in written
