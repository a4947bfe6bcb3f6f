"""One usage event for every authenticated inference request: gathered while it runs, encoded at its end."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta

from adapters.clock import wall_lead, wall_now
from adapters.clock_drift import DOUBT_S, DRIFT
from domain.ids import with_whole_keys_masked
from schemas.usage import Attempt, Endpoint, TokensUsed, UsageOutcome
from services.gateway.models import Caller, Instance, Request, Service
from services.gateway.spool_files import Intent, usage_event
from services.gateway.stream_usage import Usage

logger = logging.getLogger(__name__)

_DOUBT = timedelta(seconds=DOUBT_S)


class Meter:
    """What is known of one request so far. Times are UTC; `time_doubtful` where the wall clock that gave them is wrong.

    Nothing of its body is kept but whether it streams: what a client wrote as its model's name may be anything, and
    usage is kept for ever. A request that reached no service has the access path "".
    """

    __slots__ = (
        "_began",
        "attempts",
        "caller",
        "client_request_id",
        "endpoint",
        "first_token",
        "gateway",
        "instance",
        "received",
        "request_id",
        "service",
        "streamed",
        "time_doubtful",
    )

    def __init__(self, request_id: str, request: Request, endpoint: Endpoint, caller: Caller, gateway: str) -> None:
        self.request_id = request_id
        self.endpoint = endpoint
        self.caller = caller
        self.gateway = gateway
        self.received = request.received
        self._began = request.began
        self.time_doubtful = False
        raw_id = request.client_request_id
        # Usage is kept for ever, and what a client takes for an id may be its key.
        self.client_request_id = (
            with_whole_keys_masked(raw_id.decode("ascii", errors="replace")) if raw_id is not None else None
        )
        self.streamed = False
        self.service: Service | None = None
        self.instance: Instance | None = None
        self.first_token: datetime | None = None
        self.attempts: tuple[Attempt, ...] = ()

    def end(self) -> datetime:
        """When the request ends, which is now.

        Where the wall clock went wrong meanwhile its end is as long after its beginning as the monotonic clock says.
        Where it was set right meanwhile it is now, and it is `received` that is wrong.
        """
        now = wall_now()
        took = timedelta(seconds=time.monotonic() - self._began)
        jumped = abs(now - self.received - took) > _DOUBT
        is_right = _clock_is_right()
        self.time_doubtful = jumped or not is_right
        return self.received + took if jumped and not is_right else now

    def intent(self) -> Intent:
        """What an adopter needs, should this gateway die."""
        assert self.service is not None and self.instance is not None
        state = self.service.state
        return Intent(
            self.request_id,
            self.caller.account,
            self.caller.key_id,
            state.access_path,
            self.endpoint,
            self.streamed,
            self.received,
            state.service_id,
            state.model,
            state.region,
            state.billing,
            self.instance.id,
            self.instance.epoch,
            self.client_request_id,
            self.gateway,
            not _clock_is_right(),
        )

    def tell_failure(self, outcome: UsageOutcome, status: int, code: str) -> None:
        """Log a request that the platform or an engine failed, so that its id leads to the instance."""
        if outcome == "engine_refused" and 400 <= status < 500:
            return  # the request was wrong
        logger.warning(
            "request failed",
            extra={
                "request_id": self.request_id,
                "account": self.caller.account,
                "instance": self.instance.id if self.instance is not None else None,
                "attempts": len(self.attempts) + 1,
                "outcome": outcome,
                "status": status,
                "code": code,
            },
        )

    def event(
        self, outcome: UsageOutcome, status: int, ended: datetime, usage: Usage | None, error_code: str | None
    ) -> bytes:
        """The event's bytes. `usage` is the engine's last report, None where it gave none."""
        state = self.service.state if self.service is not None else None
        instance = self.instance
        return usage_event(
            TokensUsed(
                request_id=self.request_id,
                account=self.caller.account,
                key_id=self.caller.key_id,
                access_path=state.access_path if state is not None else "",
                endpoint=self.endpoint,
                streamed=self.streamed,
                received=self.received,
                ended=ended,
                outcome=outcome,
                status=status,
                service_id=state.service_id if state is not None else None,
                model=state.model if state is not None else None,
                region=state.region if state is not None else None,
                billing=state.billing if state is not None else None,
                instance=instance.id if instance is not None else None,
                epoch=instance.epoch if instance is not None else None,
                first_token=self.first_token,
                prompt_tokens=usage.prompt_tokens if usage is not None else None,
                cached_tokens=usage.cached_tokens if usage is not None else None,
                completion_tokens=(usage.completion_tokens or 0) if usage is not None else None,
                error_code=error_code,
                client_request_id=self.client_request_id,
                attempts=self.attempts,
                gateway=self.gateway,
                time_doubtful=self.time_doubtful,
            )
        )


def _clock_is_right() -> bool:
    return -DOUBT_S < wall_lead() - DRIFT.right_lead < DOUBT_S
