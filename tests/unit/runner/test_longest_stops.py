"""No process needs longer to end than the table of processes gives it, whatever its settings say.

A consumer whose Kafka hangs is left out: it may need longer, and is killed then."""

from __future__ import annotations

from pydantic_settings import BaseSettings

from adapters import health, http_service, tracing
from adapters.kafka import producer
from runner import background
from runner.child import KILL_GRACE_S
from runner.platform import STRAGGLERS_GRACE_S
from runner.processes import PROCESSES
from services.clickhouse import __main__ as clickhouse
from services.clickhouse.settings import ClickHouseSettings
from services.gateway import __main__ as gateway
from services.gateway import server
from services.gateway.settings import GatewaySettings
from services.worker import agent
from services.worker.settings import WorkerSettings
from streams import stream_process

GRACES_S = {process.name: process.stop_grace_s for process in PROCESSES}


def most(settings: type[BaseSettings], name: str) -> float:
    """The highest value that a setting takes."""
    bounds = [
        bound for each in settings.model_fields[name].metadata if (bound := getattr(each, "le", None)) is not None
    ]
    assert bounds, f"{name} of {settings.__name__} has no upper bound"
    return float(bounds[0])


def test_a_gateway_drains_records_and_publishes_before_it_is_killed() -> None:
    recorded_s = most(GatewaySettings, "drain_s") + most(GatewaySettings, "abort_wait_s")
    flushed_s = server.FLUSH_STEPS * server.FLUSH_STEP_S
    left_s = gateway.PUBLISH_AT_END_S + producer.STOP_TIMEOUT_S + tracing.CLOSE_TIMEOUT_S
    assert recorded_s + flushed_s + left_s < GRACES_S["gateway"]


def test_a_node_agent_drains_its_engines_and_tells_of_them_before_it_is_killed() -> None:
    # Its engines and those that an earlier run has left end side by side.
    engines_s = max(most(WorkerSettings, f"{whose}_drain_seconds") for whose in ("shutdown", "leftover"))
    told_s = agent.FAREWELL_TIMEOUT_S + health.STOP_TIMEOUT_S + producer.STOP_TIMEOUT_S
    assert engines_s + told_s < GRACES_S["worker"]


def test_clickhouse_closes_its_engine_before_it_is_killed() -> None:
    assert most(ClickHouseSettings, "stop_grace_s") + clickhouse.ENGINE_CLOSE_S < GRACES_S["clickhouse"]


def test_control_services_and_streams_end_before_they_are_killed() -> None:
    ends_s = {
        "control": http_service.STOP_GRACE_S + http_service.BACKGROUND_STOP_S + producer.STOP_TIMEOUT_S,
        "stream": stream_process.STOP_TIMEOUT_S + producer.STOP_TIMEOUT_S + health.STOP_TIMEOUT_S,
    }
    for kind, longest_s in ends_s.items():
        assert longest_s < min(process.stop_grace_s for process in PROCESSES if process.kind == kind)


def test_who_stops_a_platform_waits_for_the_last_of_its_stages() -> None:
    by_stage = {process.stop_stage: process.stop_grace_s for process in PROCESSES}
    for process in PROCESSES:
        by_stage[process.stop_stage] = max(by_stage[process.stop_stage], process.stop_grace_s)
    longest_s = sum(by_stage.values()) + len(by_stage) * KILL_GRACE_S + STRAGGLERS_GRACE_S
    assert longest_s < background.STOP_TIMEOUT_S
