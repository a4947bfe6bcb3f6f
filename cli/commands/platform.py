"""`hydra up`, `down`, `demo` and `status`: the platform on this machine; `status` wherever it runs."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from adapters.clickhouse.found_access import found_access
from cli.control import Control
from cli.failures import EXIT_OK, EXIT_REFUSED, CommandFailed
from cli.options import Json
from cli.output import out, show_json, show_table
from cli.settings import CliSettings
from runner import status as platform_status
from runner import supervisor
from runner.asked_status import AskedProcess, ask_all
from runner.settings import RunnerSettings


def add_to(app: typer.Typer) -> None:
    """Add the commands to the top level."""
    app.command("up", epilog="Examples: hydra up; hydra up --detach; HYDRA_GATEWAY_PORT=8080 hydra up")(up)
    app.command("down", epilog="Example: hydra down")(down)
    app.command("demo", epilog="Examples: hydra demo; HYDRA_ENGINE=sglang hydra demo")(demo)
    app.command("status", epilog="Example: hydra status --json")(status)


def up(detach: Annotated[bool, typer.Option("--detach", help="Return when all is ready.")] = False) -> None:
    """Run the platform until Ctrl-C or `hydra down`: Kafka, ClickHouse, services, streams and a node of engines."""
    settings = RunnerSettings()
    raise typer.Exit(supervisor.start_detached(settings) if detach else supervisor.run_foreground(settings))


def down() -> None:
    """Stop the platform: first what takes requests, last what keeps data."""
    raise typer.Exit(supervisor.stop(RunnerSettings()))


def demo() -> None:
    """Play the main job from request to bill, on a platform of its own or on the one that is up already.

    Exit code 0 only if the bill read back from ClickHouse agrees with the usage that the client saw.
    """
    from cli.demo.story import Story

    settings = RunnerSettings()
    present = platform_status.read(settings)
    ours = present is None or present.state != "running"
    if ours and (code := supervisor.start_detached(settings)) != EXIT_OK:
        if present is None or present.state not in ("starting", "stopping"):  # that one is somebody else's
            supervisor.stop(settings)
        raise typer.Exit(code)
    try:
        running = platform_status.read(settings)
        engine = running.engine if running is not None else settings.engine
        out.print(f"\nThe main job, with the {engine} engine{_label(engine)}")
        code = Story(CliSettings(), engine + _label(engine)).play()
    finally:
        if ours:
            supervisor.stop(settings)
    raise typer.Exit(code)


def _label(engine: str) -> str:
    return " (no language model: it makes text up and counts tokens)" if engine == "simulated" else ""


def status(json: Json = False) -> None:
    """Show every process and every wanted instance. Exit code 0 only when all of them are ready.

    Where no platform was started here (in containers, say), each process is asked at its address instead.
    """
    settings = RunnerSettings()
    running = platform_status.read(settings)
    if running is None:
        raise typer.Exit(_asked_status(settings, json))
    services, trouble = _services() if running.state == "running" else ([], "the platform does not run")
    in_order = running.in_order and not _behind(services) and not trouble
    if json:
        processes = [
            {"name": p.name, "state": p.state, "port": p.port, "pid": p.pid, "restarts": p.restarts,
             "memory_bytes": p.memory_bytes, "uptime_s": p.uptime_s, "reason": p.reason}
            for p in running.processes
        ]  # fmt: skip
        show_json({"ready": in_order, "state": running.state, "engine": running.engine, "home": running.home,
                   "processes": processes, "services": services, "trouble": trouble})  # fmt: skip
    else:
        _show(running, services, trouble)
    raise typer.Exit(EXIT_OK if in_order else EXIT_REFUSED)


def _asked_status(settings: RunnerSettings, json: bool) -> int:
    """The exit code."""
    asked = asyncio.run(ask_all(settings))
    if not settings.names_addresses and not any(process.answered for process in asked):
        raise CommandFailed(f"no platform was ever started at {settings.home}; start one with: hydra up")
    services, trouble = _services()
    found = found_access(settings.home)
    in_order = all(process.ready for process in asked) and not _behind(services) and not trouble
    analyst = found.analyst if found is not None else "not known here: no step `analyst` has left its word"
    if json:
        processes = [
            {"name": p.name, "state": _state(p), "address": p.address, "reason": p.reason, "to_go_on": p.to_go_on}
            for p in asked
        ]  # fmt: skip
        show_json({"ready": in_order, "processes": processes, "analyst": analyst, "services": services,
                   "trouble": trouble})  # fmt: skip
    else:
        rows = ((p.name, _state(p), p.address, p.reason or None) for p in asked)
        show_table("Platform, as its processes answer", ("process", "state", "address", "reason"), rows)
        # Below the table, where a line is whole and can be copied.
        for name, command in {p.name: p.to_go_on for p in asked if p.to_go_on}.items():
            out.print(f"{name} goes on by: {command}", markup=False)
            out.print(f"  and a start where it runs, as in: docker compose restart {name}", markup=False)
        out.print(f"Readers of ClickHouse: {analyst}", markup=False)
        _show_services(services, trouble)
    return EXIT_OK if in_order else EXIT_REFUSED


def _state(process: AskedProcess) -> str:
    if process.halted:
        return "halted"
    return "ready" if process.ready else "not_ready" if process.answered else "away"


def _behind(services: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Services with fewer instances ready than wanted."""
    return [s for s in services if s["status"] not in ("deleted", "stopped") and s["ready"] < s["replicas"]]


def _show(running: platform_status.PlatformStatus, services: list[dict[str, Any]], trouble: str) -> None:
    show_table(
        f"Platform {running.state}, {running.engine} engine, {running.home}",
        ("process", "state", "port", "restarts", "up", "memory", "reason"),
        (
            (
                p.name,
                p.state,
                p.port,
                p.restarts,
                f"{p.uptime_s:.0f} s" if p.uptime_s is not None else None,
                f"{p.memory_bytes / 2**20:.0f} MiB" if p.memory_bytes else None,
                p.reason or None,
            )
            for p in running.processes
        ),
    )
    if running.reason:
        out.print(running.reason, markup=False)
    _show_services(services, trouble)


def _show_services(services: list[dict[str, Any]], trouble: str) -> None:
    show_table(
        "Services",
        ("access path", "status", "ready", "replicas"),
        ((s["access_path"], s["status"], s["ready"], s["replicas"]) for s in services),
    )
    if trouble:
        out.print(f"Services cannot be listed: {trouble}", markup=False)


def _services() -> tuple[list[dict[str, Any]], str]:
    try:
        return list(Control(CliSettings()).pages("lifecycle", "/v1/services")), ""
    except CommandFailed as failure:
        return [], str(failure)
