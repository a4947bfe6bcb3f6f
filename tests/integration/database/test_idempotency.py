import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from adapters.database.engine import Database
from adapters.database.idempotency import IdempotencyKeys, KeyReused, StoredAnswer


class MovedClock:
    def __init__(self) -> None:
        self.instant = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.instant

    def monotonic(self) -> float:
        return self.instant.timestamp()


async def _once(database: Database, keys: IdempotencyKeys, done: list[str], request_hash: str = "h") -> StoredAnswer:
    async with database.transaction() as session:
        found = await keys.claim(session, scope="u-1", key="k", request_hash=request_hash)
        if found:
            return found
        await asyncio.sleep(0.05)
        done.append("done")
        answer = StoredAnswer(201, b'{"n": %d}' % len(done))
        await keys.answer(session, scope="u-1", key="k", answer=answer)
        return answer


async def test_two_at_once_act_once_and_get_the_same_answer(database: Database) -> None:
    keys, done = IdempotencyKeys(MovedClock()), list[str]()
    answers = await asyncio.gather(*(_once(database, keys, done) for _ in range(4)))
    assert done == ["done"]
    assert set(answers) == {StoredAnswer(201, b'{"n": 1}')}


async def test_another_request_with_the_same_key_is_refused(database: Database) -> None:
    keys, done = IdempotencyKeys(MovedClock()), list[str]()
    await _once(database, keys, done)
    with pytest.raises(KeyReused):
        await _once(database, keys, done, "other")
    assert done == ["done"]


async def test_a_failed_request_leaves_its_key_free(database: Database) -> None:
    keys, done = IdempotencyKeys(MovedClock()), list[str]()
    with pytest.raises(RuntimeError):
        async with database.transaction() as session:
            await keys.claim(session, scope="u-1", key="k", request_hash="h")
            raise RuntimeError
    await _once(database, keys, done, "other")
    assert done == ["done"]


async def test_a_key_expires(database: Database) -> None:
    clock, done = MovedClock(), list[str]()
    keys = IdempotencyKeys(clock, keep_s=60)
    await _once(database, keys, done)
    clock.instant += timedelta(seconds=61)
    assert await _once(database, keys, done, "other") == StoredAnswer(201, b'{"n": 2}')


async def test_another_scope_has_keys_of_its_own(database: Database) -> None:
    keys, done = IdempotencyKeys(MovedClock()), list[str]()
    await _once(database, keys, done)
    async with database.transaction() as session:
        assert await keys.claim(session, scope="u-2", key="k", request_hash="other") is None
        await keys.answer(session, scope="u-2", key="k", answer=StoredAnswer(200, b"{}"))
