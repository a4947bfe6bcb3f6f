"""The one table of the platform's processes: the source for the local supervisor, the compose file and the docs."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

Kind = Literal["store", "step", "control", "stream", "agent", "gateway"]
Probe = Literal["kafka", "http", "exit"]

ENGINES = MappingProxyType(
    {
        "simulated": MappingProxyType({"HYDRA_WORKER_ENGINE": "simulated"}),
        # `make sglang` sets SGLang up for the CPU; a machine with GPUs sets HYDRA_WORKER_ENGINE=sglang itself.
        "sglang": MappingProxyType({"HYDRA_WORKER_ENGINE": "sglang-cpu"}),
    }
)
"""What an engine choice changes in the environment of the processes."""


@dataclass(frozen=True)
class Process:
    """One process of the platform, started as `python -m module` and known by `name` everywhere.

    `needs` must be ready before it starts. `probe` says how it is asked whether it is ready: `http` by GET
    `health_path`, `kafka` by its metadata, `exit` by ending with 0 (a step, which runs once). Processes of a lower
    `stop_stage` are gone before any of a higher one is asked to end: first who takes requests, last who keeps data.
    `stop_grace_s` is how long it may take to end once asked: more than its settings allow, so that only what hangs is
    killed, or what waits for a Kafka that hangs; neither loses anything by it.
    """

    name: str
    kind: Kind
    module: str
    does: str
    port: int | None
    needs: tuple[str, ...]
    stop_stage: int
    stop_grace_s: float
    probe: Probe = "http"
    health_path: str = "/health/ready"

    @property
    def port_setting(self) -> str:
        """The environment variable that moves its port."""
        return f"HYDRA_{self.name.upper()}_PORT"

    @property
    def host_setting(self) -> str:
        """The environment variable that names the address on which it listens."""
        return f"HYDRA_{self.name.upper()}_HOST"


PROCESSES: tuple[Process, ...] = (
    Process(
        name="kafka",
        kind="store",
        module="runner.kafka_process",
        does="Apache Kafka (KRaft, one node): every event on its way",
        port=9092,
        needs=(),
        stop_stage=4,
        stop_grace_s=20,
        probe="kafka",
    ),
    Process(
        name="clickhouse",
        kind="store",
        module="services.clickhouse",
        does="ClickHouse's engine behind its HTTP interface: usage, charges, prices, instances",
        port=8123,
        needs=(),
        stop_stage=4,
        stop_grace_s=20,
        health_path="/ping",
    ),
    Process(
        name="topics",
        kind="step",
        module="runner.create_topics",
        does="creates the declared topics, then ends",
        port=None,
        needs=("kafka",),
        stop_stage=1,
        stop_grace_s=5,
        probe="exit",
    ),
    Process(
        name="analyst",
        kind="step",
        module="runner.create_analyst",
        does="makes the analyst and billing SQL users where ClickHouse has such, then ends",
        port=None,
        needs=("clickhouse",),
        stop_stage=1,
        stop_grace_s=5,
        probe="exit",
    ),
    Process(
        name="gateway",
        kind="gateway",
        module="services.gateway",
        does="OpenAI's API: checks keys, picks an instance, meters",
        port=8000,
        # It serves without Kafka, and is the slowest to load: so it does that while Kafka starts.
        needs=(),
        stop_stage=1,
        stop_grace_s=95,
    ),
    Process(
        name="lifecycle",
        kind="control",
        module="services.lifecycle",
        does="customers' services and instances, and their billable time",
        port=8002,
        needs=("topics",),
        stop_stage=3,
        stop_grace_s=30,
    ),
    Process(
        name="accounts",
        kind="control",
        module="services.accounts",
        does="accounts and API keys",
        port=8001,
        needs=("topics",),
        stop_stage=3,
        stop_grace_s=30,
    ),
    Process(
        name="worker",
        kind="agent",
        module="services.worker",
        does="the node agent: runs this machine's engines and reports on them",
        port=8021,
        needs=("topics",),
        stop_stage=2,
        stop_grace_s=90,
    ),
    Process(
        name="billing",
        kind="control",
        module="services.billing",
        does="usage, charges, bills and prices, read-only",
        port=8003,
        # The analyst's step finds whom it reads as.
        needs=("topics", "clickhouse", "analyst"),
        stop_stage=3,
        stop_grace_s=30,
    ),
    Process(
        name="token_charges",
        kind="stream",
        module="streams.token_charges",
        does="rates usage to charges",
        port=8011,
        needs=("topics",),
        stop_stage=3,
        stop_grace_s=30,
    ),
    Process(
        name="instance_charges",
        kind="stream",
        module="streams.instance_charges",
        does="rates instance time to charges",
        port=8012,
        needs=("topics",),
        stop_stage=3,
        stop_grace_s=30,
    ),
    Process(
        name="warehouse",
        kind="stream",
        module="streams.warehouse",
        does="writes events and charges to ClickHouse, states spend",
        port=8013,
        needs=("topics", "clickhouse"),
        stop_stage=3,
        stop_grace_s=30,
    ),
    Process(
        name="live_spend",
        kind="stream",
        module="streams.live_spend",
        does="keeps spend per account and tells the gateway balances",
        port=8014,
        needs=("topics",),
        stop_stage=3,
        stop_grace_s=30,
    ),
)
"""In the order in which they are started and shown. Of those that wait for the same, the slow to start come first."""
