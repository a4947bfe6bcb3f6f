"""`config/prices.yaml`: every version of every price, as reviewed text. Checked whole; an error names file and line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from adapters.yaml_nodes import Value, read_yaml
from domain.catalogue import Catalogue
from domain.price_recording import WrittenPrice
from domain.prices import PER, TOKEN_PRICE_DECIMALS_MAX, time_price_id, token_price_id
from schemas.charges import Meter, PriceSource

FILE_NAME = "prices.yaml"
PRICE_DECIMALS_MAX = TOKEN_PRICE_DECIMALS_MAX

_TOKEN_METERS: dict[str, Meter] = {
    "input": "input_tokens",
    "cached_input": "cached_input_tokens",
    "output": "output_tokens",
}
_CURRENCY = re.compile(r"[A-Z]{3}")
_COMMON = ("version", "effective_from", "source")


def load_prices(config_dir: Path, catalogue: Catalogue) -> tuple[WrittenPrice, ...]:
    """All versions in the order of the text. Raises Misconfigured with `<file>:<line>: <what>; <what to do>`."""
    file = config_dir / FILE_NAME
    root = read_yaml(file).mapping(required=("currency", "tokens", "instances"))
    currency = root["currency"].matching(_CURRENCY, "three capital letters, such as CNY")
    prices: list[WrittenPrice] = []
    for model, versions in root["tokens"].mapping(any_key=True).items():
        if model not in catalogue.models:
            raise versions.wrong(f"{model!r} is no model of the catalogue", "name one by its id, or add it there")
        prices.extend(_token_prices(file, currency, model, versions))
    for region, by_spec in root["instances"].mapping(any_key=True).items():
        if region not in catalogue.regions:
            raise by_spec.wrong(f"{region!r} is no region of the catalogue", "name one by its id, or add it there")
        for spec, versions in by_spec.mapping(any_key=True).items():
            if spec not in catalogue.specs:
                raise versions.wrong(f"{spec!r} is no spec of the catalogue", "name one by its id, or add it there")
            prices.extend(_time_prices(file, currency, region, spec, versions))
    return tuple(prices)


def unpriced(catalogue: Catalogue, prices: tuple[WrittenPrice, ...]) -> list[str]:
    """What can be called or deployed and has no price at all, as price ids: its usage would wait unrated."""
    known = {price.price_id for price in prices}
    wanted = [
        token_price_id(model.id, meter)
        for model in catalogue.models.values()
        if "token" in model.hosting
        for meter in (_TOKEN_METERS["input"], _TOKEN_METERS["output"])
    ] + [time_price_id(region.id, spec) for region in catalogue.regions.values() for spec in region.specs]
    return [price_id for price_id in wanted if price_id not in known]


def _token_prices(file: Path, currency: str, model: str, versions: Value) -> Iterator[WrittenPrice]:
    priced: set[str] = set()
    for value, fields in _versions(versions, required=("input", "output"), optional=("cached_input",)):
        meters = [name for name in _TOKEN_METERS if name in fields]
        if missing := priced - set(meters):
            # Its last price would silently stay in force beside the new version.
            raise value.wrong(
                f"this version has no {missing.pop()}, which an earlier one has", "write its price here again"
            )
        priced.update(meters)
        for name in meters:
            meter = _TOKEN_METERS[name]
            yield _price(file, currency, fields, fields[name], token_price_id(model, meter), meter, model=model)


def _time_prices(file: Path, currency: str, region: str, spec: str, versions: Value) -> Iterator[WrittenPrice]:
    for _, fields in _versions(versions, required=("price_per_hour",)):
        yield _price(
            file,
            currency,
            fields,
            fields["price_per_hour"],
            time_price_id(region, spec),
            "instance_seconds",
            region=region,
            spec=spec,
        )


def _price(
    file: Path,
    currency: str,
    fields: dict[str, Value],
    amount: Value,
    price_id: str,
    meter: Meter,
    *,
    model: str | None = None,
    region: str | None = None,
    spec: str | None = None,
) -> WrittenPrice:
    until = fields.get("effective_until")
    return WrittenPrice(
        place=f"{file}:{amount.line}",
        price_id=price_id,
        version=fields["version"].integer(at_least=1, at_most=1_000_000),
        meter=meter,
        unit_price=amount.decimal(places=PRICE_DECIMALS_MAX),
        per=PER[meter],
        currency=currency,
        effective_from=fields["effective_from"].instant(),
        effective_until=until.instant() if until else None,
        source=cast(PriceSource, fields["source"].one_of(("published", "example"))),
        model=model,
        region=region,
        spec=spec,
    )


def _versions(
    versions: Value, *, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> Iterator[tuple[Value, dict[str, Value]]]:
    """Each version with its fields, in rising order of number and beginning, none reaching into the next."""
    before: dict[str, Value] | None = None
    found = versions.items()
    if not found:
        raise versions.wrong(f"{versions.name} has no version", "add one, or remove the name")
    for value in found:
        fields = value.mapping(required=(*_COMMON, *required), optional=("effective_until", *optional))
        begin = fields["effective_from"].instant()
        until = fields.get("effective_until")
        if until is not None and until.instant() <= begin:
            raise until.wrong("effective_until is not after effective_from", "let it be later")
        if before is not None:
            _refuse_overlap(before, fields)
        before = fields
        yield value, fields


def _refuse_overlap(before: dict[str, Value], fields: dict[str, Value]) -> None:
    bounds = {"at_least": 1, "at_most": 1_000_000}
    if fields["version"].integer(**bounds) <= before["version"].integer(**bounds):
        raise fields["version"].wrong("versions must rise from one to the next", "give it the next number")
    begin = fields["effective_from"].instant()
    if begin <= before["effective_from"].instant():
        raise fields["effective_from"].wrong(
            "it begins no later than the version before", "order versions by effective_from, each later than the last"
        )
    if "effective_until" in before and begin < before["effective_until"].instant():
        raise fields["effective_from"].wrong(
            "it begins before the version before it ends", "let it begin at that effective_until or later"
        )
