"""Billing records the price text: once, whole, and never an edited version. Real Kafka, real process."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters.kafka.stops import Stops
from adapters.kafka.topics import create_topics
from domain.stops import gap_text, unanswered
from schemas import codec
from schemas.prices import PriceRecorded
from schemas.topics import PRICES
from tests.faults.operator import truncate
from tests.servers.control_process import ROOT, ControlProcess, running_control
from tests.servers.kafka import running_kafka
from tests.servers.topic_reading import records_of

TEXT = """\
currency: CNY
tokens:
  deepseek-r1:
    - {version: 1, effective_from: 2025-01-01T00:00:00+08:00, source: published, input: 4, output: 16}
instances: {}
"""


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_kafka(tmp_path_factory.mktemp("kafka")) as server:
        yield server.node.bootstrap


async def recorded(bootstrap: str) -> list[PriceRecorded]:
    return [codec.decode(record.value, PriceRecorded).data for record in await records_of(bootstrap, PRICES)]


async def test_the_text_is_recorded_once_and_an_edit_stops_billing(
    own_kafka: str, tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    await create_topics(own_kafka)
    config = tmp_path / "config"
    shutil.copytree(ROOT / "config", config)
    text = config / "prices.yaml"
    settings = {
        "HYDRA_CONFIG_DIR": str(config),
        # It records without ClickHouse too; it is only not ready then.
        "HYDRA_CLICKHOUSE_URL": f"http://127.0.0.1:{unused_port()}",
    }

    def run(*expected: str) -> None:
        with running_control("billing", tmp_path / "home", own_kafka, wait_for="live", **settings) as billing:
            for price in expected:
                _until_logged(billing, price)

    text.write_text(TEXT)
    run("deepseek-r1/input_tokens@1", "deepseek-r1/output_tokens@1")
    first = await recorded(own_kafka)
    assert sorted((price.price_id, price.version, str(price.unit_price)) for price in first) == [
        ("deepseek-r1/input_tokens", 1, "4"),
        ("deepseek-r1/output_tokens", 1, "16"),
    ]

    added = "    - {version: 2, effective_from: 2099-01-01T00:00:00Z, source: example, input: 3, output: 16}\n"
    text.write_text(TEXT.replace("instances:", added + "instances:"))
    run("deepseek-r1/input_tokens@2", "deepseek-r1/output_tokens@2")
    second = await recorded(own_kafka)
    assert second[:2] == first
    assert sorted((price.price_id, price.version) for price in second[2:]) == [
        ("deepseek-r1/input_tokens", 2),
        ("deepseek-r1/output_tokens", 2),
    ]

    for changed, says in (
        (TEXT.replace("input: 4", "input: 5").replace("instances:", added + "instances:"), f"{text}:4: "),
        (TEXT, f"{text}: "),
    ):
        text.write_text(changed)
        stopped = _ended(tmp_path / "home", own_kafka, unused_port(), settings)
        assert stopped.returncode == 78
        last = stopped.stderr.strip().splitlines()[-1]
        assert says in last
        assert "deepseek-r1/" in last
        assert "Traceback" not in stopped.stderr
    assert await recorded(own_kafka) == second


async def test_a_log_of_prices_that_lost_its_beginning_stops_billing_until_the_gap_is_named(
    tmp_path: Path, unused_port: Callable[[], int]
) -> None:
    config = tmp_path / "config"
    shutil.copytree(ROOT / "config", config)
    (config / "prices.yaml").write_text(TEXT)
    with running_kafka(tmp_path / "kafka") as server:
        kafka = server.node.bootstrap
        await create_topics(kafka)
        settings = {
            "HYDRA_CONFIG_DIR": str(config),
            "HYDRA_CLICKHOUSE_URL": f"http://127.0.0.1:{unused_port()}",
        }
        with running_control("billing", tmp_path / "home", kafka, wait_for="live", **settings) as billing:
            _until_logged(billing, "deepseek-r1/output_tokens@1")
        await truncate(kafka, PRICES, {0: 1})
        stopped = _ended(tmp_path / "home", kafka, unused_port(), settings)
        assert stopped.returncode == 78, stopped.stderr
        assert f"--gap {PRICES.name}/0:0-0" in stopped.stderr.strip().splitlines()[-1]
        stop = unanswered(await Stops(kafka, "billing").noted())
        assert stop is not None and [gap_text(gap) for gap in stop.gaps] == [f"{PRICES.name}/0:0-0"]
        await Stops(kafka, "billing").note_accepted(stop, "lost with a disk", "a test")
        with running_control("billing", tmp_path / "home", kafka, wait_for="live", **settings) as billing:
            # The price that is lost is recorded once more: the text has it.
            _until_logged(billing, "deepseek-r1/input_tokens@1")


def _until_logged(billing: ControlProcess, expected: str) -> None:
    deadline = time.monotonic() + 90
    while expected not in billing.log:
        assert time.monotonic() < deadline and billing.process.poll() is None, billing.log
        time.sleep(0.1)


def _ended(home: Path, kafka: str, port: int, settings: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    environment = {
        "HYDRA_HOME": str(home),
        "HYDRA_KAFKA_BOOTSTRAP": kafka,
        "HYDRA_BILLING_PORT": str(port),
        **settings,
    }
    return subprocess.run(
        [sys.executable, "-m", "services.billing"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
