"""A name is one part of a path, and a table shows instants to the second."""

import pytest

from cli import output
from cli.control import path_part
from cli.failures import CommandFailed


@pytest.mark.parametrize(
    ("name", "part"),
    [("test", "test"), ("a/b", "a%2Fb"), ("a?x=1", "a%3Fx%3D1"), ("a#b", "a%23b"), ("a%2F", "a%252F"), ("é", "%C3%A9")],
)
def test_a_name_stays_one_part_of_a_path(name: str, part: str) -> None:
    assert path_part(name) == part


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_means_another_path_is_refused(name: str) -> None:
    with pytest.raises(CommandFailed):
        path_part(name)


def test_tables_show_instants_to_the_second_and_leave_other_text_alone() -> None:
    shown = [output._text(cell) for cell in ("2026-11-01T08:30:15.250000Z", "2026-11-01T08:30:15Z", "1.250000")]
    assert shown == ["2026-11-01T08:30:15Z", "2026-11-01T08:30:15Z", "1.250000"]
