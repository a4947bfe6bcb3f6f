"""Becomes an engine: the first code of every engine process, in whatever Python environment the engine has.

Usage: `python engine_start.py PARENT_PID (-m MODULE | SCRIPT) [ARGUMENT ...]`, and on standard input one line of JSON
`{"api_key": ..., "environment": {...}}`. Standard library only; nothing else of Hydra is imported.

Why it exists: engines take their key as `--api-key KEY`, which every user of the machine could read in `ps`. Here the
key arrives on standard input and is added to `sys.argv` only, inside the process. No key, no engine: an agent that
dies before it has recorded this process closes the pipe, and nothing starts.

The kernel is asked to send SIGTERM when the agent dies, so an engine without an agent finishes its streams and goes,
also where no agent ever starts again; SIGKILL would break off streams that the next agent's clean-up lets end."""

from __future__ import annotations

import ctypes
import json
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1
INPUT_MAX_BYTES = 65_536


def _end_when_the_agent_dies(agent: int) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != agent:
        raise SystemExit("the node agent died while its engine started")


def _told() -> dict[str, object]:
    """What the agent writes on standard input, which is then closed for the engine."""
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(0, 4096)
        if not piece or len(line) > INPUT_MAX_BYTES:
            raise SystemExit("the node agent closed before the engine had its key")
        line += piece
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    told = json.loads(line)
    if not isinstance(told, dict):
        raise SystemExit("the node agent wrote something else than a key")
    return told


def main() -> None:
    """Run the module or script as `__main__` of this process."""
    agent, command = int(sys.argv[1]), sys.argv[2:]
    _end_when_the_agent_dies(agent)
    told = _told()
    environment = told.get("environment")
    if isinstance(environment, dict):
        os.environ.update(environment)
    is_module = command[0] == "-m"
    target, arguments = (command[1], command[2:]) if is_module else (command[0], command[1:])
    sys.argv = [target, *arguments, f"--api-key={told['api_key']}"]
    # As Python itself would have it for the target, without this file's own folder.
    sys.path[0] = os.getcwd() if is_module else os.path.dirname(os.path.abspath(target))  # noqa: PTH100, PTH109, PTH120
    if is_module:
        runpy.run_module(target, run_name="__main__", alter_sys=True)
    else:
        runpy.run_path(target, run_name="__main__")


if __name__ == "__main__":
    main()
