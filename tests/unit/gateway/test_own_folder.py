"""A gateway that comes back while a neighbour publishes what it left behind waits for its folder."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from adapters.errors import Misconfigured
from services.gateway.__main__ import own_folder
from services.gateway.spool_files import FolderLock


async def test_it_waits_while_a_neighbour_publishes_and_takes_a_folder_that_was_removed(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    neighbours = FolderLock(folder)
    assert neighbours.take()
    starting = asyncio.create_task(own_folder(folder, wait_s=60))
    done, _ = await asyncio.wait([starting], timeout=0.5)
    assert not done
    neighbours.remove_folder()
    neighbours.release()
    async with asyncio.timeout(60):
        own = await starting
    assert folder.is_dir() and not FolderLock(folder).take()
    own.release()


async def test_another_gateway_of_its_name_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    own = await own_folder(folder)
    with pytest.raises(Misconfigured, match="another gateway runs under the name one; set HYDRA_GATEWAY_ID"):
        await own_folder(folder, wait_s=0.2)
    own.release()
