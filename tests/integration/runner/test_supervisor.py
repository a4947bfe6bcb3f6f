"""The supervisor over real child processes: order, restarts, stops on purpose, signals, and its own violent death."""

import io
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from runner.background import start_detached, stop
from runner.linux_processes import start_ticks
from runner.processes import Process
from runner.resuming import resume_file, start_again, status_of
from tests.integration.runner.small_platform import DEADLINE_S, SmallPlatform, small


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[SmallPlatform]:
    platform = SmallPlatform(
        tmp_path / "platform",
        small("store", stop_stage=3),
        small("web", "store"),
        small("stream", "store", stop_stage=2),
    )
    yield platform
    platform.clean_up()


def alive(pids: dict[str, int]) -> list[str]:
    return [name for name, pid in pids.items() if start_ticks(pid) is not None]


def quiet() -> Console:
    return Console(file=io.StringIO())


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_ctrl_c_stops_every_process_last_started_first(platform: SmallPlatform) -> None:
    supervisor = platform.up()
    platform.wait_ready()
    pids = platform.pids()
    assert set(pids) == {"store", "web", "stream"}
    supervisor.send_signal(signal.SIGINT)
    out, err = supervisor.communicate(timeout=DEADLINE_S)
    assert supervisor.returncode == 0, err
    assert alive(pids) == []
    assert platform.ended() == ["web", "stream", "store"]
    assert platform.status().state == "stopped"
    assert "the platform is ready" in out
    assert "web: ready" in out


def test_nothing_starts_before_what_it_needs_is_ready(platform: SmallPlatform) -> None:
    platform.put("store.not_ready", "still loading")
    platform.up()
    platform.wait(lambda status: status.processes[0].reason == "still loading")
    assert platform.process("web").state == "waiting"
    assert platform.status().state == "starting"
    platform.remove("store.not_ready")
    platform.wait_ready()


def test_a_killed_process_comes_back_and_it_is_said(platform: SmallPlatform) -> None:
    supervisor = platform.up()
    platform.wait_ready()
    before = platform.pids()
    os.kill(before["web"], signal.SIGKILL)
    platform.wait(lambda status: status.in_order and status.processes[1].restarts == 1)
    after = platform.pids()
    assert after["web"] != before["web"]
    assert after["store"] == before["store"]
    supervisor.send_signal(signal.SIGTERM)
    out, _ = supervisor.communicate(timeout=DEADLINE_S)
    assert "web ended (killed by SIGKILL); it is started again in 0.2 s" in out
    assert "web ended (killed by SIGKILL" in (platform.settings.logs_dir / "supervisor.log").read_text()


def test_what_a_dead_process_had_started_in_its_group_is_gone(platform: SmallPlatform) -> None:
    platform.put("web.child")
    platform.up()
    platform.wait_ready()
    grandchild = int((platform.folder / "web.child").read_text())
    assert start_ticks(grandchild) is not None
    os.kill(platform.pids()["web"], signal.SIGKILL)
    platform.wait(lambda status: status.in_order and status.processes[1].restarts == 1)
    assert start_ticks(grandchild) is None


def test_a_stop_on_purpose_is_final_and_shows_its_reason(platform: SmallPlatform) -> None:
    supervisor = platform.up()
    platform.wait_ready()
    platform.put("stream.exit", "78")
    os.kill(platform.pids()["stream"], signal.SIGKILL)
    halted = platform.wait_state("stream", "halted")
    assert halted.reason == "stream has its reasons"
    assert not platform.status().in_order
    assert alive(platform.pids()) == ["store", "web"]
    supervisor.send_signal(signal.SIGTERM)
    out, _ = supervisor.communicate(timeout=DEADLINE_S)
    assert "stream stopped on purpose and is not started again: stream has its reasons" in out


