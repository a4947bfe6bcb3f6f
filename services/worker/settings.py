"""Settings of the node agent, prefix `HYDRA_WORKER_`, read once in `__main__`."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from domain.placement import ANY_GPU
from schemas.heartbeats import EngineKind


class WorkerSettings(BaseSettings):
    """What this machine is and how its engines are watched. Seconds unless the name says otherwise.

    `engine_host` is what engines listen on and what heartbeats advertise: loopback or an address of the internal
    network; None means `host`. `folder` holds the node's identity: a folder that is gone is a new node.
    `simulated_ledgers` is a folder in which simulated engines count what they did, a file an instance, for tests.
    """

    model_config = SettingsConfigDict(env_prefix="HYDRA_WORKER_", frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    port: int = Field(default=8021, ge=0, le=65535)
    folder: Path | None = None

    region: str = "sh-02"
    gpu: str | None = Field(default=None, description="its GPUs' type; without GPUs the node takes any spec")
    gpus: int | None = Field(default=None, ge=1, le=1024, description="GPUs, or slots on a node without")
    memory_gb: int = Field(default=0, ge=0, le=10_000, description="memory of each GPU in GiB")

    engine: EngineKind = "simulated"
    engine_host: str | None = None
    engine_port_first: int = Field(default=20_000, ge=1024, le=65_535)
    engine_port_last: int = Field(default=31_999, ge=1024, le=65_535)
    sglang_python: Path = Path(".tools/sglang/bin/python")
    cpu_model: Path = Path(".tools/sglang-model")
    simulated_tokens_per_second: float = Field(default=0.0, ge=0, description="of each sequence; 0: unpaced")
    simulated_load_seconds: float = Field(default=0.0, ge=0)
    simulated_faults: bool = False
    simulated_ledgers: Path | None = None

    heartbeat_seconds: float = Field(default=5.0, gt=0, le=60)
    check_seconds: float = Field(default=2.0, gt=0, le=60)
    check_timeout_seconds: float = Field(default=5.0, gt=0, le=60)
    proof_gap_seconds: float = Field(
        default=15.0, gt=0, le=120, description="two checks further apart prove nothing between"
    )
    start_timeout_seconds: float = Field(default=1800.0, gt=0, description="an engine not ready by then is ended")
    unresponsive_seconds: float = Field(
        default=180.0, gt=0, description="an engine that was ready and has not answered for so long is ended"
    )
    restart_pause_max_seconds: float = Field(default=60.0, gt=0, le=3600)

    drain_seconds: float = Field(default=60.0, ge=0, description="bound of a drain whose placement names no end")
    drain_max_seconds: float = Field(default=900.0, ge=0)
    drain_settle_seconds: float = Field(
        default=1.0, ge=0, le=30, description="gateways learn of a drain before the engine is told"
    )
    # With these two it ends within the time before a SIGKILL, runner/processes.py.
    shutdown_drain_seconds: float = Field(default=10.0, ge=0, le=60)
    leftover_drain_seconds: float = Field(default=10.0, ge=0, le=60)

    kafka_timeout_seconds: float = Field(default=10.0, gt=0, le=120)
    engine_log_bytes: int = Field(default=8_388_608, ge=65_536)
    engine_logs_kept: int = Field(default=64, ge=1)
    readiness_log_bytes: int = Field(default=16_777_216, ge=65_536)

    @field_validator("engine_host", "host")
    @classmethod
    def _internal(cls, host: str | None) -> str | None:
        if host is None:
            return None
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return host
        if address.is_unspecified or address.is_global:
            raise ValueError(f"{host} would be reachable from outside: use loopback or an internal address")
        return host

    @field_validator("folder", "sglang_python", "cpu_model", "simulated_ledgers")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        # Not resolved: a virtual environment's python must keep the name of its link.
        return None if path is None else path.absolute()

    @model_validator(mode="after")
    def _told_of_its_gpus(self) -> Self:
        if self.engine == "sglang" and (self.gpu is None or self.gpus is None or self.memory_gb == 0):
            raise ValueError("engine sglang needs gpu, gpus and memory_gb: what this machine has")
        if self.engine_port_last < self.engine_port_first:
            raise ValueError("engine_port_last lies before engine_port_first")
        return self

    @property
    def reported_gpu(self) -> str:
        """The GPU type of the node's heartbeats."""
        return self.gpu if self.gpu is not None and self.engine == "sglang" else ANY_GPU

    @property
    def slots(self) -> int:
        """GPUs, or what stands for them on a node without: small engines of SGLang on the CPU take 2 GB each."""
        return self.gpus if self.gpus is not None else {"simulated": 64, "sglang-cpu": 12, "sglang": 0}[self.engine]

    @property
    def listen_host(self) -> str:
        """Where engines listen."""
        return self.engine_host or self.host
