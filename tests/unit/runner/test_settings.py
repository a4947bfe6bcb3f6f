"""Where a platform's parts are, told once and the same to every process."""

from pathlib import Path

import pytest

from adapters.errors import Misconfigured
from runner.processes import PROCESSES
from runner.settings import PROJECT, ProcessAddress, RunnerSettings, read_settings

PROCESS = {process.name: process for process in PROCESSES}


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.startswith("HYDRA_")]:
        monkeypatch.delenv(name)


def test_ports_are_those_of_the_table() -> None:
    settings = RunnerSettings()
    assert [settings.port(process) for process in PROCESSES] == [process.port for process in PROCESSES]
    assert settings.kafka == "127.0.0.1:9092"
    assert settings.clickhouse == "http://127.0.0.1:8123"
    assert settings.home == PROJECT / ".hydra"


def test_a_port_is_moved_by_the_process_own_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_GATEWAY_PORT", "18000")
    monkeypatch.setenv("HYDRA_KAFKA_PORT", "19092")
    settings = RunnerSettings()
    assert settings.url_of("gateway") == "http://127.0.0.1:18000"
    assert settings.environment()["HYDRA_KAFKA_BOOTSTRAP"] == "127.0.0.1:19092"
    assert settings.kafka_node.port == 19092


def test_an_address_for_all_networks_is_asked_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_GATEWAY_HOST", "0.0.0.0")
    monkeypatch.setenv("HYDRA_GATEWAY_TLS_CERTIFICATE", "/some/certificate.pem")
    assert RunnerSettings().url_of("gateway") == "https://127.0.0.1:8000"
    assert RunnerSettings().listen_host(PROCESS["gateway"]) == "0.0.0.0"


def test_a_supervisor_in_another_process_reads_the_same_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    addresses = {"gateway": ProcessAddress(port=18000, host="127.0.0.2")}
    settings = RunnerSettings(home=tmp_path, engine="sglang", addresses=addresses, kafka_controller_port=19093)
    for name, value in settings.supervisor_environment().items():
        monkeypatch.setenv(name, value)
    again = RunnerSettings()
    assert again.environment() == settings.environment()
    assert again.processes() == settings.processes()
    assert again.url_of("gateway") == "http://127.0.0.2:18000"


def test_a_server_elsewhere_is_used_and_none_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_KAFKA_BOOTSTRAP", "kafka.internal:9092")
    monkeypatch.setenv("HYDRA_CLICKHOUSE_URL", "http://clickhouse.internal:8123")
    settings = RunnerSettings()
    assert {"kafka", "clickhouse"}.isdisjoint(process.name for process in settings.processes())
    assert settings.environment()["HYDRA_KAFKA_BOOTSTRAP"] == "kafka.internal:9092"
    assert settings.platform().clickhouse_url == "http://clickhouse.internal:8123"


def test_the_engine_is_what_the_worker_is_told_unless_it_was_told_already(monkeypatch: pytest.MonkeyPatch) -> None:
    assert RunnerSettings().environment()["HYDRA_WORKER_ENGINE"] == "simulated"
    assert RunnerSettings(engine="sglang").environment()["HYDRA_WORKER_ENGINE"] == "sglang-cpu"
    monkeypatch.setenv("HYDRA_WORKER_ENGINE", "sglang")
    assert "HYDRA_WORKER_ENGINE" not in RunnerSettings().environment()


@pytest.mark.parametrize(
    ("name", "value"), [("HYDRA_ENGINE", "vllm"), ("HYDRA_KAFKA_HEAP_MB", "1"), ("HYDRA_READY_TIMEOUT_S", "soon")]
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Misconfigured, match=name):
        read_settings()


def test_a_wrong_port_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HYDRA_GATEWAY_PORT", "70000")
    with pytest.raises(Misconfigured, match="HYDRA_GATEWAY_PORT"):
        read_settings()
