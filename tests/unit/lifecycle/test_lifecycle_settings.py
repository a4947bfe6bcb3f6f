"""Lifecycle tells customers the gateway's address, so it hears what the gateway is told of it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ASK = "from services.lifecycle.settings import LifecycleSettings as S; s = S(); print(s.gateway_address, s.domain)"


@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "http://127.0.0.1:8000 None"),
        ({"HYDRA_GATEWAY_PORT": "9000", "HYDRA_GATEWAY_DOMAIN": "a.example"}, "http://127.0.0.1:9000 a.example"),
        ({"HYDRA_GATEWAY_TLS_CERTIFICATE": "c.pem"}, "https://127.0.0.1:8000 None"),
        (
            {"HYDRA_GATEWAY_DOMAIN": "a.example", "HYDRA_LIFECYCLE_DOMAIN": "b.example"},
            "http://127.0.0.1:8000 b.example",
        ),
        ({"HYDRA_LIFECYCLE_GATEWAY_URL": "https://g:8443", "HYDRA_GATEWAY_PORT": "9000"}, "https://g:8443 None"),
    ],
)
def test_the_gateways_own_settings_hold_unless_set_here(
    environment: dict[str, str], told: str, project_root: Path
) -> None:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HYDRA_")}
    answer = subprocess.run(
        [sys.executable, "-c", ASK], env=clean | environment, cwd=project_root, capture_output=True, text=True
    )
    assert answer.stdout.strip() == told, answer.stderr
