"""What is set up wrongly ends a processor with exit code 1 and one line that names the cause."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.servers.stream import StreamProcess

NAMES = ("token_charges", "instance_charges", "warehouse", "live_spend")


def failure(process: StreamProcess) -> list[str]:
    process.spawn()
    assert process.wait() == 1
    return [line for line in process.log_file.read_text().splitlines() if '"level":"INFO"' not in line]


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_setting_is_named(name: str, tmp_path: Path) -> None:
    variable = f"HYDRA_{name.upper()}_BATCH_RECORDS_MAX"
    (line,) = failure(StreamProcess(name, tmp_path, {variable: "many", "HYDRA_HOME": str(tmp_path)}))
    assert line.startswith(f"{variable}: ")


def test_a_wrong_setting_of_the_platform_is_named(tmp_path: Path) -> None:
    (line,) = failure(StreamProcess("token_charges", tmp_path, {"HYDRA_TIME_ZONE": "Mars/Base"}))
    assert line.startswith("HYDRA_TIME_ZONE: ")
    assert "Mars/Base" in line


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        settings = {"HYDRA_TOKEN_CHARGES_PORT": port, "HYDRA_HOME": str(tmp_path)}
        (line,) = failure(StreamProcess("token_charges", tmp_path, settings))
    assert "HYDRA_TOKEN_CHARGES_PORT" in line
    assert port in line


def test_a_missing_secret_is_named(tmp_path: Path) -> None:
    (line,) = failure(StreamProcess("warehouse", tmp_path, {"HYDRA_HOME": str(tmp_path)}))
    assert "clickhouse_admin_password" in line
