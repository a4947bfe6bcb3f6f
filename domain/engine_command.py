"""The command line of an engine: SGLang on GPUs, SGLang on the CPU, or the simulated engine.

Pure: a catalogue's engine section and an address in, argv out. The node agent starts it, hands the engine key over
where no process list shows it, and keeps it out of the engine's log, where SGLang would print it with its other
arguments."""

from __future__ import annotations

from dataclasses import dataclass

from domain.catalogue import EngineSpec

# What metering and fairness need of SGLang, whatever a catalogue says: cached tokens in usage, counters to reconcile
# with, and priorities that the gateway sets.
METERING_OPTIONS = ("--enable-cache-report", "--enable-metrics", "--enable-priority-scheduling")

# Options that the platform sets itself. A catalogue that repeated one would override it silently (the last one wins).
RESERVED_OPTIONS = frozenset(
    {
        "--model-path",
        "--model",
        "--host",
        "--port",
        "--api-key",
        "--admin-api-key",
        "--served-model-name",
        "--tensor-parallel-size",
        "--tp-size",
        "--tp",
        "--quantization",
        "--context-length",
        "--config",
        "--log-requests",
        "--log-requests-level",
        "--stream-response-default-include-usage",
        "--skip-tokenizer-init",
    }
)


@dataclass(frozen=True, kw_only=True)
class EngineAddress:
    """Where an engine listens and what guards it; `served_model_name` is the access path or the model's name."""

    host: str
    port: int
    api_key: str
    served_model_name: str


@dataclass(frozen=True, kw_only=True)
class SimulatedPace:
    """How a simulated engine behaves: tokens per second of each sequence (0: unpaced), seconds until its port opens."""

    tokens_per_second: float = 0.0
    load_seconds: float = 0.0
    ledger: str | None = None
    faults: bool = False


def check_extra_args(extra_args: tuple[str, ...]) -> None:
    """Raises ValueError for an option that the platform sets itself; called where a catalogue is loaded."""
    for argument in extra_args:
        option = argument.split("=", 1)[0]
        if option in RESERVED_OPTIONS:
            raise ValueError(f"{option} is set by the platform and cannot be an extra argument of a model")


def sglang_command(engine: EngineSpec, at: EngineAddress, *, python: str) -> list[str]:
    """SGLang on GPUs, by the interpreter of SGLang's environment or image. Raises ValueError for a reserved option."""
    check_extra_args(engine.extra_args)
    command = [python, "-m", "sglang.launch_server", f"--model-path={engine.model_path}", *_address(at)]
    command.append(f"--tensor-parallel-size={engine.tensor_parallel_size}")
    if engine.quantization is not None:
        command.append(f"--quantization={engine.quantization}")
    if engine.context_length is not None:
        command.append(f"--context-length={engine.context_length}")
    return [*command, *METERING_OPTIONS, *engine.extra_args]


def sglang_cpu_command(at: EngineAddress, *, python: str, launcher: str, model: str) -> list[str]:
    """SGLang on the CPU with the small local model, whatever model the catalogue names; the launcher adds the rest.

    `python` is SGLang's environment's interpreter, `launcher` the path of services/worker/sglang_cpu/launch.py."""
    return [python, launcher, f"--model={model}", *_address(at), *METERING_OPTIONS]


def simulated_command(engine: EngineSpec, at: EngineAddress, pace: SimulatedPace, *, python: str) -> list[str]:
    """The simulated engine, by the platform's own interpreter."""
    command = [python, "-m", "services.worker.simulated_engine", *_address(at), "--enable-cache-report"]
    command += [f"--tokens-per-second={pace.tokens_per_second:g}", f"--load-seconds={pace.load_seconds:g}"]
    if engine.context_length is not None:
        command.append(f"--context-length={engine.context_length}")
    if pace.ledger is not None:
        command.append(f"--ledger={pace.ledger}")
    if pace.faults:
        command.append("--faults")
    return command


def _address(at: EngineAddress) -> list[str]:
    return [
        f"--host={at.host}",
        f"--port={at.port}",
        f"--api-key={at.api_key}",
        f"--served-model-name={at.served_model_name}",
    ]
