"""The table of processes holds together, and agrees with what the processes themselves say."""

import importlib
import importlib.util
import inspect

import pytest
from pydantic_settings import BaseSettings

from runner.processes import PROCESSES, Process

NAMES = [process.name for process in PROCESSES]


@pytest.mark.parametrize("process", PROCESSES, ids=NAMES)
def test_every_module_can_be_started(process: Process) -> None:
    spec = importlib.util.find_spec(process.module)
    assert spec is not None
    if spec.submodule_search_locations is not None:
        assert importlib.util.find_spec(f"{process.module}.__main__") is not None


@pytest.mark.parametrize("process", PROCESSES, ids=NAMES)
def test_what_a_process_needs_stands_before_it(process: Process) -> None:
    before = NAMES[: NAMES.index(process.name)]
    assert set(process.needs) <= set(before)


def test_no_process_is_stopped_before_one_that_needs_it() -> None:
    by_name = {process.name: process for process in PROCESSES}
    for process in PROCESSES:
        for needed in process.needs:
            if by_name[needed].probe != "exit":
                assert by_name[needed].stop_stage > process.stop_stage


def test_names_and_ports_are_given_once() -> None:
    ports = [process.port for process in PROCESSES if process.port is not None]
    assert len(set(ports)) == len(ports)
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize(
    "process", [p for p in PROCESSES if p.module.startswith(("services.", "streams."))], ids=lambda p: p.name
)
def test_a_process_reads_its_port_under_the_setting_that_the_table_names(process: Process) -> None:
    settings = importlib.import_module(f"{process.module}.settings")
    prefix = process.port_setting.removesuffix("PORT")
    found = [
        value
        for _, value in inspect.getmembers(settings, inspect.isclass)
        if issubclass(value, BaseSettings) and value.model_config.get("env_prefix") == prefix
    ]
    assert len(found) == 1, f"no settings class with the prefix {prefix}"
    assert found[0].model_fields["port"].default == process.port
    assert found[0].model_fields["host"].default == "127.0.0.1"
