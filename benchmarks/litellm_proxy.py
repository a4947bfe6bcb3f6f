"""LiteLLM's proxy, one worker, in an environment of its own: the peer that does what the gateway does."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runner.environments import REQUIREMENTS, TOOLS, make_environment
from runner.setup import only_one
from runner.setup_steps import SetupError
from tests.servers.child_process import end_with_parent

ENVIRONMENT = TOOLS / "litellm-proxy"
LOCK = REQUIREMENTS / "litellm-proxy.txt"
READY_WITHIN_S = 180
STOPPED_WITHIN_S = 20
CONFIGURATION = """
model_list:
  - model_name: {model}
    litellm_params:
      model: openai/bench
      api_base: http://127.0.0.1:{upstream}/v1
      api_key: none
general_settings:
  master_key: {key}
litellm_settings:
  telemetry: false
  num_retries: 0
"""
# As LiteLLM advises for production; without the first its import reaches for the network.
SETTINGS = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "ERROR",
    "DISABLE_ADMIN_UI": "True",
}


def set_up() -> None:
    """Make its environment from the lock unless it is there. Raises RuntimeError where that fails."""
    try:
        with only_one():
            make_environment(ENVIRONMENT, LOCK)
    except SetupError as error:
        raise RuntimeError(f"LiteLLM's proxy cannot be set up: {error}") from error


@contextmanager
def running_litellm_proxy(folder: Path, port: int, upstream: int, model: str, key: str) -> Iterator[int]:
    """The proxy in front of `upstream`; yields its pid. Raises RuntimeError where it does not start."""
    folder.mkdir(parents=True, exist_ok=True)
    configuration, log = folder / "litellm.yaml", folder / "litellm.log"
    configuration.write_text(CONFIGURATION.format(model=model, upstream=upstream, key=key))
    command = [str(ENVIRONMENT / "bin" / "litellm"), "--config", str(configuration)]
    command += ["--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env=os.environ | SETTINGS, cwd=folder, stdout=file, stderr=file, preexec_fn=end_with_parent
        )
    try:
        deadline = time.monotonic() + READY_WITHIN_S
        while not _is_live(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"LiteLLM's proxy did not start: {log.read_text()[-500:]}")
            time.sleep(0.2)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _is_live(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
