"""The parts that the simulated engine counts with."""

from hypothesis import given
from hypothesis import strategies as st

from services.worker.simulated_engine.continuation import WORDS, Continuation
from services.worker.simulated_engine.prefix_cache import PrefixCache
from services.worker.simulated_engine.tokens import END_OF_TURN, pieces_of


@given(st.text())
def test_the_pieces_of_a_text_are_the_text(text: str) -> None:
    assert "".join(pieces_of(text)) == text


@given(st.lists(st.sampled_from(WORDS), max_size=20))
def test_every_word_of_an_answer_is_one_token_of_a_next_prompt(words: list[str]) -> None:
    assert pieces_of("".join(words)) == words


def test_english_is_about_four_characters_a_token() -> None:
    text = (
        "The gateway keeps serving while the control services are down, within bounds that are set and alarmed. " * 20
    )
    assert 3 <= len(text) / len(pieces_of(text)) <= 6


def test_the_cache_finds_the_longest_prefix_but_never_the_last_token() -> None:
    cache = PrefixCache(1000)
    assert cache.match("", ["a", "b", "c"]) == 0
    assert cache.match("", ["a", "b", "c"]) == 2
    assert cache.match("", ["a", "b", "x", "y"]) == 2
    assert cache.match("", ["b", "c"]) == 0
    assert cache.match("", ["a"]) == 0


def test_the_cache_is_apart_for_each_salt() -> None:
    cache = PrefixCache(1000)
    cache.match("one", ["a", "b", "c"])
    assert cache.match("two", ["a", "b", "c"]) == 0


def test_the_cache_knows_answers_that_come_back_in_a_next_turn() -> None:
    cache = PrefixCache(1000)
    cache.match("", ["question"])
    cache.extend("", ["question", "answer", "more"])
    assert cache.match("", ["question", "answer", "more", "next"]) == 3


def test_a_full_cache_forgets_the_ends_of_the_oldest_first() -> None:
    cache = PrefixCache(4)
    cache.match("", ["a", "b", "c"])
    cache.match("", ["x", "y"])
    assert cache.match("", ["a", "b", "c", "d"]) == 2


def _words(limit: int = 100, **changes: object) -> Continuation:
    settings: dict[str, object] = {
        "prompt": ["one", " two"],
        "greedy": True,
        "limit": limit,
        "min_tokens": 0,
        "ignore_eos": True,
        "stop": [],
        "trim_stop": True,
    }
    return Continuation(**(settings | changes))  # type: ignore[arg-type]


def _drawn(words: Continuation) -> str:
    while words.finish_reason is None:
        words.step()
    return "".join(words.parts)


def test_an_answer_ends_at_its_limit() -> None:
    words = _words(7)
    _drawn(words)
    assert (words.tokens, words.finish_reason, words.matched_stop) == (7, "length", None)


def test_greedy_answers_repeat_and_depend_on_the_prompt() -> None:
    assert _drawn(_words()) == _drawn(_words())
    assert _drawn(_words()) != _drawn(_words(prompt=["other"]))
    assert _drawn(_words(greedy=False)) != _drawn(_words(greedy=False))


def test_an_answer_ends_by_itself_and_its_last_token_counts() -> None:
    words = _words(10_000, ignore_eos=False)
    _drawn(words)
    assert (words.finish_reason, words.matched_stop) == ("stop", END_OF_TURN)
    assert words.tokens == len(words.parts) + 1


def test_no_end_before_the_least_number_of_tokens() -> None:
    words = _words(10_000, ignore_eos=False, min_tokens=500)
    _drawn(words)
    assert words.tokens > 500


def test_stop_strings_cut_at_any_place() -> None:
    whole = _drawn(_words())
    for start in range(0, 120):
        for length in (1, 2, 5, 9):
            stop = whole[start : start + length]
            words = _words(stop=[stop])
            assert _drawn(words) == whole[: whole.index(stop)], repr(stop)
            assert (words.finish_reason, words.matched_stop) == ("stop", stop)


def test_an_untrimmed_stop_string_stays() -> None:
    whole = _drawn(_words())
    stop = whole[33:39]
    assert _drawn(_words(stop=[stop], trim_stop=False)) == whole[: whole.index(stop) + len(stop)]


def test_no_tokens_wanted() -> None:
    words = _words(0)
    assert (words.finish_reason, words.tokens) == ("length", 0)


def test_an_abort_keeps_what_was_drawn() -> None:
    words = _words()
    words.step()
    words.abort()
    assert (words.finish_reason, words.tokens) == ("abort", 1)
