"""A gateway that may open few files, and more silent connections than it could hold."""

import asyncio
import resource

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from adapters import open_files
from tests.servers.gateway import GatewayPlatform

SILENT = 600
FILES_OF_ALL = 16_384
"""More than a gateway needs for the connections and requests that it takes as shipped."""
REQUESTS = 80
"""Enough for a second segment of the spool while the connections are full."""


async def shown(platform: GatewayPlatform) -> dict[str, float]:
    """The plain counters and gauges on /metrics."""
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        text = (await client.get(f"{platform.url}/metrics")).raise_for_status().text
    return {sample.name: sample.value for family in text_string_to_metric_families(text) for sample in family.samples}


@pytest.mark.parametrize("limits", ["-S -n 256", "-n 512"], ids=["soft", "hard"])
async def test_silent_connections_cost_no_engine_and_no_customer_anything(
    platform: GatewayPlatform, limits: str
) -> None:
    open_files.raise_limit()  # the clients are in this process
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowered = limits.startswith("-n") or 0 < hard < FILES_OF_ALL
    platform.started_by = ("sh", "-c", f'ulimit {limits}; exec "$@"', "sh")
    platform.settings = {"spool_segment_bytes": "65536", "spool_bytes_max": str(1 << 20)}
    engines = [await platform.start_engine() for _ in range(2)]
    customer = await platform.customer()
    service = await platform.service(*engines)
    await platform.start_gateway()
    await platform.in_force(customer, service.access_path)
    held = [await asyncio.open_connection("127.0.0.1", platform.port) for _ in range(SILENT)]
    try:
        for number in range(REQUESTS):
            async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
                answer = await client.post(
                    f"{platform.url}/v1/completions",
                    headers={"Authorization": f"Bearer {customer.key}"},
                    json={"model": service.access_path, "prompt": "hello", "max_tokens": 1},
                )
            assert answer.status_code == 200, (number, answer.text)
        counted = await shown(platform)
    finally:
        for _, writer in held:
            writer.close()
    assert counted["hydra_ready"] == 1
    assert counted["hydra_gateway_spool_write_failures_total"] == 0
    assert counted["hydra_gateway_connect_failures_total"] == 0
    assert (counted["hydra_gateway_connections_given_way_total"] > 0) is lowered
    log = (platform.home / "gateway.log").read_text()
    assert "instance cools down" not in log
    assert log.count("HYDRA_GATEWAY_CONNECTIONS_MAX=10000") == lowered
    usages = await platform.usage(customer.account, REQUESTS)
    assert {usage.outcome for usage in usages} == {"completed"}
