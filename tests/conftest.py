"""Fixtures of all tests: real servers, one of each a run, on free ports and folders of their own."""

import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.bills import lines_of, note_disagreement
from tests.servers.clickhouse import ClickHouseProcess, running_clickhouse
from tests.servers.kafka import running_kafka
from tests.servers.missing_programs import failed_instead
from tests.servers.ports import free_port

# How fast examples are drawn says how busy the machine is, and nothing about what is tested.
settings.register_profile("any speed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any speed")


def pytest_configure() -> None:
    """Whoever ends this run at its limit of time has everything stopped and told, as Ctrl-C has."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that is left out for a program that was to be fetched has failed, where all are needed. Who fails for a
    bill is noted."""
    report = yield
    note_disagreement(item, call, report)
    if report.skipped and (why := failed_instead(call)):
        report.outcome, report.longrepr = "failed", why
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name whoever failed for a bill."""
    failed = [report for how in ("failed", "error") for report in terminalreporter.stats.get(how, [])]
    for line in lines_of(failed):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Apache Kafka's bootstrap address. All tests of a run share it, so use topics and groups of your own."""
    with running_kafka(tmp_path_factory.mktemp("kafka")) as server:
        yield server.node.bootstrap


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of PostgreSQL's database `postgres`. All tests of a run share it: create databases of your own."""
    from tests.servers.postgresql import running_postgresql

    with running_postgresql() as address:
        yield address


@pytest.fixture(scope="session")
def clickhouse_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseProcess]:
    """The embedded ClickHouse: `url`, `admin_password`, `admin_password_file`, `analyst_password`. All tests of a run
    share it: create databases of your own."""
    with running_clickhouse(tmp_path_factory.mktemp("clickhouse")) as server:
        yield server


@pytest.fixture
def unused_port() -> Callable[[], int]:
    """Draws free loopback ports."""
    return free_port


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The top of the checkout."""
    return Path(__file__).resolve().parent.parent
