"""LiteLLM's Router and the strategy's own pick agree, and what each service is served by."""

from collections import Counter
from datetime import timedelta

import pytest

from schemas.deployments import Endpoint
from services.gateway.models import Instance
from services.gateway.routing import LeastInFlight
from tests.servers.gateway_in_process import LONG_AGO, InProcess

PATH = "public/m"


def instances(made: InProcess) -> list[Instance]:
    return made.gateway.routes.services[PATH].instances


async def picked_by_router(made: InProcess) -> str:
    chosen = await made.gateway.routes.router.select(PATH, {})
    id: str = chosen["model_info"]["id"]
    return id


async def test_the_router_comes_to_the_strategys_pick(made: InProcess) -> None:
    made.service(1001, 1002, 1003)
    strategy = made.gateway.routes.strategy
    for loads in ((0, 1, 1), (2, 0, 1), (3, 3, 1), (1, 2, 0)):
        for instance, load in zip(instances(made), loads, strict=True):
            instance.in_flight = load
        directly = strategy.pick(PATH)
        assert directly is not None and await picked_by_router(made) == directly.id
        assert directly is instances(made)[loads.index(min(loads))]


async def test_one_that_failed_cools_in_the_router_and_in_the_pick(made: InProcess) -> None:
    made.service(1001, 1002)
    bad, good = instances(made)
    good.in_flight = 50
    made.gateway.routes.failed(bad, 503)
    assert made.gateway.routes.strategy.pick(PATH) is good and await picked_by_router(made) == good.id
    cooling = made.gateway.routes.router.health().cooldowns.get_active_cooldowns([bad.id], parent_otel_span=None)
    assert [id for id, _ in cooling] == [bad.id]
    bad.cooled_until = 0.0
    assert made.gateway.routes.strategy.pick(PATH) is bad


async def test_when_all_cool_one_is_picked_anyway(made: InProcess) -> None:
    made.service(1001, 1002)
    for instance in instances(made):
        made.gateway.routes.failed(instance, 503)
    assert made.gateway.routes.strategy.pick(PATH) is not None
    made.service(1001)
    made.gateway.routes.failed(instances(made)[0], 503)
    assert made.gateway.routes.strategy.pick(PATH) is not None


def test_equals_are_picked_at_random() -> None:
    strategy = LeastInFlight(lambda instance: True)
    each = [Instance(f"i-{number:012x}", 1, "127.0.0.1:1", "key") for number in range(3)]
    strategy.services[PATH] = type("Known", (), {"instances": each})()
    counts = Counter(found.id for _ in range(3000) if (found := strategy.pick(PATH)) is not None)
    assert len(counts) == 3 and min(counts.values()) > 800
    assert strategy.pick(PATH, tuple(each[:2])) is each[2] and strategy.pick(PATH, tuple(each)) is None


async def test_a_new_epoch_is_a_new_engine_key(made: InProcess) -> None:
    state = made.service(1001)
    (before,) = instances(made)
    made.service(1001)
    assert instances(made)[0] is before, "the same start keeps its connections"
    endpoint = state.endpoints[0]
    restarted = type(endpoint)(instance=endpoint.instance, epoch=2, address=endpoint.address)
    made.service(endpoints=(restarted,), ever_ready=True)
    (after,) = instances(made)
    assert after is not before and after.key != before.key and before.withdrawn
    assert made.gateway.routes.router.registry().deployment_dict(after.id)["model_info"]["epoch"] == 2


async def test_instances_that_go_leave_the_router(made: InProcess) -> None:
    made.service(1001, 1002)
    kept, gone = instances(made)
    made.service(1001)
    registry = made.gateway.routes.router.registry()
    assert registry.has_deployment(kept.id) and not registry.has_deployment(gone.id) and gone.withdrawn
    made.service(status="deleted")
    assert PATH not in made.gateway.routes.services and not registry.has_deployment(kept.id)


@pytest.mark.parametrize("newest_first", [False, True])
async def test_a_name_used_again_belongs_to_the_newest_service(made: InProcess, newest_first: bool) -> None:
    routes = made.gateway.routes
    old = made.service(1001, service_id="s-00000000000a")
    newest = made.service(1002, service_id="s-00000000000b", created=LONG_AGO + timedelta(days=1))
    if newest_first:
        routes.apply(old.service_id, old)
    assert routes.services[PATH].state is newest
    made.service(service_id=old.service_id, status="deleted")
    assert routes.services[PATH].state is newest and len(routes.services[PATH].instances) == 1


@pytest.mark.parametrize(
    "address", ["nowhere", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000", ":80", "a b:80", "h:8\r"]
)
async def test_an_endpoint_without_an_address_harms_nobody_else(made: InProcess, address: str) -> None:
    state = made.service(1)
    bad = Endpoint(instance="i-000000000bad", epoch=1, address=address)
    made.service(endpoints=(bad, *state.endpoints))
    assert [instance.port for instance in made.gateway.routes.services["public/m"].instances] == [1]
    assert made.gateway.routes.unusable_endpoints == 1
    assert await picked_by_router(made) == state.endpoints[0].instance
    made.service(endpoints=(bad,))
    assert made.gateway.routes.services["public/m"].instances == []
    assert made.gateway.routes.instances == []


async def test_hosts_of_every_kind_are_addresses(made: InProcess) -> None:
    addresses = ("10.0.0.7:30000", "gpu-1.cluster_a.local:80", "[fd00::1]:8000")
    endpoints = tuple(Endpoint(instance=f"i-{n}", epoch=1, address=each) for n, each in enumerate(addresses))
    made.service(endpoints=endpoints)
    found = {(instance.host, instance.port) for instance in made.gateway.routes.instances}
    assert found == {("10.0.0.7", 30000), ("gpu-1.cluster_a.local", 80), ("fd00::1", 8000)}
