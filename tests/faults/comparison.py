"""Compares what the platform recorded and charged with the truth, once it is at rest."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import httpx

from tests.bills import Mismatch
from tests.faults.load import Load, Sent
from tests.faults.truth import PAID, Prices, Truth
from tests.integration.whole_platform.balances import read_balances
from tests.servers.platform import Platform

REST_WITHIN_S = 180.0
POLL_S = 1.0
NAMED_MAX = 12
"""Differences that an error spells out."""

Row = dict[str, Any]
GONE = ("client_gone", "client_gone_unreported")
TO_THE_SECOND = timedelta(seconds=1)
"""A stop within a second may leave that second billed: seconds are whole."""
STOPPED = ("draining", "ended", "written_off")


@dataclass(frozen=True)
class Compared:
    """What was compared and found equal. `untaken` requests got no answer and have no usage: the platform never took
    them. `lost_tokens` were made by an engine for requests that are charged to nobody."""

    sent: int
    outcomes: Counter[str]
    untaken: int
    billed_tokens: int
    billed_seconds: int
    amount: Fraction
    lost_tokens: int

    def line(self) -> str:
        """For people."""
        outcomes = " ".join(f"{name}={count}" for name, count in sorted(self.outcomes.items()))
        return (
            f"equal: {self.sent} requests ({outcomes}, untaken={self.untaken}), {self.billed_tokens} tokens and "
            f"{self.billed_seconds} s billed, {float(self.amount):.6f} CNY; "
            f"{self.lost_tokens} tokens made and charged to nobody"
        )


@dataclass
class Books:
    """What the platform holds of some accounts, read as the analyst. `known` are the requests of all accounts,
    `known_instances` their instances."""

    known: set[str]
    known_instances: set[str]
    usage: list[Row]
    charges: list[Row]
    unbilled: dict[str, str]
    instances: list[Row]
    conflicts: list[Row]
    parked: list[Row]
    balances: dict[str, Any] = field(default_factory=dict)


def sql(platform: Platform, query: str) -> list[Row]:
    """As the analyst, past whose limit of rows one answer cannot go."""
    answer = httpx.post(
        platform.url("clickhouse"),
        params={"database": "hydra", "default_format": "JSON", "output_format_json_quote_decimals": "1"},
        content=query.encode(),
        headers={
            "X-ClickHouse-User": "analyst",
            "X-ClickHouse-Key": (platform.home / "secrets" / "analyst_password").read_text().strip(),
        },
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    rows: list[Row] = answer.json()["data"]
    return rows


def read_books(platform: Platform, accounts: Iterable[str]) -> Books:
    """All of these accounts' rows, and what is wrong anywhere."""
    among = "account IN (" + ", ".join(f"'{account}'" for account in accounts) + ")"
    return Books(
        known={row["id"] for row in _all(platform, "SELECT DISTINCT id FROM usage ORDER BY id")},
        known_instances={
            row["instance"] for row in _all(platform, "SELECT DISTINCT instance FROM instance_events ORDER BY instance")
        },
        usage=_all(platform, f"SELECT * FROM usage FINAL WHERE {among} ORDER BY id, payload_hash"),
        charges=_all(platform, f"SELECT * FROM v_charges WHERE {among} ORDER BY id"),
        unbilled={
            row["id"]: row["reason"]
            for row in _all(platform, f"SELECT id, reason FROM v_unbilled_usage WHERE {among} ORDER BY id")
        },
        instances=_all(platform, f"SELECT * FROM instance_events FINAL WHERE {among} ORDER BY instance, sequence, id"),
        conflicts=sql(platform, "SELECT * FROM conflicts LIMIT 100"),
        parked=sql(platform, "SELECT * FROM v_parked LIMIT 100"),
        balances=asyncio.run(read_balances(platform.kafka)),
    )


def _all(platform: Platform, query: str, page: int = 5000) -> list[Row]:
    rows: list[Row] = []
    while True:
        rows += (found := sql(platform, f"{query} LIMIT {page} OFFSET {len(rows)}"))
        if len(found) < page:
            return rows


def compare(
    platform: Platform, *loads: Load, parked: int = 0, full: bool = False, within_s: float = REST_WITHIN_S
) -> Compared:
    """Wait until everything is recorded and charged, and hold it to the truth. Raises Mismatch.

    `parked` is how many parked messages are expected on the whole platform. `full`: a spool had no more room, so that
    refusals may be missing (counted, not recorded).
    """
    sent = [sent for load in loads for sent in load.sent]
    # The operator's instances are held to the truth as well; nobody pays for them.
    accounts = ["public", *(customer.account for load in loads for customer in load.customers)]
    deadline = time.monotonic() + within_s
    equal_before = False
    while True:
        try:
            books, truth = read_books(platform, accounts), Truth(platform.home)
            comparison = Comparison(sent, books, truth, parked, full, _deleted(loads))
            differences, unread = comparison.differences(), ""
        except Mismatch as error:
            differences, unread = [str(error)], ""
        except (httpx.HTTPError, AssertionError, ValueError, OSError) as error:
            # Not there yet, or half written: a line of a ledger, an answer of a server that comes back.
            differences, unread = [], f"the books cannot be read: {error!r}"
        if not differences and not unread:
            if equal_before:
                return comparison.compared()
            # Once more, so that what arrives late and doubles something is seen.
            equal_before = True
        elif time.monotonic() > deadline:
            assert not unread, unread
            more = f"\n  and {len(differences) - NAMED_MAX} more" if len(differences) > NAMED_MAX else ""
            raise Mismatch("the bill is not the truth:\n  " + "\n  ".join(differences[:NAMED_MAX]) + more)
        time.sleep(POLL_S)


