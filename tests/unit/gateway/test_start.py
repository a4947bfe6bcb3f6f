"""A start that cannot be is said in one line that names what to set, and exits 1."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


def start(home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HYDRA_")}
    return subprocess.run(
        [sys.executable, "-m", "services.gateway"],
        cwd=ROOT,
        env=kept | {"HYDRA_HOME": str(home)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HYDRA_GATEWAY_PORT", "many"),
        ("HYDRA_LOG_LEVEL", "loud"),
        ("HYDRA_GATEWAY_TLS_KEY", "/absent/key.pem"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, name: str, value: str) -> None:
    ended = start(tmp_path, **{name: value})
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("gateway: ") and name in line
    assert "(" not in line.split(name)[0] and value not in line.removeprefix("gateway: ").split(" is wrong")[0]


def test_a_secret_that_is_missing_is_one_line(tmp_path: Path) -> None:
    ended = start(tmp_path)
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr and "cluster_secret" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
