"""The page of settings says what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def test_the_page_of_settings_is_up_to_date(project_root: Path) -> None:
    path = project_root / "docs" / "generate_settings.py"
    spec = importlib.util.spec_from_file_location("generate_settings", path)
    assert spec is not None and spec.loader is not None
    generator = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generator)
    assert generator.TARGET.read_text() == generator.document(), "run: python docs/generate_settings.py"
