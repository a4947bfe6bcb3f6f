"""How a process starts and ends: settings read once, logs as JSON lines, and one line instead of a traceback."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from pydantic import ValidationError

from adapters import open_files
from adapters.clock import move_as_told
from adapters.errors import EXIT_MISCONFIGURED, EXIT_STOP_ON_PURPOSE, Misconfigured, StopOnPurpose, Unavailable
from adapters.kafka.stops import stopped
from adapters.settings import PlatformSettings
from adapters.telemetry import configure_logging

logger = logging.getLogger(__name__)


def run_process(
    process: str,
    serve: Callable[[PlatformSettings], Awaitable[None]],
    run: Callable[[Coroutine[Any, Any, None]], None] = asyncio.run,
) -> int:
    """Run `serve` to its end and return the exit code: 0, 1 for what an operator can mend, 78 for a stop on purpose.

    `serve` reads its own settings, whose prefix is `HYDRA_<PROCESS>_`; `run` is the loop that it runs in.
    """
    try:
        platform = PlatformSettings()
        configure_logging(process, platform.log_level)
        open_files.raise_limit()
        move_as_told(platform.clock_offsets, process)
        run(_awaited(serve, platform))
    except ValidationError as error:
        print(_setting_line(process, error), file=sys.stderr)
        return EXIT_MISCONFIGURED
    except StopOnPurpose as error:
        logger.error(stopped(platform.kafka_bootstrap, process, error))
        return EXIT_STOP_ON_PURPOSE
    except (Misconfigured, Unavailable) as error:
        logger.error(str(error))
        return EXIT_MISCONFIGURED
    return 0


async def _awaited(serve: Callable[[PlatformSettings], Awaitable[None]], platform: PlatformSettings) -> None:
    await serve(platform)


def _setting_line(process: str, error: ValidationError) -> str:
    # The value is not shown: a database's URL may hold a password.
    first = error.errors(include_input=False, include_url=False)[0]
    prefix = "HYDRA_" if error.title == PlatformSettings.__name__ else f"HYDRA_{process.upper()}_"
    name = prefix + "_".join(str(part) for part in first["loc"]).upper()
    if not first["loc"]:  # several settings that do not go together: the sentence names them
        return f"{process}: the settings {prefix}* are wrong: {first['msg']}"
    return f"{process}: the setting {name} is wrong: {first['msg']}"
