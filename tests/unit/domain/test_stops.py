from datetime import UTC, datetime
from typing import Literal

import pytest

from domain.stops import command_to_go_on, gap_of, gap_text, not_accepted, to_reread, unanswered
from schemas.stops import Gap, Reread, StopNoted

GAP = Gap("hydra.usage", 3, 120, 180)
AGAIN = Reread("hydra.usage", 1)


def stop(
    what: Literal["stopped", "accepted", "went_on"], gaps: tuple[Gap, ...] = (), reread: tuple[Reread, ...] = ()
) -> StopNoted:
    at = datetime(2026, 11, 1, tzinfo=UTC)
    return StopNoted(process="token_charges", what=what, at=at, reason="", gaps=gaps, reread=reread)


def test_a_gap_is_typed_as_it_is_shown() -> None:
    assert gap_text(GAP) == "hydra.usage/3:120-180"
    assert gap_of(gap_text(GAP)) == GAP


@pytest.mark.parametrize("text", ["", "hydra.usage", "hydra.usage/3:9-8", "hydra.usage/3:1-2,5", "/3:1-2", "a/b:1-2"])
def test_what_is_no_gap_is_refused_with_how_one_is_written(text: str) -> None:
    with pytest.raises(ValueError, match="TOPIC/PARTITION:FIRST-LAST"):
        gap_of(text)


def test_the_command_names_all_that_must_be_named() -> None:
    assert command_to_go_on("billing", [], []) == "hydra resume billing"
    expected = "hydra resume token_charges --gap hydra.usage/3:120-180 --from-start"
    assert command_to_go_on("token_charges", [GAP], [AGAIN]) == expected


def test_only_what_lies_within_an_accepted_gap_is_accepted() -> None:
    noted = [stop("accepted", (GAP,))]
    inside, larger = Gap("hydra.usage", 3, 130, 180), Gap("hydra.usage", 3, 120, 181)
    elsewhere = [Gap("hydra.usage", 2, 120, 180), Gap("hydra.charges", 3, 120, 180)]
    assert not_accepted([GAP, inside], noted) == []
    assert not_accepted([larger, *elsewhere], noted) == sorted([larger, *elsewhere])
    assert not_accepted([GAP], [stop("stopped", (GAP,)), stop("went_on", (GAP,))]) == [GAP]


def test_reading_again_is_allowed_once() -> None:
    allowed = [stop("accepted", (), (AGAIN,))]
    assert to_reread(allowed) == {AGAIN}
    assert to_reread([*allowed, stop("went_on", (), (AGAIN,))]) == set()
    assert to_reread([stop("stopped", (), (AGAIN,))]) == set()


def test_a_stop_is_answered_once_the_process_has_gone_on() -> None:
    first, second = stop("stopped", (GAP,)), stop("stopped", (), (AGAIN,))
    assert unanswered([]) is None
    assert unanswered([first, stop("accepted", (GAP,))]) is first
    assert unanswered([first, second]) is second
    assert unanswered([first, stop("went_on", (GAP,))]) is None
