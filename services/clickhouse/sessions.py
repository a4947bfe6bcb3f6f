"""Sessions: connections that keep their settings and temporary tables between requests: so many, so idle, no more."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from services.clickhouse.engine import Engine
from services.clickhouse.errors import SESSION_LOCKED, QueryError
from services.clickhouse.settings import ClickHouseSettings

_SESSION_ID_LENGTH_MAX = 128
_BAD_ARGUMENTS = 36


@dataclass
class _Session:
    connection: Any
    busy: threading.Lock = field(default_factory=threading.Lock)
    last_used: float = 0.0


class Sessions:
    """Of the user `hydra` alone: an analyst's queries leave nothing behind. Thread-safe."""

    def __init__(self, engine: Engine, settings: ClickHouseSettings) -> None:
        self._engine = engine
        self._settings = settings
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._sessions)

    def borrow(self, session_id: str) -> tuple[Any, threading.Lock]:
        """The session's connection and the held lock that gives it back when released. Raises QueryError when another
        request runs in the session, or when all sessions are in use."""
        if len(session_id) > _SESSION_ID_LENGTH_MAX:
            raise QueryError(_BAD_ARGUMENTS, f"session_id is longer than {_SESSION_ID_LENGTH_MAX} (BAD_ARGUMENTS)")
        with self._lock:
            session = self._sessions.get(session_id)
            if session is None:
                self._make_room()
                session = self._sessions[session_id] = _Session(self._engine.connect())
            if not session.busy.acquire(blocking=False):
                raise QueryError(SESSION_LOCKED, "Session is locked by a concurrent client. (SESSION_IS_LOCKED)")
            session.last_used = time.monotonic()
            self._sessions.move_to_end(session_id)
            return session.connection, session.busy

    def _make_room(self) -> None:
        """Ends what has idled too long, and at the bound the longest idle one. Called with the lock held."""
        oldest = time.monotonic() - self._settings.session_idle_s
        for session_id, session in list(self._idle()):
            if session.last_used < oldest or len(self._sessions) >= self._settings.sessions_max:
                del self._sessions[session_id]
                session.connection.close()
        if len(self._sessions) >= self._settings.sessions_max:
            raise QueryError(SESSION_LOCKED, f"All {self._settings.sessions_max} sessions are in use.", status=503)

    def _idle(self) -> Iterator[tuple[str, _Session]]:
        return ((session_id, one) for session_id, one in self._sessions.items() if not one.busy.locked())

    def close(self) -> None:
        with self._lock:
            for session in self._sessions.values():
                session.connection.close()
            self._sessions.clear()
