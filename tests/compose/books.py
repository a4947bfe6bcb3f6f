"""What the platform of a compose project holds of its accounts, and the comparison of it with the truth."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from schemas.spend import BalanceStated
from tests.bills import Mismatch
from tests.compose.load import OfficialLoad
from tests.compose.project import ComposeProject
from tests.faults.comparison import Books, Compared, Comparison
from tests.faults.truth import Truth
from tests.integration.whole_platform import balances

REST_WITHIN_S = 180.0
POLL_S = 2.0
NAMED_MAX = 12


def compare(project: ComposeProject, load: OfficialLoad, home: Path) -> Compared:
    """Wait until everything is recorded and charged, and hold it to the truth. Fails naming every difference."""
    deadline = time.monotonic() + REST_WITHIN_S
    equal_before = False
    while True:
        try:
            project.copy_truth(home)
            comparison = Comparison(load.sent, _read(project, [load.account]), Truth(home), 0, False)
            differences, unread = comparison.differences(), ""
        except Mismatch as error:
            differences, unread = [str(error)], ""
        except (AssertionError, ValueError, OSError) as error:
            # Not there yet, or half written: a line of a ledger, an answer of a server that comes back.
            differences, unread = [], f"the books cannot be read: {error!r}"
        if not differences and not unread:
            if equal_before:
                return comparison.compared()
            # Once more, so that what arrives late and doubles something is seen.
            equal_before = True
        elif time.monotonic() > deadline:
            assert not unread, unread
            raise Mismatch("the bill is not the truth:\n  " + "\n  ".join(differences[:NAMED_MAX]))
        time.sleep(POLL_S)


def _read(project: ComposeProject, accounts: Iterable[str]) -> Books:
    among = "account IN (" + ", ".join(f"'{account}'" for account in accounts) + ")"
    sql = project.sql
    return Books(
        known={row["id"] for row in sql("SELECT DISTINCT id FROM hydra.usage")},
        known_instances={row["instance"] for row in sql("SELECT DISTINCT instance FROM hydra.instance_events")},
        usage=sql(f"SELECT * FROM hydra.usage FINAL WHERE {among} ORDER BY id, payload_hash"),
        charges=sql(f"SELECT * FROM hydra.v_charges WHERE {among} ORDER BY id"),
        unbilled={
            row["id"]: row["reason"] for row in sql(f"SELECT id, reason FROM hydra.v_unbilled_usage WHERE {among}")
        },
        instances=sql(f"SELECT * FROM hydra.instance_events FINAL WHERE {among} ORDER BY instance, sequence, id"),
        conflicts=sql("SELECT * FROM hydra.conflicts"),
        parked=sql("SELECT * FROM hydra.v_parked"),
        balances=_balances(project),
    )


def _balances(project: ComposeProject) -> dict[str, Any]:
    """Read where Kafka can be reached: in a container, by the source that the local tests read them with."""
    code = f"""{inspect.getsource(balances)}
import msgspec, os
print(msgspec.json.encode(asyncio.run(read_balances(os.environ["HYDRA_KAFKA_BOOTSTRAP"]))).decode())
"""
    found: dict[str, Any] = msgspec.json.decode(project.python("live_spend", code), type=dict[str, BalanceStated])
    return found