def test_what_stopped_on_purpose_starts_again_once_it_is_resumed(platform: SmallPlatform) -> None:
    platform.up()
    platform.wait_ready()
    # Asked for too early: it must not answer a stop that comes later.
    too_early = resume_file(platform.settings, "stream")
    too_early.parent.mkdir(parents=True)
    too_early.touch()
    platform.put("stream.exit", "78")
    os.kill(platform.pids()["stream"], signal.SIGKILL)
    platform.wait_state("stream", "halted")
    assert not too_early.exists()

    still = start_again(platform.settings, "stream")
    assert still is not None
    assert (still.state, still.reason) == ("halted", "stream has its reasons")
    platform.remove("stream.exit")
    resumed = start_again(platform.settings, "stream")
    assert resumed is not None
    assert (resumed.state, resumed.reason) == ("ready", "")
    platform.wait_ready()
    assert status_of(platform.settings, "nobody") is None


def test_a_process_that_never_becomes_ready_ends_the_start_with_its_reason(platform: SmallPlatform) -> None:
    platform.put("web.exit", "1")
    supervisor = platform.up()
    _, err = supervisor.communicate(timeout=DEADLINE_S)
    assert supervisor.returncode == 1
    assert "web cannot start: exit code 1: web has its reasons" in err
    assert len(err.strip().splitlines()) == 1
    assert platform.status().state == "failed"
    assert alive(platform.pids()) == []


def test_a_process_that_cannot_work_for_a_while_is_seen_but_left_alone(platform: SmallPlatform) -> None:
    platform.up()
    platform.wait_ready()
    platform.put("web.not_ready", "Kafka is away")
    shown = platform.wait_state("web", "not_ready")
    assert shown.reason == "Kafka is away"
    platform.remove("web.not_ready")
    assert platform.wait_ready().processes[1].restarts == 0


def test_a_process_that_does_not_end_in_its_grace_is_killed(tmp_path: Path) -> None:
    platform = SmallPlatform(tmp_path / "platform", small("deaf", stop_grace_s=0.5))
    platform.put("deaf.deaf")
    try:
        supervisor = platform.up()
        platform.wait_ready()
        pids = platform.pids()
        supervisor.send_signal(signal.SIGTERM)
        assert supervisor.wait(DEADLINE_S) == 0
        assert alive(pids) == []
    finally:
        platform.clean_up()


def test_a_second_signal_ends_everything_at_once(tmp_path: Path) -> None:
    platform = SmallPlatform(tmp_path / "platform", small("deaf", stop_grace_s=10_000))
    platform.put("deaf.deaf")
    try:
        supervisor = platform.up()
        platform.wait_ready()
        pids = platform.pids()
        supervisor.send_signal(signal.SIGINT)
        platform.wait(lambda status: status.state == "stopping")
        supervisor.send_signal(signal.SIGINT)
        assert supervisor.wait(DEADLINE_S) == 0
        assert alive(pids) == []
    finally:
        platform.clean_up()


def test_a_taken_port_is_named_with_the_setting_that_moves_it(platform: SmallPlatform) -> None:
    port = int((platform.folder / "web.port").read_text())
    with socket.create_server(("127.0.0.1", port)):
        supervisor = platform.up()
        _, err = supervisor.communicate(timeout=DEADLINE_S)
    assert supervisor.returncode == 1
    assert err.strip() == f"port {port} (web) is taken: set HYDRA_WEB_PORT to a free one"


def test_a_second_platform_in_the_same_home_is_refused(platform: SmallPlatform) -> None:
    first = platform.up()
    platform.wait_ready()
    second = platform.up()
    _, err = second.communicate(timeout=DEADLINE_S)
    assert second.returncode == 1
    assert f"already running in {platform.settings.home} (process {first.pid})" in err
    assert "hydra down" in err
    assert platform.status().in_order


def test_two_homes_live_side_by_side(platform: SmallPlatform, tmp_path: Path) -> None:
    other = SmallPlatform(tmp_path / "other", small("web"))
    try:
        platform.up()
        other.up()
        platform.wait_ready()
        other.wait_ready()
        assert stop(other.settings, console=quiet()) == 0
        assert platform.status().in_order
    finally:
        other.clean_up()


def test_down_cleans_up_after_a_killed_supervisor(platform: SmallPlatform) -> None:
    platform.put("web.child")
    supervisor = platform.up()
    platform.wait_ready()
    pids = platform.pids() | {"grandchild": int((platform.folder / "web.child").read_text())}
    supervisor.kill()
    supervisor.wait()
    assert platform.status().state == "lost"
    assert set(alive(pids)) == set(pids)
    console = quiet()
    assert stop(platform.settings, console=console) == 0
    assert alive(pids) == []
    assert "had been killed" in said(console)
    assert platform.status().state == "stopped"


