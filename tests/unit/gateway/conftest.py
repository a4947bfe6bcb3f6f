"""The gateway in the test's own loop, which is uvloop's as in production."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import uvloop

from tests.servers.gateway_in_process import InProcess, gateway_in_process


@pytest.fixture
def event_loop_policy() -> asyncio.AbstractEventLoopPolicy:
    return uvloop.EventLoopPolicy()


@pytest_asyncio.fixture
async def made(tmp_path: Path) -> AsyncIterator[InProcess]:
    async with gateway_in_process(tmp_path) as gateway:
        yield gateway
