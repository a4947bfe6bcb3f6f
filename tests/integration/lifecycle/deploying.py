"""Steps that many tests of lifecycle take: commands in a transaction of their own, and waiting for placements."""

from services.lifecycle.commands import Deployment
from services.lifecycle.running import Lifecycle
from tests.integration.lifecycle.topic_reading import Published, eventually


async def deploy(lifecycle: Lifecycle, account: str, region: str, replicas: str = "1", name: str = "test") -> None:
    async with lifecycle.storage.deciding() as session:
        await lifecycle.commands.deploy(
            session,
            Deployment(account=account, name=name, model="own-model", region=region, spec="one", replicas=replicas),
        )


async def scale(lifecycle: Lifecycle, account: str, replicas: str, name: str = "test") -> None:
    async with lifecycle.storage.deciding() as session:
        await lifecycle.commands.scale(session, account, name, replicas)


async def stop(lifecycle: Lifecycle, account: str, name: str = "test") -> None:
    async with lifecycle.storage.deciding() as session:
        await lifecycle.commands.stop(session, account, name)


async def start(lifecycle: Lifecycle, account: str, name: str = "test") -> None:
    async with lifecycle.storage.deciding() as session:
        await lifecycle.commands.start(session, account, name)


async def delete(lifecycle: Lifecycle, account: str, name: str = "test") -> None:
    async with lifecycle.storage.deciding() as session:
        await lifecycle.commands.delete(session, account, name, name)


async def placed(published: Published, path: str, count: int = 1, *, but: tuple[str, ...] = ()) -> list[str]:
    """The instances wanted running, once there are `count` of them besides `but`."""

    def look() -> list[str] | None:
        running = sorted(
            name for name, one in published.placements(path).items() if one.wanted == "running" and name not in but
        )
        return running if len(running) == count else None

    return await eventually(look)


async def has_status(published: Published, path: str, status: str) -> None:
    """Wait until the service is published with this status."""
    await eventually(lambda: (found := published.deployment(path)) and found.status == status)
