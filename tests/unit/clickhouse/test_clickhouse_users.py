"""Who is let in, by each of the three ways in which ClickHouse's clients say it."""

import base64

import pytest

from services.clickhouse.errors import QueryError
from services.clickhouse.users import User, Users

USERS = Users(admin_password="a-secret", analyst_password="b-secret", billing_password="c-secret")


def basic(text: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@pytest.mark.parametrize(
    ("headers", "parameters"),
    [
        (basic("hydra:a-secret"), {}),
        ({"x-clickhouse-user": "hydra", "x-clickhouse-key": "a-secret"}, {}),
        ({}, {"user": "hydra", "password": "a-secret"}),
    ],
)
def test_the_right_password_lets_in(headers: dict[str, str], parameters: dict[str, str]) -> None:
    assert USERS.authenticate(headers, parameters) == User("hydra", reads_only=False)


@pytest.mark.parametrize(("name", "password"), [("analyst", "b-secret"), ("billing", "c-secret")])
def test_the_analyst_and_billing_only_read(name: str, password: str) -> None:
    assert USERS.authenticate(basic(f"{name}:{password}"), {}) == User(name, reads_only=True)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        basic("hydra:"),
        basic("hydra:b-secret"),
        basic("analyst:a-secret"),
        basic("billing:a-secret"),
        basic("billing:b-secret"),
        basic("default:"),
        basic(":"),
        basic("nobody:no user has this password"),
        basic("hydra:pässword"),
        {"authorization": "Basic !!!"},
        {"authorization": "Basic \xff"},
        {"authorization": "Bearer a-secret"},
        {"x-clickhouse-user": "hydra"},
    ],
)
def test_everything_else_is_kept_out(headers: dict[str, str]) -> None:
    with pytest.raises(QueryError) as refused:
        USERS.authenticate(headers, {})
    assert (refused.value.status, refused.value.code) == (403, 516)
