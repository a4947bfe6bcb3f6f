"""What docs/operations.md says to do about usage without a price, word for word, on a platform."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.servers.platform import ROOT, Platform, running_platform, wait_until

pytestmark = pytest.mark.bills

MODEL = "public/deepseek-r1"
PRICE = """  deepseek-r1:
    # Published as 0.004 per 1,000 input tokens and 0.016 per 1,000 output tokens; no price for cached input.
    - {version: 1, effective_from: 2025-01-01T00:00:00+08:00, source: published, input: 4, output: 16}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped configuration without a price of the model."""
    folder = shutil.copytree(ROOT / "config", tmp_path_factory.mktemp("unpriced") / "config")
    text = (folder / "prices.yaml").read_text()
    assert PRICE in text
    (folder / "prices.yaml").write_text(text.replace(PRICE, ""))
    return folder


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, config: Path) -> Iterator[Platform]:
    settings = {"HYDRA_CONFIG_DIR": str(config), "HYDRA_WAREHOUSE_OPEN_MATTERS_EVERY_S": "1"}
    with running_platform(tmp_path_factory.mktemp("home"), **settings) as platform:
        yield platform


def process(platform: Platform, name: str) -> dict[str, Any]:
    """As `hydra status` shows it, whatever its exit code."""
    shown = json.loads(platform.run("status", "--json", check=False).stdout)
    found: dict[str, Any] = next(one for one in shown["processes"] if one["name"] == name)
    return found


def test_usage_without_a_price_is_charged_once_the_operator_has_added_it(platform: Platform, config: Path) -> None:
    account = platform.new_account("early")
    headers = {"Authorization": f"Bearer {platform.new_key(account)}"}
    body = {"model": MODEL, "max_tokens": 8, "messages": [{"role": "user", "content": "hello"}]}
    url = platform.url("gateway") + "/v1/chat/completions"
    usage = httpx.post(url, json=body, headers=headers, timeout=60).raise_for_status().json()["usage"]
    wait_until(
        lambda: process(platform, "warehouse")["reason"] == "parked messages wait for you: 1 (hydra parked)",
        "hydra status says that something waits",
    )
    assert [entry["reason"] for entry in platform.hydra("parked")["data"]] == ["unpriced"]
    query = "SELECT model, count() AS n FROM v_unbilled_usage WHERE reason = 'unpriced' GROUP BY model"
    assert platform.hydra("sql", query)["data"] == [{"model": "deepseek-r1", "n": 1}]
    assert platform.hydra("bill", "--account", account)["lines"] == []

    (config / "prices.yaml").write_text((ROOT / "config" / "prices.yaml").read_text())
    billing = process(platform, "billing")
    os.kill(billing["pid"], signal.SIGTERM)
    wait_until(
        lambda: (now := process(platform, "billing"))["state"] == "ready" and now["pid"] != billing["pid"],
        "billing has started again",
    )
    wait_until(lambda: "deepseek-r1" in platform.run("price", "ls").stdout, "the price is recorded")
    platform.run("parked", "replay", "--reason", "unpriced")

    due = Fraction(4 * usage["prompt_tokens"] + 16 * usage["completion_tokens"], 1_000_000)
    wait_until(
        lambda: sum(Fraction(line["amount"]) for line in platform.hydra("bill", "--account", account)["lines"]) == due,
        "the bill has it",
    )
    wait_until(lambda: process(platform, "warehouse")["reason"] == "", "nothing waits any more")
    assert platform.hydra("sql", query)["data"] == []
