"""Which instance takes a request: LiteLLM's Router keeps the registry, health and cooldowns, our strategy picks.

The hot path calls the strategy's synchronous pick directly; `Router.select` comes to the same pick through the plugin.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable
from typing import Any

# Read by litellm while it is imported: without it the import reaches for the network.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")

import litellm  # after the line above, on purpose
from litellm.router_api import ChangeSet
from litellm.types.router import CustomRoutingStrategyBase, Deployment

from adapters.engine_keys import engine_key
from schemas.deployments import DeploymentState, Endpoint
from services.gateway.models import Instance, Service
from services.gateway.upstream_pool import UpstreamPool

logger = logging.getLogger(__name__)


class UpstreamFailure(Exception):
    """An instance failed; told to LiteLLM's health, which decides whether it cools down."""


class LeastInFlight(CustomRoutingStrategyBase):  # type: ignore[misc]  # litellm is not typed here
    """Picks the instance with the fewest requests in flight, at random among equals.

    Cooldown and drain filters are a plugin's own work. Where every instance cools, the pick goes to one anyway: a
    service must not be gone because of one bad moment of all its instances, and each try is bounded.
    """

    def __init__(self, has_room: Callable[[Instance], bool], choose: Callable[[int], int] = random.randrange) -> None:
        self.services: dict[str, Service] = {}
        self._has_room = has_room
        self._choose = choose
        self._registered: Callable[[str], dict[str, Any] | None] = lambda _: None

    def bind(self, registered: Callable[[str], dict[str, Any] | None]) -> None:
        """`registered` gives the Router's own entry of an instance."""
        self._registered = registered

    def pick(self, model: str, tried: tuple[Instance, ...] = ()) -> Instance | None:
        """None where no instance can take a request now."""
        service = self.services.get(model)
        if service is None:
            return None
        instances = service.instances
        if len(instances) == 1 and not tried:
            only = instances[0]
            return only if self._has_room(only) else None
        now = time.monotonic()
        open_now = [instance for instance in instances if instance not in tried and self._has_room(instance)]
        candidates = [instance for instance in open_now if instance.cooled_until <= now] or open_now
        if not candidates:
            return None
        least = min(instance.in_flight for instance in candidates)
        best = [instance for instance in candidates if instance.in_flight == least]
        return best[0] if len(best) == 1 else best[self._choose(len(best))]

    def get_available_deployment(
        self,
        model: str,
        messages: Any = None,
        input: Any = None,
        specific_deployment: bool | None = False,
        request_kwargs: dict[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        instance = self.pick(model)
        return None if instance is None else self._registered(instance.id)

    async def async_get_available_deployment(
        self,
        model: str,
        messages: Any = None,
        input: Any = None,
        specific_deployment: bool | None = False,
        request_kwargs: dict[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        return self.get_available_deployment(model)


class Routes:
    """Services by access path and their instances, held alike by LiteLLM's Router and by the strategy."""

    def __init__(self, pool: UpstreamPool, cluster_secret: str, *, cooldown_s: float) -> None:
        _speak_through_our_logs()
        self._pool = pool
        self._cluster_secret = cluster_secret
        self._states: dict[str, DeploymentState] = {}
        self._instances: dict[str, Instance] = {}
        self.unusable_endpoints = 0
        self.strategy = LeastInFlight(pool.has_room)
        self.router = litellm.Router(
            model_list=[], num_retries=0, cooldown_time=cooldown_s, allowed_fails=0, set_verbose=False
        )
        self.router.register_plugin(self.strategy)
        self.strategy.bind(lambda id: self.router.registry().deployment_dict(id))

    @property
    def services(self) -> dict[str, Service]:
        """By access path; deleted services are not among them."""
        return self.strategy.services

    @property
    def instances(self) -> list[Instance]:
        return list(self._instances.values())

    def apply(self, service_id: str, state: DeploymentState | None) -> None:
        """Take over the newest state of one service; None removes it."""
        before = self._states.pop(service_id, None)
        if state is not None and state.status != "deleted":
            self._states[service_id] = state
        for path in {known.access_path for known in (before, state) if known is not None}:
            self._rebuild(path)

    def _rebuild(self, path: str) -> None:
        # A name that is used again is a new service id: the newest one has the path.
        owners = [state for state in self._states.values() if state.access_path == path]
        newest = max(owners, key=lambda state: (state.created, state.service_id), default=None)
        old = self.services.pop(path, None)
        wanted: dict[str, Instance] = {}
        upsert: list[Deployment] = []
        for endpoint in newest.endpoints if newest is not None else ():
            known = self._instances.get(endpoint.instance)
            if known is None or known.epoch != endpoint.epoch or known.address != endpoint.address:
                known = self._instance_at(endpoint)
                if known is None:
                    continue
                upsert.append(_deployment(path, known))
            wanted[known.id] = known
        gone = [held for held in (old.instances if old is not None else []) if wanted.get(held.id) is not held]
        for instance in gone:
            if self._instances.get(instance.id) is instance:
                del self._instances[instance.id]
            self._pool.withdraw(instance)
        self._instances.update(wanted)
        self.router.apply(ChangeSet(upsert=upsert, delete=[held.id for held in gone if held.id not in wanted]))
        if newest is not None:
            self.services[path] = Service(newest, list(wanted.values()))

    def _instance_at(self, endpoint: Endpoint) -> Instance | None:
        """None where its address is none: that one takes no requests, and all others are as they were."""
        key = engine_key(self._cluster_secret, endpoint.instance, endpoint.epoch)
        try:
            return Instance(endpoint.instance, endpoint.epoch, endpoint.address, key)
        except ValueError as error:
            self.unusable_endpoints += 1
            extra = {"instance": endpoint.instance, "epoch": endpoint.epoch, "cause": str(error)}
            logger.error("endpoint cannot be used", extra=extra)
            return None

    def failed(self, instance: Instance, status: int) -> None:
        """An instance broke off, did not answer or could not be reached."""
        if self._instances.get(instance.id) is not instance:
            return
        if self.router.health().record_failure(instance.id, UpstreamFailure(f"status {status}"), status):
            active = self.router.health().cooldowns.get_active_cooldowns([instance.id], parent_otel_span=None)
            for _, cooldown in active:
                left = cooldown["timestamp"] + cooldown["cooldown_time"] - time.time()
                instance.cooled_until = time.monotonic() + max(0.0, left)
            logger.warning("instance cools down", extra={"instance": instance.id, "epoch": instance.epoch})


def _speak_through_our_logs() -> None:
    """LiteLLM writes plain lines to stderr by handlers of its own; ours are JSON lines, and its chatter is left out."""
    for name in ("LiteLLM", "LiteLLM Router", "LiteLLM Proxy"):
        litellm_logger = logging.getLogger(name)
        litellm_logger.handlers.clear()
        litellm_logger.setLevel(logging.WARNING)


def _deployment(path: str, instance: Instance) -> Deployment:
    return Deployment(
        model_name=path,
        litellm_params={
            "model": f"openai/{path}",
            "api_base": f"http://{instance.address}/v1",
            "api_key": "computed-per-engine-start",
        },
        model_info={"id": instance.id, "epoch": instance.epoch},
    )
