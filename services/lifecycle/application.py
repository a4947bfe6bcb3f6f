"""Lifecycle's HTTP interface, wired: shared app, routes of services and of the catalogue."""

from __future__ import annotations

from fastapi import FastAPI
from prometheus_client import REGISTRY, CollectorRegistry

from adapters.api_keys import ApiKeys
from adapters.database.idempotency import IdempotencyKeys
from adapters.http_service import create_app
from domain.catalogue import Catalogue
from services.lifecycle.answers import Details
from services.lifecycle.catalogue_api import catalogue_routes
from services.lifecycle.prices import ShownPrices
from services.lifecycle.running import Lifecycle
from services.lifecycle.services_api import ServiceRoutes, commanding_routes, reading_routes
from services.lifecycle.settings import LifecycleSettings


def lifecycle_app(
    lifecycle: Lifecycle,
    catalogue: Catalogue,
    api_keys: ApiKeys,
    prices: ShownPrices,
    settings: LifecycleSettings,
    *,
    registry: CollectorRegistry = REGISTRY,
) -> FastAPI:
    """The app; it is ready when keys are known and every part of lifecycle runs."""
    clock = lifecycle.storage.clock
    app = create_app(
        title="Hydra lifecycle",
        description="Deploys, scales, stops and deletes services, and shows what can be deployed.",
        api_keys=api_keys,
        reasons=(lambda: lifecycle.reason,),
        registry=registry,
    )
    registry.register(lifecycle.node_clocks)
    routes = ServiceRoutes(
        storage=lifecycle.storage,
        commands=lifecycle.commands,
        details=Details(prices=prices, clock=clock, gateway_url=settings.gateway_address, domain=settings.domain),
        keys=IdempotencyKeys(clock),
        api_keys=api_keys,
        wake=lifecycle.reconciler.wake,
    )
    for router in (reading_routes(routes), commanding_routes(routes), catalogue_routes(catalogue, prices, clock)):
        app.include_router(router)
    return app