def _deleted(loads: Iterable[Load]) -> dict[str, datetime]:
    """By access path."""
    return {
        f"{customer.account}/{service}": at
        for load in loads
        for customer in load.customers
        for service, at in customer.deleted.items()
    }


class Comparison:
    """One look at the books. Each `_...` yields a sentence for whatever is not as it must be."""

    def __init__(
        self,
        sent: list[Sent],
        books: Books,
        truth: Truth,
        parked: int,
        full: bool,
        deleted: Mapping[str, datetime] | None = None,
    ) -> None:
        self._sent = sent
        self._books = books
        self._truth = truth
        self._parked = parked
        self._full = full
        self._deleted = deleted or {}
        self._prices = Prices()
        self._by_client_id = {one.client_id: one for one in sent}
        self._of_request = truth.served_by_request()

    def differences(self) -> list[str]:
        """Every difference there is; none when the bill is right."""
        return [
            *self._requests(),
            *self._answers(),
            *self._ledgers(),
            *self._token_charges(),
            *self._seconds(),
            *self._overlaps(),
            *self._balances(),
            *(f"conflict: {row}" for row in self._books.conflicts),
            *([f"{len(self._books.parked)} messages are parked, expected were {self._parked}: {self._books.parked[:3]}"]
              if len(self._books.parked) != self._parked else []),
        ]  # fmt: skip

    def compared(self) -> Compared:
        """What was found equal."""
        usage = self._books.usage
        recorded = {row["client_request_id"] for row in usage}
        lost = [row for row in usage if row["outcome"] not in PAID]
        meters: Counter[str] = Counter()
        for row in self._books.charges:
            meters["seconds" if row["meter"] == "instance_seconds" else "tokens"] += int(row["quantity"])
        return Compared(
            sent=len(self._sent),
            outcomes=Counter(row["outcome"] for row in usage),
            untaken=sum(sent.client_id not in recorded for sent in self._sent),
            billed_tokens=meters["tokens"],
            billed_seconds=meters["seconds"],
            amount=sum((Fraction(row["amount"]) for row in self._books.charges), Fraction()),
            lost_tokens=sum(served.completion_tokens for row in lost for served in self._of_request.get(row["id"], [])),
        )

    def _requests(self) -> Iterator[str]:
        """Exactly one usage row for every authenticated request that the platform took, and none besides."""
        for name in ("id", "client_request_id"):
            for value, count in Counter(row[name] for row in self._books.usage).items():
                if count > 1:
                    yield f"{count} usage rows have the {name} {value}"
        for row in self._books.usage:
            if row["client_request_id"] not in self._by_client_id:
                yield f"nobody sent the request of the usage row {row['id']}"
        rows = {row["client_request_id"]: row for row in self._books.usage}
        for sent in self._sent:
            found = rows.get(sent.client_id)
            if found is not None:
                if sent.id is not None and found["id"] != sent.id:
                    yield f"the usage row of {sent} has the id {found['id']}"
            elif sent.id is not None and not (self._full and sent.status != 200):
                yield f"no usage row for {sent}"

    def _answers(self) -> Iterator[str]:
        """What a client saw is what is recorded."""
        for row in self._books.usage:
            sent = self._by_client_id.get(row["client_request_id"])
            if sent is None:  # named by `_requests`
                continue
            if sent.whole and sent.status == 200 and row["outcome"] != "completed":
                yield f"answered in full, but recorded as {row['outcome']}: {sent}"
            if sent.whole and sent.status != 200 and row["outcome"] in PAID:
                yield f"answered with {sent.status}, but recorded as {row['outcome']}: {sent}"
            if row["outcome"] in GONE and not (sent.left or sent.timed_out):
                yield f"recorded as {row['outcome']}, but the client stayed: {sent}"
            if sent.usage is not None and sent.usage != (_int(row, "prompt"), _int(row, "completion")):
                yield f"the client was told {sent.usage} tokens, recorded are others: {row}"

    def _ledgers(self) -> Iterator[str]:
        """Tokens are those that the engines counted, and no engine served a request that has no row."""
        for row in self._books.usage:
            if row["outcome"] not in PAID:
                continue
            lines = self._of_request.get(row["id"], [])
            if not lines:
                yield f"{row['id']} counts as {row['outcome']}, but no engine has served it"
            elif not any(line.agrees(row["outcome"], _int(row, "prompt"), _int(row, "completion")) for line in lines):
                counts = (_int(row, "prompt"), _int(row, "completion"))
                yield f"{row['id']} is recorded as {row['outcome']} with {counts}, engines counted {lines}"
        for id in self._of_request.keys() - self._books.known:
            yield f"an engine served {id}, which has no usage row"

    def _token_charges(self) -> Iterator[str]:
        """Each paid request is charged its tokens at the published price; each other has its reason and no charge."""
        charged: dict[str, Fraction] = defaultdict(Fraction)
        for row in self._books.charges:
            if row["source_type"] == "usage":
                charged[row["source_event"]] += Fraction(row["amount"])
        known = {row["id"] for row in self._books.usage}
        yield from (f"a charge without usage: {id}" for id in charged.keys() - known)
        for row in self._books.usage:
            pays = row["outcome"] in PAID and row["billing"] == "token"
            cached = None if row["cached_tokens"] is None else int(row["cached_tokens"])
            due = (
                self._prices.of_tokens(row["model"], _int(row, "prompt"), cached, _int(row, "completion"))
                if pays
                else Fraction()
            )
            if charged.get(row["id"], Fraction()) != due:
                yield f"{row['id']} ({row['outcome']}) is charged {charged.get(row['id'])}, due is {due}"
            if (row["id"] in charged) == (row["id"] in self._books.unbilled):
                yield f"{row['id']} must have either a charge or a reason for none: {row['outcome']}"

    def _seconds(self) -> Iterator[str]:
        """Each instance's billed seconds are those that its agent has proven, at the published price."""
        due: dict[str, Fraction] = defaultdict(Fraction)
        counted: Counter[str] = Counter()
        timed: set[str] = set()
        stopped: dict[str, datetime | None] = {}
        for row in self._books.instances:
            instance = row["instance"]
            stopped.setdefault(instance, None)
            if row["state"] in STOPPED and stopped[instance] is None:
                stopped[instance] = _instant(row["at"])
            if row["billable_from"] is not None:
                start, end = _instant(row["billable_from"]), _instant(row["billable_until"])
                counted[instance] += int(row["billable_seconds"])
                deleted = self._deleted.get(row["access_path"])
                if deleted is not None and end > deleted + TO_THE_SECOND:
                    yield f"{instance} is billed until {end}, the deletion of its service was accepted by {deleted}"
                if row["billing"] == "time":
                    timed.add(instance)
                    due[instance] += self._prices.of_time(row["region"], row["spec"], start, end)
        charged: dict[str, Fraction] = defaultdict(Fraction)
        billed: Counter[str] = Counter()
        for row in self._books.charges:
            if row["source_type"] == "instance":
                charged[row["instance"]] += Fraction(row["amount"])
                billed[row["instance"]] += int(row["quantity"])
        for instance, at in stopped.items():
            proven = self._truth.seconds(instance, at)
            # Of one that still runs the last interval is yet to come.
            agrees = counted[instance] == proven if at is not None else counted[instance] <= proven
            if billed[instance] != (counted[instance] if instance in timed else 0) or not agrees:
                counts = f"billed {billed[instance]} s, recorded {counted[instance]} s, proven {proven} s"
                yield f"{instance}, stopped {at}: {counts}"
            if charged[instance] != due[instance]:
                yield f"{instance} is charged {charged[instance]}, due is {due[instance]}"
        yield from (f"a charge for an instance without events: {id}" for id in charged.keys() - stopped.keys())
        # Of nobody's: one that has lost all its events would else be looked for nowhere. No event, so no known stop.
        for instance in sorted(self._truth.ready_instances() - self._books.known_instances):
            yield f"{instance} has no event, its agent has proven {self._truth.seconds(instance, None)} s"

    def _overlaps(self) -> Iterator[str]:
        by_instance: dict[str, list[tuple[datetime, datetime]]] = defaultdict(list)
        for row in self._books.instances:
            if row["billable_from"] is not None:
                by_instance[row["instance"]].append((_instant(row["billable_from"]), _instant(row["billable_until"])))
        for instance, intervals in by_instance.items():
            intervals.sort()
            if any(before[1] > after[0] for before, after in itertools.pairwise(intervals)):
                yield f"billable intervals of {instance} overlap: {intervals}"

    def _balances(self) -> Iterator[str]:
        """Balances at rest equal ClickHouse to the last digit."""
        totals: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
        for row in self._books.charges:
            totals[row["account"]][row["currency"]] += Decimal(row["amount"])
        for account, total in totals.items():
            balance = self._books.balances.get(account)
            spent = None if balance is None else dict(balance.spent_total)
            if spent != dict(total):
                yield f"the balance of {account} is {spent}, its charges are {dict(total)}"


def _int(row: Row, kind: str) -> int:
    value = row[f"{kind}_tokens"]
    return 0 if value is None else int(value)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)
