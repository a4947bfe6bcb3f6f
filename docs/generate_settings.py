"""Writes docs/settings.md from the settings classes and the table of processes, which are its only source.

python docs/generate_settings.py
"""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path
from typing import Any, get_args

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from adapters.clickhouse.reader_limits import AnalystSettings
from adapters.settings import PlatformSettings
from adapters.tracing import TracingSettings
from cli.settings import CliSettings
from runner.processes import PROCESSES
from runner.settings import RunnerSettings

TARGET = Path(__file__).parent / "settings.md"
HEAD = """# Processes, ports and settings

Every setting is an environment variable, read once at a process's start and checked; a wrong one ends the process with
one line that names it. This page is written by `python docs/generate_settings.py`; a test holds it to the code.
"""


def processes_table() -> str:
    """The platform's processes in the order of their start."""
    rows = ["| process | what it does | port | moved by |", "|---|---|---|---|"]
    for process in PROCESSES:
        moved = f"`{process.port_setting}`" if process.port is not None else ""
        rows.append(f"| `{process.name}` | {process.does} | {process.port or ''} | {moved} |")
    return "\n".join(rows)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Path):
        root = Path(__file__).resolve().parent.parent
        return f"`{value.relative_to(root) if value.is_relative_to(root) else value}`"
    return f"`{value}`" if value != "" else ""


def _kind(field: FieldInfo) -> str:
    """The type in plain words, the bounds, and the description where there is one."""
    kind = str(getattr(field.annotation, "__name__", field.annotation))
    if kind == "Literal":
        kind = "one of " + ", ".join(f"`{value}`" for value in get_args(field.annotation))
    kind = kind.removeprefix("typing.").replace("pathlib._local.", "").replace("pathlib.", "").replace("|", "or")
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below", "min_length": "length at least"}
    bounds = [f"{words[n]} {v}" for each in field.metadata for n in words if (v := getattr(each, n, None)) is not None]
    return ", ".join([kind, *bounds]) + (f": {field.description}" if field.description else "")


def settings_table(settings: type[BaseSettings]) -> str:
    """A row a setting: its variable, its default, its type, and what the class says of it."""
    prefix = settings.model_config.get("env_prefix", "")
    rows = ["| setting | default | kind and bounds |", "|---|---|---|"]
    for name, field in settings.model_fields.items():
        if field.default_factory is not None and field.description is None:
            continue  # made of other settings
        default = "required" if field.is_required() else _shown(field.default)
        rows.append(f"| `{prefix}{name.upper()}` | {default} | {_kind(field)} |")
    return "\n".join(rows)


def settings_of(module: str) -> type[BaseSettings]:
    """The one settings class that a process's package defines."""
    found = importlib.import_module(f"{module}.settings")
    classes = [
        value
        for value in vars(found).values()
        if inspect.isclass(value) and issubclass(value, BaseSettings) and value.__module__ == found.__name__
    ]
    assert len(classes) == 1, f"{module}.settings defines {len(classes)} settings classes"
    return classes[0]


def section(title: str, settings: type[BaseSettings]) -> str:
    """A heading, the class's docstring, its settings."""
    return f"## {title}\n\n{inspect.cleandoc(settings.__doc__ or '')}\n\n{settings_table(settings)}\n"


def document() -> str:
    """The whole page."""
    parts = [HEAD, processes_table() + "\n", section("What all processes share", PlatformSettings)]
    parts.append(section("Traces (the gateway and the streams)", TracingSettings))
    parts.append(section("The local platform (`hydra up`)", RunnerSettings))
    parts.append(section("The command", CliSettings))
    for process in PROCESSES:
        if process.module.startswith(("services.", "streams.")):
            parts.append(section(f"`{process.name}`", settings_of(process.module)))
    parts.append(section("The analyst (`clickhouse` and the step `analyst`)", AnalystSettings))
    return "\n".join(parts)


if __name__ == "__main__":
    TARGET.write_text(document())
