"""Tokens to charge lines: input, cached input and output, each tokens x price per million, exact at 12 places."""

from __future__ import annotations

from datetime import datetime

from domain.calendar import utc
from domain.ids import charge_id, stamp
from domain.money import token_amount
from domain.prices import PriceBook, token_price_id
from domain.rated_line import Unpriced, rated_line
from schemas.charges import ChargeLine, Meter
from schemas.prices import PriceRecorded
from schemas.usage import TokensUsed

TOKENS_MAX = 10**12
"""More than any request can use; a larger count is a broken report."""


def token_lines(
    usage: TokensUsed, source_event: str, source_hash: str, prices: PriceBook, rating_version: int
) -> tuple[ChargeLine, ...]:
    """The lines of one answered request; a meter without tokens has none.

    Raises Unpriced where input or output that was used has no price, ValueError for impossible counts.
    """
    prompt, cached, output = usage.prompt_tokens or 0, usage.cached_tokens or 0, usage.completion_tokens or 0
    if not (0 <= cached <= prompt <= TOKENS_MAX and 0 <= output <= TOKENS_MAX):
        raise ValueError("its token counts are impossible")
    if not usage.model:
        raise ValueError("an answered request that names no model")
    ended = utc(usage.ended)
    input_price = _price(prices, usage.model, "input_tokens", ended) if prompt else None
    output_price = _price(prices, usage.model, "output_tokens", ended) if output else None
    cached_price = prices.price_at(token_price_id(usage.model, "cached_input_tokens"), ended) if cached else None
    if cached_price is not None and not _known_in_time(cached_price, ended, input_price, output_price):
        cached_price = None
    if cached_price is None:
        # Not reported, or of no price of its own: all prompt tokens are input.
        cached = 0
    at, lines = stamp(ended), []
    for tokens, price in ((prompt - cached, input_price), (cached, cached_price), (output, output_price)):
        if tokens and price is not None:
            line = rated_line(
                charge_id(source_event, price.meter, at, rating_version),
                source_hash,
                price,
                quantity=tokens,
                unit="token",
                amount=token_amount(tokens, price.unit_price),
                segment_from=ended,
                segment_until=ended,
            )
            lines.append(line)
    return tuple(lines)


def _price(prices: PriceBook, model: str, meter: Meter, instant: datetime) -> PriceRecorded:
    price = prices.price_at(token_price_id(model, meter), instant)
    if price is None:
        raise Unpriced(meter)
    return price


def _known_in_time(cached: PriceRecorded, ended: datetime, *needed: PriceRecorded | None) -> bool:
    """Whether the cached price was known once the request could be rated.

    A cached price may be recorded later, over an interval that had none. Requests that were rated as input by then
    must stay so in every replay, whenever it runs; so what counts is when the price became known, not when we look.
    """
    return cached.recorded_at <= max([ended, *(price.recorded_at for price in needed if price is not None)])
