"""Shows a platform's processes while they start and run: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from runner.linux_processes import snapshot
from runner.status import PlatformStatus, ProcessStatus

REFRESH_PER_SECOND = 2
MIB = 1 << 20

_STYLES = {
    "ready": "green",
    "done": "dim",
    "starting": "yellow",
    "waiting": "dim",
    "not_ready": "bold yellow",
    "restarting": "bold red",
    "halted": "bold red",
    "lost": "bold red",
    "stopping": "yellow",
    "stopped": "dim",
}


class Screen(Protocol):
    """Where the progress of a platform is shown."""

    def show(self, status: PlatformStatus) -> None:
        """A process or the platform has changed."""

    def say(self, text: str) -> None:
        """One line to be kept."""

    def close(self) -> None:
        """Nothing more comes."""


def screen_for(console: Console) -> Screen:
    """A table that stays in place on a terminal, else one line a change."""
    return TableScreen(console) if console.is_terminal else PlainScreen(console)


class PlainScreen:
    """One line for each process that changes, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._shown: dict[str, str] = {}

    def show(self, status: PlatformStatus) -> None:
        """Prints the processes that have become ready, or are so no more."""
        for process in status.processes:
            # What dies or stops on purpose is said in a line of its own.
            if process.state not in ("ready", "not_ready", "done") or self._shown.get(process.name) == process.state:
                continue
            self._shown[process.name] = process.state
            where = f" on port {process.port}" if process.port and process.state == "ready" else ""
            why = f": {process.reason}" if process.reason else ""
            self.say(f"{process.name}: {process.state.replace('_', ' ')}{where}{why}")

    def say(self, text: str) -> None:
        """Prints one line, however wide."""
        self._console.print(Text(text), soft_wrap=True)

    def close(self) -> None:
        """Nothing is held."""


class TableScreen:
    """The table of processes, redrawn in place while it runs."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: PlatformStatus | None = None
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=REFRESH_PER_SECOND)
        self._live.start()

    def show(self, status: PlatformStatus) -> None:
        """The next redraw shows this status."""
        self._status = status

    def say(self, text: str) -> None:
        """Prints one line above the table."""
        self._live.console.print(Text(text))

    def close(self) -> None:
        """Leaves the table as it last was."""
        self._live.stop()

    def _draw(self) -> Table | Text:
        return Text("") if self._status is None else process_table(self._status, measured=True)


def process_table(status: PlatformStatus, *, measured: bool = False) -> Table:
    """The processes as a table; `measured` reads their memory now, else what the status carries is shown."""
    table = Table(title=f"Hydra in {status.home}: {status.state}", title_justify="left", box=None, pad_edge=False)
    for heading in ("process", "state", "port", "pid", "restarts", "memory", "up", "reason"):
        right = heading in ("port", "pid", "restarts", "memory", "up")
        table.add_column(heading, justify="right" if right else "left", overflow="fold")
    now = snapshot() if measured else None
    for process in status.processes:
        memory = process.memory_bytes
        if now is not None and process.pid is not None:
            memory = now.resident_with_children(process.pid)
        table.add_row(
            process.name,
            Text(process.state.replace("_", " "), style=_STYLES.get(process.state, "")),
            _text(process.port),
            _text(process.pid),
            _text(process.restarts or None),
            f"{memory / MIB:.0f} MB" if memory else "",
            _duration(process),
            process.reason,
        )
    return table


def _text(value: int | None) -> str:
    return "" if value is None else str(value)


def _duration(process: ProcessStatus) -> str:
    if process.uptime_s is None:
        return ""
    seconds = int(process.uptime_s)
    if seconds < 120:
        return f"{seconds} s"
    minutes, hours = seconds // 60, seconds // 3600
    return f"{minutes} min" if hours < 2 else f"{hours} h {minutes % 60} min"
