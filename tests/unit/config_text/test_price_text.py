from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from adapters.catalogue_text import load_catalogue
from adapters.errors import Misconfigured
from adapters.price_text import load_prices, unpriced
from domain.price_recording import WrittenPrice

CONFIG = Path(__file__).resolve().parents[3] / "config"
CATALOGUE = load_catalogue(CONFIG)

GOOD = """\
currency: CNY
tokens:
  deepseek-v3:
    - version: 1
      effective_from: 2025-01-01T00:00:00+08:00
      effective_until: 2025-06-01T00:00:00+08:00
      source: example
      input: 0.5
      cached_input: 0.000001
      output: 8
    - version: 2
      effective_from: 2025-06-01T00:00:00+08:00
      source: example
      input: 1
      cached_input: 0.1
      output: 9
instances:
  sh-02:
    l20-1x48g:
      - {version: 1, effective_from: 2025-01-01T00:00:00Z, source: example, price_per_hour: 4.80}
"""


def loaded(folder: Path, text: str) -> tuple[WrittenPrice, ...]:
    (folder / "prices.yaml").write_text(text)
    return load_prices(folder, CATALOGUE)


def test_the_shipped_prices_are_complete_and_deepseek_r1s_is_the_published_one() -> None:
    prices = load_prices(CONFIG, CATALOGUE)
    assert unpriced(CATALOGUE, prices) == []
    published = {price.price_id: price.unit_price for price in prices if price.source == "published"}
    assert published == {"deepseek-r1/input_tokens": Decimal(4), "deepseek-r1/output_tokens": Decimal(16)}
    assert {price.currency for price in prices} == {"CNY"}


def test_values_are_read_exactly(tmp_path: Path) -> None:
    prices = {(price.price_id, price.version): price for price in loaded(tmp_path, GOOD)}
    assert len(prices) == 7
    cached = prices["deepseek-v3/cached_input_tokens", 1]
    assert (cached.unit_price, cached.per) == (Decimal("0.000001"), 1_000_000)
    assert cached.effective_from == datetime(2024, 12, 31, 16, tzinfo=UTC)
    hourly = prices["sh-02/l20-1x48g/instance_seconds", 1]
    assert (hourly.unit_price, hourly.per, hourly.region, hourly.spec) == (Decimal("4.8"), 3600, "sh-02", "l20-1x48g")
    assert cached.place == f"{tmp_path}/prices.yaml:9"


@pytest.mark.parametrize(
    ("old", "new", "line", "says"),
    [
        ("input: 0.5", "input: 0.0000001", 8, "7 decimals"),
        ("input: 0.5", "input: -1", 8, "decimal of zero or more"),
        ("input: 0.5", "input: 5e-1", 8, "decimal of zero or more"),
        ("input: 0.5", "input: [1]", 8, "word or a number"),
        ("      input: 0.5\n", "", 4, "lacks the field 'input'"),
        ("input: 0.5", "inputs: 0.5", 8, "unknown field 'inputs'"),
        ("output: 8", "output: 8\n      output: 8", 11, "twice"),
        ("from: 2025-01-01T00:00:00+08:00\n      effective_until", "from: 2025-01-01\n      effective_until", 5, "UTC"),
        ("until: 2025-06-01T00:00:00+08:00", "until: 2025-07-01T00:00:00+08:00", 12, "before it ends"),
        ("until: 2025-06-01T00:00:00+08:00", "until: 2024-01-01T00:00:00+08:00", 6, "not after"),
        ("version: 2", "version: 1", 11, "must rise"),
        ("from: 2025-06-01T00:00:00+08:00\n      source", "from: 2024-06-01T00:00:00Z\n      source", 12, "no later"),
        ("      cached_input: 0.1\n", "", 11, "no cached_input"),
        ("source: example\n      input: 0.5", "source: guess\n      input: 0.5", 7, "one of example, published"),
        ("deepseek-v3", "gpt-9", 4, "no model"),
        ("sh-02", "xx-99", 19, "no region"),
        ("l20-1x48g", "abacus", 20, "no spec"),
        ("currency: CNY", "currency: yuan", 1, "three capital letters"),
        ("tokens:", "tokens: [", 4, "correct the YAML"),
    ],
)
def test_an_error_names_file_and_line(tmp_path: Path, old: str, new: str, line: int, says: str) -> None:
    assert old in GOOD
    with pytest.raises(Misconfigured) as raised:
        loaded(tmp_path, GOOD.replace(old, new, 1))
    assert str(raised.value).startswith(f"{tmp_path}/prices.yaml:{line}: "), str(raised.value)
    assert says in str(raised.value)
    assert "; " in str(raised.value)
