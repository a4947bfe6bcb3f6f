"""`python -m streams.instance_charges`: settings, wire, serve."""

from __future__ import annotations

import sys

from adapters.kafka.partitions import partition_of
from adapters.settings import PlatformSettings
from domain.rating import SOURCE_INSTANCES, instance_charges_for
from schemas.charges import ChargesRaised
from schemas.instances import InstanceChanged
from schemas.topics import INSTANCES
from streams.charging_stream import ChargingStream, Rater
from streams.instance_charges.settings import InstanceChargesSettings
from streams.stream_process import run_stream


def instances_partition(raised: ChargesRaised) -> int:
    """`hydra.instances` is keyed by instance."""
    return partition_of((raised.instance or "").encode(), INSTANCES.partitions)


RATER = Rater("instance_charges", INSTANCES, "instance", SOURCE_INSTANCES, instances_partition)


def build(platform: PlatformSettings, settings: InstanceChargesSettings) -> ChargingStream:
    return ChargingStream(RATER, InstanceChanged, instance_charges_for, platform, settings)


if __name__ == "__main__":
    sys.exit(run_stream(RATER.process, InstanceChargesSettings, build))
