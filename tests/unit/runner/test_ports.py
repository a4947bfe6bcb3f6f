"""A port that cannot be had is named before anything starts."""

import socket

from runner.ports import Claim, claims, port_problems
from runner.settings import RunnerSettings
from tests.servers.ports import free_port


def claim(name: str, port: int) -> Claim:
    return Claim(name, "127.0.0.1", port, f"HYDRA_{name.upper()}_PORT")


def test_free_ports_are_no_problem() -> None:
    assert port_problems([claim("gateway", free_port()), claim("accounts", free_port())]) == []


def test_a_taken_port_is_named_with_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert port_problems([claim("gateway", port)]) == [
            f"port {port} (gateway) is taken: set HYDRA_GATEWAY_PORT to a free one"
        ]


def test_one_port_for_two_processes_is_named() -> None:
    port = free_port()
    assert port_problems([claim("gateway", port), claim("accounts", port)]) == [
        f"port {port} is wanted by gateway and by accounts: set HYDRA_ACCOUNTS_PORT to another"
    ]


def test_an_address_of_another_machine_is_named() -> None:
    (problem,) = port_problems([Claim("gateway", "192.0.2.1", 8000, "HYDRA_GATEWAY_PORT")])
    assert "cannot be had" in problem


def test_kafka_claims_two_ports() -> None:
    settings = RunnerSettings()
    wanted = claims(settings, settings.processes())
    assert [c.setting for c in wanted if c.name.startswith("kafka")] == [
        "HYDRA_KAFKA_PORT",
        "HYDRA_KAFKA_CONTROLLER_PORT",
    ]
