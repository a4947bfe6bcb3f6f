"""Settings of the local platform, prefix `HYDRA_`: where it lives, its ports, its engine. Read once by the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from adapters.errors import Misconfigured
from adapters.settings import PlatformSettings
from runner.kafka import KafkaNode
from runner.processes import ENGINES, PROCESSES, Process

PROJECT = Path(__file__).resolve().parent.parent

EVERY_ADDRESS = frozenset({"0.0.0.0", "::", ""})


class ProcessAddress(BaseSettings):
    """Where one process listens, under the names by which it reads that itself: HYDRA_GATEWAY_PORT and so on.

    A port that is not set is the one of the table of processes. `tls_certificate` makes its address https. `url` is
    where it answers others, if that is elsewhere; several, with commas between, where it runs under several names.
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    port: int | None = Field(default=None, ge=1, le=65_535)
    tls_certificate: Path | None = None
    url: str = ""


def _addresses() -> dict[str, ProcessAddress]:
    return {process.name: _address(process) for process in PROCESSES if process.port is not None}


def _address(process: Process) -> ProcessAddress:
    # One class for all, so the prefix is given at construction, which mypy does not know of.
    prefix: dict[str, Any] = {"_env_prefix": f"HYDRA_{process.name.upper()}_"}
    try:
        return ProcessAddress(**prefix)
    except ValidationError as error:
        raise Misconfigured(_first_problem(error, prefix["_env_prefix"])) from error


