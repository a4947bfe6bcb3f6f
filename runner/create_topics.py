"""The platform's step after Kafka's start: creates the declared topics and ends. `python -m runner.create_topics`."""

from __future__ import annotations

import asyncio
import logging
import sys

from adapters.errors import EXIT_MISCONFIGURED, Misconfigured, Unavailable
from adapters.kafka.topics import create_topics
from adapters.settings import PlatformSettings
from adapters.telemetry import configure_logging


def main() -> int:
    """Exit code 0 once every declared topic exists, else 1 with one line that names the cause."""
    settings = PlatformSettings()
    configure_logging("topics", settings.log_level)
    try:
        created = asyncio.run(create_topics(settings.kafka_bootstrap))
    except (Unavailable, Misconfigured) as error:
        logging.error("%s", error)
        return EXIT_MISCONFIGURED
    logging.info("topics are in place", extra={"topics_created": created})
    return 0


if __name__ == "__main__":
    sys.exit(main())
