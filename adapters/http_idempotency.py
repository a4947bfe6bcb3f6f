"""`Idempotency-Key` for routes that create or change: one transaction does the work and remembers the answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import Header, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncSession

from adapters.api_keys import Principal
from adapters.database.engine import Database
from adapters.database.idempotency import IdempotencyKeys, KeyReused, StoredAnswer
from adapters.http_errors import ApiError
from domain.ids import with_whole_keys_masked

IdempotencyKey = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="Sent again with the same request it gets the first one's answer; kept for 24 hours.",
    ),
]

Act = Callable[[AsyncSession], Awaitable[tuple[int, BaseModel]]]
Shown = Callable[[dict[str, Any]], dict[str, Any]]


async def answered_once(
    act: Act,
    *,
    database: Database,
    keys: IdempotencyKeys,
    request: Request,
    caller: Principal,
    key: str | None,
    shown: Shown | None = None,
) -> JSONResponse:
    """Run `act` in a transaction and answer what it returns: (status, body).

    With a key that has been answered before, `act` is not run. What is stored is the body as `act` made it; `shown`
    turns it into what the caller sees each time, so that a secret is never stored.
    """
    if key is not None and with_whole_keys_masked(key) != key:
        raise ApiError(
            400,
            "invalid_idempotency_key",
            "What stands in Idempotency-Key holds an API key, and would be stored.",
            what_to_do="Send an id of your own, such as a UUID.",
        )
    async with database.transaction() as session:
        stored = None
        scope = "operator" if caller.operator else caller.account
        if key is not None:
            fingerprint = await _fingerprint(request)
            stored = await _claimed(keys, session, scope, key, fingerprint)
        replayed = stored is not None
        if stored is None:
            status, body = await act(session)
            stored = StoredAnswer(status, body.model_dump_json().encode())
            if key is not None:
                await keys.answer(session, scope=scope, key=key, answer=stored)
    content = json.loads(stored.body)
    headers = {"Idempotency-Replayed": "true"} if replayed else None
    return JSONResponse(shown(content) if shown else content, status_code=stored.status, headers=headers)


async def _claimed(
    keys: IdempotencyKeys, session: AsyncSession, scope: str, key: str, fingerprint: str
) -> StoredAnswer | None:
    try:
        return await keys.claim(session, scope=scope, key=key, request_hash=fingerprint)
    except KeyReused as error:
        raise ApiError(
            409, "idempotency_key_reused", f"{error}.", what_to_do="Use a new Idempotency-Key for each new request."
        ) from error


async def _fingerprint(request: Request) -> str:
    digest = hashlib.sha256()
    for part in (request.method.encode(), request.url.path.encode(), request.url.query.encode(), await request.body()):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()
