"""What customers and the operator command: deploy, scale, stop, start, delete. Each is one transaction.

A stop, delete or scale-down drains in the transaction that accepts it, so that nothing after it is billed.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncSession

from domain import deployment, ids
from domain.catalogue import Catalogue, Model
from domain.deployment import Refused, Service
from schemas.usage import BillingMode
from services.lifecycle.records import InstanceRecord, ServiceRecord, find_service, living_instances, living_services
from services.lifecycle.service_change import ServiceChange
from services.lifecycle.settings import Bounds
from services.lifecycle.storage import Storage
from services.lifecycle.tables import platform


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """What a deploy asks for. `replicas` is text as the customer wrote it."""

    account: str
    name: str
    model: str
    region: str
    spec: str
    replicas: str = "1"


@dataclass(frozen=True)
class Outcome:
    """A service after a command, with its living instances."""

    record: ServiceRecord
    instances: tuple[InstanceRecord, ...]


class UnknownService(Refused):
    """No service of this name in this account."""

    def __init__(self, account: str, name: str) -> None:
        super().__init__(
            "not_found",
            f"The account {account} has no service named {name[:64]!r}.",
            "List its services.",
            field="name",
        )


class Commands:
    """All run in the caller's deciding transaction; they raise Refused, and then nothing has changed."""

    def __init__(self, storage: Storage, catalogue: Catalogue, bounds: Bounds) -> None:
        self._storage = storage
        self._catalogue = catalogue
        self._bounds = bounds

    async def deploy(self, session: AsyncSession, asked: Deployment) -> Outcome:
        """A new service; its instances are placed by the reconciler."""
        replicas = self._checked(asked)
        if await find_service(session, asked.account, asked.name) is not None:
            raise Refused(
                "name_taken",
                f"The account {asked.account} has a service named {asked.name}.",
                "Take another name, or delete that service first.",
                field="name",
            )
        if len(await living_services(session, asked.account)) >= self._bounds.services_max:
            raise Refused(
                "too_many_services",
                f"An account has at most {self._bounds.services_max} services.",
                "Delete one that is not needed.",
            )
        service = Service(
            service_id=ids.service_id(secrets.token_bytes(ids.ENTROPY_BYTES)),
            account=asked.account,
            name=asked.name,
            model=asked.model,
            region=asked.region,
            spec=asked.spec,
            billing=self.billing_mode(asked.account),
            created=self._storage.clock.now(),
            replicas=replicas,
        )
        change = ServiceChange(ServiceRecord(service=service), (), now=service.created, new=True)
        return Outcome(await change.write(session), ())

    def where(self, model: str, region: str | None, spec: str | None) -> tuple[str, str]:
        """The region and spec meant where one is left out or empty: the first that fits.

        Where none fits, what was left out stays empty, and `deploy` refuses it.
        """
        known = self._catalogue.models.get(model)
        for candidate in self._catalogue.regions.values():
            fitting = [one for one in (known.specs if known else ()) if one in candidate.specs]
            if fitting and (not region or region == candidate.id) and (not spec or spec in fitting):
                return candidate.id, spec or fitting[0]
        return region or "", spec or ""

    async def scale(
        self, session: AsyncSession, account: str, name: str, replicas: str, growth_refused: Refused | None = None
    ) -> Outcome:
        """Set (`3`) or add to (`+2`) the replicas; what becomes too much drains at once.

        `growth_refused` is raised where more replicas are asked for; then fewer end no back-off either.
        """

        def scaled(service: Service) -> Service:
            after = deployment.scale(service, replicas, most=self._bounds.replicas_max)
            if growth_refused is None:
                return after
            if after.replicas > service.replicas:
                raise growth_refused
            return replace(service, replicas=after.replicas)

        return await self._command(session, account, name, scaled, "scaled down")

    async def stop(self, session: AsyncSession, account: str, name: str) -> Outcome:
        """Drain all instances; the service keeps its name and its replicas for the next start."""
        return await self._command(session, account, name, deployment.stop, "the service was stopped")

    async def start(self, session: AsyncSession, account: str, name: str) -> Outcome:
        """Want the replicas again, also where a back-off holds."""
        return await self._command(session, account, name, deployment.start, "")

    async def delete(self, session: AsyncSession, account: str, name: str, confirm: str | None) -> Outcome:
        """Drain all instances for ever."""
        return await self._command(
            session, account, name, lambda service: deployment.delete(service, confirm), "the service was deleted"
        )

    async def deploy_shared_once(self, session: AsyncSession) -> int:
        """At the platform's first start: what the catalogue says is deployed for its own account. How many."""
        if (await session.execute(sa.select(platform.c.shared_deployed_at))).scalar_one() is not None:
            return 0
        for shared in self._catalogue.shared_at_first_start:
            await self.deploy(
                session,
                Deployment(
                    account=ids.OPERATOR_ACCOUNT,
                    name=shared.model,
                    model=shared.model,
                    region=shared.region,
                    spec=shared.spec,
                    replicas=str(shared.replicas),
                ),
            )
        await session.execute(platform.update().values(shared_deployed_at=self._storage.clock.now()))
        return len(self._catalogue.shared_at_first_start)

    @staticmethod
    def billing_mode(account: str) -> BillingMode:
        """The operator's own services are not billed by time: whoever calls them pays by token."""
        return "operator" if account == ids.OPERATOR_ACCOUNT else "time"

    async def _command(
        self, session: AsyncSession, account: str, name: str, command: Callable[[Service], Service], why_drained: str
    ) -> Outcome:
        record = await find_service(session, account, name)
        if record is None:
            raise UnknownService(account, name)
        change = await self._storage.change(session, record)
        change.service = command(change.service)
        seen = [one.as_seen() for one in change.instances.values()]
        for surplus in deployment.decide(change.service, seen, change.now).drain:
            change.drain(surplus, limit_s=self._bounds.drain_limit_s, reason=why_drained)
        after = await change.write(session)
        return Outcome(after, tuple(await living_instances(session, after.service.service_id)))

    def _offered_nowhere(self, model: Model, spec: str) -> Refused:
        """No region was named, and none has a spec that is meant."""
        regions = self._catalogue.regions.values()
        allowed = [one for one in model.specs if any(one in region.specs for region in regions)]
        return Refused(
            "spec_not_allowed",
            f"The spec {spec[:64]!r} is not offered for {model.id} in any region.",
            f"Choose from {', '.join(allowed)}." if allowed else "Choose another model.",
            field="spec",
        )

    def _checked(self, asked: Deployment) -> int:
        """The number of replicas, once everything asked for is allowed; Refused says what to choose from."""
        if not ids.SERVICE_NAME.fullmatch(asked.name):
            raise Refused(
                "invalid_name",
                f"{asked.name[:64]!r} cannot be a service's name.",
                "Take 2 to 64 characters of a-z, 0-9 and -.",
                field="name",
            )
        model = self._catalogue.models.get(asked.model)
        mode = "token" if asked.account == ids.OPERATOR_ACCOUNT else "service"
        if model is None or mode not in model.hosting:
            offered = sorted(one.id for one in self._catalogue.models.values() if mode in one.hosting)
            what = "is not in the catalogue" if model is None else f"is not offered in the hosting mode {mode!r}"
            raise Refused(
                "model_not_offered",
                f"The model {asked.model[:64]!r} {what}.",
                f"Choose from {', '.join(offered)}.",
                field="model",
            )
        if asked.account == ids.OPERATOR_ACCOUNT and asked.name != model.id:
            # Prices of tokens are by model, and customers ask for public/<model>.
            raise Refused(
                "invalid_name",
                "A shared model's service is named as its model.",
                f"Name it {model.id}.",
                field="name",
            )
        if not asked.region:
            raise self._offered_nowhere(model, asked.spec)
        region = self._catalogue.regions.get(asked.region)
        if region is None:
            known = ", ".join(sorted(self._catalogue.regions))
            raise Refused(
                "region_unknown",
                f"The region {asked.region[:64]!r} is unknown.",
                f"Choose from {known}.",
                field="region",
            )
        allowed = [spec for spec in model.specs if spec in region.specs]
        if asked.spec not in allowed:
            raise Refused(
                "spec_not_allowed",
                f"The spec {asked.spec[:64]!r} is not offered for {model.id} in {region.id}.",
                f"Choose from {', '.join(allowed)}." if allowed else "Choose another region.",
                field="spec",
            )
        return deployment.replicas_after(asked.replicas, 0, most=self._bounds.replicas_max)
