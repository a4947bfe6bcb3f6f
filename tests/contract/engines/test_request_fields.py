"""No field of the engine's requests that domain/engine_fields.py does not name."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from domain.engine_fields import CHAT_FIELDS, COMPLETION_FIELDS
from tests.contract.engines.conftest import WITH_SGLANG
from tests.contract.engines.running_engine import ROOT, SGLANG_PYTHON

HERE = Path(__file__).parent
WRITTEN_DOWN = HERE / "sglang_fields.json"
# Read by a validator of SGLang's without being a field.
NOT_FIELDS = {"reasoning"}


def _written_down() -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(WRITTEN_DOWN.read_text())
    return fields


def test_the_table_names_every_field_of_the_pinned_sglang() -> None:
    fields = _written_down()
    assert set(fields["chat"]) == set(CHAT_FIELDS) - NOT_FIELDS
    assert set(fields["completions"]) == set(COMPLETION_FIELDS)


def test_the_list_is_of_the_version_that_is_pinned() -> None:
    lock = (ROOT / "requirements" / "sglang-cpu.txt").read_text().splitlines()
    assert f"sglang=={_written_down()['sglang']} \\" in lock


if WITH_SGLANG:

    @pytest.mark.sglang
    def test_the_list_is_what_sglang_itself_has(tmp_path: Path) -> None:
        output = tmp_path / "fields.json"
        command = [str(SGLANG_PYTHON), str(HERE / "read_sglang_fields.py"), str(output)]
        subprocess.run(command, check=True, timeout=300, capture_output=True)
        assert json.loads(output.read_text()) == _written_down()