class RunnerSettings(BaseSettings):
    """`home` holds all state of one platform; two platforms need two homes and other ports.

    Where `kafka_bootstrap` or `clickhouse_url` is set, that server is used and none is started here.
    `ready_timeout_s` bounds the start. `engine` is what the node agent runs, unless HYDRA_WORKER_ENGINE says it.
    """

    model_config = SettingsConfigDict(env_prefix="HYDRA_", frozen=True, extra="ignore")

    home: Path = PROJECT / ".hydra"
    config_dir: Path = PROJECT / "config"
    engine: Literal["simulated", "sglang"] = "simulated"
    worker_engine: str | None = None
    ready_timeout_s: float = Field(default=240.0, gt=0, le=3600)

    kafka_bootstrap: str | None = None
    clickhouse_url: str | None = None
    kafka_controller_port: int = Field(default=9093, ge=1, le=65_535)
    kafka_heap_mb: int = Field(default=320, ge=128, le=65_536)
    addresses: dict[str, ProcessAddress] = Field(default_factory=_addresses)

    @field_validator("home", "config_dir")
    @classmethod
    def _absolute(cls, path: Path) -> Path:
        return path.absolute()

    def port(self, process: Process) -> int | None:
        """The port of a process; None for one that has none."""
        address = self.addresses.get(process.name)
        return process.port if address is None or address.port is None else address.port

    def listen_host(self, process: Process) -> str:
        """The address on which a process listens."""
        address = self.addresses.get(process.name)
        return "127.0.0.1" if address is None else address.host

    def reachable_host(self, process: Process) -> str:
        """The address at which a process of this machine answers us."""
        address = self.addresses.get(process.name)
        return "127.0.0.1" if address is None or address.host in EVERY_ADDRESS else address.host

    def url(self, process: Process) -> str | None:
        """The process's address for HTTP; None for one that has none."""
        if process.port is None or process.probe != "http":
            return None
        address = self.addresses.get(process.name)
        scheme = "https" if address is not None and address.tls_certificate is not None else "http"
        host = self.reachable_host(process)
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port(process)}"

    def urls(self, process: Process) -> tuple[str, ...]:
        """Where a process is asked that this machine's supervisor has not started: as set, else as `url`."""
        address = self.addresses.get(process.name)
        given = [] if address is None else [url.strip().rstrip("/") for url in address.url.split(",")]
        own = self.url(process)
        return tuple(url for url in given if url) or (() if own is None else (own,))

    @property
    def names_addresses(self) -> bool:
        """Whether the settings name where any process answers."""
        return self.kafka_bootstrap is not None or any(address.url for address in self.addresses.values())

    def url_of(self, name: str) -> str:
        """The address of a process that serves HTTP, by its name in the table. Raises KeyError for any other."""
        return {process.name: url for process in PROCESSES if (url := self.url(process))}[name]

    @property
    def kafka(self) -> str:
        """Kafka's bootstrap address, of ours or of the one that is used instead."""
        return self.kafka_bootstrap or self.kafka_node.bootstrap

    @property
    def clickhouse(self) -> str:
        """ClickHouse's address, of ours or of the one that is used instead."""
        return self.clickhouse_url or self.url_of("clickhouse")

    @property
    def kafka_node(self) -> KafkaNode:
        """The node that this platform runs."""
        return KafkaNode(
            host=self.reachable_host(_KAFKA),
            port=self.port(_KAFKA) or 0,
            controller_port=self.kafka_controller_port,
            folder=self.home / "kafka",
            heap_mb=self.kafka_heap_mb,
        )

    @property
    def logs_dir(self) -> Path:
        """One log a process, with the rotated ones beside it."""
        return self.home / "logs"

    @property
    def secrets_dir(self) -> Path:
        """The folder (0700) of the files (0600) that hold secrets."""
        return self.home / "secrets"

    @property
    def run_dir(self) -> Path:
        """The lock and the status of the running platform."""
        return self.home / "run"

    def processes(self) -> tuple[Process, ...]:
        """The processes that run here: all of the table but the servers that are used instead of ours."""
        elsewhere = {"kafka"} if self.kafka_bootstrap else set()
        elsewhere |= {"clickhouse"} if self.clickhouse_url else set()
        return tuple(process for process in PROCESSES if process.name not in elsewhere)

    def platform(self) -> PlatformSettings:
        """What the processes of this platform share, for the command, which speaks to its Kafka and ClickHouse."""
        return PlatformSettings(
            home=self.home, config_dir=self.config_dir, kafka_bootstrap=self.kafka, clickhouse_url=self.clickhouse
        )

    def environment(self) -> dict[str, str]:
        """What every process is told beyond the environment that we were given: where this platform's parts are."""
        told = {
            **self._of_the_runner(),
            "HYDRA_KAFKA_BOOTSTRAP": self.kafka,
            "HYDRA_CLICKHOUSE_URL": self.clickhouse,
            # A dozen processes on a small machine: glibc's arenas would hold on to memory for each thread.
            "MALLOC_ARENA_MAX": "2",
            "PYTHONUNBUFFERED": "1",
        }
        if self.worker_engine is None:
            told.update(ENGINES[self.engine])
        return told

    def supervisor_environment(self) -> dict[str, str]:
        """From this a supervisor in a process of its own reads the same settings."""
        told = self._of_the_runner()
        if self.kafka_bootstrap:
            told["HYDRA_KAFKA_BOOTSTRAP"] = self.kafka_bootstrap
        if self.clickhouse_url:
            told["HYDRA_CLICKHOUSE_URL"] = self.clickhouse_url
        if self.worker_engine:
            told["HYDRA_WORKER_ENGINE"] = self.worker_engine
        return told

    def _of_the_runner(self) -> dict[str, str]:
        told = {
            "HYDRA_HOME": str(self.home),
            "HYDRA_CONFIG_DIR": str(self.config_dir),
            "HYDRA_ENGINE": self.engine,
            "HYDRA_READY_TIMEOUT_S": str(self.ready_timeout_s),
            "HYDRA_KAFKA_CONTROLLER_PORT": str(self.kafka_controller_port),
            "HYDRA_KAFKA_HEAP_MB": str(self.kafka_heap_mb),
        }
        for process in PROCESSES:
            if process.port is not None:
                told[process.port_setting] = str(self.port(process))
                told[process.host_setting] = self.listen_host(process)
        return told


def read_settings() -> RunnerSettings:
    """The settings that the environment gives. Raises Misconfigured, which names the variable."""
    try:
        return RunnerSettings()
    except ValidationError as error:
        raise Misconfigured(_first_problem(error, "HYDRA_")) from error


def _first_problem(error: ValidationError, prefix: str) -> str:
    first = error.errors()[0]
    name = "_".join(str(part) for part in first["loc"]).upper()
    return f"{prefix}{name}: {first['msg']}"


_KAFKA = next(process for process in PROCESSES if process.name == "kafka")
