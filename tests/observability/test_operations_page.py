"""docs/operations.md has a paragraph for each alert, says truly what was tried, and quotes lines that logs have."""

from __future__ import annotations

import re
from pathlib import Path

from tests.observability.observed_platform import expressions

PAGE = Path("docs/operations.md")
TRIED = "# What was tried"


def page(project_root: Path) -> str:
    return (project_root / PAGE).read_text()


def test_every_alert_has_its_paragraph_and_every_paragraph_its_alert(project_root: Path) -> None:
    text = page(project_root)
    headings = re.findall(r"^### (\w+)$", text, re.MULTILINE)
    assert sorted(headings) == sorted(expressions())
    for paragraph in re.split(r"^### ", text.split(TRIED)[0], flags=re.MULTILINE)[1:]:
        assert re.search(r"\*\*Look\*\*", paragraph) and re.search(r"\*\*Do:?\*\*", paragraph), paragraph[:40]


def test_every_link_inside_the_page_leads_somewhere(project_root: Path) -> None:
    text = page(project_root)
    anchors = {
        re.sub(r"[^\w-]", "", title.lower().replace(" ", "-")) for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= anchors


def test_what_was_tried_on_a_running_platform_is_what_the_tests_try(project_root: Path) -> None:
    """One table a test file, below its name; together they hold every alert."""
    section = page(project_root).split(TRIED)[1].partition("\n# ")[0]
    alerts = set(expressions())
    tried: set[str] = set()
    for below in section.split("`tests/")[1:]:
        name, _, table = below.partition("`")
        if name.endswith(".py"):
            source = (project_root / "tests" / name).read_text()
            assert set(re.findall(r"\w+", table)) & alerts == set(re.findall(r"\w+", source)) & alerts, name
            tried |= set(re.findall(r"\w+", table)) & alerts
    assert tried == alerts


def test_what_was_seen_to_become_false_again_is_what_the_test_awaits(project_root: Path) -> None:
    """The table of test_running_platform.py says `both` of an alert exactly where the test waits for both."""
    source = (project_root / "tests" / "observability" / "test_running_platform.py").read_text()
    section = page(project_root).split("`tests/observability/test_running_platform.py`")[1].split("`tests/")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")][1:]
    alerts = set(expressions())
    both = {name for row in rows if row[2].strip().startswith("both") for name in re.findall(r"\w+", row[1])} & alerts
    awaited = set(re.findall(r'await_alert\("(\w+)".*true=False\)', source))
    loop = re.search(r"lowered = \{(.*?)\}\n    seen = \{(.*?)\}", source, re.DOTALL)
    assert loop and "await_alert(alert, *thresholds, true=False)" in source
    assert both == awaited | set(re.findall(r'"(\w+)":', loop[1] + loop[2]))


def test_the_log_lines_that_it_quotes_exist(project_root: Path) -> None:
    quoted = set(re.findall(r"(?:for|and|:) `([a-z]+(?: [a-z.]+)+)`", page(project_root)))
    assert len(quoted) >= 8
    folders = [project_root / name for name in ("adapters", "services", "streams")]
    source = "\n".join(path.read_text() for folder in folders for path in folder.rglob("*.py"))
    assert [line for line in quoted if f'"{line}' not in source] == []
