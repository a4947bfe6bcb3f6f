"""Which parts an insert may count as its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from services.clickhouse.engine import Engine
from services.clickhouse.errors import QueryError
from services.clickhouse.written_parts import WrittenParts

HEAD = "INSERT INTO usage"


class ListedParts:
    """An engine that says which parts there are."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.parts: list[tuple[Any, ...]] = []

    def appears(self, rows: int) -> None:
        name = f"202611_{len(self.parts) + 1}_{len(self.parts) + 1}_0"
        path = self._folder / name
        path.mkdir()
        (path / "data.bin").write_bytes(b"x" * 100)
        self.parts.append(("hydra", "usage", name, str(path), "100", str(rows), "0", "1"))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        if "system.parts" in sql:
            return list(self.parts)
        if "system.tables" in sql:
            return [("hydra", "usage", "ReplacingMergeTree")]
        return [("1 GiB", "1")]


def test_what_a_failed_insert_has_left_vouches_for_no_later_one(tmp_path: Path) -> None:
    engine = ListedParts(tmp_path)
    written = WrittenParts(cast(Engine, engine))
    with pytest.raises(RuntimeError, match="of two months"), written.counted(HEAD, "hydra"):
        engine.appears(rows=500)
        raise RuntimeError("the second part, of two months, did not fit")
    with pytest.raises(QueryError) as lost, written.counted(HEAD, "hydra") as rows:
        rows.append(100)
    assert lost.value.code == 243
    with written.counted(HEAD, "hydra") as rows:
        engine.appears(rows=100)
        rows.append(100)
