"""`python -m streams.token_charges`: settings, wire, serve."""

from __future__ import annotations

import sys

from adapters.kafka.partitions import partition_of
from adapters.settings import PlatformSettings
from domain.rating import SOURCE_TOKENS, charges_for
from schemas.charges import ChargesRaised
from schemas.topics import USAGE
from schemas.usage import TokensUsed
from streams.charging_stream import ChargingStream, Rater
from streams.stream_process import run_stream
from streams.token_charges.settings import TokenChargesSettings


def usage_partition(raised: ChargesRaised) -> int:
    """`hydra.usage` is keyed by account."""
    return partition_of(raised.account.encode(), USAGE.partitions)


RATER = Rater("token_charges", USAGE, "usage", SOURCE_TOKENS, usage_partition)


def build(platform: PlatformSettings, settings: TokenChargesSettings) -> ChargingStream:
    return ChargingStream(RATER, TokensUsed, charges_for, platform, settings)


if __name__ == "__main__":
    sys.exit(run_stream(RATER.process, TokenChargesSettings, build))
