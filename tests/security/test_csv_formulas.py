"""What a customer calls things by is text in a spreadsheet, never a formula that it runs."""

import csv
import io

import pytest

from services.billing.csv_answers import csv_answer


def cell(text: str) -> str:
    """The one cell of an answer, as a program reads it."""
    answer = csv_answer([{"model": text}], ("model",), as_of=None)
    _, (found,) = csv.reader(io.StringIO(bytes(answer.body).decode(), newline=""))
    return found


@pytest.mark.parametrize(
    "text", ["=1+1", "+1;a", "-a", "@SUM(1)", "\t=1", "\r=1", "\n=1", "\uff1d1+1", "\uff20a", "=cmd|' /C x'!A0"]
)
def test_no_cell_of_a_csv_is_a_formula(text: str) -> None:
    assert cell(text) == "'" + text


@pytest.mark.parametrize("text", ["-1.5", "public/m", "u-0123456789ab", "", "1=1"])
def test_what_is_none_stays_as_it_is(text: str) -> None:
    assert cell(text) == text
