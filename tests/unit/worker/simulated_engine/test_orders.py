"""Reading requests: whatever arrives is an order or a refusal, never a crash."""

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from services.worker.simulated_engine.orders import read_order
from services.worker.simulated_engine.refusals import Refused
from services.worker.simulated_engine.request_fields import CHAT, COMPLETION

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
_BODY = {"messages": [{"role": "user", "content": "Hello"}], "prompt": "Hello", "model": "m"}


@settings(max_examples=500, deadline=None)
@given(st.booleans(), st.dictionaries(st.sampled_from(sorted({*CHAT, *COMPLETION})), _JSON, max_size=6))
def test_whatever_json_arrives_it_is_an_order_or_a_refusal(chat: bool, fields: dict[str, Any]) -> None:
    body = msgspec.json.decode(msgspec.json.encode(_BODY | fields))
    try:
        order = read_order(chat, body, 8192)
    except Refused as refusal:
        assert refusal.status in (400, 500)
        assert msgspec.json.decode(refusal.body())["code"] == refusal.status
    else:
        assert order.n >= 1
        assert all(order.prompts)


@given(_JSON)
def test_a_body_that_is_no_request_is_a_refusal(body: Any) -> None:
    for chat in (True, False):
        try:
            read_order(chat, body, 8192)
        except Refused:
            continue
        raise AssertionError("an order without messages or a prompt")
