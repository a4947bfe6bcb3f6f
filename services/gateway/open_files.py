"""What the gateway takes under its limit of open files: a connection holds one, a request one more for its engine."""

from __future__ import annotations

import logging

from adapters.errors import Misconfigured
from services.gateway.settings import GatewaySettings

logger = logging.getLogger(__name__)

OTHER_FILES = 128
"""Kafka, logs, locks, spools being adopted, aborts, and connections to engines that are kept for the next request."""
BACKLOG_MIN, BACKLOG_MAX = 64, 1024


def backlog(connections_max: int) -> int:
    """How many new connections wait in the kernel. So many may be taken in at once, before any of them is looked at."""
    return min(BACKLOG_MAX, max(BACKLOG_MIN, connections_max // 8))


def within_limit(settings: GatewaySettings, limit: int) -> GatewaySettings:
    """The settings, with as many connections and requests as `limit` open files carry: in the proportion that is set,
    and said in the log where that is less than is set. Raises Misconfigured where it carries none.
    """
    segments = -(-settings.spool_bytes_max // settings.spool_segment_bytes) + 1
    reserved = OTHER_FILES + BACKLOG_MIN + segments
    connections, in_flight = settings.connections_max, settings.in_flight_max
    wanted = connections + backlog(connections) + in_flight
    if reserved + wanted <= limit:
        return settings
    share = (limit - reserved) / wanted
    fitting = {"connections_max": int(connections * share), "in_flight_max": int(in_flight * share)}
    # The backlog has a highest value, so it does not shrink by the same share.
    over = reserved - BACKLOG_MIN + backlog(fitting["connections_max"]) + sum(fitting.values()) - limit
    fitting["connections_max"] -= max(0, over)
    if min(fitting.values()) < 1:
        raise Misconfigured(f"{limit} open files are too few for a gateway; raise the limit to {reserved + wanted}")
    logger.warning(
        "HYDRA_GATEWAY_CONNECTIONS_MAX=%d and HYDRA_GATEWAY_IN_FLIGHT_MAX=%d need %d open files and the limit is %d: "
        "at most %d connections and %d requests in flight are taken",
        connections,
        in_flight,
        reserved + wanted,
        limit,
        fitting["connections_max"],
        fitting["in_flight_max"],
    )
    return settings.model_copy(update=fitting)
