"""Prometheus for the tests of this folder; they are left out, with the reason, where it cannot be had."""

from __future__ import annotations

import pytest

from tests.servers.prometheus import PrometheusMissing, PrometheusPackage, prometheus_package


@pytest.fixture(scope="session")
def prometheus() -> PrometheusPackage:
    """Prometheus' programs."""
    try:
        return prometheus_package()
    except PrometheusMissing as missing:
        pytest.skip(str(missing))
