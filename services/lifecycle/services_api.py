"""The routes of services: deploy, list, details, scale, stop, start, delete, and their instances."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Body, Query, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr
from sqlalchemy.ext.asyncio import AsyncSession

from adapters.api_keys import ApiKeys, Principal
from adapters.database.idempotency import IdempotencyKeys
from adapters.http_callers import Caller, EndingCaller, acting_account, require_scope
from adapters.http_errors import ApiError, error_responses
from adapters.http_idempotency import IdempotencyKey, answered_once
from domain.deployment import Refused
from domain.ids import OPERATOR_ACCOUNT
from services.lifecycle.answers import Details, InstancePage, ServiceDetails, ServicePage, instance_answer, summary
from services.lifecycle.commands import Commands, Deployment, Outcome, UnknownService
from services.lifecycle.records import by_service, find_service, instances_of, living_instances, page_of_services
from services.lifecycle.storage import Storage

STATUS_OF_REFUSAL = {
    "not_found": 404,
    "name_taken": 409,
    "too_many_services": 409,
    "service_stopped": 409,
    "service_deleting": 409,
    "account_not_active": 409,
    "account_suspended": 403,
}
"""Every other refusal is 400: the request itself was wrong."""

PAGE_MAX = 200

Account = Annotated[
    str | None,
    Query(description="The account acted for: the operator may name any, a key's is its own.", max_length=64),
]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before.", max_length=200)]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]


class DeployRequest(BaseModel):
    """A new service."""

    model_config = ConfigDict(extra="forbid")

    name: StrictStr = Field(description="2 to 64 of a-z, 0-9 and -.", examples=["test"])
    model: StrictStr = Field(description="A model of the catalogue.", examples=["qwen2.5-7b-instruct"])
    region: StrictStr | None = Field(None, description="Where unset: the first that has a fitting spec.")
    spec: StrictStr | None = Field(None, description="Where unset: the model's first in the region.")
    replicas: StrictInt | StrictStr = Field(1, description="How many instances.", examples=[1])


class ScaleRequest(BaseModel):
    """How many instances."""

    model_config = ConfigDict(extra="forbid")

    replicas: StrictInt | StrictStr = Field(description="`3` sets the number, `+2` adds to it.", examples=["3", "+2"])


class DeleteRequest(BaseModel):
    """The confirmation that deleting is meant."""

    model_config = ConfigDict(extra="forbid")

    confirm: StrictStr = Field(description="The service's name, repeated.")


@dataclass(frozen=True)
class ServiceRoutes:
    """Everything that the routes need."""

    storage: Storage
    commands: Commands
    details: Details
    keys: IdempotencyKeys
    api_keys: ApiKeys
    wake: Callable[[], None]

    def account(self, caller: Principal, named: str | None) -> str:
        """The account acted for. Raises where it is another's, unknown, or the key lacks the scope."""
        require_scope(caller, "manage")
        account = acting_account(caller, named)
        if caller.operator and account != OPERATOR_ACCOUNT:
            self._must_exist(account)
        return account

    def growth_refused(self, caller: Principal, account: str) -> Refused | None:
        """Why nothing that costs may be added to this account now; None where it may."""
        state = self.api_keys.accounts.states.get(account)
        if account == OPERATOR_ACCOUNT or state is None or state.status == "active":
            return None
        if caller.operator:
            message = f"The account {account} is {state.status}."
            return Refused("account_not_active", message, "Set it active first.", field="account")
        return Refused("account_suspended", "This account is suspended.", "Ask the operator.")

    def must_be_active(self, caller: Principal, account: str) -> None:
        """Refuse to add anything that costs to an account that is not active."""
        refusal = self.growth_refused(caller, account)
        if refusal is not None:
            raise as_api_error(refusal)

    def _must_exist(self, account: str) -> None:
        if self.api_keys.caught_up and account not in self.api_keys.accounts.states:
            raise ApiError(
                404,
                "not_found",
                f"There is no account {account[:40]}.",
                field="account",
                what_to_do="List the accounts, or create one.",
            )

    async def once(
        self,
        request: Request,
        caller: Principal,
        key: str | None,
        command: Callable[[AsyncSession], Awaitable[Outcome]],
        status: int = 200,
    ) -> JSONResponse:
        """Run a command in one deciding transaction, once per Idempotency-Key, and answer the service in full."""

        async def act(session: AsyncSession) -> tuple[int, BaseModel]:
            await self.storage.decide_alone(session)
            try:
                outcome = await command(session)
            except Refused as refusal:
                raise as_api_error(refusal) from refusal
            return status, self.details.of(outcome.record, outcome.instances, operator=caller.operator)

        answer = await answered_once(
            act, database=self.storage.database, keys=self.keys, request=request, caller=caller, key=key
        )
        self.wake()
        return answer


def as_api_error(refusal: Refused) -> ApiError:
    """A refusal of the domain as the answer that a caller gets."""
    status = STATUS_OF_REFUSAL.get(refusal.code, 400)
    return ApiError(status, refusal.code, refusal.message, field=refusal.field, what_to_do=refusal.what_to_do)


