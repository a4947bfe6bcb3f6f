"""Test processes side by side never draw the same port."""

import itertools

import pytest

from tests.servers.ports import HIGHEST, LOWEST, free_port, share_of


def test_alone_the_whole_range_is_drawn_from() -> None:
    assert share_of({}) == range(LOWEST, HIGHEST + 1)


@pytest.mark.parametrize("workers", [1, 2, 3, 16])
def test_workers_draw_from_shares_that_do_not_overlap(workers: int) -> None:
    shares = [
        share_of({"PYTEST_XDIST_WORKER": f"gw{number}", "PYTEST_XDIST_WORKER_COUNT": str(workers)})
        for number in range(workers)
    ]
    assert all(LOWEST <= share[0] <= share[-1] <= HIGHEST for share in shares)
    assert all(len(share) >= (HIGHEST - LOWEST) // workers for share in shares)
    assert not any(set(one) & set(other) for one, other in itertools.combinations(shares, 2))


def test_a_worker_that_stands_in_for_another_has_a_share_too() -> None:
    share = share_of({"PYTEST_XDIST_WORKER": "gw5", "PYTEST_XDIST_WORKER_COUNT": "2"})
    assert share and LOWEST <= share[0] <= share[-1] <= HIGHEST


def test_a_port_is_drawn_from_the_share(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = {"PYTEST_XDIST_WORKER": "gw1", "PYTEST_XDIST_WORKER_COUNT": "100"}
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert all(free_port() in share_of(environment) for _ in range(5))