def test_up_cleans_up_after_a_killed_supervisor(platform: SmallPlatform) -> None:
    supervisor = platform.up()
    platform.wait_ready()
    before = platform.pids()
    supervisor.kill()
    supervisor.wait()
    again = platform.up()
    platform.wait(lambda status: status.pid == again.pid and status.in_order)
    assert alive(before) == []


@pytest.mark.parametrize("supervisor_is_killed", [False, True])
def test_what_a_killed_process_had_started_in_a_session_of_its_own_is_gone_after_down(
    platform: SmallPlatform, supervisor_is_killed: bool
) -> None:
    platform.put("web.engine")
    supervisor = platform.up()
    platform.wait_ready()
    engine = int((platform.folder / "web.engine").read_text())
    platform.remove("web.engine")
    os.kill(platform.pids()["web"], signal.SIGKILL)
    platform.wait(lambda status: status.in_order and status.processes[1].restarts == 1)
    assert start_ticks(engine) is not None
    if supervisor_is_killed:
        supervisor.kill()
        supervisor.wait()
    assert stop(platform.settings, console=quiet()) == 0
    assert start_ticks(engine) is None


def test_down_with_nothing_running_says_so(platform: SmallPlatform) -> None:
    console = quiet()
    assert stop(platform.settings, console=console) == 0
    assert "no platform is running" in said(console)


def test_detached_returns_when_ready_and_down_stops_it(platform: SmallPlatform) -> None:
    console = quiet()
    assert start_detached(platform.settings, command=platform.command, console=console) == 0
    assert platform.status().in_order
    assert "web: ready" in said(console)
    pids = platform.pids()
    assert stop(platform.settings, console=quiet()) == 0
    assert alive(pids) == []
    assert platform.ended() == ["web", "stream", "store"]


def test_detached_tells_why_it_could_not_start(platform: SmallPlatform, capfd: pytest.CaptureFixture[str]) -> None:
    platform.put("store.exit", "3")
    console = quiet()
    assert start_detached(platform.settings, command=platform.command, console=console) == 1
    assert "store ended (exit code 3: store has its reasons); it is started again" in said(console)
    assert "store cannot start: exit code 3: store has its reasons" in capfd.readouterr().err
    assert alive(platform.pids()) == []


def test_secrets_are_made_once_and_only_for_the_owner(platform: SmallPlatform) -> None:
    folder = platform.settings.secrets_dir
    supervisor = platform.up()
    platform.wait_ready()
    first = {file.name: file.read_text() for file in folder.iterdir()}
    supervisor.send_signal(signal.SIGTERM)
    supervisor.communicate(timeout=DEADLINE_S)
    again = platform.up()
    platform.wait(lambda status: status.pid == again.pid and status.in_order)
    assert {file.name: file.read_text() for file in folder.iterdir()} == first
    passwords = {"clickhouse_admin_password", "analyst_password", "billing_password"}
    assert set(first) == {"operator_token", "cluster_secret"} | passwords
    assert first["operator_token"].startswith("op-")
    assert oct(folder.stat().st_mode & 0o777) == "0o700"
    assert {oct(file.stat().st_mode & 0o777) for file in folder.iterdir()} == {"0o600"}


def test_a_step_runs_once_and_lets_the_next_begin(tmp_path: Path) -> None:
    step = Process(
        name="step",
        kind="step",
        module="step",
        does="once",
        port=None,
        needs=("store",),
        stop_stage=1,
        stop_grace_s=5,
        probe="exit",
    )
    platform = SmallPlatform(tmp_path / "platform", small("store"), step, small("web", "step"))
    platform.put("step.exit", "0")
    try:
        platform.up()
        platform.wait_ready()
        assert [process.state for process in platform.status().processes] == ["ready", "done", "ready"]
        # What a step says last is shown: which of two ways it took, for instance.
        assert platform.status().processes[1].reason == "step has its reasons"
    finally:
        platform.clean_up()
