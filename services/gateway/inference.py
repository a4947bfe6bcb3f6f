"""The beginning of an inference request: who sends it, may they, is it sound, where does it go."""

from __future__ import annotations

from collections.abc import Iterator
from os import urandom
from typing import TYPE_CHECKING

from schemas.usage import Endpoint
from services.gateway import answers, request_body
from services.gateway.admission import service_for, unavailable
from services.gateway.answers import Refusal
from services.gateway.exchange import Exchange
from services.gateway.metering import Meter
from services.gateway.models import Instance, Request
from services.gateway.request_body import RequestBody

if TYPE_CHECKING:
    from services.gateway.client_connection import ClientConnection
    from services.gateway.server import Gateway


_ID_BYTES = 16
_IDS_AT_ONCE = 256


def _drawn_ids() -> Iterator[str]:
    """Request ids for ever; the kernel is asked for many at once."""
    while True:
        drawn = urandom(_ID_BYTES * _IDS_AT_ONCE).hex()
        for start in range(0, len(drawn), 2 * _ID_BYTES):
            yield f"cmp-{drawn[start : start + 2 * _ID_BYTES]}"


_request_ids = _drawn_ids()


def begin(gateway: Gateway, connection: ClientConnection, request: Request, endpoint: Endpoint) -> None:
    """Dispatch the request, or answer it with the reason why not."""
    try:
        caller = gateway.caller_of(request)
        if caller.refused is not None and caller.refused.status == 401:
            raise caller.refused
    except Refusal as refusal:
        gateway.metrics.refused(endpoint, refusal)
        connection.write(answers.refusal_answer(refusal, keep_alive=request.keep_alive))
        connection.answered(request, keep_alive=True)
        return
    meter = Meter(next(_request_ids), request, endpoint, caller, gateway.id)
    try:
        body, instance = _admitted(gateway, request, meter)
    except Refusal as refusal:
        _refuse(gateway, connection, request, meter, refusal)
        return
    if not gateway.spool.reserve():
        # Nothing can be recorded, so nothing may be served: counted, not recorded.
        full = answers.overloaded("spool_full")
        gateway.metrics.refused(endpoint, full)
        gateway.metrics.spool_full += 1
        connection.write(answers.refusal_answer(full, keep_alive=request.keep_alive))
        connection.answered(request, keep_alive=True)
        return
    # Only now: an exchange counts as its instance's from its making to its end.
    exchange = Exchange(gateway, connection, request, body, meter, instance)
    connection.exchange = exchange
    exchange.begin()


def _admitted(gateway: Gateway, request: Request, meter: Meter) -> tuple[RequestBody, Instance]:
    """The request's body and who takes it. Raises Refusal; counts and holds nothing yet."""
    caller = meter.caller
    if request.problem is not None:
        raise request.problem
    if caller.refused is not None:
        raise caller.refused
    if not caller.may_infer:
        raise answers.missing_scope("inference")
    if not gateway.state_is_fresh():
        raise answers.overloaded("state_too_old")
    if gateway.draining:
        raise answers.overloaded("draining")
    if caller.over_limit:
        raise answers.spend_limit_reached()
    if gateway.in_flight >= gateway.settings.in_flight_max:
        raise answers.overloaded()
    body = request_body.read(request.body, meter.endpoint, gateway.field_limits, gateway.settings.body_values_max)
    meter.streamed = body.stream
    service = service_for(body.model, caller, gateway.hosts.of(request.host), gateway.routes.services)
    meter.service = service
    instance = gateway.routes.strategy.pick(body.model)
    if instance is None:
        raise unavailable(service)
    meter.instance = instance
    return body, instance


def _refuse(gateway: Gateway, connection: ClientConnection, request: Request, meter: Meter, refusal: Refusal) -> None:
    """Answer an authenticated request's refusal once its event is on disk."""
    gateway.metrics.refused(meter.endpoint, refusal)
    answer = answers.refusal_answer(refusal, keep_alive=request.keep_alive, request_id=meter.request_id)

    def release() -> None:
        connection.write(answer)
        connection.answered(request, keep_alive=True)

    if not gateway.spool.reserve(intent=False):
        gateway.metrics.spool_full += 1
        release()
        return
    event = meter.event("refused", refusal.status, meter.end(), None, refusal.code)
    gateway.spool.append_end(meter.request_id, meter.caller.account, event, release)
