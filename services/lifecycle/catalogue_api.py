"""GET /v1/models: what can be called or deployed, where, and for how much an hour."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel, Field

from adapters.clock import Clock
from adapters.http_callers import Caller
from adapters.http_errors import error_responses
from domain.catalogue import Catalogue, HostingMode, Model
from domain.ids import OPERATOR_ACCOUNT, access_path
from domain.money import written
from services.lifecycle.prices import ShownPrices


class OfferAnswer(BaseModel):
    """A region and spec in which a service of the model can be deployed, and an instance's price there."""

    region: str
    spec: str
    gpu: str
    gpus: int
    memory_gb: int = Field(description="Of each GPU, GiB.")
    price_per_hour: str | None = Field(None, description="A decimal; null where no price is in force.")
    currency: str | None = None


class ModelAnswer(BaseModel):
    """A model of the catalogue."""

    id: str = Field(examples=["qwen2.5-7b-instruct"])
    name: str
    description: str
    hosting: list[HostingMode] = Field(description="token: shared, paid by token; service: own instances.")
    access_path: str | None = Field(None, description="The shared model's name in requests, where it is shared.")
    specs: list[str]
    offers: list[OfferAnswer]


class ModelPage(BaseModel):
    """The whole catalogue."""

    data: list[ModelAnswer]


def catalogue_routes(catalogue: Catalogue, prices: ShownPrices, clock: Clock) -> APIRouter:
    """The one route; any valid key may read it."""
    router = APIRouter(tags=["catalogue"])

    @router.get("/v1/models", responses=error_responses())
    async def list_models(caller: Caller) -> ModelPage:
        """The models that can be called or deployed."""
        return ModelPage(data=[_answer(model) for model in catalogue.models.values()])

    def _answer(model: Model) -> ModelAnswer:
        return ModelAnswer(
            id=model.id,
            name=model.name,
            description=model.description,
            hosting=sorted(model.hosting),
            access_path=access_path(OPERATOR_ACCOUNT, model.id) if "token" in model.hosting else None,
            specs=list(model.specs),
            offers=[
                _offer(region.id, spec)
                for region in catalogue.regions.values()
                for spec in model.specs
                if spec in region.specs
            ],
        )

    def _offer(region: str, spec_id: str) -> OfferAnswer:
        spec = catalogue.specs[spec_id]
        price = prices.book.price_at(prices.price_id(region, spec_id), clock.now())
        return OfferAnswer(
            region=region,
            spec=spec_id,
            gpu=spec.gpu,
            gpus=spec.gpus,
            memory_gb=spec.memory_gb,
            price_per_hour=None if price is None else written(price.unit_price),
            currency=None if price is None else price.currency,
        )

    return router