def reading_routes(routes: ServiceRoutes) -> APIRouter:
    """List, details, instances."""
    router = APIRouter(tags=["services"])

    @router.get("/v1/services", responses=error_responses(403, 404))
    async def list_services(
        caller: Caller, account: Account = None, cursor: Cursor = None, limit: Limit = 100
    ) -> ServicePage:
        """The account's services; the operator, naming no account, sees those of all."""
        everything = caller.operator and account is None
        of = None if everything else routes.account(caller, account)
        async with routes.storage.reading() as session:
            records = await page_of_services(session, of, after=cursor, limit=limit + 1)
            page = records[:limit]
            ids = [record.service.service_id for record in page]
            held = by_service(await living_instances(session, *ids) if ids else ())
        last = page[-1].service if len(records) > limit else None
        return ServicePage(
            data=[summary(record, held[record.service.service_id]) for record in page],
            next_cursor=None if last is None else f"{last.account}/{last.name}",
        )

    @router.get("/v1/services/{name}", responses=error_responses(403, 404))
    async def show_service(caller: Caller, name: str, account: Account = None) -> ServiceDetails:
        """One service: state, price, endpoint, and how to call it."""
        of = routes.account(caller, account)
        async with routes.storage.reading() as session:
            record = await find_service(session, of, name)
            if record is None:
                raise as_api_error(UnknownService(of, name))
            held = await living_instances(session, record.service.service_id)
        return routes.details.of(record, held, operator=caller.operator)

    @router.get("/v1/services/{name}/instances", responses=error_responses(403, 404))
    async def list_instances(
        caller: Caller, name: str, account: Account = None, cursor: Cursor = None, limit: Limit = 100
    ) -> InstancePage:
        """Every instance that the service has had, oldest first."""
        of = routes.account(caller, account)
        async with routes.storage.reading() as session:
            record = await find_service(session, of, name)
            if record is None:
                raise as_api_error(UnknownService(of, name))
            found = await instances_of(session, record.service.service_id, after=cursor, limit=limit + 1)
        page = found[:limit]
        return InstancePage(
            data=[instance_answer(one, operator=caller.operator) for one in page],
            next_cursor=page[-1].instance if len(found) > limit else None,
        )

    return router


def commanding_routes(routes: ServiceRoutes) -> APIRouter:
    """Deploy, scale, stop, start, delete. Each takes an Idempotency-Key."""
    router = APIRouter(tags=["services"])

    @router.post(
        "/v1/services", status_code=201, response_model=ServiceDetails, responses=error_responses(403, 404, 409)
    )
    async def deploy(
        request: Request, caller: Caller, body: DeployRequest, account: Account = None, key: IdempotencyKey = None
    ) -> JSONResponse:
        """Deploy a service; its instances are paid by the second while they are ready."""
        of = routes.account(caller, account)
        routes.must_be_active(caller, of)
        region, spec = routes.commands.where(body.model, body.region, body.spec)
        asked = Deployment(
            account=of, name=body.name, model=body.model, region=region, spec=spec, replicas=str(body.replicas)
        )
        return await routes.once(request, caller, key, lambda session: routes.commands.deploy(session, asked), 201)

    @router.post("/v1/services/{name}/scale", response_model=ServiceDetails, responses=error_responses(403, 404, 409))
    async def scale(
        request: Request,
        caller: EndingCaller,
        name: str,
        body: ScaleRequest,
        account: Account = None,
        key: IdempotencyKey = None,
    ) -> JSONResponse:
        """Set or raise the number of instances. What becomes too much is not billed from now on."""
        of = routes.account(caller, account)
        refused = routes.growth_refused(caller, of)
        replicas = str(body.replicas)
        return await routes.once(
            request, caller, key, lambda session: routes.commands.scale(session, of, name, replicas, refused)
        )

    @router.post("/v1/services/{name}/stop", response_model=ServiceDetails, responses=error_responses(403, 404, 409))
    async def stop(
        request: Request, caller: EndingCaller, name: str, account: Account = None, key: IdempotencyKey = None
    ) -> JSONResponse:
        """End all instances and keep the service; nothing is billed from now on."""
        of = routes.account(caller, account)
        return await routes.once(request, caller, key, lambda session: routes.commands.stop(session, of, name))

    @router.post("/v1/services/{name}/start", response_model=ServiceDetails, responses=error_responses(403, 404, 409))
    async def start(
        request: Request, caller: Caller, name: str, account: Account = None, key: IdempotencyKey = None
    ) -> JSONResponse:
        """Start a stopped service with its replicas, on new instances."""
        of = routes.account(caller, account)
        routes.must_be_active(caller, of)
        return await routes.once(request, caller, key, lambda session: routes.commands.start(session, of, name))

    @router.delete("/v1/services/{name}", response_model=ServiceDetails, responses=error_responses(403, 404, 409))
    async def delete(
        request: Request,
        caller: EndingCaller,
        name: str,
        account: Account = None,
        confirm: Annotated[str | None, Query(description="The service's name, repeated.", max_length=64)] = None,
        body: Annotated[DeleteRequest | None, Body()] = None,
        key: IdempotencyKey = None,
    ) -> JSONResponse:
        """Delete a service for good. Its name must be repeated, in the query or in the body."""
        of = routes.account(caller, account)
        repeated = body.confirm if body is not None else confirm
        return await routes.once(
            request, caller, key, lambda session: routes.commands.delete(session, of, name, repeated)
        )

    return router
